//! What a build tells while it runs: which stage it is in, and the lines its tools print.

use std::fmt;
use tokio::sync::mpsc;

/// One thing to show to whoever waits for a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The build goes on to this stage.
    Stage(BuildStage),
    /// A line that a tool printed, without its line feed; at most 8 KiB.
    Line(String),
}

/// The stages of a build in their order; those with nothing to do are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildStage {
    /// Another build uses what this one needs.
    Waiting,
    /// The artifact is unpacked and its digest taken.
    Artifact,
    /// Images that the Dockerfile begins with are fetched.
    Fetching,
    /// The base image is made from Debian's packages; once per machine.
    Base,
    /// The Dockerfile is run.
    Container,
    /// The root filesystem is made of the container's files.
    Disk,
    /// All was there from an earlier build.
    Cached,
}

impl fmt::Display for BuildStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Waiting => "waiting for another build",
            Self::Artifact => "reading the artifact",
            Self::Fetching => "fetching base images",
            Self::Base => "making the base image from Debian's packages",
            Self::Container => "running the Dockerfile",
            Self::Disk => "making the root filesystem",
            Self::Cached => "already built",
        })
    }
}

/// Where a build's progress goes. A receiver that went away does not stop the build.
#[derive(Debug, Clone)]
pub(crate) struct Reporter(mpsc::UnboundedSender<Progress>);

impl Reporter {
    pub(crate) fn new(sender: mpsc::UnboundedSender<Progress>) -> Self {
        Self(sender)
    }

    pub(crate) fn stage(&self, stage: BuildStage) {
        tracing::info!(%stage, "image build");
        // The receiver may have stopped listening; the build is worth finishing all the same.
        let _ = self.0.send(Progress::Stage(stage));
    }

    pub(crate) fn line(&self, line: &str) {
        let _ = self.0.send(Progress::Line(line.to_owned()));
    }
}
