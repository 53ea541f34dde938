//! The tool write: a file gets a new content, whole or not at all.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use serde_json::Value;
use uuid::Uuid;

use super::ToolError;
use super::input::Input;
use super::paths::{Workdir, fault_text};

/// What others on the machine may do with what an agent wrote: nothing.
const NEW_FILE_MODE: u32 = 0o600;
const NEW_DIR_MODE: u32 = 0o700;

pub(super) fn run(workdir: &Workdir, input: &Input) -> Result<String, ToolError> {
    let Some(shown) = input.text("file_path") else {
        return Err(ToolError::new("write: file_path is required"));
    };
    let given = input.get("file_path").unwrap_or(&Value::Null);
    let path = workdir.resolve_to_change(given, "write", &shown)?;
    let fault = |error: io::Error| ToolError(format!("write: {}", fault_text(&error, &shown)));
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(NEW_DIR_MODE).create(parent).map_err(fault)?;
    }
    let content = match input.get("content") {
        None => "",
        Some(Value::String(text)) => text,
        Some(_) => {
            let text = format!("write: {shown}: i/o error (ERR_INVALID_ARG_TYPE)");
            return Err(ToolError(text));
        }
    };
    replace_file(&path, content).map_err(fault)?;
    Ok(format!("wrote {} bytes to {shown}", content.len()))
}

/// Writes beside the file and renames over it: no reader sees half a file. An existing file
/// keeps its permission bits.
pub(super) fn replace_file(path: &Path, content: &str) -> io::Result<()> {
    let name = format!(".tmp-{}-{}", std::process::id(), Uuid::new_v4());
    let temporary = path.with_file_name(name);
    let written = write_and_rename(&temporary, path, content);
    if written.is_err() {
        // Best effort: it may not even have come into being.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_and_rename(temporary: &Path, path: &Path, content: &str) -> io::Result<()> {
    let kept_mode = fs::metadata(path).ok().map(|found| found.permissions().mode() & 0o777);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(NEW_FILE_MODE).open(temporary)?;
    if let Some(mode) = kept_mode {
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    file.write_all(content.as_bytes())?;
    file.sync_all()?;
    fs::rename(temporary, path)
}
