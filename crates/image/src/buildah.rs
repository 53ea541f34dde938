//! Warren's own buildah storage, apart from that of the host's user: what is asked of it, in
//! buildah's command line (buildah 1.28).

use crate::{
    app::OciConfig,
    error::BuildError,
    tool::{Job, Tool, ToolError},
};
use serde::Deserialize;
use std::{
    fs, io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

/// Read in place of the host's list, where that names no registry: `FROM python` then means what it
/// means to Docker.
const REGISTRIES: &str = "unqualified-search-registries = [\"docker.io\"]\n";
const HOST_REGISTRIES: &str = "/etc/containers/registries.conf";

/// How layers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Driver {
    Overlay,
    /// A full copy for each layer: where the storage itself lies on an overlay filesystem.
    Vfs,
}

impl Driver {
    fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Vfs => "vfs",
        }
    }
}

/// The storage of one share directory.
#[derive(Debug, Clone)]
pub(crate) struct Storage {
    dir: PathBuf,
    driver: Driver,
    /// None: the host's own configuration is good.
    registries: Option<PathBuf>,
}

/// A Dockerfile build.
#[derive(Debug)]
pub(crate) struct DockerBuild<'a> {
    pub(crate) context: &'a Path,
    /// Names in FROM, and the local image that is taken instead.
    pub(crate) aliases: &'a [(String, String)],
    pub(crate) tag: Option<&'a str>,
    pub(crate) layers: Layers,
    /// Where buildah writes the image's id.
    pub(crate) id_file: &'a Path,
}

/// Whether each step is kept, so that a later build starts after the last unchanged one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layers {
    Kept,
    /// One layer: for what is built once.
    Squeezed,
}

/// Id of an image in the storage: 64 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageId(String);

impl ImageId {
    /// With or without `sha256:` before it.
    fn parse(text: &str) -> Option<Self> {
        let digits = text.trim();
        let digits = digits.strip_prefix("sha256:").unwrap_or(digits);
        let good = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        good.then(|| Self(digits.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Storage {
    /// Opens the storage below `share_dir`, made when it is not there.
    pub(crate) async fn open(share_dir: &Path, job: &Job) -> Result<Self, BuildError> {
        let dir = share_dir.join("buildah");
        let temp = dir.join("tmp");
        fs::create_dir_all(&temp).map_err(|source| BuildError::io("making", &temp, source))?;
        let mut storage = Self { driver: Driver::Overlay, registries: None, dir };
        storage.driver = storage.choose_driver(job).await?;
        if !names_registries(Path::new(HOST_REGISTRIES)) {
            let path = storage.dir.join("registries.conf");
            fs::write(&path, REGISTRIES)
                .map_err(|source| BuildError::io("writing", &path, source))?;
            storage.registries = Some(path);
        }
        Ok(storage)
    }

    /// Overlay where a trial works. The choice is written down: a storage cannot change it.
    async fn choose_driver(&self, job: &Job) -> Result<Driver, BuildError> {
        let noted = self.dir.join("driver");
        match fs::read_to_string(&noted).as_deref().map(str::trim) {
            Ok("overlay") => return Ok(Driver::Overlay),
            Ok("vfs") => return Ok(Driver::Vfs),
            Ok(_) | Err(_) => {}
        }
        let trial = tempfile::tempdir_in(&self.dir)
            .map_err(|source| BuildError::io("making a directory in", &self.dir, source))?;
        let tried = Tool::new("buildah", "buildah", "info")
            .arg("--root")
            .arg(trial.path().join("root"))
            .arg("--runroot")
            .arg(trial.path().join("run"))
            .args(["--storage-driver", Driver::Overlay.name(), "info"])
            .read(job)
            .await;
        let driver = match tried {
            Ok(_) => Driver::Overlay,
            Err(ToolError::Failed { tail, .. }) => {
                tracing::info!(reason = ?tail.last(), "no overlay storage here; layers are copied");
                Driver::Vfs
            }
            Err(other) => return Err(BuildError::of_tool(other, &self.dir, BuildError::Tool)),
        };
        fs::write(&noted, driver.name())
            .map_err(|source| BuildError::io("writing", &noted, source))?;
        Ok(driver)
    }

    /// Directory for what is needed for a moment, on the disk that holds the layers.
    pub(crate) fn temp_dir(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    fn tool(&self, subcommand: &str) -> Tool {
        let mut tool = Tool::new("buildah", "buildah", subcommand)
            .arg("--root")
            .arg(self.dir.join("root"))
            .arg("--runroot")
            .arg(self.dir.join("run"))
            .args(["--storage-driver", self.driver.name(), subcommand])
            .env("TMPDIR", self.temp_dir());
        if let Some(registries) = &self.registries {
            tool = tool.env("CONTAINERS_REGISTRIES_CONF", registries);
        }
        tool
    }

    /// Runs a Dockerfile; its output goes to the build's progress.
    pub(crate) async fn build(
        &self,
        build: DockerBuild<'_>,
        job: &Job,
    ) -> Result<ImageId, ToolError> {
        let layers = match build.layers {
            Layers::Kept => "--layers=true",
            Layers::Squeezed => "--layers=false",
        };
        let mut tool = self
            .tool("build")
            .args(["--isolation", "chroot", "--network", "host", "--format", "oci", layers])
            // Without it a failed step leaves its container mounted.
            .arg("--force-rm")
            .arg("--iidfile")
            .arg(build.id_file);
        for (name, image) in build.aliases {
            tool = tool.arg("--build-context").arg(format!("{name}=container-image://{image}"));
        }
        if let Some(tag) = build.tag {
            tool = tool.args(["--tag", tag]);
        }
        let built = tool.arg("--").arg(build.context).run(job).await;
        if let Err(ToolError::Cancelled { .. }) = built {
            // It was killed and left its working container.
            self.note_leftovers();
        }
        built?;
        let text = fs::read_to_string(build.id_file).unwrap_or_default();
        ImageId::parse(&text).ok_or_else(|| garbled("build", &text))
    }

    /// The image of this name whose label has this value.
    pub(crate) async fn find(
        &self,
        name: &str,
        (label, value): (&str, &str),
        job: &Job,
    ) -> Result<Option<ImageId>, ToolError> {
        let found = self
            .tool("images")
            .args(["--quiet", "--no-trunc"])
            .args(["--filter", &format!("reference={name}")])
            .args(["--filter", &format!("label={label}={value}")])
            .read(job)
            .await?;
        match found.lines().next() {
            None => Ok(None),
            Some(line) => ImageId::parse(line).map(Some).ok_or_else(|| garbled("images", &found)),
        }
    }

    /// What the image says about its process.
    pub(crate) async fn config(&self, image: &ImageId, job: &Job) -> Result<OciConfig, ToolError> {
        #[derive(Deserialize)]
        struct Inspected {
            #[serde(rename = "OCIv1")]
            oci: Oci,
        }
        #[derive(Deserialize)]
        struct Oci {
            #[serde(default)]
            config: OciConfig,
        }
        let text =
            self.tool("inspect").args(["--type", "image"]).arg(image.as_str()).read(job).await?;
        let inspected: Inspected =
            serde_json::from_str(&text).map_err(|error| garbled("inspect", &error.to_string()))?;
        Ok(inspected.oci.config)
    }

    /// Mounts the image's files as a new working container, whose changes stay its own.
    pub(crate) async fn mount(&self, image: &ImageId, job: &Job) -> Result<Mounted, ToolError> {
        let container = self
            .tool("from")
            .args(["--pull-never", image.as_str()])
            .read(job)
            .await?
            .trim()
            .to_owned();
        let mounted = self.tool("mount").arg(&container).read(job).await;
        let tree = mounted.and_then(|text| {
            let tree = PathBuf::from(text.trim());
            if tree.is_absolute() { Ok(tree) } else { Err(garbled("mount", &text)) }
        });
        match tree {
            Ok(tree) => Ok(Mounted { container, tree }),
            Err(error) => {
                self.remove(&container, job).await;
                Err(error)
            }
        }
    }

    /// Unmounts and removes a working container, also for a job that was cancelled. What cannot be
    /// removed is logged, and goes with the next [`Self::sweep`].
    pub(crate) async fn remove(&self, container: &str, job: &Job) {
        if let Err(error) = self.tool("rm").arg(container).read(&job.uncancelled()).await {
            tracing::warn!(container, error = %error, "a working container is left behind");
            self.note_leftovers();
        }
    }

    /// Makes sure that the next sweep finds something to do.
    fn note_leftovers(&self) {
        let note = self.temp_dir().join("leftovers");
        if let Err(error) = fs::write(&note, "") {
            tracing::warn!(path = %note.display(), %error, "cannot note what is to be swept");
        }
    }

    /// Removes what builds left that did not come to their end. The caller knows that none runs.
    pub(crate) async fn sweep(&self, job: &Job) -> Result<(), BuildError> {
        let temp = self.temp_dir();
        unmount_below(&temp).map_err(|source| BuildError::io("unmounting below", &temp, source))?;
        remove_contents(&temp).map_err(|source| BuildError::io("clearing", &temp, source))?;
        let swept = self.tool("rm").arg("--all").read(job).await;
        swept.map(drop).map_err(|error| BuildError::of_tool(error, &self.dir, BuildError::Tool))
    }

    /// Where its files are, for errors.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

/// A working container whose files can be reached.
#[derive(Debug)]
pub(crate) struct Mounted {
    pub(crate) container: String,
    pub(crate) tree: PathBuf,
}

fn garbled(subcommand: &str, answer: &str) -> ToolError {
    let what = answer.lines().next().unwrap_or("nothing").chars().take(200).collect();
    ToolError::Garbled { program: "buildah", doing: subcommand.to_owned(), what }
}

fn names_registries(path: &Path) -> bool {
    fs::read_to_string(path).is_ok_and(|text| {
        text.lines().any(|line| line.trim_start().starts_with("unqualified-search-registries"))
    })
}

/// Takes down what a killed tool left mounted below `dir`: a bind mount of the host's /dev must not
/// be there when the directory is emptied.
fn unmount_below(dir: &Path) -> io::Result<()> {
    let dir = dir.canonicalize()?;
    let mounts = fs::read("/proc/self/mountinfo")?;
    let points = mounts.split(|&byte| byte == b'\n').filter_map(mount_point);
    let mut inside: Vec<PathBuf> = points.filter(|point| point.starts_with(&dir)).collect();
    // What is mounted later lies above: in the opposite order each is on top when its turn comes.
    inside.reverse();
    for point in inside {
        rustix::mount::unmount(&point, rustix::mount::UnmountFlags::DETACH)?;
    }
    Ok(())
}

/// The fifth field of a line of mountinfo; blanks and backslashes in it are octal escapes (proc(5)).
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let mut rest = line.split(|&byte| byte == b' ').nth(4)?;
    let mut path = Vec::with_capacity(rest.len());
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after.get(..3).filter(|_| byte == b'\\');
        let octal = escaped.and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(value) => {
                path.push(value);
                rest = after.get(3..)?;
            }
            None => {
                path.push(byte);
                rest = after;
            }
        }
    }
    Some(PathBuf::from(std::ffi::OsString::from_vec(path)))
}

/// Empties a directory that is ours; a missing one is empty.
fn remove_contents(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_with_blanks_is_read() {
        let line = br"36 35 98:0 /root /mnt/a\040b\134c rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount_point(line).unwrap(), Path::new(r"/mnt/a b\c"));
        assert_eq!(mount_point(b"36 35"), None);
    }

    #[test]
    fn an_image_id_is_64_hexadecimal_digits() {
        let digits = "6202a058556e0cbedd338af41fc39fe449a98cf5fc27b7de6bb7017704046fe6";
        assert_eq!(ImageId::parse(&format!("sha256:{digits}\n")).unwrap().as_str(), digits);
        assert_eq!(ImageId::parse(digits).unwrap().as_str(), digits);
        for bad in ["", "latest", "sha256:12", &format!("{digits}/../x")] {
            assert_eq!(ImageId::parse(bad), None);
        }
    }
}
