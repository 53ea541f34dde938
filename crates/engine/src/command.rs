//! The host's own tools, run with their errors kept.

use crate::EngineError;
use std::{
    io::Write,
    process::{Command, Stdio},
};

/// Runs a tool with `input` on its standard input.
///
/// # Errors
/// [`EngineError::ToolMissing`] where it cannot be started or fails; the reason is what it said last.
pub(crate) fn run(tool: &str, arguments: &[&str], input: &str) -> Result<(), EngineError> {
    let failed = |reason: String| EngineError::ToolMissing { tool: tool.to_owned(), reason };
    let mut child = Command::new(tool)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that ends early says why on its standard error.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(format!("{}: {}", output.status, said.trim())))
}
