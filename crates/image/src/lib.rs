//! Image builds: an artifact (a directory or a zip with a Dockerfile at its root) becomes a root
//! filesystem and a description of the app that starts in it.
//!
//! What rules it: a result is named by the digest of what it was made from, so the same artifact on
//! the same base gives the same file without any work, and every file appears whole or not at all.
//!
//! The work is done by the tools of this field: mmdebstrap makes the base, buildah runs the
//! Dockerfile, mke2fs makes the disk; [`tool`] is the only place that starts them. Snapshots are
//! `engine`'s, what exists for whom is `control`'s.
//!
//! An artifact is not trusted. What handles it runs in a [`sandbox`]: a user namespace whose root is a
//! plain user of this host, with a root directory, processes, network and limits of its own; a step of
//! a Dockerfile runs in there as buildah runs it, with a filter of system calls and without most
//! capabilities. It is still this host's kernel that serves it, as with any container.
//!
//! ```text
//!  zip ──archive──> artifact ──buildah──> OCI image ──app────> wire::App
//!                       ▲ from                └───────disk───> rootfs.ext4
//!        base, registries, local layouts
//! ```
#![forbid(unsafe_code)]

mod app;
mod archive;
mod artifact;
mod base;
mod buildah;
mod builder;
mod bundle;
mod config;
mod disk;
mod error;
mod from;
mod limits;
mod lock;
mod network;
mod progress;
mod prune;
mod record;
mod sandbox;
mod tool;

pub use archive::{ArchiveError, ArchiveLimits};
pub use base::BASE_NAME;
pub use builder::{BuildRequest, BuiltImage, ImageBuilder};
pub use bundle::{BundleError, pack, unpack};
pub use config::ImageConfig;
pub use error::{BuildError, ReasonCode};
pub use limits::Limits;
pub use network::Reach;
pub use progress::{BuildStage, Progress};
pub use prune::{Pruned, Pruning};
pub use tool::ToolError;
