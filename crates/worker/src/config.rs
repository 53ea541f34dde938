//! What the worker is told by its environment, read once at the start.

use std::env::VarError;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::tools::Room;

const HOOK_PORT_DEFAULT: u16 = 9000;
const WORKDIR_DEFAULT: &str = "/workspace";
const REGION_DEFAULT: &str = "us-east-1";
const IMDS_DEFAULT: &str = "http://169.254.169.254";
const IDLE_EXIT_DEFAULT: Duration = Duration::from_millis(360_000);
const MAX_IDLE_DEFAULT: Duration = Duration::from_millis(60_000);

/// The settings of a worker.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the hooks are served, on all addresses: `HOOK_PORT`.
    pub hook_port: u16,
    /// Where the tools work: `WORKDIR`.
    pub workdir: PathBuf,
    /// Where AWS is, `AWS_ENDPOINT_URL`; `None` is AWS itself.
    pub aws_endpoint: Option<Url>,
    /// `AWS_REGION`, else `AWS_DEFAULT_REGION`; the payload of `/run` may name another.
    pub region: String,
    /// The instance metadata service: `AWS_EC2_METADATA_SERVICE_ENDPOINT`.
    pub imds: Url,
    /// How long the worker stays without work before it ends its VM: `WORK_IDLE_EXIT_MS`.
    pub idle_exit: Duration,
    /// How long a claim is kept after a turn has ended: `WORK_MAX_IDLE_MS`.
    pub max_idle: Duration,
    /// `PATH`, where ripgrep is looked for.
    pub search_path: Option<String>,
    /// Where shells run. `None`: beside this process.
    pub room: Option<Room>,
}

/// A variable that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not the kind of value that belongs there.
    #[error("{name}={value:?} is not {wanted}")]
    Bad {
        /// The variable.
        name: &'static str,
        /// What it holds.
        value: String,
        /// What it should hold.
        wanted: &'static str,
    },
    /// No UTF-8.
    #[error("{name} cannot be read")]
    Unreadable {
        /// The variable.
        name: &'static str,
        /// Why.
        #[source]
        source: VarError,
    },
}

impl Config {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// [`ConfigError`] names the first variable that cannot be used.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_lookup(|name| match std::env::var(name) {
            Ok(value) if value.is_empty() => Ok(None),
            Ok(value) => Ok(Some(value)),
            Err(VarError::NotPresent) => Ok(None),
            Err(source) => Err(ConfigError::Unreadable { name, source }),
        })
    }

    fn from_lookup(
        get: impl Fn(&'static str) -> Result<Option<String>, ConfigError>,
    ) -> Result<Self, ConfigError> {
        let url = |name| match get(name)? {
            None => Ok(None),
            Some(value) => match Url::parse(&value) {
                Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
                    Ok(Some(url))
                }
                Ok(_) | Err(_) => {
                    Err(ConfigError::Bad { name, value, wanted: "an http or https URL" })
                }
            },
        };
        let millis = |name, default| match get(name)? {
            None => Ok(default),
            Some(value) => match value.parse() {
                Ok(millis) => Ok(Duration::from_millis(millis)),
                Err(_) => Err(ConfigError::Bad { name, value, wanted: "a number of milliseconds" }),
            },
        };
        let hook_port = match get("HOOK_PORT")? {
            None => HOOK_PORT_DEFAULT,
            Some(value) => match value.parse() {
                Ok(port) => port,
                Err(_) => {
                    return Err(ConfigError::Bad {
                        name: "HOOK_PORT",
                        value,
                        wanted: "a port, 0 to 65535",
                    });
                }
            },
        };
        let imds_default = || {
            Url::parse(IMDS_DEFAULT).map_err(|_| ConfigError::Bad {
                name: "AWS_EC2_METADATA_SERVICE_ENDPOINT",
                value: IMDS_DEFAULT.to_owned(),
                wanted: "an http or https URL",
            })
        };
        Ok(Self {
            hook_port,
            workdir: get("WORKDIR")?.unwrap_or_else(|| WORKDIR_DEFAULT.to_owned()).into(),
            aws_endpoint: url("AWS_ENDPOINT_URL")?,
            region: match get("AWS_REGION")? {
                Some(region) => region,
                None => get("AWS_DEFAULT_REGION")?.unwrap_or_else(|| REGION_DEFAULT.to_owned()),
            },
            imds: match url("AWS_EC2_METADATA_SERVICE_ENDPOINT")? {
                Some(url) => url,
                None => imds_default()?,
            },
            idle_exit: millis("WORK_IDLE_EXIT_MS", IDLE_EXIT_DEFAULT)?,
            max_idle: millis("WORK_MAX_IDLE_MS", MAX_IDLE_DEFAULT)?,
            search_path: get("PATH")?,
            room: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(vars: &[(&'static str, &str)]) -> Result<Config, ConfigError> {
        Config::from_lookup(|name| {
            Ok(vars.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
        })
    }

    #[test]
    fn an_empty_environment_is_that_of_the_default_image() {
        let config = config(&[]).unwrap();
        assert_eq!(config.hook_port, 9000);
        assert_eq!(config.workdir, PathBuf::from("/workspace"));
        assert_eq!(config.idle_exit, Duration::from_secs(360));
        assert_eq!(config.imds.as_str(), "http://169.254.169.254/");
    }

    #[test]
    fn a_bad_variable_is_named_with_what_it_should_hold() {
        for (name, value) in
            [("HOOK_PORT", "http"), ("AWS_ENDPOINT_URL", "10.0.0.1"), ("WORK_IDLE_EXIT_MS", "6m")]
        {
            let text = config(&[(name, value)]).unwrap_err().to_string();
            assert!(text.contains(name) && text.contains(value), "{text}");
        }
    }
}
