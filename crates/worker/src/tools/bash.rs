//! The tool bash: commands in one shell, restarted when asked for or when it is lost.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::ToolError;
use super::input::{Input, to_number, to_text};
use super::paths::Workdir;
use super::room::Room;
use super::shell::{Deadline, Shell, ShellError};

/// How long a command may take if it does not say, in milliseconds.
const TIMEOUT_MS_DEFAULT: f64 = 120_000.0;
/// How long any tool call may take, whatever it says, in milliseconds.
const CALL_MS_MAX: f64 = 120_000.0;

/// The tool, with its shell once a command wanted one.
#[derive(Debug)]
pub(super) struct Bash {
    workdir: Arc<Workdir>,
    room: Option<Room>,
    shell: Option<Shell>,
}

impl Bash {
    pub(super) fn new(workdir: Arc<Workdir>, room: Option<Room>) -> Self {
        Self { workdir, room, shell: None }
    }

    pub(super) async fn run(
        &mut self,
        input: &Input,
        cancel: &CancellationToken,
    ) -> Result<String, ToolError> {
        let restart = input.is_truthy("restart");
        if restart {
            self.shell = None;
        }
        let Some(command) = input.text("command") else {
            if restart {
                return Ok("bash session restarted".to_owned());
            }
            return Err(ToolError::new("bash: command is required"));
        };
        // A shell that failed is not put back: the next command gets a fresh one.
        let mut shell = match self.shell.take() {
            Some(shell) => shell,
            None => Shell::start(self.workdir.as_path(), self.room.as_ref())
                .map_err(|error| ToolError(format!("bash: cannot start /bin/bash: {error}")))?,
        };
        let before = self.room.as_ref().map_or(0, Room::refusals);
        let ending = tokio::select! {
            biased;
            max = overrun(self.room.as_ref(), before) => Err(ShellError::TooManyProcesses { max }),
            ending = shell.run(&command, deadline(input), cancel) => ending,
        };
        let ending = match ending {
            Ok(ending) => ending,
            Err(error) => {
                drop(shell);
                if let Some(room) = &self.room {
                    room.emptied().await;
                }
                return Err(ToolError(format!("bash: {error}")));
            }
        };
        self.shell = Some(shell);
        match (ending.status, ending.output) {
            (0, output) => Ok(output),
            (status, output) if output.is_empty() => Err(ToolError(format!("exit {status}"))),
            (_, output) => Err(ToolError(output)),
        }
    }
}

/// Waits until the command wants more processes than there may be; for ever, where there is no bound.
async fn overrun(room: Option<&Room>, before: u64) -> u64 {
    match room {
        Some(room) => room.overrun(before).await,
        None => std::future::pending().await,
    }
}

/// When the command is given up: after its own time-out, or after what every call has.
fn deadline(input: &Input) -> Deadline {
    let (wanted, shown) = match input.get("timeout_ms") {
        Some(value) => (to_number(value), to_text(value)),
        None => (TIMEOUT_MS_DEFAULT, format!("{TIMEOUT_MS_DEFAULT:.0}")),
    };
    if wanted > CALL_MS_MAX {
        let after = Duration::from_millis(CALL_MS_MAX as u64);
        return Deadline { after, error: ShellError::Aborted };
    }
    // `as` takes NaN and what is negative to 0: at once, as the reference has it.
    let after = Duration::from_millis(wanted as u64);
    Deadline { after, error: ShellError::TimedOut { shown } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;
    use nix::sys::signal::kill;
    use nix::unistd::Pid;
    use serde_json::json;

    async fn run(bash: &mut Bash, command: &str) -> Result<String, ToolError> {
        let input = Input::new(&json!({"command": command}));
        bash.run(&input, &CancellationToken::new()).await
    }

    fn bash(dir: &tempfile::TempDir) -> Bash {
        Bash::new(Arc::new(Workdir::new(dir.path().to_owned(), Vec::new())), None)
    }

    #[tokio::test]
    async fn a_trace_shows_the_commands_and_not_their_framing() {
        let dir = tempfile::tempdir().unwrap();
        let mut bash = bash(&dir);
        assert_eq!(run(&mut bash, "set -x; echo hi").await.unwrap(), "+ echo hi\nhi");
        assert_eq!(run(&mut bash, "echo again").await.unwrap(), "+ echo again\nagain");
    }

    #[tokio::test]
    async fn what_the_shell_left_running_dies_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut bash = bash(&dir);
        let pid = run(&mut bash, "sleep 600 & echo $!").await.unwrap();
        let pid = Pid::from_raw(pid.parse().unwrap());
        drop(bash);
        // Gone, or a zombie that nobody has buried yet.
        let stat = format!("/proc/{pid}/stat");
        while kill(pid, None) != Err(Errno::ESRCH) {
            let state = std::fs::read_to_string(&stat).unwrap_or_default();
            if state.contains(") Z ") {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
}
