//! The tool edit: a text in a file is replaced by another.

use std::io;

use serde_json::Value;

use super::ToolError;
use super::input::{Input, to_text};
use super::paths::{Workdir, fault_text};
use super::read::{FILE_LEN_MAX, read_whole, regular_file_len};
use super::write::replace_file;

pub(super) fn run(workdir: &Workdir, input: &Input) -> Result<String, ToolError> {
    let Some(shown) = input.text("file_path") else {
        return Err(ToolError::new("edit: file_path is required"));
    };
    let Some(old) = input.text("old_string") else {
        return Err(ToolError::new("edit: old_string is required"));
    };
    let given = input.get("file_path").unwrap_or(&Value::Null);
    let path = workdir.resolve_to_change(given, "edit", &shown)?;
    let Some(new) = input.get("new_string").map(to_text) else {
        return Err(ToolError::new("edit: new_string is required"));
    };
    let fault = |error: io::Error| ToolError(format!("edit: {}", fault_text(&error, &shown)));
    let Some(len) = regular_file_len(&path).map_err(fault)? else {
        return Err(ToolError(format!("edit: {shown} is not a regular file")));
    };
    if len > FILE_LEN_MAX {
        return Err(ToolError(format!(
            "edit: {shown} is {len} bytes, exceeds {FILE_LEN_MAX}-byte limit. The edit tool loads \
             the whole file and cannot modify a file this large."
        )));
    }
    let text = read_whole(&path).map_err(fault)?;
    let count = text.matches(&old).count();
    let every = input.is_truthy("replace_all");
    if count == 0 {
        return Err(ToolError(format!("edit: old_string not found in {shown}")));
    }
    if count > 1 && !every {
        return Err(ToolError(format!(
            "edit: old_string appears {count} times in {shown} (must be unique)"
        )));
    }
    replace_file(&path, &text.replace(&old, &new))
        .map_err(|error| ToolError(format!("edit: write: {}", fault_text(&error, &shown))))?;
    Ok(format!("edited {shown} ({count} replacement(s))"))
}
