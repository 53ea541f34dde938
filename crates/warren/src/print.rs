//! The one way out: tables for terminals, JSON lines for programs.
//!
//! Standard output carries what was asked for and nothing else; notes and errors go to standard
//! error. A reader that closes standard output early (`warren ps | head -1`) has what it wanted:
//! that is [`Closed`], which ends the command as a success.

use crate::args::When;
use serde::Serialize;
use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    sync::{Mutex, PoisonError},
};

/// Standard output took no more. Not a failure when its reader left.
#[derive(Debug, thiserror::Error)]
#[error("standard output cannot be written")]
pub(crate) struct Closed(#[source] pub(crate) io::Error);

impl Closed {
    /// Whether the reader left, as `head` does.
    pub(crate) fn by_reader(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Human,
    Json,
}

/// How much is said besides what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) enum Talk {
    Quiet,
    Normal,
    Verbose,
}

/// A colour with a meaning; the terminal's theme chooses the shade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    Good,
    Warn,
    Bad,
    Dim,
    Bold,
}

impl Paint {
    fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "31",
            Self::Dim => "2",
            Self::Bold => "1",
        }
    }
}

type Sink = Mutex<Box<dyn Write + Send>>;

pub(crate) struct Printer {
    out: Sink,
    err: Sink,
    format: Format,
    talk: Talk,
    out_colored: bool,
    err_colored: bool,
    out_is_terminal: bool,
}

impl Printer {
    /// A printer to the process' own standard output and error.
    pub(crate) fn new(format: Format, talk: Talk, color: When, no_color: bool) -> Self {
        let colored = |terminal: bool| match color {
            When::Always => true,
            When::Never => false,
            When::Auto => terminal && !no_color,
        };
        Self {
            out_colored: colored(io::stdout().is_terminal()),
            err_colored: colored(io::stderr().is_terminal()),
            out_is_terminal: io::stdout().is_terminal(),
            out: Mutex::new(Box::new(io::stdout())),
            err: Mutex::new(Box::new(io::stderr())),
            format,
            talk,
        }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    pub(crate) fn talk(&self) -> Talk {
        self.talk
    }

    /// Whether standard output is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.out_is_terminal
    }

    /// Whether progress may be drawn on standard error.
    pub(crate) fn draws_progress(&self) -> bool {
        self.talk != Talk::Quiet && self.format == Format::Human && io::stderr().is_terminal()
    }

    /// One line of what was asked for.
    pub(crate) fn line(&self, text: impl Display) -> Result<(), Closed> {
        self.write_out(format!("{text}\n").as_bytes())
    }

    /// Bytes of what was asked for, as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), Closed> {
        self.write_out(bytes)
    }

    /// Bytes that a command in a VM wrote to its standard error.
    pub(crate) fn error_bytes(&self, bytes: &[u8]) {
        let mut err = self.err.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody can be told that standard error does not work.
        let _ = err.write_all(bytes).and_then(|()| err.flush());
    }

    /// One JSON object on a line of its own.
    pub(crate) fn record(&self, value: &impl Serialize) -> Result<(), Closed> {
        let mut line = serde_json::to_vec(value).map_err(|e| Closed(e.into()))?;
        line.push(b'\n');
        self.write_out(&line)
    }

    /// `rows` as a table for people, or each as a JSON object for programs.
    pub(crate) fn rows<R: Row + Serialize>(&self, rows: &[R]) -> Result<(), Closed> {
        match self.format {
            Format::Json => rows.iter().try_for_each(|row| self.record(row)),
            Format::Human => {
                let cells: Vec<Vec<String>> = rows.iter().map(Row::cells).collect();
                self.write_out(table(R::HEADS, &cells).as_bytes())
            }
        }
    }

    /// A remark beside the output, on standard error; not with `--quiet`.
    pub(crate) fn note(&self, text: impl Display) {
        if self.talk != Talk::Quiet {
            self.error_bytes(format!("{text}\n").as_bytes());
        }
    }

    /// An error with its causes and what to do.
    pub(crate) fn failure(&self, error: &(dyn std::error::Error + 'static), hint: Option<&str>) {
        let mut text = format!("{} {error}\n", self.err_painted(Paint::Bad, "error:"));
        let mut cause = error.source();
        // A layer that repeats its source's words says nothing new.
        let mut said = error.to_string();
        while let Some(source) = cause {
            let words = source.to_string();
            if !said.contains(&words) {
                text.push_str(&format!("  caused by: {}\n", indent(&words)));
            }
            said = words;
            cause = source.source();
        }
        if let Some(hint) = hint {
            text.push_str(&format!(
                "{} {}\n",
                self.err_painted(Paint::Good, "help:"),
                indent(hint)
            ));
        }
        self.error_bytes(text.as_bytes());
    }

    /// `text` in a colour, where standard output shows colours.
    pub(crate) fn painted(&self, paint: Paint, text: &str) -> String {
        colored(self.out_colored, paint, text)
    }

    fn err_painted(&self, paint: Paint, text: &str) -> String {
        colored(self.err_colored, paint, text)
    }

    fn write_out(&self, bytes: &[u8]) -> Result<(), Closed> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.write_all(bytes).and_then(|()| out.flush()).map_err(Closed)
    }
}

fn colored(on: bool, paint: Paint, text: &str) -> String {
    if on { format!("\x1b[{}m{text}\x1b[0m", paint.code()) } else { text.to_owned() }
}

fn indent(text: &str) -> String {
    text.trim_end().replace('\n', "\n    ")
}

/// One line of a table.
pub(crate) trait Row {
    const HEADS: &'static [&'static str];
    /// As many as there are heads.
    fn cells(&self) -> Vec<String>;
}

/// Columns as wide as their widest cell, two spaces apart; the last is not padded.
fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = heads.iter().map(|h| (*h).to_owned()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&head).chain(rows).collect();
    let widths: Vec<usize> = (0..heads.len())
        .map(|c| {
            lines.iter().filter_map(|l| l.get(c)).map(|s| s.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in lines {
        let padded: String =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        text.push_str(padded.trim_end());
        text.push('\n');
    }
    text
}

/// A printer whose two outputs a test can read.
#[cfg(test)]
pub(crate) mod capture {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub(crate) fn text(&self) -> String {
            String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    pub(crate) fn printer(format: Format, talk: Talk) -> (Printer, Captured, Captured) {
        let (out, err) = (Captured::default(), Captured::default());
        let printer = Printer {
            out: Mutex::new(Box::new(out.clone())),
            err: Mutex::new(Box::new(err.clone())),
            format,
            talk,
            out_colored: false,
            err_colored: false,
            out_is_terminal: false,
        };
        (printer, out, err)
    }

    pub(crate) fn broken() -> Printer {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (mut printer, _, _) = printer(Format::Human, Talk::Normal);
        printer.out = Mutex::new(Box::new(Gone));
        printer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Vm {
        id: &'static str,
        state: &'static str,
    }

    impl Row for Vm {
        const HEADS: &'static [&'static str] = &["ID", "STATE"];
        fn cells(&self) -> Vec<String> {
            vec![self.id.into(), self.state.into()]
        }
    }

    const VMS: &[Vm] =
        &[Vm { id: "microvm-1", state: "RUNNING" }, Vm { id: "m", state: "TERMINATED" }];

    #[test]
    fn people_get_a_table() {
        let (printer, out, _) = capture::printer(Format::Human, Talk::Normal);
        printer.rows(VMS).unwrap();
        assert_eq!(out.text(), "ID         STATE\nmicrovm-1  RUNNING\nm          TERMINATED\n");
    }

    #[test]
    fn programs_get_an_object_a_line() {
        let (printer, out, _) = capture::printer(Format::Json, Talk::Normal);
        printer.rows(VMS).unwrap();
        assert_eq!(
            out.text(),
            "{\"id\":\"microvm-1\",\"state\":\"RUNNING\"}\n{\"id\":\"m\",\"state\":\"TERMINATED\"}\n"
        );
    }

    #[test]
    fn quiet_leaves_the_notes_out() {
        let (printer, _, err) = capture::printer(Format::Human, Talk::Quiet);
        printer.note("building");
        assert_eq!(err.text(), "");
    }

    #[test]
    fn an_error_is_followed_by_its_causes_and_the_help() {
        let (printer, _, err) = capture::printer(Format::Human, Talk::Normal);
        let error = Closed(io::Error::other("disk on fire"));
        printer.failure(&error, Some("put it out"));
        assert_eq!(
            err.text(),
            "error: standard output cannot be written\n  caused by: disk on fire\nhelp: put it out\n"
        );
    }

    #[test]
    fn a_reader_that_left_is_told_from_a_full_disk() {
        let error = capture::broken().line("x").unwrap_err();
        assert!(error.by_reader());
        assert!(!Closed(io::ErrorKind::StorageFull.into()).by_reader());
    }
}
