//! How a command ends: an exit code, and for a person the error, its causes and the remedy.
//!
//! Each module has its own error enum; what a reader can do about each variant is data there
//! ([`Remedy::hint`]). A command returns `Result<Exit, Failure>`, and only [`crate::run`] prints.

use crate::print::Closed;
use std::error::Error;

/// Exit codes, as `warren --help` documents them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Success,
    Failed,
    Usage,
    /// The service does not answer.
    Unreachable,
    /// `exec` or `shell` failed before there was a command whose code could be passed on.
    NoCommand,
    /// The code of a command that ran in a VM.
    Command(u8),
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::NoCommand => 125,
            Self::Command(code) => code,
        }
    }
}

/// An error that knows what its reader can do.
pub(crate) trait Remedy: Error + Send + Sync + 'static {
    fn hint(&self) -> Option<String>;
    fn exit(&self) -> Exit {
        Exit::Failed
    }
}

/// What ended a command.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: Box<dyn Error + Send + Sync>,
    pub(crate) hint: Option<String>,
    pub(crate) exit: Exit,
}

impl Failure {
    pub(crate) fn with_exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }
}

impl<E: Remedy> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { hint: error.hint(), exit: error.exit(), error: Box::new(error) }
    }
}

impl Remedy for Closed {
    fn hint(&self) -> Option<String> {
        None
    }
    fn exit(&self) -> Exit {
        if self.by_reader() { Exit::Success } else { Exit::Failed }
    }
}

pub(crate) type Outcome = Result<Exit, Failure>;

/// An error and its causes on one line.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
