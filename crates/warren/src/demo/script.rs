//! The script that the demo's agent plays: turns of tool calls.
//!
//! It comes from a user's file, so every fault is named with line, column and field.

use crate::failure::{Exit, Remedy};
use serde::{Deserialize, Serialize};
use std::{
    io,
    path::{Path, PathBuf},
};

const SCRIPT_BYTES_MAX: u64 = 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Script {
    pub(crate) turns: Vec<Turn>,
}

/// A message to the agent and the calls that it makes in answer, one after the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Turn {
    pub(crate) message: String,
    pub(crate) calls: Vec<Call>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    pub(crate) tool: Tool,
    pub(crate) input: serde_json::Map<String, serde_json::Value>,
}

/// The tools of `agent_toolset_20260401` that run in the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Tool {
    Bash,
    Read,
    Write,
    Edit,
    Glob,
    Grep,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ScriptError {
    #[error("script {path}: cannot be read")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("script {path}: larger than {SCRIPT_BYTES_MAX} bytes")]
    TooLong { path: PathBuf },
    #[error("script {path}, line {line}, column {column}, {field}: {reason}")]
    Malformed { path: PathBuf, line: usize, column: usize, field: String, reason: String },
    #[error("script {path}, turns: there is none")]
    Empty { path: PathBuf },
}

impl Remedy for ScriptError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreadable { .. } => "check that the file exists and may be read".into(),
            Self::TooLong { .. } | Self::Malformed { .. } | Self::Empty { .. } => {
                "a script is {\"turns\":[{\"message\":\"text\",\"calls\":[{\"tool\":\"bash\",\
                 \"input\":{\"command\":\"ls\"}}]}]}; the tools are bash, read, write, edit, glob, grep"
                    .into()
            }
        })
    }
    fn exit(&self) -> Exit {
        Exit::Usage
    }
}

impl Script {
    /// # Errors
    /// A file that cannot be read or is not a script; see [`Script::parse`].
    pub(crate) fn read(path: &Path) -> Result<Self, ScriptError> {
        let unreadable = |source| ScriptError::Unreadable { path: path.to_owned(), source };
        if std::fs::metadata(path).map_err(unreadable)?.len() > SCRIPT_BYTES_MAX {
            return Err(ScriptError::TooLong { path: path.to_owned() });
        }
        Self::parse(path, &std::fs::read_to_string(path).map_err(unreadable)?)
    }

    /// Parses `text`; `path` is for the words of errors.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, ScriptError> {
        let mut json = serde_json::Deserializer::from_str(text);
        let script: Self = serde_path_to_error::deserialize(&mut json)
            .map_err(|e| malformed(path, e.path().to_string(), e.inner()))?;
        json.end().map_err(|e| malformed(path, "after the script".into(), &e))?;
        if script.turns.is_empty() {
            return Err(ScriptError::Empty { path: path.to_owned() });
        }
        Ok(script)
    }
}

fn malformed(path: &Path, field: String, error: &serde_json::Error) -> ScriptError {
    let words = error.to_string();
    // The position has a place of its own in our message.
    let reason = words.rsplit_once(" at line ").map_or(words.as_str(), |(reason, _)| reason);
    ScriptError::Malformed {
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
        field: if field == "." { "top level".into() } else { field },
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        Script::parse(Path::new("s.json"), text).unwrap_err().to_string()
    }

    #[test]
    fn a_script_is_turns_of_calls() {
        let text =
            r#"{"turns":[{"message":"hi","calls":[{"tool":"bash","input":{"command":"ls"}}]}]}"#;
        let script = Script::parse(Path::new("s.json"), text).unwrap();
        assert_eq!(script.turns[0].calls[0].tool, Tool::Bash);
    }

    #[test]
    fn a_fault_is_named_with_line_and_field() {
        assert_eq!(
            fault(
                "{\"turns\":[\n {\"message\":\"a\",\n  \"calls\":[{\"tool\":\"bsh\",\"input\":{}}]}]}"
            ),
            "script s.json, line 3, column 24, turns[0].calls[0].tool: unknown variant `bsh`, \
             expected one of `bash`, `read`, `write`, `edit`, `glob`, `grep`"
        );
        assert_eq!(
            fault("{\"turns\":[{\"message\":\"a\"}]}"),
            "script s.json, line 1, column 25, turns[0]: missing field `calls`"
        );
        assert_eq!(
            fault("{\"turns\":[{\"message\":7,\"calls\":[]}]}"),
            "script s.json, line 1, column 22, turns[0].message: invalid type: integer `7`, \
             expected a string"
        );
        assert_eq!(
            fault("{\"turn\":[]}"),
            "script s.json, line 1, column 7, turn: unknown field `turn`, expected `turns`"
        );
        assert!(fault("{\"turns\":[").starts_with("script s.json, line 1, column 10, turns"));
        assert!(
            fault("{\"turns\":[{\"message\":\"\",\"calls\":[]}]} x")
                .contains("trailing characters")
        );
    }

    #[test]
    fn a_script_without_turns_is_refused() {
        assert_eq!(fault("{\"turns\":[]}"), "script s.json, turns: there is none");
    }
}
