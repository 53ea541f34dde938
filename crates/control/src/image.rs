//! Images, their versions and builds as callers see them, and what control wants of the rooms that
//! fetch an artifact and turn it into a disk.

use crate::{BuildId, ClientToken, ImageArn, ImageName, ImageVersion, Logging, RoleArn, Timestamp};
use async_trait::async_trait;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::sync::mpsc;

/// Implements `as_str` and `ALL` of an enum whose variants have a name on the wire.
macro_rules! wire_names {
    ($vis:vis $type:ident { $($variant:ident => $name:literal),+ $(,)? }) => {
        impl $type {
            $vis const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// As AWS writes it.
            $vis const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

pub(crate) use wire_names;

/// State of an image (spec 1.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImageState {
    Creating,
    Created,
    CreateFailed,
    Updating,
    Updated,
    UpdateFailed,
    Deleting,
    DeleteFailed,
    Deleted,
}

wire_names!(pub ImageState {
    Creating => "CREATING",
    Created => "CREATED",
    CreateFailed => "CREATE_FAILED",
    Updating => "UPDATING",
    Updated => "UPDATED",
    UpdateFailed => "UPDATE_FAILED",
    Deleting => "DELETING",
    DeleteFailed => "DELETE_FAILED",
    Deleted => "DELETED",
});

impl ImageState {
    /// Whether a change is under way that no other may begin beside.
    pub(crate) const fn is_changing(self) -> bool {
        match self {
            Self::Creating | Self::Updating | Self::Deleting => true,
            Self::Created
            | Self::CreateFailed
            | Self::Updated
            | Self::UpdateFailed
            | Self::DeleteFailed
            | Self::Deleted => false,
        }
    }
}

/// State of a version (spec 1.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VersionState {
    Pending,
    InProgress,
    Successful,
    Failed,
    Deleting,
    Deleted,
    DeleteFailed,
}

wire_names!(pub VersionState {
    Pending => "PENDING",
    InProgress => "IN_PROGRESS",
    Successful => "SUCCESSFUL",
    Failed => "FAILED",
    Deleting => "DELETING",
    Deleted => "DELETED",
    DeleteFailed => "DELETE_FAILED",
});

/// Whether new VMs may be run from a version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VersionStatus {
    Active,
    Inactive,
}

wire_names!(pub VersionStatus { Active => "ACTIVE", Inactive => "INACTIVE" });

/// State of a build (spec 1.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BuildState {
    Pending,
    InProgress,
    Successful,
    Failed,
}

wire_names!(pub BuildState {
    Pending => "PENDING",
    InProgress => "IN_PROGRESS",
    Successful => "SUCCESSFUL",
    Failed => "FAILED",
});

/// A lifecycle hook (spec 4). Its path is `/aws/lambda-microvms/runtime/v1/<name>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Hook {
    Ready,
    Validate,
    Run,
    Resume,
    Suspend,
    Terminate,
}

impl Hook {
    pub const ALL: [Self; 6] =
        [Self::Ready, Self::Validate, Self::Run, Self::Resume, Self::Suspend, Self::Terminate];

    /// Last part of its path.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Validate => "validate",
            Self::Run => "run",
            Self::Resume => "resume",
            Self::Suspend => "suspend",
            Self::Terminate => "terminate",
        }
    }

    /// Absolute path on the hooks port.
    pub fn path(self) -> String {
        format!("/aws/lambda-microvms/runtime/v1/{}", self.name())
    }

    /// Where the image enables the hook and gives no timeout (spec 4).
    pub const fn default_timeout(self) -> Duration {
        match self {
            Self::Ready | Self::Validate => Duration::from_secs(30),
            Self::Run | Self::Resume | Self::Suspend | Self::Terminate => Duration::from_secs(1),
        }
    }
}

/// Which hooks an app answers, and where.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hooks {
    /// On the guest's loopback. Required with any hook.
    pub port: Option<u16>,
    /// The enabled ones with the longest time that each may take.
    pub timeouts: BTreeMap<Hook, Duration>,
    /// Those that the caller named without enabling them, with the time given: never called, and
    /// answered by Get as they were given.
    pub disabled: BTreeMap<Hook, Option<Duration>>,
}

/// Processor of an image's VMs (`cpuConfigurations`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Architecture {
    Arm64,
    X86_64,
}

wire_names!(pub Architecture { Arm64 => "ARM_64", X86_64 => "X86_64" });

impl Architecture {
    /// That of this host, which is the one that its VMs can have.
    pub const HOST: Self = if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::X86_64 };
}

/// Sizes that an image may have, in MiB: AWS's list (spec 5), then Warren's own.
pub const IMAGE_MEMORY_MIB: [u32; 7] = [512, 1024, 2048, 4096, 8192, 16_384, 32_768];

/// Where an image says nothing of its memory, in MiB.
pub const IMAGE_MEMORY_MIB_DEFAULT: u32 = 2048;

/// Full configuration of a version: what Create and Update give.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImageSpec {
    /// A zip with a Dockerfile at its root: `s3://<bucket>/<key>`.
    pub artifact_uri: String,
    pub base_image_arn: String,
    /// None: the newest.
    pub base_image_version: Option<String>,
    /// Empty: [`Architecture::HOST`].
    pub architectures: Vec<Architecture>,
    pub build_role: RoleArn,
    pub description: Option<String>,
    /// One of [`IMAGE_MEMORY_MIB`].
    pub memory_mib: u32,
    pub hooks: Hooks,
    pub environment: Vec<(String, String)>,
    /// ARNs; empty: `INTERNET_EGRESS`.
    pub egress_connectors: Vec<String>,
    pub logging: Logging,
    pub os_capabilities: OsCapabilities,
}

/// Capabilities of root in a VM (`additionalOsCapabilities`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OsCapabilities {
    #[default]
    Default,
    All,
}

/// A request for a new image and its first version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreateImage {
    pub name: ImageName,
    pub spec: ImageSpec,
    pub tags: BTreeMap<String, String>,
    pub client_token: Option<ClientToken>,
}

/// A request for a new version of an image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpdateImage {
    pub name: ImageName,
    pub spec: ImageSpec,
    pub client_token: Option<ClientToken>,
}

/// An image as Get answers it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    pub arn: ImageArn,
    pub state: ImageState,
    pub latest_active_version: Option<ImageVersion>,
    pub latest_failed_version: Option<ImageVersion>,
    pub tags: BTreeMap<String, String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A version as Get answers it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Version {
    pub image: ImageArn,
    pub version: ImageVersion,
    pub state: VersionState,
    pub status: VersionStatus,
    pub state_reason: Option<String>,
    pub spec: ImageSpec,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A build as Get answers it. Warren makes one a version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Build {
    pub image: ImageArn,
    pub version: ImageVersion,
    pub id: BuildId,
    pub state: BuildState,
    /// Reason code, then a sentence: `CONTAINER_BUILD_FAILED: The container image build failed.`
    pub state_reason: Option<String>,
    pub snapshot: Option<SnapshotSizes>,
    /// From the start of the VMM to the first answer of `ready`, when the template was made.
    pub cold_boot_ms: Option<u64>,
    pub created_at: Timestamp,
}

/// Sizes of a version's snapshot in bytes (`snapshotBuild`). Memory and disk are there with a
/// snapshot: not where a hook kept it from being taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotSizes {
    pub code_bytes: u64,
    pub memory_bytes: Option<u64>,
    pub disk_bytes: Option<u64>,
}

impl SnapshotSizes {
    /// All of it together.
    pub fn total_bytes(self) -> u64 {
        self.code_bytes + self.memory_bytes.unwrap_or(0) + self.disk_bytes.unwrap_or(0)
    }
}

/// A base image that Warren provides.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ManagedImage {
    pub arn: ImageArn,
    /// Bare integers, newest first; each AVAILABLE.
    pub versions: Vec<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What Create and Update answer: the work goes on in the background.
#[derive(Debug)]
pub struct StartedBuild {
    pub image: Image,
    pub version: Version,
    /// Of this build from its beginning. Dropping it does not stop the build. None where the client
    /// token was a repeated one: that build is not watched twice.
    pub progress: Option<mpsc::UnboundedReceiver<BuildProgress>>,
}

/// A version that can be carried to another host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortableImage {
    /// All but the disk, for [`crate::Images::import`].
    pub description: String,
    /// Digest by which the builder knows the disk.
    pub disk: String,
}

/// How far a build is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BuildProgress {
    /// A step begins; a few words for a person, such as `container build`.
    Step(String),
    /// A line of output of what runs, without its end of line.
    Line(String),
    /// The last one.
    Finished { version: ImageVersion, result: Result<SnapshotSizes, String> },
}

/// What an [`ImageBuilder`] is asked to make.
#[derive(Clone, Debug)]
pub struct BuildRequest {
    /// The fetched zip.
    pub artifact: PathBuf,
    /// For scratch files; gone after the build.
    pub work_dir: PathBuf,
    pub network: BuildNetwork,
}

/// What the steps of a Dockerfile reach (`egressNetworkConnectors` of the image).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BuildNetwork {
    /// The internet; nothing of this host and of its private networks.
    Internet,
    Nothing,
}

/// A root file system and what runs in it.
#[derive(Clone, Debug)]
pub struct BuiltRootfs {
    /// Raw ext4; the caller takes it over.
    pub rootfs: PathBuf,
    /// Hexadecimal, of the content: the same artifact on the same base gives the same.
    pub digest: String,
    /// As the Dockerfile says it.
    pub app: wire::App,
    /// Bytes of files in it.
    pub code_bytes: u64,
}

/// Why a build failed: AWS's code (spec 3), then a sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct BuildFailure {
    /// For example `CONTAINER_BUILD_FAILED`.
    pub code: &'static str,
    pub message: String,
}

/// Where artifacts come from.
#[async_trait]
pub trait ArtifactSource: Send + Sync + 'static {
    /// Writes the object at `uri` (`s3://<bucket>/<key>`) into the new file `file`, with the rights
    /// of `role` and no others.
    ///
    /// # Errors
    /// [`BuildFailure`] with one of the codes that begin with `S3_`.
    async fn fetch(&self, role: &RoleArn, uri: &str, file: &Path) -> Result<(), BuildFailure>;
}

/// Turns an artifact into a root file system.
#[async_trait]
pub trait ImageBuilder: Send + Sync + 'static {
    /// # Errors
    /// [`BuildFailure`] with the code that callers see.
    async fn build(
        &self,
        request: BuildRequest,
        progress: mpsc::UnboundedSender<BuildProgress>,
    ) -> Result<BuiltRootfs, BuildFailure>;

    /// The disk of an earlier build by its digest, as a file in `work_dir` that the caller takes
    /// over; None where it is no longer kept.
    ///
    /// # Errors
    /// [`BuildFailure`] as for a build.
    async fn disk(&self, digest: &str, work_dir: &Path) -> Result<Option<PathBuf>, BuildFailure>;
}
