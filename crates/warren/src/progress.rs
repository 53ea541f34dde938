//! How far a build is: a spinner with the latest line on a terminal, plain notes elsewhere.

use crate::print::{Format, Printer};
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

const TICK: Duration = Duration::from_millis(100);
/// Lines of output that are shown where a build fails.
const TAIL_LINES_MAX: usize = 40;

pub(crate) struct Progress<'p> {
    printer: &'p Printer,
    bar: Option<ProgressBar>,
    stage: Option<(String, Instant)>,
    tail: std::collections::VecDeque<String>,
}

impl<'p> Progress<'p> {
    pub(crate) fn new(printer: &'p Printer) -> Self {
        let bar = printer.draws_progress().then(|| {
            let style = ProgressStyle::with_template("{spinner} {prefix} {wide_msg:.dim}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bar = ProgressBar::new_spinner().with_style(style);
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { printer, bar, stage: None, tail: std::collections::VecDeque::new() }
    }

    /// A step begins; the one before is done.
    pub(crate) fn stage(&mut self, stage: &str) {
        self.close_stage();
        match &self.bar {
            Some(bar) => bar.set_prefix(stage.to_owned()),
            None if self.printer.format() == Format::Human => {
                self.printer.note(format!("{stage} …"))
            }
            None => {}
        }
        self.stage = Some((stage.to_owned(), Instant::now()));
    }

    /// A line of output of the step.
    pub(crate) fn log(&mut self, text: &str) {
        if self.tail.len() == TAIL_LINES_MAX {
            self.tail.pop_front();
        }
        self.tail.push_back(text.to_owned());
        if let Some(bar) = &self.bar {
            bar.set_message(text.trim().to_owned());
        }
    }

    pub(crate) fn finish(mut self) {
        self.close_stage();
        self.clear();
    }

    /// Shows the last lines, which hold the cause.
    pub(crate) fn fail(mut self) {
        self.clear();
        if self.printer.format() == Format::Human {
            for line in std::mem::take(&mut self.tail) {
                self.printer.note(format!("  {line}"));
            }
        }
    }

    fn close_stage(&mut self) {
        let Some((stage, since)) = self.stage.take() else { return };
        if let Some(bar) = &self.bar {
            bar.set_message("");
            bar.println(format!("  {stage}: {:.1} s", since.elapsed().as_secs_f64()));
        }
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.clear();
    }
}
