//! The scripted agent: what does it do with a message?
//!
//! There is no model behind the emulator. A message is a program instead: a JSON object with
//! `calls`, or Markdown with fenced `bash` blocks. Whatever cannot be played is answered with a
//! text that says what is wrong and where: a script is read by people, and so are its faults.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::tools::Override;

/// Most calls in one message.
const CALLS_MAX: usize = 500;

const EXPLANATION: &str = "This is an emulator of the Managed Agents platform: no model reads \
your messages, they are played as scripts. Send a JSON object such as {\"calls\": [{\"tool\": \
\"bash\", \"input\": {\"command\": \"ls\"}}]}, whose calls are made one after the other, or a \
message with fenced ```bash blocks, which are run one by one.";

/// A call that the agent is going to make.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlannedCall {
    /// Name of the tool.
    pub(crate) tool: String,
    /// Its input, whatever the tool makes of it.
    pub(crate) input: Map<String, Value>,
    /// What the script says about permission.
    pub(crate) permission: Option<Override>,
}

/// How the calls of a turn follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Pace {
    /// Each waits for the result of the one before.
    OneByOne,
    /// All are made in one go.
    AllAtOnce,
}

/// What the agent does in a turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The calls that are still to be made.
    pub(crate) calls: VecDeque<PlannedCall>,
    /// How they follow each other.
    pub(crate) pace: Pace,
    /// What the agent says at the end; `None`: it counts its calls.
    pub(crate) answer: Option<String>,
}

impl Plan {
    /// Reads the text of a `user.message`.
    pub(crate) fn read(text: &str) -> Self {
        if text.trim_start().starts_with('{') {
            return match read_object(text) {
                Ok(Some(plan)) => plan,
                Ok(None) => Self::say(EXPLANATION.to_owned()),
                Err(fault) => Self::say(format!("The script cannot be played: {fault}.")),
            };
        }
        match read_fences(text) {
            Ok(calls) if calls.is_empty() => Self::say(EXPLANATION.to_owned()),
            Ok(calls) => Self { calls, pace: Pace::OneByOne, answer: None },
            Err(fault) => Self::say(format!("The script cannot be played: {fault}.")),
        }
    }

    fn say(text: String) -> Self {
        Self { calls: VecDeque::new(), pace: Pace::OneByOne, answer: Some(text) }
    }
}

/// `None`: an object that is not meant as a script.
fn read_object(text: &str) -> Result<Option<Plan>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| {
        format!("it is not JSON, at line {} column {}: {error}", error.line(), error.column())
    })?;
    let Value::Object(mut script) = value else {
        return Ok(None);
    };
    let Some(calls) = script.remove("calls") else {
        return Ok(None);
    };
    let Value::Array(calls) = calls else {
        return Err(format!("calls must be an array, it is {}", kind(&calls)));
    };
    if calls.len() > CALLS_MAX {
        return Err(format!("calls has {} entries, at most {CALLS_MAX} are played", calls.len()));
    }
    let pace = match script.remove("parallel") {
        None | Some(Value::Null | Value::Bool(false)) => Pace::OneByOne,
        Some(Value::Bool(true)) => Pace::AllAtOnce,
        Some(other) => {
            return Err(format!("parallel must be true or false, it is {}", kind(&other)));
        }
    };
    let answer = match script.remove("answer") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text),
        Some(other) => return Err(format!("answer must be a string, it is {}", kind(&other))),
    };
    match script.remove("message") {
        None | Some(Value::Null | Value::String(_)) => {}
        Some(other) => return Err(format!("message must be a string, it is {}", kind(&other))),
    }
    if let Some(name) = script.keys().next() {
        return Err(format!(
            "{name} is not known here: a script has calls, parallel, answer and message"
        ));
    }
    let calls = calls.into_iter().enumerate();
    let calls = calls.map(|(at, call)| read_call(at, call)).collect::<Result<_, _>>()?;
    Ok(Some(Plan { calls, pace, answer }))
}

fn read_call(at: usize, call: Value) -> Result<PlannedCall, String> {
    let Value::Object(mut call) = call else {
        return Err(format!("calls[{at}] must be an object, it is {}", kind(&call)));
    };
    let (field, tool) = match (call.remove("tool"), call.remove("name")) {
        (Some(_), Some(_)) => {
            return Err(format!("calls[{at}] has both tool and name: give one of them"));
        }
        (Some(tool), None) => ("tool", tool),
        (None, Some(name)) => ("name", name),
        (None, None) => return Err(format!("calls[{at}].tool is missing")),
    };
    let tool = match tool {
        Value::String(tool) if !tool.is_empty() => tool,
        Value::String(_) => return Err(format!("calls[{at}].{field} is empty")),
        other => {
            return Err(format!("calls[{at}].{field} must be a string, it is {}", kind(&other)));
        }
    };
    let input = match call.remove("input") {
        None => Map::new(),
        Some(Value::Object(input)) => input,
        Some(other) => {
            return Err(format!("calls[{at}].input must be an object, it is {}", kind(&other)));
        }
    };
    let permission = match call.remove("permission") {
        None => None,
        Some(value) => Some(serde_json::from_value(value.clone()).map_err(|_| {
            format!("calls[{at}].permission must be \"allow\", \"ask\" or \"deny\", it is {value}")
        })?),
    };
    if let Some(name) = call.keys().next() {
        return Err(format!(
            "calls[{at}].{name} is not known here: a call has tool, input and permission"
        ));
    }
    Ok(PlannedCall { tool, input, permission })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The fenced `bash` blocks of a Markdown text. Blocks of other languages are text.
fn read_fences(text: &str) -> Result<VecDeque<PlannedCall>, String> {
    let mut calls = VecDeque::new();
    let mut open: Option<(usize, bool, Vec<&str>)> = None;
    for (line, number) in text.lines().zip(1..) {
        match (&mut open, line.trim().strip_prefix("```")) {
            (None, Some(language)) => open = Some((number, language.trim() == "bash", Vec::new())),
            (None, None) => {}
            (Some((_, bash, block)), Some("")) => {
                if *bash {
                    let command = Value::from(block.join("\n"));
                    calls.push_back(PlannedCall {
                        tool: "bash".into(),
                        input: Map::from_iter([("command".to_owned(), command)]),
                        permission: None,
                    });
                }
                open = None;
            }
            (Some((_, _, block)), _) => block.push(line),
        }
    }
    match open {
        Some((number, true, _)) => {
            Err(format!("the bash block that begins in line {number} has no closing ```"))
        }
        Some(_) | None if calls.len() > CALLS_MAX => {
            Err(format!("it has {} bash blocks, at most {CALLS_MAX} are played", calls.len()))
        }
        Some(_) | None => Ok(calls),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_fault(text: &str, expected: &str) {
        let plan = Plan::read(text);
        let answer = plan.answer.unwrap_or_else(|| panic!("{text} was taken: {:?}", plan.calls));
        assert_eq!(answer, format!("The script cannot be played: {expected}."));
        assert!(plan.calls.is_empty());
    }

    #[test]
    fn calls_are_planned_in_their_order() {
        let plan = Plan::read(
            r#"{"message": "hi", "parallel": true, "calls": [
                {"tool": "bash", "input": {"command": "ls"}},
                {"name": "read", "permission": "ask"}]}"#,
        );
        assert_eq!(plan.pace, Pace::AllAtOnce);
        assert_eq!(plan.calls[0].tool, "bash");
        assert_eq!(plan.calls[0].input["command"], "ls");
        assert_eq!(plan.calls[1].tool, "read");
        assert_eq!(plan.calls[1].permission, Some(Override::Ask));
        assert_eq!(plan.answer, None);
    }

    #[test]
    fn bash_blocks_are_run_one_by_one_and_others_are_text() {
        let plan =
            Plan::read("First\n```bash\nls\npwd\n```\nthen\n```json\n{}\n```\n```bash\nid\n```");
        let commands: Vec<_> =
            plan.calls.iter().map(|call| call.input["command"].clone()).collect();
        assert_eq!(commands, ["ls\npwd", "id"]);
        assert_eq!(plan.pace, Pace::OneByOne);
    }

    #[test]
    fn any_other_text_is_answered_with_an_explanation() {
        for text in ["hello", "", "{\"a\": 1}", "```sh\nls\n```"] {
            assert_eq!(Plan::read(text).answer.as_deref(), Some(EXPLANATION), "{text}");
        }
    }

    #[test]
    fn a_fault_is_named_with_its_place() {
        check_fault(
            "{\"calls\": [\n  {\"tool\": }]}",
            "it is not JSON, at line 2 column 12: expected value at line 2 column 12",
        );
        check_fault(r#"{"calls": {}}"#, "calls must be an array, it is an object");
        check_fault(r#"{"calls": [1]}"#, "calls[0] must be an object, it is a number");
        check_fault(r#"{"calls": [{"tool": "bash"}, {}]}"#, "calls[1].tool is missing");
        check_fault(
            r#"{"calls": [{"name": 3}]}"#,
            "calls[0].name must be a string, it is a number",
        );
        check_fault(
            r#"{"calls": [{"tool": "bash", "input": "ls"}]}"#,
            "calls[0].input must be an object, it is a string",
        );
        check_fault(
            r#"{"calls": [{"tool": "bash", "permission": "maybe"}]}"#,
            "calls[0].permission must be \"allow\", \"ask\" or \"deny\", it is \"maybe\"",
        );
        check_fault(
            r#"{"calls": [{"tool": "bash", "inputs": {}}]}"#,
            "calls[0].inputs is not known here: a call has tool, input and permission",
        );
        check_fault("a\n```bash\nls", "the bash block that begins in line 2 has no closing ```");
    }
}
