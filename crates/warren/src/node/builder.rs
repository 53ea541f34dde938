//! Crate `image` as control's [`ImageBuilder`]: the two know nothing of each other.

use crate::failure::with_causes;
use async_trait::async_trait;
use control::{BuildFailure, BuildNetwork, BuildProgress, BuildRequest, BuiltRootfs, ImageBuilder};
use image::{Progress, Reach, ReasonCode};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::mpsc;

pub(crate) struct Builder(pub(crate) Arc<image::ImageBuilder>);

#[async_trait]
impl ImageBuilder for Builder {
    async fn build(
        &self,
        request: BuildRequest,
        progress: mpsc::UnboundedSender<BuildProgress>,
    ) -> Result<BuiltRootfs, BuildFailure> {
        // Control adds the version's own environment when it makes the template.
        let BuildRequest { artifact, work_dir, network } = request;
        let reach = match network {
            BuildNetwork::Internet => Reach::Internet,
            BuildNetwork::Nothing => Reach::Nothing,
        };
        let request = image::BuildRequest { artifact, reach };
        let (sender, mut steps) = mpsc::unbounded_channel();
        let passed_on = async {
            while let Some(step) = steps.recv().await {
                // Nobody may be watching; the build goes on.
                let _ = progress.send(match step {
                    Progress::Stage(stage) => BuildProgress::Step(stage.to_string()),
                    Progress::Line(line) => BuildProgress::Line(line),
                });
            }
        };
        let (built, ()) = tokio::join!(self.0.build(request, sender), passed_on);
        let built = built.map_err(|e| failure(&e))?;
        let rootfs = self.disk(&built.disk, &work_dir).await?.unwrap_or(built.rootfs);
        Ok(BuiltRootfs {
            rootfs,
            digest: built.disk,
            app: built.app,
            code_bytes: built.rootfs_bytes,
        })
    }

    async fn disk(&self, digest: &str, work_dir: &Path) -> Result<Option<PathBuf>, BuildFailure> {
        self.0.disk(digest, work_dir).map_err(|e| failure(&e))
    }
}

fn failure(error: &image::BuildError) -> BuildFailure {
    let mut message = with_causes(error);
    if let Some(hint) = error.hint() {
        message.push_str(&format!(" ({hint})"));
    }
    let code: ReasonCode = error.reason();
    BuildFailure { code: code.as_str(), message }
}
