//! What may be asked of images; [`crate::image_build`] makes their versions.

use crate::{
    Build, BuildId, ControlError, CreateImage, Hook, IMAGE_MEMORY_MIB, Image, ImageArn, ImageName,
    ImageSpec, ImageVersion, ManagedImage, Page, PageRequest, StartedBuild, Timestamp, UpdateImage,
    Version, VersionStatus,
    error::chain,
    fleet::Fleet,
    image_build::{self, BuildJob},
    store::{Begun, BuildOf, BuildOutcome, Claim, ImageDocument, NewBuild},
};
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc};
use tokio::sync::mpsc;
use tracing::warn;

/// Name of the base image that Warren provides, and its versions, newest first.
const MANAGED_IMAGE: &str = "al2023-1";
const MANAGED_VERSIONS: [&str; 1] = ["1"];

/// When that base image was first provided: 2026-11-23.
const MANAGED_SINCE: Timestamp = Timestamp::from_ms(1_795_392_000_000);

/// The images of this Warren.
pub struct Images {
    fleet: Arc<Fleet>,
}

impl Images {
    pub(crate) fn new(fleet: Arc<Fleet>) -> Self {
        Self { fleet }
    }

    /// Ends builds whose process is no more.
    pub(crate) async fn fail_interrupted(&self) -> Result<(), ControlError> {
        for build in self.fleet.store.unfinished_builds().await? {
            warn!(%build, "a build was interrupted by the end of the control plane");
            let reason = "INTERNAL_PLATFORM_ERROR: The build was interrupted by a restart of the \
                          control plane. Please build again.";
            let outcome = BuildOutcome::Failed { reason: reason.to_owned() };
            self.fleet.store.finish_build(&build, &outcome, self.now()).await?;
        }
        image_build::clear_work(&self.fleet.config).await
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

    async fn start(
        &self,
        name: &ImageName,
        spec: ImageSpec,
        of: BuildOf<'_>,
        claim: Option<Claim>,
    ) -> Result<StartedBuild, ControlError> {
        check_spec(&spec, &self.fleet.config.platform_environment)?;
        let build = BuildId::random();
        let now = self.now();
        let claim = claim.as_ref();
        let new = NewBuild { image: name, of, spec: &spec, build: &build, claim, now };
        let (version, progress) = match self.fleet.store.begin_build(&new).await? {
            Begun::Earlier(version) => (version, None),
            Begun::Now(version) => {
                // One build's output; whoever does not read it should drop it.
                let (sender, receiver) = mpsc::unbounded_channel();
                let image = self.fleet.config.image_arn(name);
                let job = BuildJob { image, version, build, spec, progress: sender };
                let work = image_build::run(Arc::clone(&self.fleet), job);
                let stop = self.fleet.stop.clone();
                self.fleet.tasks.spawn(stop.run_until_cancelled_owned(work));
                (version, Some(receiver))
            }
        };
        let image = self.get(name).await?;
        let version = self.version(name, version).await?;
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

    /// Removes the image with all its versions. Of what is not there: nothing happens.
    ///
    /// # Errors
    /// [`ControlError::ImageNotDeletable`] while a build runs, [`ControlError::ImageInUse`].
    pub async fn delete(&self, name: &ImageName) -> Result<(), ControlError> {
        let image = match self.get(name).await {
            Err(ControlError::ImageNotFound(_)) => return Ok(()),
            found => found?,
        };
        if image.state.is_changing() {
            return Err(ControlError::ImageNotDeletable(image.arn.to_string()));
        }
        self.remove(name, None).await
    }

    /// Of what is not there: nothing happens.
    ///
    /// # Errors
    /// [`ControlError::LastVersion`], [`ControlError::ImageInUse`], [`ControlError::ImageBusy`].
    pub async fn delete_version(
        &self,
        name: &ImageName,
        version: ImageVersion,
    ) -> Result<(), ControlError> {
        match self.version(name, version).await {
            Err(ControlError::VersionNotFound { .. }) => return Ok(()),
            found => found?,
        };
        self.refuse_busy(name).await?;
        let two = PageRequest { items_max: 2, token: None };
        if self.versions(name, two).await?.items.len() < 2 {
            return Err(ControlError::LastVersion { image: name.clone(), version });
        }
        self.remove(name, Some(version)).await
    }

    async fn refuse_busy(&self, name: &ImageName) -> Result<(), ControlError> {
        let state = self.get(name).await?.state;
        if state.is_changing() {
            return Err(ControlError::ImageBusy { image: name.clone(), state: state.as_str() });
        }
        Ok(())
    }

    async fn remove(
        &self,
        name: &ImageName,
        version: Option<ImageVersion>,
    ) -> Result<(), ControlError> {
        // No MicroVM may come to be between the look and the removal.
        let _no_new_rows = self.fleet.admission.write().await;
        if self.fleet.store.count_live(name, version).await? > 0 {
            return Err(ControlError::ImageInUse(name.clone()));
        }
        for template in self.fleet.store.remove_versions(name, version).await? {
            // Its row is gone; what stays behind costs disk, no correctness.
            if let Err(error) = self.fleet.outside.engine.remove_template(&template).await {
                warn!(%template, "its files are not removed: {}", chain(&error));
            }
        }
        Ok(())
    }

    /// The base images that Warren provides.
    pub fn managed(&self) -> Vec<ManagedImage> {
        let name = ImageName::parse(MANAGED_IMAGE).expect("the constant is an image name");
        let region = self.fleet.config.region.clone();
        vec![ManagedImage {
            arn: ImageArn { region, account: "aws".to_owned(), name },
            versions: MANAGED_VERSIONS.map(str::to_owned).to_vec(),
            created_at: MANAGED_SINCE,
            updated_at: MANAGED_SINCE,
        }]
    }
}

/// Digest of what a client token stands for.
fn fingerprint(name: &ImageName, spec: &ImageSpec, rest: &str) -> String {
    let spec = serde_json::to_string(&ImageDocument::of(spec));
    let spec = spec.expect("the document has string keys and no failing parts");
    hex::encode(Sha256::digest(format!("{name}\n{spec}\n{rest}")))
}

/// Rules that go beyond the shapes of single members (spec 1.4).
fn check_spec(spec: &ImageSpec, platform: &[(String, String)]) -> Result<(), ControlError> {
    let bad = |text: String| Err(ControlError::BadImageSpec(text));
    if !IMAGE_MEMORY_MIB.contains(&spec.memory_mib) {
        let sizes = IMAGE_MEMORY_MIB;
        return bad(format!(
            "minimumMemoryInMiB is {}; it must be one of {sizes:?}",
            spec.memory_mib
        ));
    }
    let has = |hook| spec.hooks.timeouts.contains_key(&hook);
    let lifecycle = [Hook::Run, Hook::Resume, Hook::Suspend, Hook::Terminate].into_iter().any(has);
    if lifecycle && !has(Hook::Ready) {
        return bad("The ready (/ready) MicroVM image hook must be enabled when any MicroVM \
                    lifecycle hook (run, resume, suspend, or terminate) is enabled."
            .to_owned());
    }
    if !spec.hooks.timeouts.is_empty() && spec.hooks.port.is_none() {
        return bad("hooks.port must be given when any hook is enabled".to_owned());
    }
    let reserved = |key: &str| {
        key.starts_with("AWS_LAMBDA_MICROVM_") || platform.iter().any(|(name, _)| name == key)
    };
    match spec.environment.iter().find(|(key, _)| reserved(key)) {
        Some((key, _)) => bad(format!("Environment variable key '{key}' is reserved")),
        None => Ok(()),
    }
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Images").finish_non_exhaustive()
    }
}
