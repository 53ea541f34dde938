//! The tool glob: files by name, newest first.
//!
//! As Node's `fs.glob` has it: regular files only, no dot files under wildcards, `.git` and
//! `node_modules` left out, links followed only where the pattern names them. A match whose
//! real path lies outside of the directory searched is dropped.

mod braces;
mod segment;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::ToolError;
use super::input::Input;
use super::paths::{Workdir, canonicalize, fault_text, join_lexically};
use super::walk::{self, ENTRIES_MAX};
use segment::Segment;

/// Files in an answer.
const RESULTS_MAX: usize = 200;
/// Longest pattern, in UTF-16 units.
const PATTERN_LEN_MAX: usize = 64 * 1024;
/// Directories and names looked at in one call.
const STEPS_MAX: usize = 1_000_000;

pub(super) fn run(workdir: &Workdir, input: &Input) -> Result<String, ToolError> {
    let Some(pattern) = input.text("pattern") else {
        return Err(ToolError::new("glob: pattern is required"));
    };
    if pattern.starts_with('/') {
        return Err(ToolError::new(
            "glob: absolute pattern not permitted; pass a relative pattern (and optionally path)",
        ));
    }
    if pattern.split(['\\', '/', '{', '}', ',']).any(|part| part == "..") {
        return Err(ToolError::new("glob: \"..\" is not permitted in the pattern"));
    }
    let (root, real_root) = match input.get("path") {
        Some(path) if input.is_truthy("path") => {
            let root = workdir.resolve(path)?;
            (root.clone(), root)
        }
        None | Some(_) => {
            let root = join_lexically(Path::new("/"), workdir.as_path());
            let real = canonicalize(&root).map_err(|error| {
                ToolError(format!("glob: {}", fault_text(&error, "the working directory")))
            })?;
            (root, real)
        }
    };
    if pattern.encode_utf16().count() > PATTERN_LEN_MAX {
        return Err(ToolError::new("glob: pattern is too long"));
    }
    let mut search = Search { root, found: Vec::new(), seen: HashSet::new(), steps: STEPS_MAX };
    for alternative in braces::expand(&pattern.replace('\\', "/")) {
        if let Some(segments) = segment::split(&alternative) {
            search.descend(Path::new(""), &segments);
        }
    }
    Ok(newest_first(search, &real_root))
}

fn newest_first(search: Search, real_root: &Path) -> String {
    let mut dated: Vec<(SystemTime, PathBuf)> = search
        .found
        .into_iter()
        .map(|relative| search.root.join(relative))
        .filter(|path| path.canonicalize().is_ok_and(|real| real.starts_with(real_root)))
        .map(|path| (modified(&path), path))
        .collect();
    if dated.is_empty() {
        return "no matches".to_owned();
    }
    // Stable: files of the same age stay in the order in which they were found.
    dated.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
    let shown: Vec<String> =
        dated.iter().take(RESULTS_MAX).map(|(_, path)| path.display().to_string()).collect();
    shown.join("\n")
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).and_then(|found| found.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// One walk over a tree, for all alternatives of a pattern.
struct Search {
    root: PathBuf,
    /// Relative to the root, in the order found, each once.
    found: Vec<PathBuf>,
    seen: HashSet<PathBuf>,
    steps: usize,
}

impl Search {
    /// Matches `segments` against what is in `dir`, which is relative to the root.
    fn descend(&mut self, dir: &Path, segments: &[Segment]) {
        let Some((segment, rest)) = segments.split_first() else { return };
        if self.steps == 0 || self.found.len() >= ENTRIES_MAX {
            return;
        }
        self.steps -= 1;
        match segment {
            Segment::Name(name) => self.step_into_name(&dir.join(name), name, rest),
            Segment::Pattern(_) => {
                for entry in walk::entries(&self.root.join(dir)) {
                    self.steps = self.steps.saturating_sub(1);
                    if !segment.matches(&entry.name) {
                        continue;
                    }
                    let path = dir.join(&entry.name);
                    if rest.is_empty() {
                        self.add_if_file(path, entry.kind.is_file());
                    } else if entry.kind.is_dir() && !walk::is_pruned(&entry.name) {
                        self.descend(&path, rest);
                    }
                }
            }
            Segment::AnyDepth => self.descend_any_depth(dir, segments, rest),
        }
    }

    fn step_into_name(&mut self, path: &Path, name: &str, rest: &[Segment]) {
        let Ok(metadata) = self.root.join(path).symlink_metadata() else { return };
        if rest.is_empty() {
            self.add_if_file(path.to_owned(), metadata.is_file());
        } else if !walk::is_pruned(name) {
            self.descend(path, rest);
        }
    }

    /// `**`: what follows may match here, or in any directory below. A link met on the way is
    /// followed by one step, and only where what follows matches its name.
    fn descend_any_depth(&mut self, dir: &Path, segments: &[Segment], rest: &[Segment]) {
        for entry in walk::entries(&self.root.join(dir)) {
            self.steps = self.steps.saturating_sub(1);
            let next_matches = rest.first().is_some_and(|next| next.matches(&entry.name));
            if (entry.name.starts_with('.') && !next_matches) || walk::is_pruned(&entry.name) {
                continue;
            }
            let path = dir.join(&entry.name);
            let is_leaf = rest.is_empty() || (next_matches && rest.len() == 1);
            if is_leaf {
                self.add_if_file(path.clone(), entry.kind.is_file());
            }
            // A link that the next part matches is looked into, though no deeper.
            if entry.kind.is_symlink() && next_matches {
                self.descend(&path, rest);
            }
            if entry.kind.is_dir() {
                if let (true, Some((_, after))) = (next_matches, rest.split_first()) {
                    self.descend(&path, after);
                }
                self.descend(&path, segments);
            }
        }
    }

    fn add_if_file(&mut self, path: PathBuf, is_file: bool) {
        if is_file && self.found.len() < ENTRIES_MAX && self.seen.insert(path.clone()) {
            self.found.push(path);
        }
    }
}
