//! What a program that a tool starts gets to know, and where such programs are found.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::paths::Workdir;

/// Variables that can hold AWS credentials or lead to them.
const AWS_CREDENTIALS: [&str; 5] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
];

/// Whether a variable of this process is kept from the programs that tools start: what begins
/// with `ANTHROPIC_` in any case, and AWS credentials.
pub(super) fn is_withheld(name: &OsStr) -> bool {
    let name = name.to_string_lossy().to_ascii_uppercase();
    name.starts_with("ANTHROPIC_") || AWS_CREDENTIALS.contains(&name.as_str())
}

/// The first executable `name` in `search_path` whose real place is not where the session's file tools
/// write: what a session puts there is not trusted to run in its place.
pub(super) fn find_program(name: &str, search_path: &str, workdir: &Workdir) -> Option<PathBuf> {
    std::env::split_paths(search_path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .filter(|file| is_executable(file))
        .filter_map(|file| file.canonicalize().ok())
        .find(|file| !workdir.reaches(file))
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}
