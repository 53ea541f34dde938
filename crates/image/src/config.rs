//! What a builder needs to know about its machine.

use crate::archive::ArchiveLimits;
use std::path::PathBuf;

/// Size of a VM's disk that AWS gives, in bytes.
const DISK_BYTES: u64 = 8 << 30;

/// Names in FROM that stand for Warren's own base. AWS's minimal base exists for arm64 only.
const BASE_ALIASES: [&str; 1] = ["public.ecr.aws/lambda/microvms:al2023-minimal"];

/// Where a builder keeps its things, and its limits.
#[derive(Debug, Clone)]
pub struct ImageConfig {
    /// Shared by all data directories of a machine: the base image and buildah's layers.
    pub share_dir: PathBuf,
    /// This installation's own: finished root filesystems and temporary files.
    pub work_dir: PathBuf,
    /// Size of the disk that a VM sees, in bytes; the file is sparse. What the image does not
    /// fill is the VM's free space.
    pub disk_bytes: u64,
    /// Names in a Dockerfile's FROM that stand for [`crate::BASE_NAME`], complete with their tag.
    pub base_aliases: Vec<String>,
    /// Bounds on artifacts.
    pub limits: ArchiveLimits,
}

impl ImageConfig {
    /// The defaults: 8 GiB disks and AWS's name for its minimal base as an alias.
    pub fn new(share_dir: impl Into<PathBuf>, work_dir: impl Into<PathBuf>) -> Self {
        Self {
            share_dir: share_dir.into(),
            work_dir: work_dir.into(),
            disk_bytes: DISK_BYTES,
            base_aliases: BASE_ALIASES.map(str::to_owned).to_vec(),
            limits: ArchiveLimits::default(),
        }
    }
}
