//! Programs, run as a user runs them.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread::sleep,
    time::{Duration, Instant},
};

/// A program with its arguments, and how it ended.
#[derive(Debug)]
pub struct Finished {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Finished {
    /// The standard output of a program that must succeed.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self.stdout
    }

    /// What it said, on both streams, of a program that must fail.
    pub fn refused(self) -> String {
        assert_ne!(self.code, 0, "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Its output, one JSON value a line.
    pub fn json_lines(self) -> Vec<serde_json::Value> {
        let text = self.ok();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }
}

/// A program that is interrupted takes its VMs down within this.
const END_WAIT_MAX: Duration = Duration::from_secs(20);

/// A program in the making.
pub struct Program {
    command: Command,
    input: Vec<u8>,
    within: Duration,
}

impl Program {
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            command: Command::new(path.as_ref()),
            input: Vec::new(),
            within: Duration::from_secs(120),
        }
    }

    #[must_use]
    pub fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Self {
        self.command.args(args);
        self
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    #[must_use]
    pub fn within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }

    /// Starts it, and lets it run on. What it says on its standard output can be waited for.
    pub fn start(self) -> Running {
        let shown = format!("{:?}", self.command);
        // A shell's background jobs ignore Ctrl-C, and so would what these tests start from one.
        let mut command = Command::new("env");
        command.arg("--default-signal=INT").arg(self.command.get_program());
        command.args(self.command.get_args());
        command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap_or_else(|e| panic!("{shown}: {e}"));
        let stdout = child.stdout.take().expect("piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Running { shown, child, lines, within: self.within }
    }

    /// Runs it to its end.
    pub fn run(mut self) -> Finished {
        let start = Instant::now();
        let shown = format!("{:?}", self.command);
        let mut child = self
            .command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{shown}: {e}"));
        let mut stdin = child.stdin.take().expect("piped");
        let input = self.input;
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        let within = self.within;
        let (ended, watch) = std::sync::mpsc::channel::<()>();
        let watchdog = std::thread::spawn(move || {
            if watch.recv_timeout(within) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL);
            }
        });
        let Output { status, stdout, stderr } = child.wait_with_output().expect("waited for");
        drop(ended);
        let _ = watchdog.join();
        let _ = writer.join();
        let took = start.elapsed();
        assert!(
            took < within,
            "{shown} took longer than {within:?}; it said:\n{}",
            String::from_utf8_lossy(&stderr)
        );
        Finished {
            code: status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&stdout).into_owned(),
            stderr: String::from_utf8_lossy(&stderr).into_owned(),
            took,
        }
    }
}

/// A program that runs on. It does not outlive this value.
pub struct Running {
    shown: String,
    child: Child,
    lines: Receiver<String>,
    within: Duration,
}

impl Running {
    /// The next line that contains `text`; fails when none comes within the program's time.
    pub fn line(&self, text: &str) -> String {
        let end = Instant::now() + self.within;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => panic!("{}: no {text:?} in time", self.shown),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("{}: ended without {text:?}", self.shown)
                }
            }
        }
    }

    /// What Ctrl-C does; returns the exit code.
    pub fn interrupt(mut self) -> i32 {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::SIGINT).expect("it runs");
        let status = eventually(&self.shown.clone(), self.within.as_secs(), || {
            self.child.try_wait().expect("a child")
        });
        status.code().unwrap_or(-1)
    }
}

impl Drop for Running {
    /// As a user would end it, since what is killed leaves its VMs; a failed test goes this way too.
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        let end = Instant::now() + END_WAIT_MAX;
        while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::SIGINT);
            sleep(Duration::from_millis(500));
        }
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `look` finds something; fails with `what` when it does not within `seconds`.
pub fn eventually<T>(what: &str, seconds: u64, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed().as_secs() < seconds, "{what}: not within {seconds} s");
        sleep(Duration::from_millis(50));
    }
}
