//! What may be asked of images; [`crate::image_build`] makes their versions.

use crate::{
    Build, BuildId, ControlError, CreateImage, Image, ImageName, ImageSpec, ImageState,
    ImageVersion, ManagedImage, Page, PageRequest, PortableImage, StartedBuild, TAGS_MAX,
    Timestamp, UpdateImage, Version, VersionStatus,
    error::chain,
    fleet::Fleet,
    image_build::{self, BuildJob},
    image_rules, image_template,
    store::{
        Begun, BuildOf, BuildOutcome, Claim, ImageContent, ImageDocument, NewBuild,
        PortableDocument, VersionRow,
    },
};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

/// Wait before a removal is tried again where the store failed.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// The images of this Warren.
pub struct Images {
    fleet: Arc<Fleet>,
}

impl Images {
    pub(crate) fn new(fleet: Arc<Fleet>) -> Self {
        Self { fleet }
    }

    /// Goes on where a process before this one was broken off: fails its builds, removes what is
    /// marked for removal, and makes snapshots anew that do not fit this host any more.
    pub(crate) async fn take_up(&self) -> Result<(), ControlError> {
        for build in self.fleet.store.unfinished_builds().await? {
            warn!(%build, "a build was interrupted by the end of the control plane");
            let reason = "INTERNAL_PLATFORM_ERROR: The build was interrupted by a restart of the \
                          control plane. Please build again.";
            let outcome = BuildOutcome::Failed { reason: reason.to_owned(), code_bytes: None };
            self.fleet.store.finish_build(&build, &outcome, self.now()).await?;
        }
        for (name, version) in self.fleet.store.marked_for_removal().await? {
            self.finish_removal(&name, version);
        }
        image_build::clear_work(&self.fleet).await?;
        let renewal = image_template::renew_all(Arc::clone(&self.fleet));
        let stop = self.fleet.stop.clone();
        self.fleet.tasks.spawn(stop.run_until_cancelled_owned(renewal));
        Ok(())
    }

    fn now(&self) -> Timestamp {
        self.fleet.outside.clock.now()
    }

    /// Records the image and its version 1.0 and builds it in the background.
    ///
    /// # Errors
    /// [`ControlError::ImageExists`], [`ControlError::BadImageSpec`],
    /// [`ControlError::ClientTokenReused`].
    pub async fn create(&self, request: CreateImage) -> Result<StartedBuild, ControlError> {
        let CreateImage { name, spec, tags, client_token } = request;
        if tags.len() > TAGS_MAX {
            return Err(ControlError::TooManyTags { max: TAGS_MAX });
        }
        let fingerprint = fingerprint(&name, &spec, &format!("{tags:?}"));
        let operation = "CreateMicrovmImage";
        let claim = client_token.map(|token| Claim { operation, token, fingerprint });
        self.start(&name, spec, BuildOf::NewImage { tags: &tags }, claim).await
    }

    /// Records the next version and builds it in the background.
    ///
    /// # Errors
    /// [`ControlError::ImageNotFound`], [`ControlError::ImageBusy`],
    /// [`ControlError::BadImageSpec`], [`ControlError::ClientTokenReused`].
    pub async fn update(&self, request: UpdateImage) -> Result<StartedBuild, ControlError> {
        let UpdateImage { name, spec, client_token } = request;
        let fingerprint = fingerprint(&name, &spec, "");
        let operation = "UpdateMicrovmImage";
        let claim = client_token.map(|token| Claim { operation, token, fingerprint });
        self.start(&name, spec, BuildOf::Existing, claim).await
    }

    /// A version with all that it is made of, to be carried to another host.
    ///
    /// # Errors
    /// [`ControlError::VersionNotFound`], [`ControlError::NoActiveVersion`] where it is not built.
    pub async fn export(
        &self,
        name: &ImageName,
        version: Option<ImageVersion>,
    ) -> Result<PortableImage, ControlError> {
        let arn = self.get(name).await?.arn;
        let row = self.fleet.store.runnable(&arn, version).await?;
        let absent = || ControlError::NoActiveVersion { image: arn.to_string(), version };
        let VersionRow { version, content, .. } = row.ok_or_else(absent)?;
        let content = content.ok_or_else(absent)?;
        let description = PortableDocument {
            name: name.to_string(),
            spec: ImageDocument::of(&version.spec),
            content,
        };
        let disk = description.content.disk.clone();
        Ok(PortableImage { description: description.write(), disk })
    }

    /// Begins a version of the image `name`, or of the name that it had, from what
    /// [`Images::export`] gave; the builder has its disk.
    ///
    /// # Errors
    /// [`ControlError::BadImageSpec`] where the description is none, and as [`Images::update`].
    pub async fn import(
        &self,
        name: Option<ImageName>,
        description: &str,
    ) -> Result<StartedBuild, ControlError> {
        let PortableDocument { name: old, spec, content } = PortableDocument::read(description)?;
        let name = match name {
            Some(name) => name,
            None => ImageName::parse(&old)?,
        };
        let (spec, tags) = (spec.read()?, BTreeMap::new());
        let of = match self.get(&name).await {
            Ok(_) => BuildOf::Existing,
            Err(ControlError::ImageNotFound(_)) => BuildOf::NewImage { tags: &tags },
            Err(error) => return Err(error),
        };
        self.start_from(&name, (spec, Some(content)), of, None).await
    }

    /// Digest of the disk of what [`Images::export`] gave.
    ///
    /// # Errors
    /// [`ControlError::BadImageSpec`].
    pub fn disk_of(&self, description: &str) -> Result<String, ControlError> {
        Ok(PortableDocument::read(description)?.content.disk)
    }

    async fn start(
        &self,
        name: &ImageName,
        spec: ImageSpec,
        of: BuildOf<'_>,
        claim: Option<Claim>,
    ) -> Result<StartedBuild, ControlError> {
        self.start_from(name, (spec, None), of, claim).await
    }

    async fn start_from(
        &self,
        name: &ImageName,
        (mut spec, content): (ImageSpec, Option<ImageContent>),
        of: BuildOf<'_>,
        claim: Option<Claim>,
    ) -> Result<StartedBuild, ControlError> {
        image_rules::check(&mut spec, &self.fleet.config)?;
        let build = BuildId::random();
        let now = self.now();
        let claim = claim.as_ref();
        let quotas = &self.fleet.config.quotas;
        let new = NewBuild { image: name, of, spec: &spec, build: &build, claim, quotas, now };
        // What is answered is what was there before the build's first step.
        let (answered, answer_read) = oneshot::channel::<()>();
        let (version, progress) = match self.fleet.store.begin_build(&new).await? {
            Begun::Earlier(version) => (version, None),
            Begun::Now(version) => {
                // One build's output; whoever does not read it should drop it.
                let (sender, receiver) = mpsc::unbounded_channel();
                let image = self.fleet.config.image_arn(name);
                let job = BuildJob { image, version, build, spec, content, progress: sender };
                let work = image_build::run(Arc::clone(&self.fleet), job);
                let work = async move {
                    // An error: it is dropped, which says the same.
                    let _ = answer_read.await;
                    work.await;
                };
                let stop = self.fleet.stop.clone();
                self.fleet.tasks.spawn(stop.run_until_cancelled_owned(work));
                (version, Some(receiver))
            }
        };
        let image = self.get(name).await?;
        let version = self.version(name, version).await?;
        drop(answered);
        Ok(StartedBuild { image, version, progress })
    }

    /// # Errors
    /// [`ControlError::ImageNotFound`].
    pub async fn get(&self, name: &ImageName) -> Result<Image, ControlError> {
        let arn = self.fleet.config.image_arn(name);
        let found = self.fleet.store.image(&arn).await?;
        found.ok_or_else(|| ControlError::ImageNotFound(arn.to_string()))
    }

    /// By name. `name_filter` is a part of the name.
    ///
    /// # Errors
    /// [`ControlError::BadPageToken`].
    pub async fn list(
        &self,
        name_filter: Option<&str>,
        page: PageRequest,
    ) -> Result<Page<Image>, ControlError> {
        let arn = |name: &ImageName| self.fleet.config.image_arn(name);
        self.fleet.store.list_images(name_filter.unwrap_or_default(), &page, arn).await
    }

    /// # Errors
    /// [`ControlError::VersionNotFound`].
    pub async fn version(
        &self,
        name: &ImageName,
        version: ImageVersion,
    ) -> Result<Version, ControlError> {
        let arn = self.fleet.config.image_arn(name);
        let found = self.fleet.store.version(&arn, version).await?;
        let absent = || ControlError::VersionNotFound { image: arn.to_string(), version };
        Ok(found.ok_or_else(absent)?.version)
    }

    /// Newest first.
    ///
    /// # Errors
    /// [`ControlError::ImageNotFound`], [`ControlError::BadPageToken`].
    pub async fn versions(
        &self,
        name: &ImageName,
        page: PageRequest,
    ) -> Result<Page<Version>, ControlError> {
        let image = self.get(name).await?;
        self.fleet.store.versions(&image.arn, &page).await
    }

    /// # Errors
    /// [`ControlError::VersionNotFound`], [`ControlError::ImageBusy`].
    pub async fn set_status(
        &self,
        name: &ImageName,
        version: ImageVersion,
        status: VersionStatus,
    ) -> Result<Version, ControlError> {
        let arn = self.version(name, version).await?.image;
        self.refuse_busy(name).await?;
        self.fleet.store.set_version_status(&arn, version, status, self.now()).await?;
        self.version(name, version).await
    }

    /// # Errors
    /// [`ControlError::VersionNotFound`].
    pub async fn builds(
        &self,
        name: &ImageName,
        version: ImageVersion,
    ) -> Result<Vec<Build>, ControlError> {
        let found = self.version(name, version).await?;
        self.fleet.store.builds(&found.image, version).await
    }

    /// # Errors
    /// [`ControlError::VersionNotFound`], [`ControlError::BuildNotFound`].
    pub async fn build(
        &self,
        name: &ImageName,
        version: ImageVersion,
        id: &BuildId,
    ) -> Result<Build, ControlError> {
        let mut builds = self.builds(name, version).await?.into_iter();
        let found = builds.find(|build| build.id == *id);
        found.ok_or_else(|| ControlError::BuildNotFound(id.to_string()))
    }

    /// Begins to remove the image with all its versions; it is listed as DELETING until that is done.
    /// Of what is not there, or on its way out already: nothing happens.
    ///
    /// # Errors
    /// [`ControlError::ImageNotDeletable`] while a build or the removal of a version is under way,
    /// [`ControlError::ImageInUse`].
    pub async fn delete(&self, name: &ImageName) -> Result<(), ControlError> {
        // No MicroVM may come to be between the look and the mark.
        let no_new_rows = self.fleet.admission.write().await;
        let image = match self.get(name).await {
            Err(ControlError::ImageNotFound(_)) => return Ok(()),
            found => found?,
        };
        if image.state == ImageState::Deleting {
            return Ok(());
        }
        if image.state.is_changing() {
            return Err(ControlError::ImageNotDeletable(image.arn.to_string()));
        }
        if self.fleet.store.count_live(name, None).await? > 0 {
            return Err(ControlError::ImageInUse(name.clone()));
        }
        self.fleet.store.begin_removal(name, None, self.now()).await?;
        drop(no_new_rows);
        self.finish_removal(name, None);
        Ok(())
    }

    /// Begins to remove a version. Its VMs run on; its snapshot goes with the last of them. Of what
    /// is not there: nothing happens.
    ///
    /// # Errors
    /// [`ControlError::LastVersion`], [`ControlError::ImageBusy`].
    pub async fn delete_version(
        &self,
        name: &ImageName,
        version: ImageVersion,
    ) -> Result<(), ControlError> {
        let _no_new_rows = self.fleet.admission.write().await;
        match self.version(name, version).await {
            Err(ControlError::VersionNotFound { .. }) => return Ok(()),
            found => found?,
        };
        self.refuse_busy(name).await?;
        let two = PageRequest { items_max: 2, token: None };
        if self.versions(name, two).await?.items.len() < 2 {
            return Err(ControlError::LastVersion { image: name.clone(), version });
        }
        self.fleet.store.begin_removal(name, Some(version), self.now()).await?;
        self.finish_removal(name, Some(version));
        Ok(())
    }

    async fn refuse_busy(&self, name: &ImageName) -> Result<(), ControlError> {
        let state = self.get(name).await?.state;
        if state.is_changing() {
            return Err(ControlError::ImageBusy { image: name.clone(), state: state.as_str() });
        }
        Ok(())
    }

    /// Removes in the background what [`crate::store::Store::begin_removal`] has marked.
    fn finish_removal(&self, name: &ImageName, version: Option<ImageVersion>) {
        let (fleet, name) = (Arc::clone(&self.fleet), name.clone());
        let stop = self.fleet.stop.clone();
        let work = async move {
            while let Err(error) =
                fleet.store.remove_marked(&name, version, fleet.outside.clock.now()).await
            {
                warn!(image = %name, "it is not removed yet: {}", chain(&error));
                tokio::time::sleep(RETRY_EVERY).await;
            }
            image_template::collect(&fleet).await;
            fleet.reconcile.notify_one();
        };
        self.fleet.tasks.spawn(stop.run_until_cancelled_owned(work));
    }

    /// The base images that Warren provides.
    pub fn managed(&self) -> Vec<ManagedImage> {
        vec![image_rules::managed(&self.fleet.config.region)]
    }
}

/// Digest of what a client token stands for.
fn fingerprint(name: &ImageName, spec: &ImageSpec, rest: &str) -> String {
    let spec = serde_json::to_string(&ImageDocument::of(spec));
    let spec = spec.expect("the document has string keys and no failing parts");
    hex::encode(Sha256::digest(format!("{name}\n{spec}\n{rest}")))
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Images").finish_non_exhaustive()
    }
}
