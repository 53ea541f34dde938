//! The last part of what a shell prints, and where in it the command ended.
//!
//! Lengths are counted in UTF-16 units, because the reference counts in them: a result that is
//! cut is cut at the same place. However much a command prints, at most twice the limit is
//! kept.

/// Longest output that is shown, in UTF-16 units.
const LEN_MAX: usize = 100 * 1024;
const CUT_MARK: &str = "[output truncated]\n";

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ending {
    /// What it printed, cleaned up.
    pub(super) output: String,
    /// Its exit status.
    pub(super) status: i32,
}

/// Output of one command as it comes in.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    text: String,
    units: usize,
    cut: bool,
    sentinel: Option<String>,
    ending: Option<Ending>,
}

impl Transcript {
    /// Forgets everything and waits for `sentinel`, which a status and a line feed follow.
    pub(super) fn begin(&mut self, sentinel: String) {
        *self = Self { sentinel: Some(sentinel), ..Self::default() };
    }

    /// Takes the ending, if it has come.
    pub(super) fn take_ending(&mut self) -> Option<Ending> {
        self.ending.take()
    }

    /// Takes more output. What comes when no command is waited for is dropped.
    pub(super) fn push(&mut self, piece: &str) {
        let Some(sentinel) = &self.sentinel else { return };
        // The sentinel may have begun in an earlier piece; a status has few digits.
        let overlap = sentinel.len() + 16;
        let from = floor_boundary(&self.text, self.text.len().saturating_sub(overlap));
        self.text.push_str(piece);
        self.units += units(piece);
        let found = self.text.get(from..).and_then(|tail| find_ending(tail, sentinel));
        if let Some(status) = found {
            self.keep_last(LEN_MAX);
            self.ending = Some(self.conclude(status));
            self.sentinel = None;
            self.text = String::new();
        } else if self.units > 2 * LEN_MAX {
            self.keep_last(LEN_MAX);
        }
    }

    fn keep_last(&mut self, units: usize) {
        let mut excess = self.units.saturating_sub(units);
        if excess == 0 {
            return;
        }
        self.cut = true;
        // Most output is ASCII, and there may be gigabytes of it.
        if self.text.is_ascii() {
            self.text.drain(..excess);
            self.units = units;
            return;
        }
        let mut chars = self.text.chars();
        while excess > 0 {
            let Some(char) = chars.next() else { break };
            if char.len_utf16() > excess {
                // Half of a pair stays, which is no character: it shows as U+FFFD.
                let rest = chars.as_str();
                self.text = format!("\u{fffd}{rest}");
                self.units = units;
                return;
            }
            excess -= char.len_utf16();
        }
        self.text = chars.as_str().to_owned();
        self.units = units;
    }

    fn conclude(&self, status: i32) -> Ending {
        let sentinel = self.sentinel.as_deref().unwrap_or_default();
        let before = self.text.split(sentinel).next().unwrap_or_default();
        let clean = strip_control_sequences(before);
        let clean = clean.trim_end_matches('\n');
        let mark = if self.cut { CUT_MARK } else { "" };
        Ending { output: format!("{mark}{clean}"), status }
    }
}

/// Length in UTF-16 units.
fn units(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.encode_utf16().count() }
}

fn floor_boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The status after the sentinel, once its line is whole.
fn find_ending(text: &str, sentinel: &str) -> Option<i32> {
    let (_, after) = text.split_once(sentinel)?;
    let (digits, _) = after.split_once('\n')?;
    digits.parse().ok()
}

/// Drops ANSI control sequences: ESC `[`, parameters, intermediates, a final byte.
fn strip_control_sequences(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        clean.push_str(before);
        let parameters = after.trim_start_matches(|c: char| matches!(c, '0'..='9' | ';' | '?'));
        let last = parameters.trim_start_matches(|c: char| matches!(c, ' '..='/'));
        match last.chars().next() {
            Some('@'..='~') => rest = last.get(1..).unwrap_or_default(),
            Some(_) | None => {
                clean.push_str("\x1b[");
                rest = after;
            }
        }
    }
    clean.push_str(rest);
    clean
}

/// Turns bytes that come in pieces into text; what is no UTF-8 becomes U+FFFD.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// The beginning of a character whose end has not come yet, at most 3 bytes.
    pending: Vec<u8>,
}

impl Decoder {
    pub(super) fn decode(&mut self, bytes: &[u8]) -> String {
        if self.pending.is_empty()
            && let Ok(text) = std::str::from_utf8(bytes)
        {
            return text.to_owned();
        }
        let mut joined = std::mem::take(&mut self.pending);
        joined.extend_from_slice(bytes);
        let mut text = String::with_capacity(joined.len());
        let mut chunks = joined.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let invalid = chunk.invalid();
            let unfinished = std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
            if chunks.peek().is_none() && unfinished {
                self.pending = invalid.to_vec();
            } else if !invalid.is_empty() {
                text.push('\u{fffd}');
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(pieces: &[&str]) -> Option<Ending> {
        let mut transcript = Transcript::default();
        transcript.begin("SENTINEL".into());
        for piece in pieces {
            transcript.push(piece);
        }
        transcript.take_ending()
    }

    #[test]
    fn an_ending_is_found_however_it_is_cut_into_pieces() {
        let text = "one\x1b[31;1m two\n\n\nSENTINEL-1\n";
        let expected = Ending { output: "one two".into(), status: -1 };
        for at in 0..=text.len() {
            let (head, tail) = text.split_at(at);
            assert_eq!(play(&[head, tail]), Some(expected.clone()), "cut at {at}");
        }
    }

    #[test]
    fn of_a_long_output_the_last_part_is_kept() {
        let long = "x".repeat(10 * LEN_MAX);
        let ending = play(&[&long, "end\nSENTINEL0\n"]).unwrap();
        assert!(ending.output.starts_with(CUT_MARK));
        let framing = "\nSENTINEL0\n".len();
        assert_eq!(ending.output.len(), CUT_MARK.len() + LEN_MAX - framing);
        assert!(ending.output.ends_with("end"));
    }

    #[test]
    fn an_endless_output_stays_bounded() {
        let mut transcript = Transcript::default();
        transcript.begin("SENTINEL".into());
        let piece = "y".repeat(LEN_MAX);
        for _ in 0..50 {
            transcript.push(&piece);
            assert!(transcript.text.len() <= 2 * LEN_MAX);
        }
    }

    #[test]
    fn a_character_cut_by_a_read_is_whole_again() {
        let mut decoder = Decoder::default();
        let bytes = "añ😀".as_bytes();
        let text: String = bytes.iter().map(|byte| decoder.decode(&[*byte])).collect();
        assert_eq!(text, "añ😀");
        assert_eq!(Decoder::default().decode(b"a\xff\xfeb"), "a\u{fffd}\u{fffd}b");
    }
}
