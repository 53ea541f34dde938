//! What happens in a session, one event after the other: a line for people, an object for programs.

use crate::print::{Closed, Format, Paint, Printer};
use serde::Serialize;
use serde_json::{Map, Value};

/// Of a tool's input and of the first line of its output, on the line for people.
const SHOWN_CHARS_MAX: usize = 60;

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    WebhookReceived,
    WebhookVerified,
    RunMicrovmAccepted {
        #[serde(rename = "microvmId")]
        microvm_id: String,
    },
    VmRestored,
    RunHookAnswered,
    SessionClaimed,
    ToolResult {
        tool: String,
        input: Map<String, Value>,
        is_error: bool,
        /// The whole text, as the platform received it.
        output: String,
        duration_ms: f64,
    },
    SessionIdle,
    MicrovmTerminated {
        reason: String,
    },
    Done(Summary),
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) ok: bool,
    /// From RunMicrovm accepted to /run answered.
    pub(crate) launch_ms: Option<f64>,
    /// The same image without its snapshot.
    pub(crate) cold_boot_ms: Option<u64>,
    /// Memory of the VM at the end of the session.
    pub(crate) pss_kib: Option<u64>,
}

#[derive(Serialize)]
struct Line<'e> {
    #[serde(flatten)]
    event: &'e Event,
    t_ms: f64,
}

pub(crate) struct Timeline<'p> {
    printer: &'p Printer,
}

impl<'p> Timeline<'p> {
    pub(crate) fn new(printer: &'p Printer) -> Self {
        Self { printer }
    }

    /// `t_ms`: since the session's first message was sent.
    pub(crate) fn show(&self, event: &Event, t_ms: f64) -> Result<(), Closed> {
        let t_ms = (t_ms * 1000.0).round() / 1000.0;
        match self.printer.format() {
            Format::Json => self.printer.record(&Line { event, t_ms }),
            Format::Human => {
                let time = self.printer.painted(Paint::Dim, &format!("{t_ms:9.1} ms"));
                match self.words(event) {
                    Words::Step(text) => self.printer.line(format!("{time}  {text}")),
                    Words::Bare(text) => self.printer.line(format!("\n{text}")),
                }
            }
        }
    }

    fn words(&self, event: &Event) -> Words {
        let paint = |paint, text: &str| self.printer.painted(paint, text);
        Words::Step(match event {
            Event::WebhookReceived => "webhook received".into(),
            Event::WebhookVerified => "webhook verified".into(),
            Event::RunMicrovmAccepted { microvm_id } => {
                format!("RunMicrovm accepted: {microvm_id}")
            }
            Event::VmRestored => "VM restored from its snapshot".into(),
            Event::RunHookAnswered => "/run answered".into(),
            Event::SessionClaimed => "session claimed by the worker".into(),
            Event::SessionIdle => "session idle".into(),
            Event::MicrovmTerminated { reason } => format!("VM terminated: {reason}"),
            Event::ToolResult { tool, input, is_error, output, duration_ms } => {
                let mark = if *is_error { paint(Paint::Bad, "error") } else { "  ok ".into() };
                let name = paint(Paint::Bold, &format!("{tool:<5}"));
                let first = output.lines().find(|line| !line.trim().is_empty()).unwrap_or("");
                let first = paint(Paint::Dim, &cut(first.trim()));
                let said = cut(&gist(input));
                format!("  {name} {mark} {duration_ms:8.1} ms  {said}\n{:27}{first}", "")
            }
            Event::Done(summary) => return Words::Bare(summary.words()),
        })
    }
}

enum Words {
    Step(String),
    Bare(String),
}

impl Summary {
    fn words(&self) -> String {
        if !self.ok {
            return "the session did not come to its end".into();
        }
        let ms = |value: Option<f64>| value.map_or("-".into(), |ms| format!("{ms:.0} ms"));
        format!(
            "launched in {} (cold boot of the same image: {}), {} of memory (PSS)",
            ms(self.launch_ms),
            ms(self.cold_boot_ms.map(|ms| ms as f64)),
            self.pss_kib.map_or("-".into(), |kib| crate::protocol::bytes(kib * 1024)),
        )
    }
}

/// What a call is about: the first text among the members that tools have.
fn gist(input: &Map<String, Value>) -> String {
    ["command", "file_path", "pattern", "path"]
        .iter()
        .find_map(|name| input.get(*name)?.as_str())
        .unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

fn cut(text: &str) -> String {
    if text.chars().count() <= SHOWN_CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(SHOWN_CHARS_MAX - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::{Talk, capture};
    use serde_json::json;

    fn result() -> Event {
        Event::ToolResult {
            tool: "bash".into(),
            input: Map::from_iter([("command".into(), json!("ls\npwd"))]),
            is_error: false,
            output: "\na.txt\nb.txt".into(),
            duration_ms: 12.0,
        }
    }

    #[test]
    fn programs_get_the_whole_output() {
        let (printer, out, _) = capture::printer(Format::Json, Talk::Normal);
        Timeline::new(&printer).show(&result(), 1.23456).unwrap();
        let line: Value = serde_json::from_str(&out.text()).unwrap();
        assert_eq!(
            line,
            json!({"event": "tool_result", "tool": "bash", "input": {"command": "ls\npwd"},
                "is_error": false, "output": "\na.txt\nb.txt", "duration_ms": 12.0, "t_ms": 1.235})
        );
    }

    #[test]
    fn people_get_the_first_lines() {
        let (printer, out, _) = capture::printer(Format::Human, Talk::Normal);
        Timeline::new(&printer).show(&result(), 1.0).unwrap();
        let text = out.text();
        assert!(
            text.contains("bash") && text.contains("  ls\n") && text.contains("a.txt"),
            "{text}"
        );
        assert!(!text.contains("b.txt") && !text.contains("pwd"), "{text}");
    }

    #[test]
    fn the_last_line_is_done() {
        let (printer, out, _) = capture::printer(Format::Json, Talk::Normal);
        let summary = Summary {
            ok: true,
            launch_ms: Some(50.0),
            cold_boot_ms: Some(1200),
            pss_kib: Some(40_000),
        };
        Timeline::new(&printer).show(&Event::Done(summary), 9.0).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&out.text()).unwrap(),
            json!({"event": "done", "ok": true, "launch_ms": 50.0, "cold_boot_ms": 1200,
                "pss_kib": 40000, "t_ms": 9.0})
        );
    }

    #[test]
    fn an_accepted_launch_names_the_vm_as_aws_does() {
        let event = Event::RunMicrovmAccepted { microvm_id: "microvm-1".into() };
        assert_eq!(
            serde_json::to_value(&event).unwrap(),
            json!({"event": "run_microvm_accepted", "microvmId": "microvm-1"})
        );
    }
}
