//! From what an app writes, as it came, to events of a log stream: lines, whole, in order.

use crate::{LogRecord, LogTarget, MicrovmId, Timestamp};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Longest event in bytes, as CloudWatch Logs has it (256 KiB less 26 bytes of overhead). A longer
/// line is cut into several events.
pub(crate) const EVENT_BYTES_MAX: usize = 256 * 1024 - 26;

/// The unfinished lines of every VM whose output is kept.
#[derive(Debug, Default)]
pub(crate) struct AppLogs {
    apps: Mutex<HashMap<MicrovmId, AppLog>>,
}

#[derive(Debug)]
struct AppLog {
    target: LogTarget,
    output: Lines,
    errors: Lines,
    /// Nothing more is expected; what still arrives ends its own lines.
    closing: bool,
}

/// Records for one stream.
pub(crate) type Addressed = (LogTarget, Vec<LogRecord>);

impl AppLogs {
    /// From now on the output of `id` goes to `target`.
    pub(crate) fn open(&self, id: &MicrovmId, target: LogTarget) {
        let app =
            AppLog { target, output: Lines::default(), errors: Lines::default(), closing: false };
        self.apps().insert(id.clone(), app);
    }

    /// The lines that `data` completes; none where this VM's output is not kept.
    pub(crate) fn push(
        &self,
        id: &MicrovmId,
        error: bool,
        data: &[u8],
        now: Timestamp,
    ) -> Option<Addressed> {
        let mut apps = self.apps();
        let app = apps.get_mut(id)?;
        let stream = if error { &mut app.errors } else { &mut app.output };
        let mut lines = stream.push(data);
        if app.closing {
            lines.extend(stream.rest());
        }
        Some((app.target.clone(), records(lines, now)))
    }

    /// Where the output of `id` goes.
    pub(crate) fn target(&self, id: &MicrovmId) -> Option<LogTarget> {
        self.apps().get(id).map(|app| app.target.clone())
    }

    /// What is left of unfinished lines is a line now; the entry stays until [`AppLogs::forget`].
    pub(crate) fn finish(&self, id: &MicrovmId, now: Timestamp) -> Option<Addressed> {
        let mut apps = self.apps();
        let app = apps.get_mut(id)?;
        app.closing = true;
        let rest = app.output.rest().into_iter().chain(app.errors.rest()).collect();
        Some((app.target.clone(), records(rest, now)))
    }

    pub(crate) fn forget(&self, id: &MicrovmId) {
        self.apps().remove(id);
    }

    pub(crate) fn ids(&self) -> Vec<MicrovmId> {
        self.apps().keys().cloned().collect()
    }

    fn apps(&self) -> MutexGuard<'_, HashMap<MicrovmId, AppLog>> {
        // Each change under this lock is whole at every point, a panic included.
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn records(lines: Vec<String>, at: Timestamp) -> Vec<LogRecord> {
    lines.into_iter().map(|message| LogRecord { at, message }).collect()
}

/// Cuts a stream of bytes into lines.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    unfinished: Vec<u8>,
}

impl Lines {
    /// The lines that end in `data`, without their ends. Empty lines are none: a log event has text.
    pub(crate) fn push(&mut self, data: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            self.unfinished.extend_from_slice(piece);
            while self.unfinished.len() > EVENT_BYTES_MAX {
                let rest = self.unfinished.split_off(cut_before(&self.unfinished, EVENT_BYTES_MAX));
                lines.extend(text(&std::mem::replace(&mut self.unfinished, rest)));
            }
            if piece.ends_with(b"\n") {
                lines.extend(self.rest());
            }
        }
        lines
    }

    /// What is unfinished is a line now.
    pub(crate) fn rest(&mut self) -> Option<String> {
        text(&std::mem::take(&mut self.unfinished))
    }
}

/// The last place at or before `limit` that is no middle of a UTF-8 character.
fn cut_before(bytes: &[u8], limit: usize) -> usize {
    let is_start = |at: &usize| bytes.get(*at).is_none_or(|byte| byte & 0b1100_0000 != 0b1000_0000);
    (limit.saturating_sub(3)..=limit).rev().find(is_start).unwrap_or(limit)
}

fn text(line: &[u8]) -> Option<String> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    (!line.is_empty()).then(|| String::from_utf8_lossy(line).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_any_cut() {
        let whole = "one\r\n\nzwei äöü\nthree".as_bytes();
        for step in 1..=whole.len() {
            let mut lines = Lines::default();
            let mut seen: Vec<String> = whole.chunks(step).flat_map(|c| lines.push(c)).collect();
            seen.extend(lines.rest());
            assert_eq!(seen, ["one", "zwei äöü", "three"], "cut every {step} bytes");
        }
    }

    #[test]
    fn a_line_without_an_end_is_bounded() {
        let mut lines = Lines::default();
        let text = "ä".repeat(EVENT_BYTES_MAX);
        let mut seen = lines.push(text.as_bytes());
        seen.extend(lines.rest());
        assert!(seen.iter().all(|line| line.len() <= EVENT_BYTES_MAX));
        assert_eq!(seen.concat(), text);
    }

    #[test]
    fn what_is_no_text_is_replaced() {
        assert_eq!(Lines::default().push(b"a\xffb\n"), ["a\u{fffd}b"]);
    }
}
