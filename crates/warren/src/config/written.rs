//! `warren.toml` as the operator writes it: every section and key with its default.
//!
//! An empty text stands for "not set", so that each key has a default that can be shown.

use super::{gateway::WrittenGateway, limits::Limits};
use serde::{Deserialize, Serialize};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Written {
    pub(crate) api: Api,
    pub(crate) platform: Platform,
    pub(crate) launcher: Launcher,
    pub(crate) engine: Engine,
    pub(crate) image: Image,
    pub(crate) gateway: WrittenGateway,
    pub(crate) network: Network,
    pub(crate) idle: Idle,
    pub(crate) iam: Iam,
    pub(crate) limits: Limits,
    pub(crate) s3: S3,
    pub(crate) log: Log,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Api {
    pub(crate) listen: SocketAddr,
    pub(crate) region: String,
    pub(crate) account: String,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7420)),
            region: "us-east-1".into(),
            account: "000000000000".into(),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Platform {
    pub(crate) listen: SocketAddr,
    pub(crate) base_url: String,
}

impl Default for Platform {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7430)),
            base_url: "http://127.0.0.1:7430".into(),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Launcher {
    pub(crate) environment_id: String,
    pub(crate) mode: LauncherMode,
    pub(crate) image: String,
    pub(crate) max_duration_s: u32,
    pub(crate) at_end: AtEnd,
    pub(crate) suspended_s: u32,
}

impl Default for Launcher {
    fn default() -> Self {
        Self {
            environment_id: String::new(),
            mode: LauncherMode::default(),
            image: "claude-worker".into(),
            max_duration_s: 28_800,
            at_end: AtEnd::default(),
            suspended_s: 3600,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Engine {
    pub(crate) require: Require,
    pub(crate) accelerator: Accelerator,
    pub(crate) standby: u8,
    pub(crate) share_dir: PathBuf,
    pub(crate) libexec_dir: PathBuf,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            require: Require::default(),
            accelerator: Accelerator::default(),
            standby: 1,
            share_dir: PathBuf::new(),
            libexec_dir: PathBuf::new(),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Image {
    pub(crate) aliases: Vec<String>,
    pub(crate) plain_registries: Vec<String>,
    pub(crate) build_memory_mib: u64,
    pub(crate) build_minutes: u64,
    pub(crate) kept_gib: u64,
}

impl Default for Image {
    fn default() -> Self {
        Self {
            aliases: Vec::new(),
            plain_registries: Vec::new(),
            build_memory_mib: 4096,
            build_minutes: 60,
            kept_gib: 50,
        }
    }
}

/// How the launcher finds sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LauncherMode {
    /// The platform says so; the VM has the environment key and polls.
    #[default]
    Webhook,
    /// This host polls; the VM has its item alone.
    Poll,
}

/// What becomes of a session's VM at the end of its work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AtEnd {
    #[default]
    Terminate,
    Suspend,
    Checkpoint,
}

/// What the service insists on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Require {
    #[default]
    Any,
    Kvm,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Accelerator {
    /// KVM where it was measured to work, else TCG.
    #[default]
    Auto,
    Kvm,
    Tcg,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Network {
    pub(crate) internet: Switch,
}

impl Default for Network {
    fn default() -> Self {
        Self { internet: Switch::On }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Idle {
    pub(crate) counts: Counts,
}

/// What keeps a VM from being idle.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Counts {
    #[default]
    Work,
    Ingress,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Iam {
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct S3 {
    pub(crate) domains: Vec<String>,
}

impl Default for S3 {
    fn default() -> Self {
        Self { domains: vec!["localhost".into(), "s3.localhost".into()] }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) json: Switch,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Switch {
    On,
    #[default]
    Off,
}

impl Switch {
    pub(crate) fn is_on(self) -> bool {
        self == Self::On
    }
}

/// Every section and key with its default.
pub(super) fn defaults() -> toml::Table {
    // The default is built here and holds texts, numbers and lists only: it always serialises.
    toml::Table::try_from(Written::default()).unwrap_or_default()
}
