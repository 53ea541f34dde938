//! Warren's own buildah storage, apart from that of the host's user: what is asked of it, in
//! buildah's command line (buildah 1.28). Every buildah runs in a [`Sandbox`].
//!
//! The storage belongs to the sandbox's root. What is mounted of it is known in a directory of each
//! sandbox's own, as the mounts themselves are.

use crate::{
    app::OciConfig,
    error::BuildError,
    from::Source,
    network,
    sandbox::{Net, Rooms, Sandbox, make_room},
    tool::{Job, Tool, ToolError},
};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// Read in place of the host's list, where that names no registry: `FROM python` then means what it
/// means to Docker.
const REGISTRIES: &str = "unqualified-search-registries = [\"docker.io\"]\n";
const HOST_REGISTRIES: &str = "/etc/containers/registries.conf";
/// In a sandbox, for what does not outlive it.
const RUN_DIR: &str = "/run/buildah";
/// In a sandbox, the local image that is being brought into the storage.
const LOCAL_LINK: &str = "/run/buildah/local";
/// Docker gives it; with it a step could leave the directory that it is shown as its root.
const DROPPED_CAPABILITY: &str = "CAP_SYS_CHROOT";

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
    /// None: the host's own configuration is good.
    registries: Option<PathBuf>,
}

impl Storage {
    /// Opens the storage below `share_dir`, made when it is not there.
    pub(crate) fn open(share_dir: &Path) -> Result<Self, BuildError> {
        let mut storage = Self { dir: share_dir.join("containers"), registries: None };
        for room in [storage.root_dir(), storage.temp_dir()] {
            make_room(&room)?;
        }
        if !names_registries(Path::new(HOST_REGISTRIES)) {
            let path = storage.dir.join("registries.conf");
            if fs::read_to_string(&path).ok().as_deref() != Some(REGISTRIES) {
                fs::write(&path, REGISTRIES)
                    .map_err(|source| BuildError::io("writing", &path, source))?;
            }
            storage.registries = Some(path);
        }
        Ok(storage)
    }

    /// Where its files are, for errors and for locks.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn root_dir(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// Directory for what is needed for a moment, on the disk that holds the layers.
    pub(crate) fn temp_dir(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// What a sandbox must be given for this storage.
    pub(crate) fn rooms(&self) -> Rooms {
        let readable = self.registries.iter().cloned().collect();
        Rooms { writable: vec![self.root_dir(), self.temp_dir()], readable }
    }

    /// Makes sure that the next sweep finds something to do.
    pub(crate) fn note_leftovers(&self) {
        let note = self.temp_dir().join("leftovers");
        if let Err(error) = fs::write(&note, "") {
            tracing::warn!(path = %note.display(), %error, "cannot note what is to be swept");
        }
    }

    /// Empties the directory for temporary files.
    pub(crate) fn clear_temp(&self) -> Result<(), BuildError> {
        let temp = self.temp_dir();
        remove_contents(&temp).map_err(|source| BuildError::io("clearing", &temp, source))
    }
}

/// A Dockerfile build.
#[derive(Debug)]
pub(crate) struct DockerBuild<'a> {
    pub(crate) context: &'a Path,
    /// Names of images in the Dockerfile, and the image of the storage that each is.
    pub(crate) images: &'a BTreeMap<String, ImageId>,
    pub(crate) tag: Option<&'a str>,
    pub(crate) layers: Layers,
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

/// Buildah on a storage, in a sandbox.
#[derive(Debug)]
pub(crate) struct Buildah {
    storage: Storage,
    sandbox: Sandbox,
    driver: Driver,
}

impl Buildah {
    pub(crate) async fn open(
        storage: &Storage,
        sandbox: Sandbox,
        job: &Job,
    ) -> Result<Self, BuildError> {
        let mut buildah = Self { storage: storage.clone(), sandbox, driver: Driver::Overlay };
        match buildah.choose_driver(job).await {
            Ok(driver) => buildah.driver = driver,
            Err(error) => {
                buildah.close().await;
                return Err(error);
            }
        }
        Ok(buildah)
    }

    /// Ends all that runs in its sandbox.
    pub(crate) async fn close(self) {
        self.sandbox.close().await;
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Overlay where a trial works. The choice is written down: a storage cannot change it.
    async fn choose_driver(&self, job: &Job) -> Result<Driver, BuildError> {
        let noted = self.storage.dir.join("driver");
        match fs::read_to_string(&noted).as_deref().map(str::trim) {
            Ok("overlay") => return Ok(Driver::Overlay),
            Ok("vfs") => return Ok(Driver::Vfs),
            Ok(_) | Err(_) => {}
        }
        let driver = match self.tool(Net::Own, "info").read(job).await {
            Ok(_) => Driver::Overlay,
            Err(ToolError::Failed { tail, .. }) => {
                tracing::info!(reason = ?tail.last(), "no overlay storage here; layers are copied");
                Driver::Vfs
            }
            Err(other) => {
                return Err(BuildError::of_tool(other, self.storage.dir(), BuildError::Tool));
            }
        };
        fs::write(&noted, driver.name())
            .map_err(|source| BuildError::io("writing", &noted, source))?;
        Ok(driver)
    }

    fn tool(&self, net: Net, subcommand: &str) -> Tool {
        let mut tool = self
            .sandbox
            .tool(net, "buildah", "buildah", subcommand)
            .arg("--root")
            .arg(self.storage.root_dir())
            .args(["--runroot", RUN_DIR, "--storage-driver", self.driver.name(), subcommand])
            .env("TMPDIR", self.storage.temp_dir())
            .env("HOME", RUN_DIR)
            .env("XDG_RUNTIME_DIR", RUN_DIR)
            // It is in a user namespace already and makes none of its own.
            .env("_CONTAINERS_USERNS_CONFIGURED", "done");
        if let Some(registries) = &self.storage.registries {
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
        let id_file = build.context.with_extension("id");
        let mut tool = self
            .tool(Net::Own, "build")
            .args(["--isolation", "chroot", "--network", "host", "--format", "oci", layers])
            .args(["--cap-drop", DROPPED_CAPABILITY])
            // Without it a failed step leaves its container.
            .arg("--force-rm")
            .arg("--iidfile")
            .arg(&id_file);
        for server in network::name_servers() {
            tool = tool.args(["--dns", &server.to_string()]);
        }
        for (name, image) in build.images {
            let image = image.as_str();
            tool = tool.arg("--build-context").arg(format!("{name}=container-image://{image}"));
        }
        if let Some(tag) = build.tag {
            tool = tool.args(["--tag", tag]);
        }
        let built = tool.arg("--").arg(build.context).run(job).await;
        if let Err(ToolError::Cancelled { .. }) = built {
            // It was killed and left its working container.
            self.storage.note_leftovers();
        }
        built?;
        let text = fs::read_to_string(&id_file).unwrap_or_default();
        ImageId::parse(&text).ok_or_else(|| garbled("build", &text))
    }

    /// Brings an image into the storage. Where it cannot be fetched and is there from before, that
    /// one is taken.
    pub(crate) async fn pull(
        &self,
        source: &Source,
        plain: bool,
        job: &Job,
    ) -> Result<ImageId, ToolError> {
        let reference = match source {
            Source::Base | Source::Registry { .. } => source.reference(),
            Source::Local { transport, path, name } => {
                // The path becomes the image's name, which not every path can be.
                let link = self.sandbox.tool(Net::Own, "ln", "coreutils", "-s");
                link.arg("-sfn").arg(path).arg(LOCAL_LINK).read(job).await?;
                format!("{transport}:{LOCAL_LINK}{name}")
            }
        };
        let pull = |policy: &'static str| {
            let mut tool = self.tool(Net::Host, "pull").args(["--quiet", "--policy", policy]);
            if plain {
                tool = tool.arg("--tls-verify=false");
            }
            tool.args(["--retry", "1", "--"]).arg(&reference)
        };
        let pinned = reference.contains("@sha256:");
        let pulled = match pull(if pinned { "missing" } else { "always" }).read(job).await {
            Err(failed @ ToolError::Failed { .. }) if matches!(source, Source::Registry { .. }) => {
                let Ok(there) = pull("never").read(job).await else { return Err(failed) };
                let why = failed.tail().last().map_or("", String::as_str);
                job.reporter.line(&format!("{reference} is taken as it is here: {why}"));
                there
            }
            pulled => pulled?,
        };
        let id = pulled.lines().last().unwrap_or_default();
        ImageId::parse(id).ok_or_else(|| garbled("pull", &pulled))
    }

    /// The image of this name whose label has this value.
    pub(crate) async fn find(
        &self,
        name: &str,
        (label, value): (&str, &str),
        job: &Job,
    ) -> Result<Option<ImageId>, ToolError> {
        let found = self
            .tool(Net::Own, "images")
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
        let inspect = self.tool(Net::Own, "inspect").args(["--type", "image"]);
        let text = inspect.arg(image.as_str()).read(job).await?;
        let inspected: Inspected =
            serde_json::from_str(&text).map_err(|error| garbled("inspect", &error.to_string()))?;
        Ok(inspected.oci.config)
    }

    /// Mounts the image's files as a new working container, whose changes stay its own. The path is
    /// one of the sandbox.
    pub(crate) async fn mount(&self, image: &ImageId, job: &Job) -> Result<Mounted, ToolError> {
        let from = self.tool(Net::Own, "from").args(["--pull-never", image.as_str()]);
        let container = from.read(job).await?.trim().to_owned();
        let mounted = self.tool(Net::Own, "mount").arg(&container).read(job).await;
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
    /// removed is logged, and goes with the next sweep.
    pub(crate) async fn remove(&self, container: &str, job: &Job) {
        if let Err(error) = self.tool(Net::Own, "rm").arg(container).read(&job.uncancelled()).await
        {
            tracing::warn!(container, error = %error, "a working container is left behind");
            self.storage.note_leftovers();
        }
    }

    /// Removes what builds left that did not come to their end. The caller knows that none runs.
    pub(crate) async fn remove_containers(&self, job: &Job) -> Result<(), BuildError> {
        let removed = self.tool(Net::Own, "rm").arg("--all").read(job).await;
        removed
            .map(drop)
            .map_err(|error| BuildError::of_tool(error, self.storage.dir(), BuildError::Tool))
    }

    /// Removes every image but the base: layers of earlier builds and what was pulled. The caller
    /// knows that no build runs.
    pub(crate) async fn remove_images(&self, base: &str, job: &Job) -> Result<(), BuildError> {
        let failed = |error| BuildError::of_tool(error, self.storage.dir(), BuildError::Tool);
        let list = self.tool(Net::Own, "images").args(["--all", "--no-trunc", "--quiet"]);
        let all = list.read(job).await.map_err(failed)?;
        let kept = self
            .tool(Net::Own, "images")
            .args(["--no-trunc", "--quiet"])
            .args(["--filter", &format!("reference={base}")]);
        let kept = kept.read(job).await.map_err(failed)?;
        let mut ids: Vec<&str> = all.lines().filter(|id| !kept.contains(id)).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.is_empty() {
            return Ok(());
        }
        let removed = self.tool(Net::Own, "rmi").arg("--force").args(ids).read(job).await;
        match removed {
            // One that went with another that was built on it.
            Err(error) if error.says("image not known") => Ok(()),
            removed => removed.map(drop).map_err(failed),
        }
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
    fn an_image_id_is_64_hexadecimal_digits() {
        let digits = "6202a058556e0cbedd338af41fc39fe449a98cf5fc27b7de6bb7017704046fe6";
        assert_eq!(ImageId::parse(&format!("sha256:{digits}\n")).unwrap().as_str(), digits);
        assert_eq!(ImageId::parse(digits).unwrap().as_str(), digits);
        for bad in ["", "latest", "sha256:12", &format!("{digits}/../x")] {
            assert_eq!(ImageId::parse(bad), None);
        }
    }
}
