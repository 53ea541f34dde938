//! The outside world in memory, for tests of this crate and of those above it: a clock that is
//! moved by hand, an engine without VMs that can fail or hang on its nth call, a builder, a back door.

mod clock;
mod engine;

pub use self::{
    clock::ManualClock,
    engine::{FakeEngine, Fault},
};
use crate::{
    ArtifactSource, BackDoor, BackDoorError, BuildFailure, BuildProgress, BuildRequest,
    BuiltRootfs, Hook, Hooks, ImageBuilder, ImageSpec, MicrovmId, OsCapabilities, RoleArn,
    VmAttachment,
};
use ::engine::{App, GuestSockets};
use async_trait::async_trait;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};
use tokio::sync::mpsc;

/// A back door that serves nothing, and knows whose it is.
#[derive(Debug, Default)]
pub struct FakeBackDoor {
    attached: Mutex<BTreeMap<MicrovmId, VmAttachment>>,
}

impl FakeBackDoor {
    /// Who is attached now.
    pub fn attached(&self) -> Vec<VmAttachment> {
        let attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        attached.values().cloned().collect()
    }
}

#[async_trait]
impl BackDoor for FakeBackDoor {
    async fn attach(&self, vm: VmAttachment, _: GuestSockets) -> Result<(), BackDoorError> {
        let mut attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        attached.insert(vm.id.clone(), vm);
        Ok(())
    }

    async fn detach(&self, id: &MicrovmId) {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }
}

/// A source whose objects consist of their own address. Keys that end in `absent` are none.
#[derive(Debug, Default)]
pub struct FakeArtifacts;

#[async_trait]
impl ArtifactSource for FakeArtifacts {
    async fn fetch(&self, _: &RoleArn, uri: &str, file: &Path) -> Result<(), BuildFailure> {
        if uri.ends_with("absent") {
            let message = format!("{uri} is not there.");
            return Err(BuildFailure { code: "S3_NO_SUCH_KEY", message });
        }
        tokio::fs::write(file, uri).await.map_err(|e| BuildFailure {
            code: "INTERNAL_PLATFORM_ERROR",
            message: format!("{}: {e}", file.display()),
        })
    }
}

/// A builder whose disk is an empty file. An artifact that ends in `broken` fails.
#[derive(Debug, Default)]
pub struct FakeBuilder;

#[async_trait]
impl ImageBuilder for FakeBuilder {
    async fn build(
        &self,
        request: BuildRequest,
        progress: mpsc::UnboundedSender<BuildProgress>,
    ) -> Result<BuiltRootfs, BuildFailure> {
        let _ = progress.send(BuildProgress::Step("container build".to_owned()));
        let _ = progress.send(BuildProgress::Line("STEP 1: FROM scratch".to_owned()));
        let artifact = tokio::fs::read(&request.artifact).await.unwrap_or_default();
        if artifact.ends_with(b"broken") {
            return Err(BuildFailure {
                code: "CONTAINER_BUILD_FAILED",
                message: "The container image build failed.".to_owned(),
            });
        }
        let rootfs = request.work_dir.join("rootfs.ext4");
        tokio::fs::write(&rootfs, b"").await.map_err(|e| BuildFailure {
            code: "INTERNAL_PLATFORM_ERROR",
            message: format!("{}: {e}", rootfs.display()),
        })?;
        Ok(BuiltRootfs {
            rootfs,
            digest: "00".repeat(32),
            app: App { argv: vec!["/app".to_owned()], ..App::default() },
            code_bytes: 1,
        })
    }

    async fn disk(&self, _: &str, work_dir: &Path) -> Result<Option<PathBuf>, BuildFailure> {
        let rootfs = work_dir.join("rootfs.ext4");
        Ok(tokio::fs::write(&rootfs, b"").await.is_ok().then_some(rootfs))
    }
}

/// A small image with the hooks of the default one.
pub fn image_spec() -> ImageSpec {
    let hooks = [Hook::Ready, Hook::Run, Hook::Suspend, Hook::Resume];
    let timeouts = hooks.map(|hook| (hook, hook.default_timeout())).into_iter().collect();
    ImageSpec {
        artifact_uri: "s3://bucket/app.zip".to_owned(),
        base_image_arn: "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1".to_owned(),
        base_image_version: None,
        architectures: Vec::new(),
        build_role: RoleArn::parse("arn:aws:iam::000000000000:role/warren-build")
            .expect("the constant is a role's ARN"),
        description: None,
        memory_mib: 512,
        hooks: Hooks { port: Some(9000), timeouts, ..Hooks::default() },
        environment: Vec::new(),
        egress_connectors: Vec::new(),
        logging: crate::Logging::Default,
        os_capabilities: OsCapabilities::Default,
    }
}
