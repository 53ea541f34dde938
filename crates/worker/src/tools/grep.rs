//! The tool grep: lines by content, by ripgrep where there is one, by a walk of our own else.
//!
//! The two differ as they do in the official toolset: ripgrep honours .gitignore and takes its
//! own dialect; the walk sees hidden files too and takes JavaScript's.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use regex::Regex;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use super::ToolError;
use super::input::Input;
use super::js_regex;
use super::paths::{Workdir, join_lexically};
use super::search_path::{find_program, is_withheld};
use super::transcript::Decoder;
use super::walk::{self, DEPTH_MAX, ENTRIES_MAX};

/// Longest answer, in UTF-16 units.
const LEN_MAX: usize = 100 * 1024;
const CUT_MARK: &str = "[output truncated at 102400 bytes]";
/// What is kept of ripgrep's complaints, in bytes.
const COMPLAINT_LEN_MAX: u64 = 64 * 1024;
const TIMEOUT: Duration = Duration::from_secs(60);
/// Lines longer than this are not looked at, in UTF-16 units.
const LINE_LEN_MAX: usize = 2000;
const CHUNK_LEN: usize = 64 * 1024;

pub(super) async fn run(
    workdir: &Workdir,
    input: &Input,
    search_path: Option<&str>,
    cancel: &CancellationToken,
) -> Result<String, ToolError> {
    let Some(pattern) = input.text("pattern") else {
        return Err(ToolError::new("grep: pattern is required"));
    };
    let target = match input.get("path") {
        Some(path) if input.is_truthy("path") => workdir.resolve(path)?,
        None | Some(_) => join_lexically(Path::new("/"), workdir.as_path()),
    };
    match search_path.and_then(|dirs| find_program("rg", dirs, workdir)) {
        Some(rg) => {
            tokio::select! {
                biased;
                () = cancel.cancelled() => Err(ToolError::new("grep: aborted")),
                result = run_ripgrep(&rg, &pattern, &target) => result,
            }
        }
        None => {
            let regex = js_regex::compile(&pattern)
                .map_err(|error| ToolError(format!("grep: invalid regex: {error}")))?;
            let cancel = cancel.clone();
            let search = move || Walk::new(regex, cancel).run(&target);
            match tokio::task::spawn_blocking(search).await {
                Ok(result) => result,
                Err(error) => Err(ToolError(format!("grep: search failed: {error}"))),
            }
        }
    }
}

async fn run_ripgrep(rg: &Path, pattern: &str, target: &Path) -> Result<String, ToolError> {
    let failed = |error: std::io::Error| ToolError(format!("grep: rg failed: {error}"));
    let mut command = Command::new(rg);
    command.arg0("rg").args(["--no-config", "-n", "--no-heading", "-e", pattern, "--"]).arg(target);
    command.env_clear().envs(std::env::vars_os().filter(|(name, _)| !is_withheld(name)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (found, complaint) = tokio::join!(read_found(stdout), read_complaint(stderr));
    let (found, cut) = found;
    if cut {
        // It is in our hands no longer once dropped: killed and reaped.
        return Ok(found);
    }
    let status = child.wait().await.map_err(failed)?;
    match status.code() {
        Some(0) => Ok(found),
        Some(1) => Ok("no matches".to_owned()),
        code if complaint.is_empty() => {
            let code = code.map_or_else(|| "null".to_owned(), |code| code.to_string());
            Err(ToolError(format!("grep: rg failed: exit {code}")))
        }
        Some(_) | None => Err(ToolError(format!("grep: rg failed: {complaint}"))),
    }
}

/// Reads what ripgrep found, and whether it was too much. Closing the pipe early ends it.
async fn read_found(pipe: Option<impl AsyncRead + Unpin>) -> (String, bool) {
    let mut found = String::new();
    let Some(mut pipe) = pipe else { return (found, false) };
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; CHUNK_LEN];
    let mut units = 0;
    while let Ok(len) = pipe.read(&mut buffer).await {
        let Some(bytes) = buffer.get(..len).filter(|bytes| !bytes.is_empty()) else { break };
        let piece = decoder.decode(bytes);
        units += piece.encode_utf16().count();
        found.push_str(&piece);
        if units > LEN_MAX {
            let kept: Vec<u16> = found.encode_utf16().take(LEN_MAX).collect();
            return (format!("{}\n{CUT_MARK}", String::from_utf16_lossy(&kept)), true);
        }
    }
    (found, false)
}

async fn read_complaint(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut pipe) = pipe else { return String::new() };
    let mut bytes = Vec::new();
    // A broken pipe has nothing more to say; the rest is read so that ripgrep can end.
    let _ = (&mut pipe).take(COMPLAINT_LEN_MAX).read_to_end(&mut bytes).await;
    let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether a walk goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Go,
    Stop,
}

/// The search without ripgrep.
struct Walk {
    regex: Regex,
    cancel: CancellationToken,
    deadline: Instant,
    timed_out: bool,
    hits: Vec<String>,
    room: usize,
    entries: usize,
}

impl Walk {
    fn new(regex: Regex, cancel: CancellationToken) -> Self {
        Self {
            regex,
            cancel,
            deadline: Instant::now() + TIMEOUT,
            timed_out: false,
            hits: Vec::new(),
            room: LEN_MAX,
            entries: ENTRIES_MAX,
        }
    }

    fn run(mut self, target: &Path) -> Result<String, ToolError> {
        if target.is_file() {
            self.search_file(target);
        } else {
            self.search_dir(target, 0);
        }
        if self.cancel.is_cancelled() {
            return Err(ToolError::new("grep: aborted"));
        }
        if self.timed_out {
            if self.hits.is_empty() {
                return Err(ToolError(format!("grep: timed out after {}s", TIMEOUT.as_secs())));
            }
            self.hits.push(format!("[the search was cut short after {} ms]", TIMEOUT.as_millis()));
        }
        if self.hits.is_empty() { Ok("no matches".to_owned()) } else { Ok(self.hits.join("\n")) }
    }

    fn flow(&mut self) -> Flow {
        self.timed_out |= Instant::now() >= self.deadline;
        if self.timed_out || self.cancel.is_cancelled() { Flow::Stop } else { Flow::Go }
    }

    fn search_dir(&mut self, dir: &Path, depth: usize) -> Flow {
        if depth > DEPTH_MAX {
            return Flow::Go;
        }
        for entry in walk::entries(dir) {
            if walk::is_pruned(&entry.name) {
                continue;
            }
            if self.entries == 0 || self.flow() == Flow::Stop {
                return Flow::Stop;
            }
            self.entries -= 1;
            let path = dir.join(&entry.name);
            let flow = if entry.kind.is_dir() {
                self.search_dir(&path, depth + 1)
            } else if entry.kind.is_file() {
                self.search_file(&path)
            } else {
                Flow::Go
            };
            if flow == Flow::Stop {
                return Flow::Stop;
            }
        }
        Flow::Go
    }

    /// Searches one file; one that cannot be read has no lines.
    fn search_file(&mut self, path: &Path) -> Flow {
        let Ok(mut file) = File::open(path) else { return Flow::Go };
        let mut decoder = Decoder::default();
        let mut lines = Lines::default();
        let mut chunk = vec![0; CHUNK_LEN];
        loop {
            let len = file.read(&mut chunk).unwrap_or(0);
            let text = decoder.decode(chunk.get(..len).unwrap_or_default());
            for (number, line) in lines.push(&text) {
                if self.look_at(path, number, &line) == Flow::Stop {
                    return Flow::Stop;
                }
            }
            // A NUL says that what follows is not text.
            if text.contains('\0') {
                return Flow::Go;
            }
            if len == 0 {
                break;
            }
        }
        match lines.last() {
            Some((number, line)) => self.look_at(path, number, &line),
            None => Flow::Go,
        }
    }

    fn look_at(&mut self, path: &Path, number: usize, line: &str) -> Flow {
        if self.flow() == Flow::Stop {
            return Flow::Stop;
        }
        if !self.regex.is_match(line) {
            return Flow::Go;
        }
        let hit = format!("{}:{number}:{line}", path.display());
        let Some(room) = self.room.checked_sub(hit.encode_utf16().count() + 1) else {
            self.hits.push(CUT_MARK.to_owned());
            return Flow::Stop;
        };
        self.room = room;
        self.hits.push(hit);
        Flow::Go
    }
}

/// Cuts text that comes in pieces into numbered lines; those that are too long are left out.
#[derive(Default)]
struct Lines {
    line: String,
    units: usize,
    count: usize,
    after_cr: bool,
}

impl Lines {
    fn push(&mut self, text: &str) -> Vec<(usize, String)> {
        let mut whole = Vec::new();
        for char in text.chars() {
            let after_cr = std::mem::replace(&mut self.after_cr, char == '\r');
            match char {
                '\n' if after_cr => {}
                '\n' | '\r' => whole.extend(self.end_line()),
                other => {
                    self.units += other.len_utf16();
                    if self.units <= LINE_LEN_MAX {
                        self.line.push(other);
                    }
                }
            }
        }
        whole
    }

    /// What comes after the last line break, if anything does.
    fn last(&mut self) -> Option<(usize, String)> {
        if self.units == 0 { None } else { self.end_line() }
    }

    fn end_line(&mut self) -> Option<(usize, String)> {
        self.count += 1;
        let line = std::mem::take(&mut self.line);
        let units = std::mem::take(&mut self.units);
        (units <= LINE_LEN_MAX).then_some((self.count, line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&str]) -> Vec<(usize, String)> {
        let mut lines = Lines::default();
        let mut all: Vec<_> = pieces.iter().flat_map(|piece| lines.push(piece)).collect();
        all.extend(lines.last());
        all
    }

    #[test]
    fn every_kind_of_line_break_ends_a_line() {
        let expected: Vec<(usize, String)> =
            (1..).zip(["a", "b", "", "c", "d"].map(str::to_owned)).collect();
        assert_eq!(lines(&["a\r", "\nb\r\rc\rd"]), expected);
        assert_eq!(lines(&["a\n"]), vec![(1, "a".to_owned())]);
    }

    #[test]
    fn an_endless_line_is_skipped_and_not_kept() {
        let mut lines = Lines::default();
        for _ in 0..100 {
            assert!(lines.push(&"x".repeat(1000)).is_empty());
        }
        assert!(lines.line.len() <= LINE_LEN_MAX);
        assert_eq!(lines.push("\nshort\n"), vec![(2, "short".to_owned())]);
    }
}
