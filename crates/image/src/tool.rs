//! External programs: the one place of this crate that starts any.
//!
//! Each runs in its own process group with no standard input, so that cancelling ends it with all
//! its children, and a failure names the program, what it was doing, its status and its last lines.

use crate::progress::Reporter;
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    collections::VecDeque,
    env,
    ffi::{OsStr, OsString},
    io,
    path::PathBuf,
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

/// Lines of a tool's output that an error carries.
const TAIL_LINES_MAX: usize = 60;
/// Longest line that is passed on in one piece, in bytes.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// Longest answer (of `inspect` and the like) that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Lines under way from a tool's pipes to whoever reads them.
const LINES_QUEUED_MAX: usize = 256;
/// Time that a cancelled tool has to take its own things down.
const TERMINATE_GRACE: Duration = Duration::from_secs(3);

/// A tool that could not be run or did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    #[error("{program} is not installed (Debian package {package})")]
    Missing { program: &'static str, package: &'static str },
    #[error("{program} could not be started")]
    Spawn { program: &'static str, source: io::Error },
    #[error("{program} {doing}: {status}{}", last_line(.tail))]
    Failed {
        program: &'static str,
        /// Its subcommand or purpose.
        doing: String,
        status: String,
        /// Its last lines, oldest first.
        tail: Vec<String>,
    },
    #[error("{program} answered something unexpected to {doing}: {what}")]
    Garbled { program: &'static str, doing: String, what: String },
    #[error("{program} was cancelled")]
    Cancelled { program: &'static str },
}

fn last_line(tail: &[String]) -> String {
    tail.iter()
        .rev()
        .find(|line| !line.trim().is_empty())
        .map_or_else(String::new, |line| format!(": {}", line.trim()))
}

impl ToolError {
    /// The last lines that the tool printed.
    pub fn tail(&self) -> &[String] {
        match self {
            Self::Failed { tail, .. } => tail,
            Self::Missing { .. }
            | Self::Spawn { .. }
            | Self::Garbled { .. }
            | Self::Cancelled { .. } => &[],
        }
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { package, .. } => {
                Some(format!("run scripts/setup, or apt-get install {package}"))
            }
            Self::Spawn { .. }
            | Self::Failed { .. }
            | Self::Garbled { .. }
            | Self::Cancelled { .. } => None,
        }
    }

    /// Whether its last lines say that a disk of this host is full.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.says("no space left on device")
    }

    /// Whether one of its last lines contains `words`, in any case of letters.
    pub(crate) fn says(&self, words: &str) -> bool {
        self.tail().iter().any(|line| line.to_lowercase().contains(&words.to_lowercase()))
    }
}

/// How a tool is run: who may end it, and who reads along.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) cancel: CancellationToken,
    pub(crate) reporter: Reporter,
}

impl Job {
    /// For taking down what a cancelled job left.
    pub(crate) fn uncancelled(&self) -> Self {
        Self { cancel: CancellationToken::new(), reporter: self.reporter.clone() }
    }
}

/// A command line to be run.
#[derive(Debug)]
pub(crate) struct Tool {
    /// The one that does the work, which another may start.
    program: &'static str,
    package: &'static str,
    doing: String,
    command: Command,
    input: Vec<u8>,
}

impl Tool {
    /// `package` is Debian's, for the error where it is missing; `doing` names this call in errors.
    pub(crate) fn new(program: &'static str, package: &'static str, doing: &str) -> Self {
        Self::wrapped(program, program, package, doing)
    }

    /// One that `wrapper` starts; the arguments to come are the wrapper's.
    pub(crate) fn wrapped(
        wrapper: &str,
        program: &'static str,
        package: &'static str,
        doing: &str,
    ) -> Self {
        let mut command = Command::new(wrapper);
        command
            .env("PATH", path_with_sbin())
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        Self { program, package, doing: doing.to_owned(), command, input: Vec::new() }
    }

    /// What it reads from standard input; without it, nothing.
    pub(crate) fn input(mut self, text: &str) -> Self {
        self.command.stdin(Stdio::piped());
        self.input = text.as_bytes().to_vec();
        self
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it; every line that it prints goes to the build's progress.
    pub(crate) async fn run(self, job: &Job) -> Result<(), ToolError> {
        self.execute(job, Stdout::Shown).await.map(drop)
    }

    /// Runs it and returns what it wrote to standard output. Its standard error is not shown.
    pub(crate) async fn read(self, job: &Job) -> Result<String, ToolError> {
        self.execute(job, Stdout::Answer).await
    }

    async fn execute(mut self, job: &Job, stdout: Stdout) -> Result<String, ToolError> {
        let program = self.program;
        if job.cancel.is_cancelled() {
            return Err(ToolError::Cancelled { program });
        }
        if find_in(&path_with_sbin(), program).is_none() {
            return Err(ToolError::Missing { program, package: self.package });
        }
        let mut child = self.command.spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => ToolError::Missing { program, package: self.package },
            _ => ToolError::Spawn { program, source },
        })?;
        tracing::debug!(program, doing = self.doing, "started");
        if let Some(mut stdin) = child.stdin.take() {
            // Far less than a pipe holds. One that ends without reading says itself why.
            let _ = stdin.write_all(&self.input).await;
        }
        let outcome = tokio::select! {
            outcome = follow(&mut child, job, stdout) => outcome,
            () = job.cancel.cancelled() => {
                terminate(&mut child).await;
                return Err(ToolError::Cancelled { program });
            }
        };
        let output = outcome.map_err(|source| ToolError::Spawn { program, source })?;
        if output.status.success() {
            return Ok(output.answer);
        }
        Err(ToolError::Failed {
            program,
            doing: self.doing,
            status: output.status.to_string(),
            tail: output.tail.into(),
        })
    }
}

/// What standard output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stdout {
    /// Messages for people, like standard error.
    Shown,
    /// The result.
    Answer,
}

struct Output {
    status: std::process::ExitStatus,
    answer: String,
    tail: VecDeque<String>,
}

/// Reads both pipes to their ends, then waits for the child.
async fn follow(child: &mut Child, job: &Job, stdout: Stdout) -> io::Result<Output> {
    let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(io::Error::other("its output is not connected"));
    };
    // Each pipe's reader owns its sender, so that `collect` ends when both have.
    let (err_lines, mut printed) = mpsc::channel(LINES_QUEUED_MAX);
    let out_lines = err_lines.clone();
    let read_out = async move {
        match stdout {
            Stdout::Answer => answer(out).await,
            Stdout::Shown => split_lines(out, out_lines).await.map(|()| String::new()),
        }
    };
    let read_err = split_lines(err, err_lines);
    let collect = async {
        let mut tail = VecDeque::new();
        while let Some(line) = printed.recv().await {
            if stdout == Stdout::Shown {
                job.reporter.line(&line);
            }
            if tail.len() == TAIL_LINES_MAX {
                tail.pop_front();
            }
            tail.push_back(line);
        }
        tail
    };
    let (answer, err, tail) = tokio::join!(read_out, read_err, collect);
    err?;
    Ok(Output { status: child.wait().await?, answer: answer?, tail })
}

async fn answer(pipe: impl AsyncRead + Unpin) -> io::Result<String> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(ANSWER_BYTES_MAX).unwrap_or(u64::MAX);
    pipe.take(limit + 1).read_to_end(&mut bytes).await?;
    if bytes.len() > ANSWER_BYTES_MAX {
        return Err(io::Error::other(format!("it answered more than {ANSWER_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(io::Error::other)
}

/// Sends each line of `pipe`; a carriage return ends one too, as progress displays write it.
async fn split_lines(
    mut pipe: impl AsyncRead + Unpin,
    lines: mpsc::Sender<String>,
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(LINE_BYTES_MAX);
    let mut pending = Vec::new();
    loop {
        buffer.clear();
        let ended = pipe.read_buf(&mut buffer).await? == 0;
        for &byte in &buffer {
            let line_ends = byte == b'\n' || byte == b'\r';
            if !line_ends {
                pending.push(byte);
            }
            if (line_ends && !pending.is_empty()) || pending.len() == LINE_BYTES_MAX {
                send_line(&mut pending, &lines).await;
            }
        }
        if ended {
            if !pending.is_empty() {
                send_line(&mut pending, &lines).await;
            }
            return Ok(());
        }
    }
}

async fn send_line(pending: &mut Vec<u8>, lines: &mpsc::Sender<String>) {
    // The reader lives as long as the pipes do.
    let _ = lines.send(String::from_utf8_lossy(pending).into_owned()).await;
    pending.clear();
}

/// Ends the child's whole group: asks, waits a little, then kills.
async fn terminate(child: &mut Child) {
    let Some(group) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) else {
        return; // it has ended and been waited for
    };
    // A failure means that the group is gone, which is what is wanted.
    let _ = kill_process_group(group, Signal::TERM);
    let _ = tokio::time::timeout(TERMINATE_GRACE, child.wait()).await;
    let _ = kill_process_group(group, Signal::KILL);
    let _ = child.wait().await;
}

fn find_in(path: &OsStr, program: &str) -> Option<PathBuf> {
    env::split_paths(path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// mke2fs is in sbin, which Debian leaves out of the PATH of plain users.
fn path_with_sbin() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin");
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Progress;

    fn job() -> (Job, mpsc::UnboundedReceiver<Progress>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Job { cancel: CancellationToken::new(), reporter: Reporter::new(sender) }, receiver)
    }

    fn shell(script: &str) -> Tool {
        Tool::new("sh", "dash", "test").arg("-c").arg(script)
    }

    #[tokio::test]
    async fn lines_of_both_pipes_are_shown() {
        let (job, mut shown) = job();
        shell("echo one; echo two >&2; printf three").run(&job).await.unwrap();
        drop(job);
        let mut lines = Vec::new();
        while let Some(progress) = shown.recv().await {
            lines.push(progress);
        }
        lines.sort_by_key(|progress| format!("{progress:?}"));
        let expected = ["one", "three", "two"].map(|line| Progress::Line(line.to_owned()));
        assert_eq!(lines, expected);
    }

    #[tokio::test]
    async fn a_failure_names_program_status_and_last_line() {
        let (job, _shown) = job();
        let error = shell("echo broken pipe wrench >&2; exit 3").run(&job).await.unwrap_err();
        assert_eq!(error.to_string(), "sh test: exit status: 3: broken pipe wrench");
    }

    #[tokio::test]
    async fn an_answer_is_standard_output_alone() {
        let (job, _shown) = job();
        assert_eq!(shell("echo noise >&2; echo 42").read(&job).await.unwrap(), "42\n");
    }

    #[tokio::test]
    async fn a_missing_tool_names_its_package() {
        let (job, _shown) = job();
        let error = Tool::new("no-such-tool", "its-package", "x").run(&job).await.unwrap_err();
        assert!(error.to_string().contains("its-package"));
        assert!(error.hint().is_some());
    }

    #[tokio::test]
    async fn cancelling_ends_the_children_too() {
        let (job, mut shown) = job();
        let cancel = job.cancel.clone();
        let running = tokio::spawn(async move {
            shell("sleep 1000 & echo $!; wait").run(&job).await.unwrap_err()
        });
        let Some(Progress::Line(pid)) = shown.recv().await else { panic!("no line") };
        cancel.cancel();
        assert!(matches!(running.await.unwrap(), ToolError::Cancelled { .. }));
        // The kernel takes a moment to end what was killed; a zombie waits for init.
        let stat = format!("/proc/{pid}/stat");
        let ended = || std::fs::read_to_string(&stat).map_or(true, |state| state.contains(") Z "));
        for _ in 0..500 {
            if ended() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("process {pid} is still there");
    }

    #[tokio::test]
    async fn a_line_without_end_is_cut() {
        let (job, mut shown) = job();
        shell("head -c 20000 /dev/zero | tr '\\0' x").run(&job).await.unwrap();
        drop(job);
        while let Some(progress) = shown.recv().await {
            assert!(matches!(progress, Progress::Line(line) if line.len() <= LINE_BYTES_MAX));
        }
    }
}
