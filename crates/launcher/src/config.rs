//! What the launcher has to be told: whom to call, what to launch, for which environment.
//!
//! Secrets are named here, never held: the signing secret is read from Secrets Manager when it is
//! needed, the environment key is only ever named to the VM.

use crate::comeback::Comeback;
use agents::{EnvironmentId, client::BaseUrl};
use std::{path::PathBuf, sync::Arc};

/// Where the webhook signing secret lives unless configured otherwise.
pub const SIGNING_SECRET_ID_DEFAULT: &str = "warren/webhook-signing-secret";
/// Where the environment key lives unless configured otherwise.
pub const ENVIRONMENT_KEY_SECRET_ID_DEFAULT: &str = "warren/environment-key";
/// Longest life of a MicroVM, seconds; also what AWS uses where nothing is said.
pub const MAX_DURATION_SECONDS_DEFAULT: i32 = 28_800;
/// RunMicrovm calls a second: the quota that AWS gives to every account.
pub const LAUNCHES_PER_SECOND_DEFAULT: u32 = 5;

/// How sessions that need a VM are found.
#[derive(Clone, Debug, Default)]
pub enum Mode {
    /// The platform says so by webhook. The VM is told the name of the environment key and polls for its
    /// item, as in the reference sample.
    #[default]
    Webhook,
    /// This host polls the environment's queue, acknowledges, and gives the VM the item with its own
    /// secret: no public address is needed, and the environment key stays on the host.
    Poll {
        /// The platform as seen from this host.
        platform_url: BaseUrl,
    },
}

/// Configuration of a [`crate::Launcher`].
#[derive(Clone, Debug)]
pub struct LauncherConfig {
    /// Base URL of the AWS API. None: the real AWS, by region.
    pub endpoint_url: Option<String>,
    /// AWS region that requests are signed for; the VM is told the same.
    pub region: String,
    /// The environment whose sessions are served. A webhook does not name one.
    pub environment_id: EnvironmentId,
    /// How sessions are found.
    pub mode: Mode,
    /// Secrets Manager id of the environment key; handed to the VM as this reference, or read here.
    pub environment_key_secret_id: String,
    /// Secrets Manager id of the webhook signing secrets, separated by whitespace, newest first.
    pub signing_secret_id: String,
    /// The platform's base URL as seen from inside a VM. None: the worker's own default.
    pub guest_platform_url: Option<String>,
    /// What is launched.
    pub vm: VmConfig,
    /// Who has kept something of sessions whose VM is gone.
    pub comeback: Option<Arc<dyn Comeback>>,
    /// RunMicrovm calls a second, and the burst.
    pub launches_per_second: u32,
    /// Directory of the launcher's database; made where it is missing.
    pub data_dir: PathBuf,
}

impl LauncherConfig {
    /// Defaults for everything that has one; the members can be set afterwards.
    pub fn new(
        environment_id: EnvironmentId,
        image_identifier: impl Into<String>,
        data_dir: impl Into<PathBuf>,
    ) -> Self {
        Self {
            endpoint_url: None,
            region: "us-east-1".into(),
            environment_id,
            mode: Mode::Webhook,
            environment_key_secret_id: ENVIRONMENT_KEY_SECRET_ID_DEFAULT.into(),
            signing_secret_id: SIGNING_SECRET_ID_DEFAULT.into(),
            guest_platform_url: None,
            vm: VmConfig::new(image_identifier),
            comeback: None,
            launches_per_second: LAUNCHES_PER_SECOND_DEFAULT,
            data_dir: data_dir.into(),
        }
    }
}

/// Members of RunMicrovm that do not depend on the session (model `lambda-microvms` 2025-09-09).
#[derive(Clone, Debug)]
pub struct VmConfig {
    /// ARN of the image; Warren, unlike AWS, takes its name too.
    pub image_identifier: String,
    /// `1.0`; None: the newest active version.
    pub image_version: Option<String>,
    /// Role of the app in the VM. It needs to read the environment key.
    pub execution_role_arn: Option<String>,
    /// Seconds from the start to the forced end, 1 to 28800.
    pub max_duration_seconds: i32,
    /// None, the default: never suspended for being idle. A worker takes no inbound traffic, so on
    /// AWS an idle clock would freeze it in the middle of a turn.
    pub idle_policy: Option<IdlePolicy>,
    /// What the worker does with a session's VM when it has no more work.
    pub at_end: AtEnd,
    /// CloudWatch log group of the app's output. None: the service's default.
    pub log_group: Option<String>,
    /// Empty: the service's default.
    pub ingress_connectors: Vec<String>,
    /// Empty: the image version's.
    pub egress_connectors: Vec<String>,
}

impl VmConfig {
    /// An image with AWS's defaults for all else.
    pub fn new(image_identifier: impl Into<String>) -> Self {
        Self {
            image_identifier: image_identifier.into(),
            image_version: None,
            execution_role_arn: None,
            max_duration_seconds: MAX_DURATION_SECONDS_DEFAULT,
            idle_policy: None,
            at_end: AtEnd::Terminate,
            log_group: None,
            ingress_connectors: Vec::new(),
            egress_connectors: Vec::new(),
        }
    }
}

/// What becomes of a session's VM at the end of its work. A session that was archived or deleted
/// takes its VM with it in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtEnd {
    Terminate,
    /// It is suspended, resumed at the session's next run, and terminated where none comes within
    /// so many seconds. With [`Mode::Poll`] a VM has its one item alone, and is terminated.
    Suspend {
        seconds: i32,
    },
    /// It is suspended; what becomes of it then, and how the session comes back, is the business of
    /// [`LauncherConfig::comeback`].
    Keep,
}

/// When an idle VM is suspended, and when a suspended one ends.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IdlePolicy {
    /// Seconds without endpoint traffic, at least 60.
    pub max_idle_seconds: i32,
    /// Seconds in SUSPENDED before the end; 0: ended instead of suspended.
    pub suspended_seconds: i32,
    /// Whether endpoint traffic wakes it.
    pub resume: ResumeOn,
}

/// What wakes a suspended VM besides ResumeMicrovm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum ResumeOn {
    EndpointTraffic,
    RequestOnly,
}
