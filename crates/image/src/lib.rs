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
//! A Dockerfile's RUN steps are run by buildah's chroot isolation, as root of this host without most
//! capabilities: **an artifact is trusted like a shell script that its owner runs with sudo.** What a
//! VM built from it does later is not.
//!
//! ```text
//!  zip ──archive──┐
//!                 ├─> artifact ──buildah──> OCI image ──app────> wire::App
//!  directory ─────┘       ▲                     └───────disk───> rootfs.ext4
//!                        base
//! ```
#![forbid(unsafe_code)]

mod app;
mod archive;
mod artifact;
mod base;
mod buildah;
mod builder;
mod config;
mod disk;
mod error;
mod lock;
mod progress;
mod tool;

pub use archive::{ArchiveError, ArchiveLimits};
pub use artifact::Artifact;
pub use base::BASE_NAME;
pub use builder::{BuildRequest, BuiltImage, ImageBuilder};
pub use config::ImageConfig;
pub use error::{BuildError, ReasonCode};
pub use progress::{BuildStage, Progress};
pub use tool::ToolError;
