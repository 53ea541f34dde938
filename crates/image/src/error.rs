//! Why a build failed: AWS's reason code for the API, a sentence for people, and what to do.

use crate::{archive::ArchiveError, tool::ToolError};
use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// AWS's codes for a failed build, as far as building itself gives them (those about S3 are its
/// caller's). Source: AWS Lambda MicroVMs, "MicroVM images", build failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReasonCode {
    ArchiveInvalid,
    ArchiveDockerfileNotFound,
    ContainerBuildFailed,
    DiskStorageFull,
    InternalPlatformError,
}

impl ReasonCode {
    /// The code as the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ArchiveInvalid => "ARCHIVE_INVALID",
            Self::ArchiveDockerfileNotFound => "ARCHIVE_DOCKERFILE_NOT_FOUND",
            Self::ContainerBuildFailed => "CONTAINER_BUILD_FAILED",
            Self::DiskStorageFull => "DISK_STORAGE_FULL",
            Self::InternalPlatformError => "INTERNAL_PLATFORM_ERROR",
        }
    }
}

impl fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A build that gave no image. [`BuildError::reason`] is for the API, [`BuildError::hint`] for the
/// person, [`BuildError::log_tail`] for the build's log.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("the artifact cannot be used")]
    Archive(#[from] ArchiveError),
    #[error("the artifact has no Dockerfile at its root{}", elsewhere(.found))]
    NoDockerfile {
        /// A Dockerfile in a subdirectory: the usual mistake of zipping the directory itself.
        found: Option<PathBuf>,
    },
    #[error("a step of the Dockerfile failed")]
    Dockerfile(#[source] ToolError),
    #[error("the image says nothing to start: its Dockerfile has neither ENTRYPOINT nor CMD")]
    NothingToStart,
    #[error("no space left on the disk of {}", .path.display())]
    DiskFull { path: PathBuf },
    #[error("the image's files do not fit on its disk of {} MiB", .disk_bytes >> 20)]
    TooLargeForDisk { disk_bytes: u64 },
    #[error("the Dockerfile's base image {reference} cannot be fetched")]
    BaseImage { reference: String, source: ToolError },
    #[error("the Dockerfile's base image {reference} is a file outside of the artifact")]
    BaseOutside { reference: String },
    #[error("the Dockerfile was not done within {} s", .after.as_secs())]
    TimedOut { after: Duration },
    #[error("no sandbox for the build: {0}")]
    Sandbox(String),
    #[error("making the base image failed")]
    Base(#[source] ToolError),
    #[error(transparent)]
    Tool(#[from] ToolError),
    #[error("{doing} {}", .path.display())]
    Io {
        /// What was tried, as the beginning of a sentence: "writing".
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("the build was cancelled")]
    Cancelled,
    #[error("the build's task ended without a result: {0}")]
    Died(String),
}

fn elsewhere(found: &Option<PathBuf>) -> String {
    found.as_ref().map_or_else(String::new, |path| format!(" (there is one at {})", path.display()))
}

impl BuildError {
    /// An I/O failure on one of our own files; a full disk is told apart.
    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::StorageFull {
            Self::DiskFull { path: path.to_owned() }
        } else {
            Self::Io { doing, path: path.to_owned(), source }
        }
    }

    /// A tool's failure while it worked on files below `path`: full disk and cancelling are told
    /// apart, the rest is what `otherwise` makes of it.
    pub(crate) fn of_tool(
        error: ToolError,
        path: &Path,
        otherwise: impl FnOnce(ToolError) -> Self,
    ) -> Self {
        match error {
            ToolError::Cancelled { .. } => Self::Cancelled,
            failed @ ToolError::Failed { .. } if failed.is_disk_full() => {
                Self::DiskFull { path: path.to_owned() }
            }
            failed @ ToolError::Failed { .. } => otherwise(failed),
            other @ (ToolError::Missing { .. }
            | ToolError::Spawn { .. }
            | ToolError::Garbled { .. }) => Self::Tool(other),
        }
    }

    /// AWS's code for the failure.
    pub fn reason(&self) -> ReasonCode {
        match self {
            Self::Archive(_) => ReasonCode::ArchiveInvalid,
            Self::NoDockerfile { .. } => ReasonCode::ArchiveDockerfileNotFound,
            Self::Dockerfile(_)
            | Self::NothingToStart
            | Self::BaseImage { .. }
            | Self::BaseOutside { .. }
            | Self::TimedOut { .. } => ReasonCode::ContainerBuildFailed,
            Self::DiskFull { .. } | Self::TooLargeForDisk { .. } => ReasonCode::DiskStorageFull,
            Self::Base(_)
            | Self::Tool(_)
            | Self::Io { .. }
            | Self::Sandbox(_)
            | Self::Cancelled
            | Self::Died(_) => ReasonCode::InternalPlatformError,
        }
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Archive(error) => error.hint().map(str::to_owned),
            Self::NoDockerfile { found: Some(path) } => Some(format!(
                "zip what is in {}, not the directory itself",
                path.parent().unwrap_or(Path::new(".")).display()
            )),
            Self::NoDockerfile { found: None } => {
                Some("put a file named Dockerfile at the top of the artifact".to_owned())
            }
            Self::Dockerfile(error) if error.tail().iter().any(|line| misses_dnf(line)) => Some(
                "Warren's base is Debian: install packages with apt-get, or name another base \
                 in FROM"
                    .to_owned(),
            ),
            Self::Dockerfile(_) => Some("the build's log ends with the step's output".to_owned()),
            Self::NothingToStart => Some("end the Dockerfile with ENTRYPOINT [\"…\"]".to_owned()),
            Self::DiskFull { path } => {
                Some(format!("free space there; {} images take about 1 GiB each", path.display()))
            }
            Self::TooLargeForDisk { .. } => {
                Some("remove in the Dockerfile what the app does not need".to_owned())
            }
            Self::Base(_) => Some(
                "the base is made of Debian packages: check the network and the apt sources, then run it again"
                    .to_owned(),
            ),
            Self::Tool(error) => error.hint(),
            Self::BaseImage { .. } => Some(
                "a host that cannot reach the registry takes another source by an alias: \
                 image.aliases in warren.toml"
                    .to_owned(),
            ),
            Self::BaseOutside { .. } => Some(
                "files of this host are named by the operator: image.aliases in warren.toml"
                    .to_owned(),
            ),
            Self::TimedOut { .. } => Some("the build's log ends where it stood".to_owned()),
            Self::Sandbox(_) | Self::Io { .. } | Self::Cancelled | Self::Died(_) => None,
        }
    }

    /// The last lines that the failed tool printed, oldest first; empty where none ran.
    pub fn log_tail(&self) -> &[String] {
        match self {
            Self::Dockerfile(error)
            | Self::BaseImage { source: error, .. }
            | Self::Base(error)
            | Self::Tool(error) => error.tail(),
            Self::Archive(_)
            | Self::NoDockerfile { .. }
            | Self::NothingToStart
            | Self::DiskFull { .. }
            | Self::TooLargeForDisk { .. }
            | Self::BaseOutside { .. }
            | Self::TimedOut { .. }
            | Self::Sandbox(_)
            | Self::Io { .. }
            | Self::Cancelled
            | Self::Died(_) => &[],
        }
    }
}

fn misses_dnf(line: &str) -> bool {
    ["dnf", "microdnf", "yum"].iter().any(|tool| line.contains(&format!("{tool}: not found")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(lines: &[&str]) -> ToolError {
        ToolError::Failed {
            program: "buildah",
            doing: "build".to_owned(),
            status: "exit status: 1".to_owned(),
            tail: lines.iter().map(|&line| line.to_owned()).collect(),
        }
    }

    #[test]
    fn a_full_disk_is_told_apart_from_a_failed_step() {
        let error = BuildError::of_tool(
            failed(&["Error: write /x: no space left on device"]),
            Path::new("/share"),
            BuildError::Dockerfile,
        );
        assert_eq!(error.reason(), ReasonCode::DiskStorageFull);
    }

    #[test]
    fn a_failed_step_carries_its_last_lines() {
        let error = BuildError::of_tool(
            failed(&["STEP 2/3: RUN false", "Error: exit status 1"]),
            Path::new("/share"),
            BuildError::Dockerfile,
        );
        assert_eq!(error.reason().as_str(), "CONTAINER_BUILD_FAILED");
        assert_eq!(error.log_tail().len(), 2);
    }

    #[test]
    fn a_dockerfile_for_amazon_linux_gets_told_about_debian() {
        let error = BuildError::Dockerfile(failed(&["/bin/sh: 1: dnf: not found"]));
        assert!(error.hint().is_some_and(|hint| hint.contains("apt-get")));
    }

    #[test]
    fn a_zipped_directory_is_explained() {
        let error = BuildError::NoDockerfile { found: Some(PathBuf::from("app/Dockerfile")) };
        assert_eq!(error.reason().as_str(), "ARCHIVE_DOCKERFILE_NOT_FOUND");
        assert!(error.hint().is_some_and(|hint| hint.contains("app")));
    }
}
