//! One build of an image's version, in the background: artifact, disk, template, row.

use crate::{
    BuildFailure, BuildId, BuildProgress, BuildRequest, BuiltRootfs, ControlConfig, ControlError,
    Hook, ImageArn, ImageSpec, ImageVersion, LogRecord, LogTarget, SnapshotSizes, app_log::Lines,
    error::chain, fleet::Fleet, log_target::log_target, store::BuildOutcome,
};
use engine::{
    App, EngineError, HookRequest, TemplateId, TemplateInfo, TemplateSpec, TemplateStage,
};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{io, path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tracing::{info, warn};

/// Wait before the end of a build is written again where the store failed.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// Longest state reason in bytes; a console may be quoted in it.
const REASON_BYTES_MAX: usize = 2048;

/// A version that is to be built.
#[derive(Debug)]
pub(crate) struct BuildJob {
    pub(crate) image: ImageArn,
    pub(crate) version: ImageVersion,
    pub(crate) build: BuildId,
    pub(crate) spec: ImageSpec,
    pub(crate) progress: mpsc::UnboundedSender<BuildProgress>,
}

/// Why a build failed, as it is stored.
type Reason = String;

/// A template, and the sizes of its parts.
struct Built {
    template: TemplateInfo,
    sizes: SnapshotSizes,
}

pub(crate) async fn run(fleet: Arc<Fleet>, job: BuildJob) {
    let (progress, seen) = mpsc::unbounded_channel();
    // Both end when the last sender of `progress` is gone.
    let (built, ()) = tokio::join!(
        async {
            let built = build(&fleet, &job, progress).await;
            let work_dir = work_dir(&fleet, &job);
            if let Err(error) = tokio::fs::remove_dir_all(&work_dir).await
                && error.kind() != io::ErrorKind::NotFound
            {
                warn!("{} is not removed: {error}", work_dir.display());
            }
            built
        },
        tell(&fleet, &job, seen)
    );
    let (outcome, result) = match built {
        Ok(Built { template, sizes }) => {
            info!(image = %job.image.name, version = %job.version, template = %template.id, "built");
            let cold_boot_ms = template.cold_boot_ms;
            (BuildOutcome::Successful { template: template.id, sizes, cold_boot_ms }, Ok(sizes))
        }
        Err(reason) => {
            warn!(image = %job.image.name, version = %job.version, "the build failed: {reason}");
            (BuildOutcome::Failed { reason: reason.clone() }, Err(reason))
        }
    };
    let now = || fleet.outside.clock.now();
    while let Err(error) = fleet.store.finish_build(&job.build, &outcome, now()).await {
        warn!(build = %job.build, "its end is not written yet: {}", chain(&error));
        tokio::time::sleep(RETRY_EVERY).await;
    }
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
    fleet: &Fleet,
    job: &BuildJob,
    progress: mpsc::UnboundedSender<BuildProgress>,
) -> Result<Built, Reason> {
    let platform_error = |what: String| format!("INTERNAL_PLATFORM_ERROR: {what}");
    let _permit = fleet
        .builds
        .acquire()
        .await
        .map_err(|_| platform_error("the control plane is shutting down".to_owned()))?;
    let work_dir = work_dir(fleet, job);
    tokio::fs::create_dir_all(&work_dir)
        .await
        .map_err(|e| platform_error(format!("{} cannot be made: {e}", work_dir.display())))?;
    let request = BuildRequest {
        artifact: job.spec.artifact.clone(),
        work_dir,
        base_image_version: job.spec.base_image_version.clone(),
    };
    let built = fleet.outside.image_builder.build(request, progress.clone()).await;
    let built = built.map_err(|failure: BuildFailure| failure.to_string())?;
    let code_bytes = built.code_bytes;
    let spec = template_spec(fleet, job, &built);
    let id = template_id(&built.digest, &spec);
    let (stages, stages_seen) = mpsc::unbounded_channel();
    let (made, ()) = tokio::join!(
        fleet.outside.engine.make_template(&id, spec, stages),
        pass_stages(stages_seen, progress)
    );
    let template = made.map_err(|error| bounded(template_failure(&error)))?;
    let (memory_bytes, disk_bytes) = (template.memory_bytes, template.disk_bytes);
    let sizes = SnapshotSizes { memory_bytes, code_bytes, disk_bytes };
    Ok(Built { template, sizes })
}

/// Removes what builds of an earlier process left behind.
pub(crate) async fn clear_work(config: &ControlConfig) -> Result<(), ControlError> {
    let path = builds_dir(config);
    match tokio::fs::remove_dir_all(&path).await {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(ControlError::File { action: "clearing", path, source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn builds_dir(config: &ControlConfig) -> PathBuf {
    config.data_dir.join("builds")
}

fn work_dir(fleet: &Fleet, job: &BuildJob) -> PathBuf {
    builds_dir(&fleet.config).join(job.build.as_str())
}

async fn pass_stages(
    mut stages: mpsc::UnboundedReceiver<TemplateStage>,
    progress: mpsc::UnboundedSender<BuildProgress>,
) {
    let mut output = Lines::default();
    while let Some(stage) = stages.recv().await {
        let step = match stage {
            TemplateStage::Booting => "boot",
            TemplateStage::StartingApp => "start the app",
            TemplateStage::WaitingReady => "wait for /ready",
            TemplateStage::Warming => "warm the page cache",
            TemplateStage::Saving => "save the snapshot",
            TemplateStage::Log(data) => {
                for line in output.push(&data) {
                    let _ = progress.send(BuildProgress::Line(line));
                }
                continue;
            }
        };
        let _ = progress.send(BuildProgress::Step(step.to_owned()));
    }
    if let Some(line) = output.rest() {
        let _ = progress.send(BuildProgress::Line(line));
    }
}

fn template_spec(fleet: &Fleet, job: &BuildJob, built: &BuiltRootfs) -> TemplateSpec {
    let BuildJob { image, version, spec, .. } = job;
    let ready = spec.hooks.timeouts.get(&Hook::Ready).zip(spec.hooks.port);
    TemplateSpec {
        rootfs: built.rootfs.clone(),
        memory_mib: spec.memory_mib,
        vcpus: vcpus(spec.memory_mib),
        app: App {
            env: environment(&fleet.config, (image, *version), spec, &built.app),
            ..built.app.clone()
        },
        ready: ready.map(|(timeout, port)| HookRequest {
            port,
            path: Hook::Ready.path(),
            body: None,
            timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
        }),
        warm: fleet.config.warm_commands.clone(),
    }
}

/// One up to 2048 MiB, two above; AWS's mapping to a peak is for later.
const fn vcpus(memory_mib: u32) -> u8 {
    if memory_mib <= 2048 { 1 } else { 2 }
}

/// The Dockerfile's environment, then the request's, then the platform's; the later wins.
fn environment(
    config: &ControlConfig,
    (image, version): (&ImageArn, ImageVersion),
    spec: &ImageSpec,
    app: &App,
) -> Vec<(String, String)> {
    let own = [
        ("AWS_LAMBDA_MICROVM_IMAGE_NAME", image.name.to_string()),
        ("AWS_LAMBDA_MICROVM_IMAGE_ARN", image.to_string()),
        ("AWS_LAMBDA_MICROVM_IMAGE_VERSION", version.to_string()),
    ];
    let own = own.map(|(key, value)| (key.to_owned(), value));
    let all = [&app.env, &spec.environment, &config.platform_environment, &own.to_vec()];
    let mut merged: Vec<(String, String)> = Vec::new();
    for (key, value) in all.into_iter().flatten() {
        match merged.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => known.clone_from(value),
            None => merged.push((key.clone(), value.clone())),
        }
    }
    merged
}

/// Digest of all that a template is made from.
fn template_id(rootfs_digest: &str, spec: &TemplateSpec) -> TemplateId {
    let TemplateSpec { rootfs: _, memory_mib, vcpus, app, ready, warm } = spec;
    let whole = json!([rootfs_digest, memory_mib, vcpus, app, ready, warm]).to_string();
    let digest = hex::encode(Sha256::digest(whole));
    TemplateId::new(digest).expect("a hexadecimal SHA-256 has 64 digits")
}

/// A template's failure as the build's reason: a code of spec 3, then a sentence; a hook's failure
/// is AWS's sentence alone.
fn template_failure(error: &EngineError) -> Reason {
    if let EngineError::NotReady { reason, .. } = error {
        return reason.clone();
    }
    let full = matches!(error, EngineError::Host { source, .. }
        if source.kind() == io::ErrorKind::StorageFull);
    let code = if full { "DISK_STORAGE_FULL" } else { "INTERNAL_PLATFORM_ERROR" };
    format!("{code}: {}", chain(error))
}

fn bounded(mut reason: Reason) -> Reason {
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    reason
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ImageName, testing::image_spec};

    #[test]
    fn the_platform_has_the_last_word_on_an_apps_environment() {
        let config = ControlConfig::new("/nowhere");
        let image = config.image_arn(&ImageName::parse("worker").unwrap());
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let spec = ImageSpec { environment: vec![pair("B", "request")], ..image_spec() };
        let env = vec![pair("A", "file"), pair("B", "file"), pair("AWS_REGION", "file")];
        let app = App { env, ..App::default() };
        let merged = environment(&config, (&image, ImageVersion::FIRST), &spec, &app);
        let value = |key: &str| {
            let mut values = merged.iter().filter(|(name, _)| name == key).map(|(_, value)| value);
            let value = values.next().cloned();
            assert_eq!(values.next(), None, "{key} is there once");
            value.unwrap_or_default()
        };
        assert_eq!(value("A"), "file");
        assert_eq!(value("B"), "request");
        assert_eq!(value("AWS_REGION"), "us-east-1");
        assert_eq!(value("AWS_ENDPOINT_URL"), "http://10.0.0.1:7420");
        assert_eq!(value("AWS_LAMBDA_MICROVM_IMAGE_ARN"), image.to_string());
        assert_eq!(value("AWS_LAMBDA_MICROVM_IMAGE_VERSION"), "1.0");
    }

    #[test]
    fn a_full_disk_has_its_own_code() {
        let failure = |kind: io::ErrorKind| {
            template_failure(&EngineError::Host {
                subject: "template x".to_owned(),
                action: "write ram".to_owned(),
                source: kind.into(),
            })
        };
        assert!(failure(io::ErrorKind::StorageFull).starts_with("DISK_STORAGE_FULL: template x"));
        assert!(failure(io::ErrorKind::NotFound).starts_with("INTERNAL_PLATFORM_ERROR: "));
    }
}
