//! A build from its artifact to its disk, and what is kept of it.
//!
//! A build's key is the digest of all that goes into it; `builds/<key>.json` says what came out. The
//! disk is named by the digest of the OCI image and its size, so that builds with the same files
//! share it. A build's directory of temporary files is also the note that it was under way: what is
//! there while nobody holds the lock was left by a crash, and is swept before the next build.
//!
//! ```text
//! <share_dir>/buildah/{root,run,tmp,lock,base.lock,driver}   layers and base, for all data directories
//! <work_dir>/builds/<key>.{json,lock}                        result of each build
//! <work_dir>/rootfs/<name>.{ext4,partial,lock}               disks
//! ```

use crate::{
    app,
    artifact::{Artifact, Context, Opening, field},
    base::{self, BASE_NAME},
    buildah::{DockerBuild, ImageId, Layers, Storage},
    config::ImageConfig,
    disk,
    error::BuildError,
    lock::{Hold, Lock},
    progress::{BuildStage, Progress, Reporter},
    tool::Job,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wire::App;

/// Changed when the same inputs give another result than before: old results are then not found.
const FORMAT: &[u8] = b"1";

/// What to build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    pub artifact: Artifact,
    /// The app's environment on top of the Dockerfile's ENV (AWS: `environmentVariables`). RUN
    /// steps do not see it.
    pub environment: Vec<(String, String)>,
}

/// A finished build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// Raw ext4 filesystem, sparse, never written to again.
    pub rootfs: PathBuf,
    /// What starts in it.
    pub app: App,
    /// Names the disk, for [`ImageBuilder::disk`]; 64 hexadecimal digits.
    pub disk: String,
    /// Space that the disk takes on this host, in bytes.
    pub rootfs_bytes: u64,
}

/// Builds images on this machine; needs root. Any number of processes may build side by side.
#[derive(Debug)]
pub struct ImageBuilder {
    works: Arc<Works>,
    tasks: TaskTracker,
    cancel: CancellationToken,
}

impl ImageBuilder {
    /// Touches nothing yet.
    pub fn new(config: ImageConfig) -> Self {
        Self {
            works: Arc::new(Works { config }),
            tasks: TaskTracker::new(),
            cancel: CancellationToken::new(),
        }
    }

    /// Builds an image, or finds what an earlier build with the same inputs made. Dropping the
    /// future cancels the build; its tools are ended and its things removed in the background.
    pub async fn build(
        &self,
        request: BuildRequest,
        progress: mpsc::UnboundedSender<Progress>,
    ) -> Result<BuiltImage, BuildError> {
        let works = Arc::clone(&self.works);
        self.run(progress, move |job| async move { works.build(&request, &job).await }).await
    }

    /// Gives the disk of a finished build another name in `dir`, which is on the same file system:
    /// who takes that over takes nothing from later builds. None where the disk is not kept any more.
    pub fn disk(&self, name: &str, dir: &Path) -> Result<Option<PathBuf>, BuildError> {
        let path = dir.join("rootfs.ext4");
        match fs::hard_link(self.works.disk_path(name), &path) {
            Ok(()) => Ok(Some(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(BuildError::io("linking", &path, source)),
        }
    }

    /// Makes the base image unless it is there.
    pub async fn ensure_base(
        &self,
        progress: mpsc::UnboundedSender<Progress>,
    ) -> Result<(), BuildError> {
        let works = Arc::clone(&self.works);
        self.run(progress, move |job| async move {
            let site = works.enter(&job).await?;
            let made = site.ensure_base(&job).await.map(drop);
            works.leave(site, &job).await;
            made
        })
        .await
    }

    /// Cancels what runs and waits until it has removed its things.
    pub async fn shut_down(&self) {
        self.cancel.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Runs `work` as a task, which outlives the caller for as long as it takes to clean up.
    async fn run<T, F>(
        &self,
        progress: mpsc::UnboundedSender<Progress>,
        work: impl FnOnce(Job) -> F,
    ) -> Result<T, BuildError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, BuildError>> + Send + 'static,
    {
        let cancel = self.cancel.child_token();
        let _cancelled_on_drop = cancel.clone().drop_guard();
        let job = Job { cancel, reporter: Reporter::new(progress) };
        let task = self.tasks.spawn(work(job));
        task.await.unwrap_or_else(|error| Err(BuildError::Died(error.to_string())))
    }
}

#[derive(Debug)]
struct Works {
    config: ImageConfig,
}

/// A build's place: the storage, held against sweeping, and a directory of its own.
#[derive(Debug)]
struct Site {
    storage: Storage,
    temp: TempDir,
    /// After the fields above, so that it is given back last.
    held: Lock,
}

impl Site {
    async fn ensure_base(&self, job: &Job) -> Result<ImageId, BuildError> {
        let _lock = Lock::take(&self.storage.dir().join("base.lock"), Hold::Exclusive, job).await?;
        base::ensure(&self.storage, job).await
    }
}

impl Works {
    fn builds_dir(&self) -> PathBuf {
        self.config.work_dir.join("builds")
    }

    fn rootfs_dir(&self) -> PathBuf {
        self.config.work_dir.join("rootfs")
    }

    async fn enter(&self, job: &Job) -> Result<Site, BuildError> {
        for dir in [self.builds_dir(), self.rootfs_dir()] {
            fs::create_dir_all(&dir).map_err(|source| BuildError::io("making", &dir, source))?;
        }
        let storage = Storage::open(&self.config.share_dir, job).await?;
        self.sweep_leftovers(&storage, job).await?;
        let held = Lock::take(&storage.dir().join("lock"), Hold::Shared, job).await?;
        let temp_dir = storage.temp_dir();
        let temp = TempDir::new_in(&temp_dir)
            .map_err(|source| BuildError::io("making a directory in", &temp_dir, source))?;
        Ok(Site { storage, temp, held })
    }

    /// Gives a build's place back, and takes down at once what a cancelled build left there.
    async fn leave(&self, site: Site, job: &Job) {
        let Site { storage, temp, held } = site;
        drop(temp);
        drop(held);
        if let Err(error) = self.sweep_leftovers(&storage, &job.uncancelled()).await {
            tracing::warn!(%error, "cannot remove what a build left; the next one tries again");
        }
    }

    /// Removes what broken builds left, unless a build is under way: then a later one does it.
    async fn sweep_leftovers(&self, storage: &Storage, job: &Job) -> Result<(), BuildError> {
        if !self.has_leftovers(storage)? {
            return Ok(());
        }
        let lock = storage.dir().join("lock");
        let Some(_alone) = Lock::try_take(&lock, Hold::Exclusive)? else {
            return Ok(());
        };
        tracing::info!(dir = %storage.dir().display(), "removing what a broken build left");
        storage.sweep(job).await?;
        self.remove_partial_disks()
    }

    fn has_leftovers(&self, storage: &Storage) -> Result<bool, BuildError> {
        let temp = storage.temp_dir();
        let mut entries =
            fs::read_dir(&temp).map_err(|source| BuildError::io("reading", &temp, source))?;
        Ok(entries.next().is_some() || !self.partial_disks()?.is_empty())
    }

    fn partial_disks(&self) -> Result<Vec<PathBuf>, BuildError> {
        let dir = self.rootfs_dir();
        let listed = fs::read_dir(&dir).and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()
        });
        let mut paths = listed.map_err(|source| BuildError::io("reading", &dir, source))?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "partial"));
        Ok(paths)
    }

    fn remove_partial_disks(&self) -> Result<(), BuildError> {
        for path in self.partial_disks()? {
            fs::remove_file(&path).map_err(|source| BuildError::io("removing", &path, source))?;
        }
        Ok(())
    }

    async fn build(&self, request: &BuildRequest, job: &Job) -> Result<BuiltImage, BuildError> {
        let site = self.enter(job).await?;
        let built = self.build_at(&site, request, job).await;
        self.leave(site, job).await;
        built
    }

    async fn build_at(
        &self,
        site: &Site,
        request: &BuildRequest,
        job: &Job,
    ) -> Result<BuiltImage, BuildError> {
        job.reporter.stage(BuildStage::Artifact);
        let context = self.open_context(request, site, job).await?;
        let key = self.key(request, &context);
        let _lock =
            Lock::take(&self.builds_dir().join(format!("{key}.lock")), Hold::Exclusive, job)
                .await?;
        if let Some(built) = self.recall(&key)? {
            job.reporter.stage(BuildStage::Cached);
            return Ok(built);
        }
        if self.base_names().any(|name| context.dockerfile.contains(name)) {
            site.ensure_base(job).await?;
        }
        let image = self.run_dockerfile(&context, site, job).await?;
        let failed = |error| BuildError::of_tool(error, site.storage.dir(), BuildError::Tool);
        let config = site.storage.config(&image, job).await.map_err(failed)?;
        let app = app::from_config(config, &request.environment)?;
        let rootfs = self.ensure_disk(&image, site, job).await?;
        let built = Record::new(rootfs, app);
        self.record(&key, &built)?;
        self.open_built(built)
    }

    /// Unpacks and reads the artifact on a thread of its own.
    async fn open_context(
        &self,
        request: &BuildRequest,
        site: &Site,
        job: &Job,
    ) -> Result<Context, BuildError> {
        let artifact = request.artifact.clone();
        let limits = self.config.limits;
        let temp_dir = site.temp.path().to_owned();
        let cancel = job.cancel.clone();
        tokio::task::spawn_blocking(move || {
            Context::open(&artifact, &Opening { limits, temp_dir: &temp_dir, cancel: &cancel })
        })
        .await
        .unwrap_or_else(|error| Err(BuildError::Died(error.to_string())))
    }

    fn base_names(&self) -> impl Iterator<Item = &str> {
        self.config.base_aliases.iter().map(String::as_str).chain([BASE_NAME])
    }

    /// Digest of everything that decides the result.
    fn key(&self, request: &BuildRequest, context: &Context) -> String {
        let mut digest = Sha256::new();
        field(&mut digest, b"format", FORMAT);
        field(&mut digest, b"artifact", context.digest.as_bytes());
        field(&mut digest, b"base", base::recipe().as_bytes());
        field(&mut digest, b"disk", &self.config.disk_bytes.to_le_bytes());
        for alias in &self.config.base_aliases {
            field(&mut digest, b"alias", alias.as_bytes());
        }
        for (name, value) in &request.environment {
            field(&mut digest, name.as_bytes(), value.as_bytes());
        }
        hex::encode(digest.finalize())
    }

    async fn run_dockerfile(
        &self,
        context: &Context,
        site: &Site,
        job: &Job,
    ) -> Result<ImageId, BuildError> {
        job.reporter.stage(BuildStage::Container);
        let aliases: Vec<_> = self
            .config
            .base_aliases
            .iter()
            .map(|alias| (alias.clone(), BASE_NAME.to_owned()))
            .collect();
        let build = DockerBuild {
            context: &context.dir,
            aliases: &aliases,
            tag: None,
            layers: Layers::Kept,
            id_file: &site.temp.path().join("image.id"),
        };
        site.storage
            .build(build, job)
            .await
            .map_err(|error| BuildError::of_tool(error, site.storage.dir(), BuildError::Dockerfile))
    }

    /// Makes the image's disk unless another build has; returns its name.
    async fn ensure_disk(
        &self,
        image: &ImageId,
        site: &Site,
        job: &Job,
    ) -> Result<String, BuildError> {
        let mut digest = Sha256::new();
        field(&mut digest, b"format", FORMAT);
        field(&mut digest, b"image", image.as_str().as_bytes());
        field(&mut digest, b"disk", &self.config.disk_bytes.to_le_bytes());
        let name = hex::encode(digest.finalize());
        let dir = self.rootfs_dir();
        let _lock = Lock::take(&dir.join(format!("{name}.lock")), Hold::Exclusive, job).await?;
        if self.disk_path(&name).exists() {
            return Ok(name);
        }
        job.reporter.stage(BuildStage::Disk);
        let mounted =
            site.storage.mount(image, job).await.map_err(|error| {
                BuildError::of_tool(error, site.storage.dir(), BuildError::Tool)
            })?;
        let made = self.make_disk(&mounted.tree, &name, job).await;
        site.storage.remove(&mounted.container, job).await;
        made.map(|()| name)
    }

    async fn make_disk(&self, tree: &Path, name: &str, job: &Job) -> Result<(), BuildError> {
        let partial = self.rootfs_dir().join(format!("{name}.partial"));
        match fs::remove_file(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(BuildError::io("removing", &partial, error));
            }
            Ok(()) | Err(_) => {}
        }
        disk::finish_tree(tree)?;
        let made = disk::make(tree, &partial, (self.config.disk_bytes, name), job).await;
        let kept = match made {
            Ok(()) => self.keep(&partial, &self.disk_path(name)).await,
            Err(error) => Err(error),
        };
        if kept.is_err() {
            // It may not be there at all; if it stays, the next build sweeps it.
            let _ = fs::remove_file(&partial);
        }
        kept
    }

    /// Writes the disk through to the host's disk and gives it its name.
    async fn keep(&self, partial: &Path, path: &Path) -> Result<(), BuildError> {
        let (from, to) = (partial.to_owned(), path.to_owned());
        let kept = tokio::task::spawn_blocking(move || {
            fs::set_permissions(&from, fs::Permissions::from_mode(0o444))?;
            fs::File::open(&from)?.sync_all()?;
            fs::rename(&from, &to)
        });
        match kept.await {
            Ok(result) => result.map_err(|source| BuildError::io("keeping", path, source)),
            Err(error) => Err(BuildError::Died(error.to_string())),
        }
    }

    fn disk_path(&self, name: &str) -> PathBuf {
        self.rootfs_dir().join(format!("{name}.ext4"))
    }

    fn record_path(&self, key: &str) -> PathBuf {
        self.builds_dir().join(format!("{key}.json"))
    }

    /// What an earlier build with this key made; None also where its disk or record is gone bad.
    fn recall(&self, key: &str) -> Result<Option<BuiltImage>, BuildError> {
        let path = self.record_path(key);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(BuildError::io("reading", &path, error)),
        };
        match serde_json::from_slice::<Record>(&text) {
            Ok(record) if self.disk_path(&record.rootfs).exists() => {
                self.open_built(record).map(Some)
            }
            Ok(_) => Ok(None),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "unreadable record; building anew");
                Ok(None)
            }
        }
    }

    fn record(&self, key: &str, record: &Record) -> Result<(), BuildError> {
        let path = self.record_path(key);
        let io = |source: io::Error| BuildError::io("writing", &path, source);
        let text = serde_json::to_vec_pretty(record).map_err(|error| io(error.into()))?;
        let mut file = tempfile::NamedTempFile::new_in(self.builds_dir()).map_err(io)?;
        io::Write::write_all(&mut file, &text).map_err(io)?;
        file.as_file().sync_all().map_err(io)?;
        file.persist(&path).map_err(|error| io(error.error))?;
        Ok(())
    }

    fn open_built(&self, record: Record) -> Result<BuiltImage, BuildError> {
        let rootfs = self.disk_path(&record.rootfs);
        let metadata = fs::metadata(&rootfs)
            .map_err(|source| BuildError::io("looking at", &rootfs, source))?;
        let app = record.app.into();
        Ok(BuiltImage { rootfs, app, disk: record.rootfs, rootfs_bytes: metadata.blocks() * 512 })
    }
}

/// A build's result as it is kept on disk.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// Name of the disk.
    rootfs: String,
    app: RecordedApp,
}

#[derive(Debug, Serialize, Deserialize)]
struct RecordedApp {
    argv: Vec<String>,
    env: Vec<(String, String)>,
    working_dir: String,
    user: String,
}

impl Record {
    fn new(rootfs: String, app: App) -> Self {
        let App { argv, env, working_dir, user } = app;
        Self { rootfs, app: RecordedApp { argv, env, working_dir, user } }
    }
}

impl From<RecordedApp> for App {
    fn from(app: RecordedApp) -> Self {
        let RecordedApp { argv, env, working_dir, user } = app;
        Self { argv, env, working_dir, user }
    }
}
