//! Directories read in the order of their names, with a bound on how much is looked at.

use std::fs::{self, FileType};
use std::path::Path;

/// Entries looked at in one call of a tool.
pub(super) const ENTRIES_MAX: usize = 50_000;
/// Directories below the one that a walk begins in.
pub(super) const DEPTH_MAX: usize = 40;

/// Directories that hold what nobody searches for.
pub(super) fn is_pruned(name: &str) -> bool {
    name == ".git" || name == "node_modules"
}

/// An entry of a directory; its type is that of the entry itself, not of a link's target.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) kind: FileType,
}

/// The entries of `dir`, sorted by the bytes of their names; none where it cannot be read.
/// Names that are no UTF-8 are left out, since no answer could show them.
pub(super) fn entries(dir: &Path) -> Vec<Entry> {
    let Ok(found) = fs::read_dir(dir) else { return Vec::new() };
    let mut entries: Vec<Entry> = found
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some(Entry { name, kind: entry.file_type().ok()? })
        })
        .take(ENTRIES_MAX)
        .collect();
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    entries
}
