//! The six tools of `agent_toolset_20260401`: bash, read, write, edit, glob, grep.
//!
//! The official TypeScript toolset is the reference, text for text; `tests/toolset` plays both
//! against each other, and `docs/worker.md` lists the differences that are on purpose. A tool
//! call comes from a model that may have read hostile text: every buffer here has a bound, and
//! no call can take the worker down with it.

mod bash;
mod edit;
mod glob;
mod grep;
mod input;
mod js_regex;
mod paths;
mod read;
mod room;
mod search_path;
mod shell;
mod transcript;
mod walk;
mod write;

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use bash::Bash;
use input::Input;
use paths::Workdir;
pub use room::{INIT_ARGUMENT, Room, run_init};

/// What a result says where the tool itself says nothing.
const NO_OUTPUT: &str = "(no output)";

/// A tool of the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// A command in a shell that lives as long as the work item.
    Bash,
    /// A file's text, or some lines of it.
    Read,
    /// A new file.
    Write,
    /// A text in a file replaced by another.
    Edit,
    /// Files by name.
    Glob,
    /// Lines by content.
    Grep,
}

/// A name that no tool here has. Such a call belongs to another client of the session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no tool here is called {0:?}")]
pub struct NotOurs(pub String);

impl FromStr for Tool {
    type Err = NotOurs;
    fn from_str(name: &str) -> Result<Self, NotOurs> {
        Ok(match name {
            "bash" => Self::Bash,
            "read" => Self::Read,
            "write" => Self::Write,
            "edit" => Self::Edit,
            "glob" => Self::Glob,
            "grep" => Self::Grep,
            other => return Err(NotOurs(other.to_owned())),
        })
    }
}

/// What a call gives back to the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The text; never empty.
    pub text: String,
    /// Whether the call failed.
    pub is_error: bool,
}

/// The text of a failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToolError(pub(crate) String);

impl ToolError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Where and with what the tools work.
#[derive(Debug, Clone)]
pub struct ToolsetOptions {
    /// The directory that the file tools keep to and the shell starts in.
    pub workdir: PathBuf,
    /// Where else the file tools may work.
    pub roots: Vec<ExtraRoot>,
    /// `PATH` in which `rg` is looked for. `None` searches with the built-in walker.
    pub search_path: Option<String>,
    /// Where shells run. `None`: beside this process.
    pub room: Option<Room>,
}

/// A directory that the file tools reach besides the working directory: a memory store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraRoot {
    /// Where it is.
    pub path: PathBuf,
    /// What may be done there.
    pub access: RootAccess,
}

/// What file tools may do in an [`ExtraRoot`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootAccess {
    /// All that they can.
    ReadWrite,
    /// No write and no edit.
    ReadOnly,
}

/// A program of that name from the `PATH`, unless it lies where the session can write.
pub(crate) fn trusted_program(name: &str, options: &ToolsetOptions) -> Option<PathBuf> {
    let workdir = Workdir::new(options.workdir.clone(), options.roots.clone());
    search_path::find_program(name, options.search_path.as_deref()?, &workdir)
}

/// The tools of one work item. Dropping it kills the shell and all that runs in its process
/// group.
#[derive(Debug)]
pub struct Toolset {
    workdir: Arc<Workdir>,
    bash: Bash,
    search_path: Option<String>,
}

impl Toolset {
    /// Tools that nothing has been done with yet: no shell runs.
    pub fn new(options: ToolsetOptions) -> Self {
        let workdir = Arc::new(Workdir::new(options.workdir, options.roots));
        Self {
            bash: Bash::new(workdir.clone(), options.room),
            workdir,
            search_path: options.search_path,
        }
    }

    /// Runs one call to its end. `cancel` ends a command or a search early; the outcome then
    /// says so.
    pub async fn run(&mut self, tool: Tool, input: &Value, cancel: &CancellationToken) -> Outcome {
        let input = Input::new(input);
        let result = match tool {
            Tool::Bash => self.bash.run(&input, cancel).await,
            Tool::Read => self.on_disk(input, read::run).await,
            Tool::Write => self.on_disk(input, write::run).await,
            Tool::Edit => self.on_disk(input, edit::run).await,
            Tool::Glob => self.on_disk(input, glob::run).await,
            Tool::Grep => {
                grep::run(&self.workdir, &input, self.search_path.as_deref(), cancel).await
            }
        };
        match result {
            Ok(text) if text.is_empty() => Outcome { text: NO_OUTPUT.into(), is_error: false },
            Ok(text) => Outcome { text, is_error: false },
            Err(ToolError(text)) => Outcome { text, is_error: true },
        }
    }

    /// Runs a tool that only waits for the disk on a thread of its own, so that heartbeats go
    /// on meanwhile.
    async fn on_disk(
        &self,
        input: Input,
        tool: fn(&Workdir, &Input) -> Result<String, ToolError>,
    ) -> Result<String, ToolError> {
        let workdir = self.workdir.clone();
        match tokio::task::spawn_blocking(move || tool(&workdir, &input)).await {
            Ok(result) => result,
            Err(error) => Err(ToolError(format!("Error: the tool broke off: {error}"))),
        }
    }
}
