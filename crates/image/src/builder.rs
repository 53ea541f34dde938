//! A build from its artifact to its disk.
//!
//! A build's key is the digest of all that goes into it: the artifact's files, the images that it
//! begins with, the size of the disk. What came out stands under that key. The disk is named by the
//! digest of the OCI image and its size, so that builds with the same files share it. A build's directory of
//! temporary files is also the note that it was under way: what is there while nobody holds the lock
//! was left by a crash, and is swept before the next build.
//!
//! ```text
//! <share_dir>/containers/{root,tmp,lock,base.lock,driver}   layers and base, for all data directories
//! ```

use crate::{
    app,
    artifact::{Context, Opening, field},
    base,
    buildah::{Buildah, DockerBuild, ImageId, Layers, Storage},
    config::ImageConfig,
    disk,
    error::BuildError,
    from::{self, Source},
    lock::{Hold, Lock},
    network::Reach,
    progress::{BuildStage, Progress, Reporter},
    prune::{Pruned, Pruning},
    record::{MAKING, Record, Records, disk_name},
    sandbox::{Sandbox, make_room},
    tool::Job,
};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use wire::App;

/// Changed when the same inputs give another result than before: old results are then not found.
const FORMAT: &[u8] = b"2";

/// What to build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// A zip with a `Dockerfile` at its root and the files that it copies.
    pub artifact: PathBuf,
    /// For the steps of the Dockerfile.
    pub reach: Reach,
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
        let records = Records { work_dir: config.work_dir.clone() };
        Self {
            works: Arc::new(Works { config, records }),
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
        let built =
            self.run(progress, move |job| async move { works.build(&request, &job).await }).await;
        if built.is_ok() {
            self.keep_to_the_limit();
        }
        built
    }

    /// In the background: nobody waits for it.
    fn keep_to_the_limit(&self) {
        let works = Arc::clone(&self.works);
        let reporter = Reporter::new(mpsc::unbounded_channel().0);
        let job = Job { cancel: self.cancel.child_token(), reporter };
        self.tasks.spawn(async move {
            let pruning = Pruning::DownTo(works.config.kept_bytes);
            match works.prune(pruning, &job).await {
                Ok(Pruned { bytes: 0, .. }) => {}
                Ok(pruned) => tracing::info!(?pruned, "what builds keep was over its limit"),
                Err(error) => tracing::warn!(%error, "what builds keep is not cut to its limit"),
            }
        });
    }

    /// Gives the disk of a finished build another name in `dir`, which is on the same file system:
    /// who takes that over takes nothing from later builds. None where the disk is not kept any more.
    pub fn disk(&self, name: &str, dir: &Path) -> Result<Option<PathBuf>, BuildError> {
        let path = dir.join("rootfs.ext4");
        self.works.records.touch(name);
        match fs::hard_link(self.works.records.disk(name), &path) {
            Ok(()) => Ok(Some(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(BuildError::io("linking", &path, source)),
        }
    }

    /// Takes a disk that was made elsewhere under the name that it has there; `file` is moved. One
    /// of this name that is there is kept instead.
    pub async fn adopt_disk(&self, name: &str, file: PathBuf) -> Result<(), BuildError> {
        self.works.records.open()?;
        if self.works.records.touch(name) {
            return Ok(());
        }
        self.works.records.keep_disk(file, name).await
    }

    /// Removes disks that no template is made from and layers of earlier builds.
    pub async fn prune(&self, pruning: Pruning) -> Result<Pruned, BuildError> {
        let works = Arc::clone(&self.works);
        let (progress, _) = mpsc::unbounded_channel();
        self.run(progress, move |job| async move { works.prune(pruning, &job).await }).await
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
pub(crate) struct Works {
    pub(crate) config: ImageConfig,
    pub(crate) records: Records,
}

/// A build's place: the storage, held against sweeping, and a directory of its own.
#[derive(Debug)]
struct Site {
    storage: Storage,
    temp: TempDir,
    /// After the fields above, so that it is given back last.
    held: Lock,
}

impl Works {
    async fn enter(&self, job: &Job) -> Result<Site, BuildError> {
        self.records.open()?;
        let storage = Storage::open(&self.config.share_dir)?;
        self.sweep_leftovers(&storage, job).await?;
        let held = Lock::take(&storage.dir().join("lock"), Hold::Shared, job).await?;
        let temp_dir = storage.temp_dir();
        let temp = TempDir::new_in(&temp_dir)
            .map_err(|source| BuildError::io("making a directory in", &temp_dir, source))?;
        make_room(temp.path())?;
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
        let temp = storage.temp_dir();
        let mut entries =
            fs::read_dir(&temp).map_err(|source| BuildError::io("reading", &temp, source))?;
        if entries.next().is_none() && self.records.left_over()?.is_empty() {
            return Ok(());
        }
        let lock = storage.dir().join("lock");
        let Some(_alone) = Lock::try_take(&lock, Hold::Exclusive)? else {
            return Ok(());
        };
        tracing::info!(dir = %storage.dir().display(), "removing what a broken build left");
        storage.clear_temp()?;
        let buildah = self.buildah(storage, (&[], &[]), Reach::Nothing, job).await?;
        let removed = buildah.remove_containers(job).await;
        buildah.close().await;
        removed?;
        self.records.remove_left_over()
    }

    /// Buildah in a sandbox of its own, which sees `readable` besides the storage.
    pub(crate) async fn buildah(
        &self,
        storage: &Storage,
        (writable, readable): (&[PathBuf], &[PathBuf]),
        reach: Reach,
        job: &Job,
    ) -> Result<Buildah, BuildError> {
        let mut rooms = storage.rooms();
        rooms.writable.extend_from_slice(writable);
        rooms.readable.extend_from_slice(readable);
        let sandbox = Sandbox::start(&rooms, (self.config.limits, reach), job).await?;
        Buildah::open(storage, sandbox, job).await
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
        let sources = from::sources(&context.dockerfile, &context.dir, &self.config.aliases)?;
        let own_base = BTreeMap::new();
        if sources.values().all(|source| *source == Source::Base)
            && let Some(record) = self.records.recall(&self.key(&context, &sources, &own_base))?
        {
            job.reporter.stage(BuildStage::Cached);
            return self.open_built(record);
        }
        let room =
            TempDir::with_prefix_in(MAKING, self.records.rootfs_dir()).map_err(|source| {
                BuildError::io("making a directory in", &self.records.rootfs_dir(), source)
            })?;
        make_room(room.path())?;
        let local: Vec<PathBuf> = sources
            .values()
            .filter_map(|source| match source {
                Source::Local { path, .. } if !path.starts_with(&context.dir) => Some(path.clone()),
                Source::Local { .. } | Source::Base | Source::Registry { .. } => None,
            })
            .collect();
        let writable = [room.path().to_owned()];
        let buildah = self.buildah(&site.storage, (&writable, &local), request.reach, job).await?;
        let work = Work { buildah: &buildah, context: &context, room: room.path() };
        let built = self.build_in(&work, &sources, job).await;
        buildah.close().await;
        built
    }

    async fn build_in(
        &self,
        work: &Work<'_>,
        sources: &BTreeMap<String, Source>,
        job: &Job,
    ) -> Result<BuiltImage, BuildError> {
        let images = self.bring(work.buildah, sources, job).await?;
        let key = self.key(work.context, sources, &images);
        let _lock = Lock::take(&self.records.build_lock(&key), Hold::Exclusive, job).await?;
        if let Some(record) = self.records.recall(&key)? {
            job.reporter.stage(BuildStage::Cached);
            return self.open_built(record);
        }
        let image = self.run_dockerfile(work, &images, job).await?;
        let storage = work.buildah.storage();
        let failed = |error| BuildError::of_tool(error, storage.dir(), BuildError::Tool);
        let config = work.buildah.config(&image, job).await.map_err(failed)?;
        let volumes = config.volumes();
        let app = app::from_config(config)?;
        let rootfs = self.ensure_disk(work, &image, &volumes, job).await?;
        let record = Record { rootfs, app };
        self.records.record(&key, &record)?;
        self.open_built(record)
    }

    /// Unpacks and reads the artifact on a thread of its own.
    async fn open_context(
        &self,
        request: &BuildRequest,
        site: &Site,
        job: &Job,
    ) -> Result<Context, BuildError> {
        let artifact = request.artifact.clone();
        let limits = self.config.archive;
        let dir = site.temp.path().join("context");
        let cancel = job.cancel.clone();
        tokio::task::spawn_blocking(move || {
            Context::open(&artifact, &Opening { limits, dir: &dir, cancel: &cancel })
        })
        .await
        .unwrap_or_else(|error| Err(BuildError::Died(error.to_string())))
    }

    /// Brings the images that the Dockerfile names into the storage.
    async fn bring(
        &self,
        buildah: &Buildah,
        sources: &BTreeMap<String, Source>,
        job: &Job,
    ) -> Result<BTreeMap<String, ImageId>, BuildError> {
        let mut images = BTreeMap::new();
        for (name, source) in sources {
            let image = match source {
                Source::Base => {
                    let lock = buildah.storage().dir().join("base.lock");
                    let _lock = Lock::take(&lock, Hold::Exclusive, job).await?;
                    base::ensure(buildah, job).await?
                }
                Source::Registry { .. } | Source::Local { .. } => {
                    job.reporter.stage(BuildStage::Fetching);
                    let plain = source.registry();
                    let plain = plain.is_some_and(|r| self.config.plain_registries.contains(r));
                    buildah.pull(source, plain, job).await.map_err(|error| {
                        let dir = buildah.storage().dir().to_owned();
                        let reference = name.clone();
                        BuildError::of_tool(error, &dir, |source| BuildError::BaseImage {
                            reference,
                            source,
                        })
                    })?
                }
            };
            images.insert(name.clone(), image);
        }
        Ok(images)
    }

    /// Digest of everything that decides the result.
    fn key(
        &self,
        context: &Context,
        sources: &BTreeMap<String, Source>,
        images: &BTreeMap<String, ImageId>,
    ) -> String {
        let mut digest = Sha256::new();
        field(&mut digest, b"format", FORMAT);
        field(&mut digest, b"artifact", context.digest.as_bytes());
        field(&mut digest, b"disk", &self.config.disk_bytes.to_le_bytes());
        for (name, source) in sources {
            field(&mut digest, b"from", name.as_bytes());
            let recipe = base::recipe();
            let is = match source {
                Source::Base => recipe.as_str(),
                Source::Registry { .. } | Source::Local { .. } => {
                    images.get(name).map_or("", ImageId::as_str)
                }
            };
            field(&mut digest, b"is", is.as_bytes());
        }
        hex::encode(digest.finalize())
    }

    async fn run_dockerfile(
        &self,
        work: &Work<'_>,
        images: &BTreeMap<String, ImageId>,
        job: &Job,
    ) -> Result<ImageId, BuildError> {
        job.reporter.stage(BuildStage::Container);
        let build =
            DockerBuild { context: &work.context.dir, images, tag: None, layers: Layers::Kept };
        let storage = work.buildah.storage();
        let time_max = self.config.limits.time_max;
        match tokio::time::timeout(time_max, work.buildah.build(build, job)).await {
            Ok(built) => built
                .map_err(|error| BuildError::of_tool(error, storage.dir(), BuildError::Dockerfile)),
            Err(_elapsed) => {
                // What still runs ends with the sandbox.
                storage.note_leftovers();
                Err(BuildError::TimedOut { after: time_max })
            }
        }
    }

    /// Makes the image's disk unless another build has; returns its name.
    async fn ensure_disk(
        &self,
        work: &Work<'_>,
        image: &ImageId,
        volumes: &[String],
        job: &Job,
    ) -> Result<String, BuildError> {
        let bytes = self.config.disk_bytes;
        let name = disk_name(FORMAT, image.as_str(), bytes);
        let _lock = Lock::take(&self.records.disk_lock(&name), Hold::Exclusive, job).await?;
        if self.records.touch(&name) {
            return Ok(name);
        }
        job.reporter.stage(BuildStage::Disk);
        let (buildah, room) = (work.buildah, work.room);
        let failed = |error| BuildError::of_tool(error, buildah.storage().dir(), BuildError::Tool);
        let mounted = buildah.mount(image, job).await.map_err(failed)?;
        let making = disk::Making { tree: &mounted.tree, room, bytes, name: &name, volumes };
        let made = disk::make(&making, buildah.sandbox(), job).await;
        buildah.remove(&mounted.container, job).await;
        made?;
        self.records.keep_disk(room.join("disk"), &name).await?;
        Ok(name)
    }

    fn open_built(&self, record: Record) -> Result<BuiltImage, BuildError> {
        let rootfs = self.records.disk(&record.rootfs);
        let metadata = fs::metadata(&rootfs)
            .map_err(|source| BuildError::io("looking at", &rootfs, source))?;
        let Record { rootfs: disk, app } = record;
        Ok(BuiltImage { rootfs, app, disk, rootfs_bytes: metadata.blocks() * 512 })
    }
}

/// What a build works with.
struct Work<'a> {
    buildah: &'a Buildah,
    context: &'a Context,
    /// Where its disk is made.
    room: &'a Path,
}
