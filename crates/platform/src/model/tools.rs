//! What the agent may call, as the model is told: the toolset's tools in our own words, custom
//! tools as their owner described them.
//!
//! The tools that the platform runs itself (web search, MCP) are not offered: nobody would.

use serde_json::{Value, json};

use crate::machine::{TOOLSET, WORKER_TOOLS};

/// `tools` of a request, for a resolved agent.
pub(super) fn offered(agent: &Value) -> Vec<Value> {
    let tools = agent.get("tools").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut offered = Vec::new();
    for tool in tools {
        match tool["type"].as_str() {
            Some(TOOLSET) => offered.extend(
                WORKER_TOOLS.iter().filter(|name| enabled(tool, name)).map(|name| describe(name)),
            ),
            Some("custom") => offered.push(json!({
                "name": tool["name"],
                "description": tool["description"],
                "input_schema": tool["input_schema"],
            })),
            Some(_) | None => {}
        }
    }
    offered
}

fn enabled(toolset: &Value, name: &str) -> bool {
    let configs = toolset["configs"].as_array();
    let own = configs.and_then(|configs| configs.iter().find(|config| config["name"] == name));
    own.unwrap_or(&toolset["default_config"])["enabled"] != false
}

fn describe(name: &str) -> Value {
    let text = |about: &str| json!({"type": "string", "description": about});
    let file =
        || text("Path of the file, relative to the working directory or absolute inside it.");
    let (about, properties, required): (&str, Value, &[&str]) = match name {
        "bash" => (
            "Runs a command in a bash shell that stays open from call to call: directory, \
             variables and background jobs persist. Returns standard output and standard error \
             together; a non-zero exit makes it an error.",
            json!({
                "command": text("The command to run."),
                "restart": {"type": "boolean", "description": "Begin with a fresh shell."},
                "timeout_ms": {
                    "type": "integer",
                    "description": "Milliseconds after which the command is given up; 120000 if absent.",
                },
            }),
            &[],
        ),
        "read" => (
            "Reads a text file, whole or some of its lines.",
            json!({
                "file_path": file(),
                "view_range": {
                    "type": "array",
                    "items": {"type": "integer"},
                    "description": "First and last line, counted from 1; a last line of -1 means the end.",
                },
            }),
            &["file_path"],
        ),
        "write" => (
            "Writes a text file, with its folders; what was in it is replaced.",
            json!({"file_path": file(), "content": text("All that the file is to hold.")}),
            &["file_path", "content"],
        ),
        "edit" => (
            "Replaces a text in a file. The text must occur exactly once, unless all occurrences \
             are to be replaced.",
            json!({
                "file_path": file(),
                "old_string": text("The text as it stands in the file."),
                "new_string": text("What takes its place."),
                "replace_all": {"type": "boolean", "description": "Replace every occurrence."},
            }),
            &["file_path", "old_string", "new_string"],
        ),
        "glob" => (
            "Finds files by a pattern such as **/*.rs, the latest changed first.",
            json!({
                "pattern": text("The pattern, relative to the path."),
                "path": text("Folder to search; the working directory if absent."),
            }),
            &["pattern"],
        ),
        _ => (
            "Searches the contents of files by a regular expression; returns path, line number \
             and line of each match.",
            json!({
                "pattern": text("The regular expression."),
                "path": text("File or folder to search; the working directory if absent."),
            }),
            &["pattern"],
        ),
    };
    json!({
        "name": name,
        "description": about,
        "input_schema": {"type": "object", "properties": properties, "required": required},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_somebody_would_run_is_offered() {
        let agent = json!({"tools": [
            {"type": TOOLSET, "default_config": {"enabled": true},
             "configs": [{"name": "write", "enabled": false}]},
            {"type": "mcp_toolset", "mcp_server_name": "x"},
            {"type": "custom", "name": "lookup", "description": "d", "input_schema": {}}]});
        let offered = offered(&agent);
        let names: Vec<_> = offered.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["bash", "read", "edit", "glob", "grep", "lookup"]);
    }
}
