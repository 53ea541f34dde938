//! `[gateway]`: what the operator writes of the VMs' endpoints, and what becomes of it.

use super::{ConfigError, Switch, value_error};
use gateway::{Limit, Limits};
use serde::{Deserialize, Serialize};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

/// The section as it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct WrittenGateway {
    listen: SocketAddr,
    suffix: String,
    tls: Tls,
    tls_certificate: PathBuf,
    tls_key: PathBuf,
    any_host: Switch,
    connections_max: u32,
    idle_s: u32,
    vm_bandwidth: String,
    vm_requests: String,
    vm_connections: String,
}

impl Default for WrittenGateway {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7421)),
            suffix: "localhost".into(),
            tls: Tls::default(),
            tls_certificate: PathBuf::new(),
            tls_key: PathBuf::new(),
            any_host: Switch::On,
            connections_max: 4096,
            idle_s: 900,
            vm_bandwidth: "off".into(),
            vm_requests: "off".into(),
            vm_connections: "off".into(),
        }
    }
}

/// Whether endpoints are served over TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tls {
    Off,
    /// Plain connections too, on the same port.
    #[default]
    Optional,
    Required,
}

/// The endpoints of VMs, checked and complete.
#[derive(Debug, Clone)]
pub(crate) struct Gateway {
    pub(crate) listen: SocketAddr,
    /// `lambda-microvm.<region>.<suffix>`.
    pub(crate) domain: String,
    pub(crate) tls: Tls,
    pub(crate) certificate: CertificateFrom,
    pub(crate) any_host: Switch,
    pub(crate) connections_max: usize,
    pub(crate) idle_max: Duration,
    pub(crate) limits: Limits,
}

/// Where the certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CertificateFrom {
    /// Warren's own authority, in this directory.
    Authority(PathBuf),
    Files {
        chain: PathBuf,
        key: PathBuf,
    },
}

impl WrittenGateway {
    pub(super) fn settle(
        self,
        region: &str,
        data_dir: &std::path::Path,
    ) -> Result<Gateway, ConfigError> {
        let good = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if !self.suffix.split('.').all(good) {
            return Err(value_error("gateway.suffix", &self.suffix, "a domain name"));
        }
        let certificate = match (self.tls_certificate, self.tls_key) {
            (none, no_key) if none.as_os_str().is_empty() && no_key.as_os_str().is_empty() => {
                CertificateFrom::Authority(data_dir.join("gateway"))
            }
            (chain, key) if !chain.as_os_str().is_empty() && !key.as_os_str().is_empty() => {
                CertificateFrom::Files { chain, key }
            }
            (chain, _) => {
                let chain = chain.display().to_string();
                let reason = "tls_certificate and tls_key are set together";
                return Err(value_error("gateway.tls_certificate", &chain, reason));
            }
        };
        if self.connections_max == 0 || self.idle_s == 0 {
            return Err(value_error("gateway.connections_max, gateway.idle_s", "0", "at least 1"));
        }
        Ok(Gateway {
            listen: self.listen,
            domain: format!("lambda-microvm.{region}.{}", self.suffix.to_ascii_lowercase()),
            tls: self.tls,
            certificate,
            any_host: self.any_host,
            connections_max: self.connections_max as usize,
            idle_max: Duration::from_secs(self.idle_s.into()),
            limits: Limits {
                bandwidth: limit("gateway.vm_bandwidth", &self.vm_bandwidth)?,
                requests: limit("gateway.vm_requests", &self.vm_requests)?,
                connections: limit("gateway.vm_connections", &self.vm_connections)?,
            },
        })
    }
}

fn limit(key: &'static str, text: &str) -> Result<Limit, ConfigError> {
    match text {
        "off" => Ok(Limit::Off),
        "aws" => Ok(Limit::Aws),
        number => number
            .parse()
            .ok()
            .filter(|limit| *limit > 0)
            .map(Limit::Fixed)
            .ok_or_else(|| value_error(key, text, "off, aws, or a number above 0, in quotes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn settled(text: &str) -> Result<Gateway, String> {
        let written: WrittenGateway = toml::from_str(text).unwrap();
        written.settle("us-east-1", Path::new("/data")).map_err(|e| e.to_string())
    }

    #[test]
    fn endpoints_work_on_a_laptop_without_being_told() {
        let gateway = settled("").unwrap();
        assert_eq!(gateway.domain, "lambda-microvm.us-east-1.localhost");
        assert_eq!(gateway.certificate, CertificateFrom::Authority("/data/gateway".into()));
        assert_eq!(gateway.limits, Limits::OFF);
    }

    #[test]
    fn limits_are_off_awss_or_a_number() {
        let gateway = settled("vm_bandwidth = \"aws\"\nvm_requests = \"20\"").unwrap();
        assert_eq!(gateway.limits.bandwidth, Limit::Aws);
        assert_eq!(gateway.limits.requests, Limit::Fixed(20));
        assert!(settled("vm_connections = \"many\"").unwrap_err().contains("vm_connections"));
    }

    #[test]
    fn a_certificate_needs_its_key() {
        let error = settled("tls_certificate = \"/c.pem\"").unwrap_err();
        assert!(error.contains("set together"), "{error}");
        assert!(settled("suffix = \"a b\"").unwrap_err().contains("a domain name"));
    }
}
