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

use super::{ExtraRoot, RootAccess, ToolError};

/// Links followed before a path counts as a loop, as in the kernel.
const LINKS_MAX: usize = 40;

/// The directory of a session, and what its file tools reach besides.
#[derive(Debug)]
pub(super) struct Workdir {
    path: PathBuf,
    roots: Vec<ExtraRoot>,
}

impl Workdir {
    pub(super) fn new(path: PathBuf, roots: Vec<ExtraRoot>) -> Self {
        Self { path, roots }
    }

    /// As it was configured.
    pub(super) fn as_path(&self) -> &Path {
        &self.path
    }

    /// Whether a resolved path lies where the session's tools can write.
    pub(super) fn reaches(&self, real: &Path) -> bool {
        let is_in = |root: &Path| canonicalize(root).is_ok_and(|root| real.starts_with(root));
        is_in(&self.path) || self.roots.iter().any(|root| is_in(&root.path))
    }

    /// The read-only directory that a resolved path lies in.
    fn read_only_root(&self, real: &Path) -> Option<&Path> {
        let holds = |root: &&ExtraRoot| {
            root.access == RootAccess::ReadOnly
                && canonicalize(&root.path).is_ok_and(|root| real.starts_with(root))
        };
        self.roots.iter().find(holds).map(|root| root.path.as_path())
    }

    /// Resolves the path of a call that changes the file; `tool` and `shown` are for its text.
    ///
    /// # Errors
    /// As [`Workdir::resolve`], and where the path lies in a directory that is only read.
    pub(super) fn resolve_to_change(
        &self,
        given: &Value,
        tool: &str,
        shown: &str,
    ) -> Result<PathBuf, ToolError> {
        let real = self.resolve(given)?;
        match self.read_only_root(&real) {
            None => Ok(real),
            Some(root) => {
                let root = root.display();
                Err(ToolError(format!("{tool}: {shown} is inside read-only directory {root}")))
            }
        }
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
        let root = canonicalize(&self.path).map_err(fault)?;
        let target = canonicalize(&join_lexically(&root, text)).map_err(fault)?;
        if target.starts_with(&root) || self.reaches(&target) {
            return Ok(target);
        }
        let permitted = if self.roots.is_empty() {
            "the session's working directory"
        } else {
            "the session's working directory and its other permitted directories"
        };
        Err(ToolError(format!("{shown} is outside {permitted}")))
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
        Workdir::new(root.to_owned(), Vec::new()).resolve(&json!(path)).map_err(|error| error.0)
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
    fn a_memory_store_is_reached_and_a_read_only_one_is_not_changed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for name in ["work", "notes", "rules"] {
            std::fs::create_dir(root.join(name)).unwrap();
        }
        let extra = |name: &str, access| ExtraRoot { path: root.join(name), access };
        let roots =
            vec![extra("notes", RootAccess::ReadWrite), extra("rules", RootAccess::ReadOnly)];
        let workdir = Workdir::new(root.join("work"), roots);
        let change = |path: &str| {
            let path = root.join(path).display().to_string();
            workdir.resolve_to_change(&json!(path), "write", "f").map_err(|error| error.0)
        };
        assert_eq!(change("notes/new").unwrap(), root.join("notes/new"));
        let refused =
            format!("write: f is inside read-only directory {}", root.join("rules").display());
        assert_eq!(change("rules/new").unwrap_err(), refused);
        assert!(workdir.resolve(&json!(root.join("rules/x").display().to_string())).is_ok());
        let outside = change("elsewhere").unwrap_err();
        assert!(outside.ends_with("and its other permitted directories"), "{outside}");
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
