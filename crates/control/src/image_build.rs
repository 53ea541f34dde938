//! One build of an image's version, in the background: artifact, disk, snapshot, row.

use crate::{
    BuildFailure, BuildId, BuildNetwork, BuildProgress, BuildRequest, ControlError, ImageArn,
    ImageSpec, ImageVersion, LogRecord, LogTarget, SnapshotSizes,
    error::chain,
    fleet::Fleet,
    image_template::{self, Making},
    image_validate,
    log_target::log_target,
    store::{BuildOutcome, ImageContent},
};
use engine::{EngineError, TemplateInfo};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::mpsc;
use tracing::{info, warn};

/// Wait before something that has to be written is tried again where the store failed.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// Longest state reason in bytes; a console may be quoted in it.
const REASON_BYTES_MAX: usize = 2048;

/// Ends of the connectors' names that open the internet to a build.
const INTERNET_EGRESS: &str = ":INTERNET_EGRESS";

/// A version that is to be built.
#[derive(Debug)]
pub(crate) struct BuildJob {
    pub(crate) image: ImageArn,
    pub(crate) version: ImageVersion,
    pub(crate) build: BuildId,
    pub(crate) spec: ImageSpec,
    /// Known already where the image comes from another host.
    pub(crate) content: Option<ImageContent>,
    pub(crate) progress: mpsc::UnboundedSender<BuildProgress>,
}

/// Why a build failed, as it is stored.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    /// Known where the container was built.
    pub(crate) code_bytes: Option<u64>,
}

impl Failure {
    pub(crate) fn platform(what: impl std::fmt::Display) -> Self {
        Self::from(format!("INTERNAL_PLATFORM_ERROR: {what}"))
    }
}

impl From<String> for Failure {
    fn from(mut reason: String) -> Self {
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        Self { reason, code_bytes: None }
    }
}

impl From<BuildFailure> for Failure {
    fn from(failure: BuildFailure) -> Self {
        Self::from(failure.to_string())
    }
}

/// A failure of the engine: a code of spec 3, then a sentence; a hook's failure is AWS's sentence
/// alone.
impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        if let EngineError::NotReady { reason, .. } = error {
            return Self::from(reason);
        }
        let full = matches!(&error, EngineError::Host { source, .. }
            if source.kind() == io::ErrorKind::StorageFull);
        let code = if full { "DISK_STORAGE_FULL" } else { "INTERNAL_PLATFORM_ERROR" };
        Self::from(format!("{code}: {}", chain(&error)))
    }
}

/// What came out.
pub(crate) struct Built {
    pub(crate) template: TemplateInfo,
    pub(crate) content: ImageContent,
}

impl Built {
    fn sizes(&self) -> SnapshotSizes {
        SnapshotSizes {
            code_bytes: self.content.code_bytes,
            memory_bytes: Some(self.template.memory_bytes),
            disk_bytes: Some(self.template.disk_bytes),
        }
    }
}

pub(crate) async fn run(fleet: Arc<Fleet>, job: BuildJob) {
    // Nothing takes the template away before the row names it.
    let template_kept = fleet.templates.keep().await;
    let (progress, seen) = mpsc::unbounded_channel();
    // Both end when the last sender of `progress` is gone.
    let (built, ()) = tokio::join!(
        async {
            let built = build(&fleet, &job, progress).await;
            remove_work(&work_dir(&fleet, job.build.as_str())).await;
            built
        },
        tell(&fleet, &job, seen)
    );
    let (outcome, result) = match built {
        Ok(built) => {
            info!(image = %job.image.name, version = %job.version, template = %built.template.id, "built");
            let sizes = built.sizes();
            let Built { template, content } = built;
            let cold_boot_ms = template.cold_boot_ms;
            (
                BuildOutcome::Successful { template: template.id, content, sizes, cold_boot_ms },
                Ok(sizes),
            )
        }
        Err(Failure { reason, code_bytes }) => {
            warn!(image = %job.image.name, version = %job.version, "the build failed: {reason}");
            (BuildOutcome::Failed { reason: reason.clone(), code_bytes }, Err(reason))
        }
    };
    let now = || fleet.outside.clock.now();
    while let Err(error) = fleet.store.finish_build(&job.build, &outcome, now()).await {
        warn!(build = %job.build, "its end is not written yet: {}", chain(&error));
        tokio::time::sleep(RETRY_EVERY).await;
    }
    drop(template_kept);
    // What is kept on standby may be another version's now.
    fleet.reconcile.notify_one();
    // Whoever watched may have gone.
    let _ = job.progress.send(BuildProgress::Finished { version: job.version, result });
}

/// Passes on what is seen of a build, and writes its output to the build's log stream.
async fn tell(fleet: &Fleet, job: &BuildJob, mut seen: mpsc::UnboundedReceiver<BuildProgress>) {
    let target = build_log(fleet, job);
    while let Some(progress) = seen.recv().await {
        let text = match &progress {
            BuildProgress::Step(text) | BuildProgress::Line(text) => text.clone(),
            BuildProgress::Finished { .. } => continue,
        };
        if let Some(target) = target.as_ref().filter(|_| !text.is_empty()) {
            let record = LogRecord { at: fleet.outside.clock.now(), message: text };
            if let Err(error) = fleet.logs.append(target, vec![record]).await {
                warn!(build = %job.build, "a line of its log is lost: {}", chain(&error));
            }
        }
        let _ = job.progress.send(progress);
    }
}

fn build_log(fleet: &Fleet, job: &BuildJob) -> Option<LogTarget> {
    let name = format!("build-{}", job.build);
    let at = fleet.outside.clock.now();
    log_target(&job.spec.logging, &job.image.name, job.version, &name, at)
}

async fn build(
    fleet: &Arc<Fleet>,
    job: &BuildJob,
    progress: mpsc::UnboundedSender<BuildProgress>,
) -> Result<Built, Failure> {
    let _permit = fleet
        .builds
        .acquire()
        .await
        .map_err(|_| Failure::platform("the control plane is shutting down"))?;
    while let Err(error) = fleet.store.start_build(&job.build).await {
        warn!(build = %job.build, "its start is not written yet: {}", chain(&error));
        tokio::time::sleep(RETRY_EVERY).await;
    }
    let making = Making {
        image: &job.image,
        version: job.version,
        spec: &job.spec,
        work_dir: &work_dir(fleet, job.build.as_str()),
        progress: &progress,
    };
    let built = match &job.content {
        None => from_artifact(fleet, &making).await?,
        Some(content) => image_template::from_disk(fleet, &making, content).await?,
    };
    if let Err(failure) = image_validate::validate(fleet, &making, &built.template.id).await {
        return Err(Failure { code_bytes: Some(built.content.code_bytes), ..failure });
    }
    Ok(built)
}

/// Fetches the artifact, has its disk made, and makes the snapshot.
pub(crate) async fn from_artifact(
    fleet: &Arc<Fleet>,
    making: &Making<'_>,
) -> Result<Built, Failure> {
    let (spec, work_dir) = (making.spec, making.work_dir);
    make_work(work_dir).await?;
    let artifact = work_dir.join("artifact.zip");
    let _ = making.progress.send(BuildProgress::Step(format!("fetching {}", spec.artifact_uri)));
    let outside = &fleet.outside;
    outside.artifacts.fetch(&spec.build_role, &spec.artifact_uri, &artifact).await?;
    let request = BuildRequest { artifact, work_dir: work_dir.to_owned(), network: network(spec) };
    let built = outside.image_builder.build(request, making.progress.clone()).await?;
    let content = ImageContent { disk: built.digest, app: built.app, code_bytes: built.code_bytes };
    match image_template::ensure(fleet, making, &content, &built.rootfs).await {
        Ok(template) => Ok(Built { template, content }),
        Err(failure) => Err(Failure { code_bytes: Some(content.code_bytes), ..failure }),
    }
}

/// None named: `INTERNET_EGRESS`, as AWS has it.
pub(crate) fn network(spec: &ImageSpec) -> BuildNetwork {
    let open = spec.egress_connectors.iter().any(|arn| arn.ends_with(INTERNET_EGRESS));
    if open || spec.egress_connectors.is_empty() {
        BuildNetwork::Internet
    } else {
        BuildNetwork::Nothing
    }
}

pub(crate) async fn make_work(work_dir: &Path) -> Result<(), Failure> {
    let made = tokio::fs::create_dir_all(work_dir).await;
    made.map_err(|e| Failure::platform(format!("{} cannot be made: {e}", work_dir.display())))
}

pub(crate) async fn remove_work(work_dir: &Path) {
    if let Err(error) = tokio::fs::remove_dir_all(work_dir).await
        && error.kind() != io::ErrorKind::NotFound
    {
        warn!("{} is not removed: {error}", work_dir.display());
    }
}

/// Removes what builds of an earlier process left behind.
pub(crate) async fn clear_work(fleet: &Fleet) -> Result<(), ControlError> {
    image_validate::end_left_over(fleet).await?;
    let path = builds_dir(fleet);
    match tokio::fs::remove_dir_all(&path).await {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ControlError::File { action: "clearing", path, source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn builds_dir(fleet: &Fleet) -> PathBuf {
    fleet.config.data_dir.join("builds")
}

/// Scratch files of what is called `name`.
pub(crate) fn work_dir(fleet: &Fleet, name: &str) -> PathBuf {
    builds_dir(fleet).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_has_its_own_code() {
        let failure = |kind: io::ErrorKind| {
            Failure::from(EngineError::Host {
                subject: "template x".to_owned(),
                action: "write ram".to_owned(),
                source: kind.into(),
            })
            .reason
        };
        assert!(failure(io::ErrorKind::StorageFull).starts_with("DISK_STORAGE_FULL: template x"));
        assert!(failure(io::ErrorKind::NotFound).starts_with("INTERNAL_PLATFORM_ERROR: "));
    }
}
