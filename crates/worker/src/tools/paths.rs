//! Which file a path of a tool call means, and whether the file tools may touch it.
//!
//! Rule: `..` is collapsed in the text first, then every symbolic link is followed, the last
//! one and dangling ones too, and what comes out must lie in the working directory. The tools
//! then work on that resolved path, so a link planted inside cannot lead them out. This keeps
//! honest tools honest: bash is not bound by it, the VM is what holds a session in.

use std::io;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use serde_json::Value;

use super::ToolError;

/// Links followed before a path counts as a loop, as in the kernel.
const LINKS_MAX: usize = 40;

/// The directory of a session.
#[derive(Debug)]
pub(super) struct Workdir(PathBuf);

impl Workdir {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// As it was configured.
    pub(super) fn as_path(&self) -> &Path {
        &self.0
    }

    /// Resolves the path of a call.
    ///
    /// # Errors
    /// The text for the model, where the path cannot be resolved or lies outside.
    pub(super) fn resolve(&self, given: &Value) -> Result<PathBuf, ToolError> {
        let shown = format!("path {given}");
        let Value::String(text) = given else {
            return Err(ToolError(format!("{shown}: i/o error (ERR_INVALID_ARG_TYPE)")));
        };
        let fault = |error: io::Error| ToolError(fault_text(&error, &shown));
        let root = canonicalize(&self.0).map_err(fault)?;
        let target = canonicalize(&join_lexically(&root, text)).map_err(fault)?;
        if target.starts_with(&root) {
            return Ok(target);
        }
        Err(ToolError(format!("{shown} is outside the session's working directory")))
    }
}

/// `base` and `path` as one absolute path without `.` and `..`; nothing is looked up.
pub(super) fn join_lexically(base: &Path, path: impl AsRef<Path>) -> PathBuf {
    let mut joined = PathBuf::new();
    for part in base.join(path).components() {
        match part {
            Component::ParentDir => {
                joined.pop();
            }
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) | Component::Normal(_) => joined.push(part),
        }
    }
    joined
}

/// Resolves every link in an absolute path whose end need not exist.
pub(super) fn canonicalize(path: &Path) -> io::Result<PathBuf> {
    let mut missing = Vec::new();
    let mut prefix = path.to_owned();
    let mut links = 0;
    loop {
        let unresolved = match prefix.canonicalize() {
            Ok(mut resolved) => {
                resolved.extend(missing.iter().rev());
                return Ok(resolved);
            }
            Err(error) => error,
        };
        match prefix.symlink_metadata() {
            Ok(metadata) if metadata.is_symlink() => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::ELOOP.into());
                }
                let parent = prefix.parent().unwrap_or(Path::new("/")).canonicalize()?;
                let mut target = parent.join(prefix.read_link()?);
                target.extend(missing.drain(..).rev());
                prefix = join_lexically(Path::new("/"), target);
            }
            Ok(_) => return Err(unresolved),
            Err(error) => {
                let absent = matches!(errno(&error), Some(Errno::ENOENT | Errno::ENOTDIR));
                let (Some(parent), Some(name), true) =
                    (prefix.parent(), prefix.file_name(), absent)
                else {
                    return Err(error);
                };
                missing.push(name.to_owned());
                prefix = parent.to_owned();
            }
        }
    }
}

fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw)
}

/// What a failed file operation is called; `file` is how the model named it.
pub(super) fn fault_text(error: &io::Error, file: &str) -> String {
    let Some(errno) = errno(error) else {
        // The one way in which std refuses a path on its own: a NUL in it.
        return format!("{file}: i/o error (ERR_INVALID_ARG_VALUE)");
    };
    let what = match errno {
        Errno::ENOENT => "no such file or directory",
        Errno::EACCES | Errno::EPERM => "permission denied",
        Errno::ENOTDIR => "not a directory",
        Errno::EISDIR => "is a directory",
        Errno::ELOOP => "too many levels of symbolic links",
        Errno::ENAMETOOLONG => "file name too long",
        Errno::ENOSPC => "no space left on device",
        Errno::EMFILE | Errno::ENFILE => "too many open files",
        other => return format!("{file}: i/o error ({other:?})"),
    };
    format!("{file}: {what}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::symlink;

    fn resolve(root: &Path, path: &str) -> Result<PathBuf, String> {
        Workdir::new(root.to_owned()).resolve(&json!(path)).map_err(|error| error.0)
    }

    #[test]
    fn no_link_leads_out_not_even_a_dangling_one() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        symlink("/etc", root.join("out")).unwrap();
        symlink("/nowhere/at/all", root.join("dangling")).unwrap();
        symlink("out", root.join("twice")).unwrap();
        for path in ["out/passwd", "dangling", "twice/passwd", "../x", "/etc/passwd", "a/../../x"] {
            let text = resolve(&root, path).unwrap_err();
            assert!(text.ends_with("is outside the session's working directory"), "{text}");
        }
    }

    #[test]
    fn a_path_that_is_not_there_yet_resolves_inside() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        symlink("real", root.join("link")).unwrap();
        assert_eq!(resolve(&root, "a/b/c").unwrap(), root.join("a/b/c"));
        assert_eq!(resolve(&root, "link/x/../y").unwrap(), root.join("real/y"));
        let absolute = root.join("z").display().to_string();
        assert_eq!(resolve(&root, &absolute).unwrap(), root.join("z"));
    }

    #[test]
    fn a_loop_of_links_is_named_as_one() {
        let dir = tempfile::tempdir().unwrap();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        let text = resolve(dir.path(), "a").unwrap_err();
        assert_eq!(text, "path \"a\": too many levels of symbolic links");
    }
}
