//! What a builder needs to know about its machine.

use crate::{archive::ArchiveLimits, base::BASE_NAME, limits::Limits};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

/// Size of a VM's disk that AWS gives, in bytes.
const DISK_BYTES: u64 = 8 << 30;

/// Some dozens of images with their layers.
const KEPT_BYTES: u64 = 50 << 30;

/// Names in FROM that stand for Warren's own base: AWS's minimal base exists for arm64 only.
const BASE_ALIASES: [&str; 2] =
    ["public.ecr.aws/lambda/microvms:al2023-minimal", "public.ecr.aws/lambda/microvms:al2023"];

/// Where a builder keeps its things, and its limits.
#[derive(Debug, Clone)]
pub struct ImageConfig {
    /// Shared by all data directories of a machine: the base image and the layers of builds.
    pub share_dir: PathBuf,
    /// This installation's own: finished root filesystems and temporary files.
    pub work_dir: PathBuf,
    /// Size of the disk that a VM sees, in bytes; the file is sparse. What the image does not
    /// fill is the VM's free space.
    pub disk_bytes: u64,
    /// Names of images in a Dockerfile, complete with their tag, and what is taken instead:
    /// [`BASE_NAME`], another name, or a file of this host (`oci:DIR`, `oci-archive:FILE`,
    /// `docker-archive:FILE`, each may be followed by `:NAME`).
    pub aliases: BTreeMap<String, String>,
    /// Registries (`host:port`) that are asked without TLS.
    pub plain_registries: BTreeSet<String>,
    /// Bounds on artifacts.
    pub archive: ArchiveLimits,
    /// Bounds on a build.
    pub limits: Limits,
    /// Space that is kept for later builds, layers and unused disks together, in bytes. What is
    /// beyond goes after a build, the longest unused first.
    pub kept_bytes: u64,
}

impl ImageConfig {
    /// The defaults: 8 GiB disks and AWS's names for its bases as aliases.
    pub fn new(share_dir: impl Into<PathBuf>, work_dir: impl Into<PathBuf>) -> Self {
        let aliases = BASE_ALIASES.map(|name| (name.to_owned(), BASE_NAME.to_owned()));
        Self {
            share_dir: share_dir.into(),
            work_dir: work_dir.into(),
            disk_bytes: DISK_BYTES,
            aliases: BTreeMap::from(aliases),
            plain_registries: BTreeSet::new(),
            archive: ArchiveLimits::default(),
            limits: Limits::default(),
            kept_bytes: KEPT_BYTES,
        }
    }
}
