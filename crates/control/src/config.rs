//! What the control plane needs to know, with every default spelled out.

use crate::{ImageArn, ImageName};
use std::{path::PathBuf, time::Duration};

/// Settings of a `Control`.
#[derive(Clone, Debug)]
pub struct ControlConfig {
    /// Made where it is missing, mode 0700. Holds the stores, the key file and the operator's key.
    pub data_dir: PathBuf,
    pub region: String,
    /// 12 digits.
    pub account: String,
    /// Domain of the endpoints: `<uuid>.<endpoint_domain>`.
    pub endpoint_domain: String,
    /// What keeps a VM from being idle.
    pub idle_counts: IdleCounts,
    /// Whether VMs with an egress connector that opens the internet reach it.
    pub internet: Internet,
    /// Launches under way at once.
    pub launches_max: usize,
    pub quotas: Quotas,
    /// The image whose newest active version the engine keeps VMs of on standby.
    pub standby_image: Option<ImageName>,
    /// How often what is is compared with what should be.
    pub reconcile_every: Duration,
    /// Messages of all log groups together, in bytes; beyond it, the oldest go.
    pub logs_bytes_max: u64,
    /// How long terminated MicroVMs stay listed.
    pub terminated_retention: Duration,
    /// Environment of every app, besides what names the image. Wins over the image's own.
    pub platform_environment: Vec<(String, String)>,
    /// Run once before a snapshot is taken, so that what they touch is in its page cache. One that
    /// an image does not have is passed over.
    pub warm_commands: Vec<Vec<String>>,
}

/// How much there may be; none: no limit. The defaults are AWS's (spec 10).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quotas {
    /// Memory of all VMs that are not terminated together, in MiB.
    pub memory_mib: Option<u64>,
    pub images: Option<u64>,
    /// Of one image.
    pub image_versions: Option<u64>,
    /// Builds under way at once.
    pub concurrent_builds: Option<u64>,
    pub connectors: Option<u64>,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            memory_mib: Some(400 * 1024),
            images: Some(100),
            image_versions: Some(50),
            concurrent_builds: Some(5),
            connectors: Some(1000),
        }
    }
}

/// What counts as activity of a VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IdleCounts {
    /// Anything that its network carries: a worker that holds a work item sends a heartbeat.
    #[default]
    Work,
    /// AWS's rule: endpoint traffic alone.
    Ingress,
}

/// Whether there is an internet for VMs on this host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Internet {
    /// For those whose connectors open it.
    #[default]
    Reachable,
    /// For none, whatever their connectors say.
    Closed,
}

impl ControlConfig {
    /// ARN of an image of this account.
    pub fn image_arn(&self, name: &ImageName) -> ImageArn {
        let (region, account) = (self.region.clone(), self.account.clone());
        ImageArn { region, account, name: name.clone() }
    }

    /// The documented defaults, with the data in `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let region = "us-east-1";
        Self {
            data_dir: data_dir.into(),
            region: region.to_owned(),
            account: "000000000000".to_owned(),
            endpoint_domain: format!("lambda-microvm.{region}.on.aws"),
            idle_counts: IdleCounts::Work,
            internet: Internet::Reachable,
            launches_max: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            quotas: Quotas::default(),
            standby_image: None,
            reconcile_every: Duration::from_secs(60),
            logs_bytes_max: 2 << 30,
            terminated_retention: Duration::from_secs(7 * 24 * 3600),
            platform_environment: vec![
                ("AWS_ENDPOINT_URL".to_owned(), "http://10.0.0.1:7420".to_owned()),
                ("AWS_REGION".to_owned(), region.to_owned()),
                ("AWS_DEFAULT_REGION".to_owned(), region.to_owned()),
            ],
            warm_commands: [
                "bash -c true",
                "ls /",
                "cat /dev/null",
                "grep --version",
                "find / -maxdepth 1",
                "sed --version",
                "git --version",
                "python3 -c pass",
                "node -e 0",
            ]
            .map(|line| line.split(' ').map(str::to_owned).collect())
            .to_vec(),
        }
    }
}
