//! The tool read: a file's text, or some lines of it.
//!
//! A whole file is bounded by its size; from a larger one, a range of lines can be read, and
//! then the bound is on what the range holds. A file that is no regular one is not even
//! opened: opening a pipe may never come back.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use serde_json::Value;

use super::ToolError;
use super::input::{Input, to_number, to_text};
use super::paths::{Workdir, fault_text};

/// Largest file that is read whole, in bytes.
pub(super) const FILE_LEN_MAX: u64 = 256 * 1024;
const CHUNK_LEN: usize = 64 * 1024;

pub(super) fn run(workdir: &Workdir, input: &Input) -> Result<String, ToolError> {
    let Some(shown) = input.text("file_path") else {
        return Err(ToolError::new("read: file_path is required"));
    };
    let path = workdir.resolve(input.get("file_path").unwrap_or(&Value::Null))?;
    let range = LineRange::of(input.get("view_range"))?;
    let fault = |error: io::Error| ToolError(format!("read: {}", fault_text(&error, &shown)));
    let Some(len) = regular_file_len(&path).map_err(fault)? else {
        return Err(ToolError(format!("read: {shown} is not a regular file")));
    };
    match (range, len > FILE_LEN_MAX) {
        (None, true) => Err(ToolError(format!(
            "read: {shown} is {len} bytes, exceeds {FILE_LEN_MAX}-byte limit. Use the view_range \
             parameter to read specific line ranges, e.g. view_range: [1, 500]."
        ))),
        (None, false) => read_whole(&path).map_err(fault),
        (Some(range), false) => {
            let text = read_whole(&path).map_err(fault)?;
            Ok(range.select(&text))
        }
        (Some(range), true) => match range.read_from(&path).map_err(fault)? {
            Some(text) => Ok(text),
            None => Err(range.too_long(&shown)),
        },
    }
}

/// Length in bytes, or `None` for what is no regular file.
pub(super) fn regular_file_len(path: &Path) -> io::Result<Option<u64>> {
    let metadata = fs::metadata(path)?;
    Ok(metadata.is_file().then_some(metadata.len()))
}

/// A file's text; bytes that are no UTF-8 become U+FFFD.
pub(super) fn read_whole(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    // A file may grow after it was measured.
    File::open(path)?.take(FILE_LEN_MAX).read_to_end(&mut bytes)?;
    Ok(match String::from_utf8_lossy(&bytes) {
        std::borrow::Cow::Owned(text) => text,
        std::borrow::Cow::Borrowed(_) => String::from_utf8(bytes).unwrap_or_default(),
    })
}

/// Lines `start` (from 1) to `end` (inclusive; 0 and below is the last one).
#[derive(Debug)]
struct LineRange {
    /// As the model wrote them.
    shown: (String, String),
    /// Lines before the range.
    skip: u64,
    /// Number of the first line after it, from 0; `None` is to the end.
    end: Option<u64>,
}

impl LineRange {
    fn of(value: Option<&Value>) -> Result<Option<Self>, ToolError> {
        let bounds = match value {
            Some(Value::Array(bounds)) => bounds.as_slice(),
            // A text has a length too, and it is never that of a range.
            Some(Value::String(text)) if !text.is_empty() => std::slice::from_ref(&Value::Null),
            None | Some(_) => return Ok(None),
        };
        match bounds {
            [] => Ok(None),
            [start, end] => Ok(Some(Self {
                shown: (to_text(start), to_text(end)),
                // `as` takes NaN to 0 and saturates.
                skip: (to_number(start) - 1.0).max(0.0) as u64,
                end: Some(to_number(end)).filter(|end| *end > 0.0).map(|end| end as u64),
            })),
            _ => Err(ToolError::new("read: view_range must be [start_line, end_line]")),
        }
    }

    fn select(&self, text: &str) -> String {
        let skip = usize::try_from(self.skip).unwrap_or(usize::MAX);
        let count = self.end.map_or(u64::MAX, |end| end.saturating_sub(self.skip));
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        text.split('\n').skip(skip).take(count).collect::<Vec<_>>().join("\n")
    }

    fn wants(&self, line: u64) -> bool {
        line >= self.skip && self.end.is_none_or(|end| line < end)
    }

    /// Reads the range chunk by chunk; `None` where it holds more than the limit.
    fn read_from(&self, path: &Path) -> io::Result<Option<String>> {
        let limit = usize::try_from(FILE_LEN_MAX).unwrap_or(usize::MAX);
        let mut file = File::open(path)?;
        let mut chunk = vec![0; CHUNK_LEN];
        let mut selected = Vec::new();
        let mut line = 0;
        while self.end.is_none_or(|end| line < end && self.skip < end) {
            let len = file.read(&mut chunk)?;
            if len == 0 {
                break;
            }
            for piece in chunk.get(..len).unwrap_or_default().split_inclusive(|byte| *byte == b'\n')
            {
                let ended = piece.last() == Some(&b'\n');
                if self.wants(line) {
                    let with_break = ended && self.wants(line + 1);
                    let kept = piece.len() - usize::from(ended && !with_break);
                    selected.extend_from_slice(piece.get(..kept).unwrap_or_default());
                    if selected.len() > limit {
                        return Ok(None);
                    }
                }
                line += u64::from(ended);
            }
        }
        Ok(Some(String::from_utf8_lossy(&selected).into_owned()))
    }

    fn too_long(&self, shown: &str) -> ToolError {
        if self.end == Some(self.skip + 1) {
            return ToolError(format!(
                "read: line {} of {shown} alone exceeds {FILE_LEN_MAX}-byte limit. The read tool \
                 cannot return part of a line, so view_range cannot narrow this further.",
                self.skip + 1
            ));
        }
        let (start, end) = &self.shown;
        ToolError(format!(
            "read: view_range [{start}, {end}] of {shown} exceeds {FILE_LEN_MAX}-byte limit. \
             Narrow the view_range to read a smaller portion."
        ))
    }
}
