//! Snapshots of images' versions: made once for what they consist of, shared by all versions that
//! consist of the same, made again where kernel, VMM or guest have changed, removed when nothing uses
//! them.
//!
//! A template's name is the digest of all that it is made from, but for the number of the version:
//! building again what has not changed finds the snapshot that is there. One that does not fit this
//! host any more is not touched, since suspended VMs may be kept as differences from it; the one that
//! replaces it gets the next name.

use crate::{
    BuildProgress, ControlConfig, Hook, ImageArn, ImageName, ImageSpec, ImageVersion,
    OsCapabilities,
    app_log::Lines,
    error::chain,
    fleet::Fleet,
    image_build::{self, Built, Failure},
    store::{ImageContent, VersionRow},
};
use engine::{
    App, Capabilities, HookRequest, TemplateId, TemplateInfo, TemplateSpec, TemplateStage,
};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tokio::sync::{RwLock, RwLockReadGuard, mpsc};
use tracing::{info, warn};

/// Names the version in an app's environment. Versions that share a snapshot see the first one's.
const VERSION_VARIABLE: &str = "AWS_LAMBDA_MICROVM_IMAGE_VERSION";

/// Snapshots that may have stopped to fit this host under one template's name. More is a defect.
const GENERATIONS_MAX: usize = 64;

/// Who makes and who removes templates.
#[derive(Debug, Default)]
pub(crate) struct Templates {
    /// Held for reading from before a template is made until a row names it; for writing while those
    /// that no row names are removed.
    unnamed: RwLock<()>,
    /// So that a template is made once where several want it.
    making: Mutex<HashMap<TemplateId, Weak<tokio::sync::Mutex<()>>>>,
}

impl Templates {
    /// While it is held, no template is removed.
    pub(crate) async fn keep(&self) -> RwLockReadGuard<'_, ()> {
        self.unnamed.read().await
    }

    fn maker(&self, id: &TemplateId) -> Arc<tokio::sync::Mutex<()>> {
        // The map is whole at every point.
        let mut making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        making.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = making.get(id).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        making.insert(id.clone(), Arc::downgrade(&lock));
        lock
    }
}

/// A version whose snapshot is made.
pub(crate) struct Making<'a> {
    pub(crate) image: &'a ImageArn,
    pub(crate) version: ImageVersion,
    pub(crate) spec: &'a ImageSpec,
    /// For scratch files.
    pub(crate) work_dir: &'a Path,
    pub(crate) progress: &'a mpsc::UnboundedSender<BuildProgress>,
}

/// Finds the snapshot of this content, or makes it from `rootfs`, which the engine takes over then.
/// The caller holds [`Templates::keep`].
pub(crate) async fn ensure(
    fleet: &Fleet,
    making: &Making<'_>,
    content: &ImageContent,
    rootfs: &Path,
) -> Result<TemplateInfo, Failure> {
    let spec = template_spec(&fleet.config, making, content, rootfs);
    let mut id = template_id(&content.disk, &spec);
    let maker = fleet.templates.maker(&id);
    let _alone = maker.lock().await;
    let engine = &fleet.outside.engine;
    let there = engine.list_templates().await?;
    for _ in 0..GENERATIONS_MAX {
        if let Some(fitting) = engine.template(&id).await? {
            return Ok(fitting);
        }
        if !there.contains(&id) {
            break;
        }
        id = next(&id);
    }
    let (stages, stages_seen) = mpsc::unbounded_channel();
    let (made, ()) = tokio::join!(
        engine.make_template(&id, spec, stages),
        pass_stages(stages_seen, making.progress)
    );
    Ok(made?)
}

async fn pass_stages(
    mut stages: mpsc::UnboundedReceiver<TemplateStage>,
    progress: &mpsc::UnboundedSender<BuildProgress>,
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

fn template_spec(
    config: &ControlConfig,
    making: &Making<'_>,
    content: &ImageContent,
    rootfs: &Path,
) -> TemplateSpec {
    let spec = making.spec;
    let ready = spec.hooks.timeouts.get(&Hook::Ready).zip(spec.hooks.port);
    TemplateSpec {
        rootfs: rootfs.to_owned(),
        memory_mib: spec.memory_mib,
        vcpus: vcpus(spec.memory_mib),
        app: App {
            env: environment(config, making, &content.app),
            capabilities: match spec.os_capabilities {
                OsCapabilities::Default => Capabilities::Container,
                OsCapabilities::All => Capabilities::All,
            },
            ..content.app.clone()
        },
        ready: ready.map(|(timeout, port)| HookRequest {
            port,
            path: Hook::Ready.path(),
            body: None,
            timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
        }),
        warm: config.warm_commands.clone(),
    }
}

/// The peak that AWS gives to a memory size (spec 5); what is larger than its largest gets as many.
const fn vcpus(memory_mib: u32) -> u8 {
    match memory_mib {
        0..=512 => 1,
        513..=1024 => 2,
        1025..=2048 => 4,
        2049..=4096 => 8,
        4097.. => 16,
    }
}

/// The Dockerfile's environment, then the request's, then the platform's; the later wins.
fn environment(config: &ControlConfig, making: &Making<'_>, app: &App) -> Vec<(String, String)> {
    let Making { image, version, spec, .. } = making;
    let own = [
        ("AWS_LAMBDA_MICROVM_IMAGE_NAME", image.name.to_string()),
        ("AWS_LAMBDA_MICROVM_IMAGE_ARN", image.to_string()),
        (VERSION_VARIABLE, version.to_string()),
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

/// Digest of all that a template is made from, without the number of the version.
fn template_id(disk: &str, spec: &TemplateSpec) -> TemplateId {
    let TemplateSpec { rootfs: _, memory_mib, vcpus, app, ready, warm } = spec;
    let mut app = app.clone();
    app.env.retain(|(name, _)| name != VERSION_VARIABLE);
    digest_id(&json!([disk, memory_mib, vcpus, app, ready, warm]).to_string())
}

/// The name after this one, for what is made of the same on a host that has changed.
fn next(id: &TemplateId) -> TemplateId {
    digest_id(&format!("after {id}"))
}

fn digest_id(text: &str) -> TemplateId {
    let digest = hex::encode(Sha256::digest(text));
    TemplateId::new(digest).expect("a hexadecimal SHA-256 has 64 digits")
}

/// Makes the snapshots of all versions that may be run and whose snapshot does not fit this host.
pub(crate) async fn renew_all(fleet: Arc<Fleet>) {
    let versions = match fleet.store.runnable_versions().await {
        Ok(versions) => versions,
        Err(error) => {
            warn!("no snapshot is looked at for its fitting: {}", chain(&error));
            return;
        }
    };
    for (name, version) in versions {
        if let Err(failure) = renew(&fleet, &name, version).await {
            warn!(image = %name, %version, "its snapshot is not made anew: {}", failure.reason);
        }
    }
}

/// The version's snapshot, made anew where it does not fit this host (another VMM, kernel or guest).
/// Those who ask at the same time wait for the same one.
pub(crate) async fn renew(
    fleet: &Arc<Fleet>,
    name: &ImageName,
    version: ImageVersion,
) -> Result<TemplateId, Failure> {
    let _kept = fleet.templates.keep().await;
    let image = fleet.config.image_arn(name);
    let found = fleet.store.version(&image, version).await;
    let row = found.map_err(|error| Failure::platform(chain(&error)))?;
    let Some(VersionRow { version: view, template: Some(template), content }) = row else {
        return Err(Failure::platform(format!("{image} has no built version {version}")));
    };
    if fleet.outside.engine.template(&template).await?.is_some() {
        return Ok(template);
    }
    info!(image = %name, %version, "its snapshot does not fit this host any more and is made anew");
    let _permit = fleet
        .builds
        .acquire()
        .await
        .map_err(|_| Failure::platform("the control plane is shutting down"))?;
    let work_dir = image_build::work_dir(fleet, &format!("renew-{}", uuid::Uuid::new_v4()));
    let (progress, _) = mpsc::unbounded_channel();
    let making = Making {
        image: &image,
        version,
        spec: &view.spec,
        work_dir: &work_dir,
        progress: &progress,
    };
    let built = rebuild(fleet, &making, content).await;
    image_build::remove_work(&work_dir).await;
    let Built { template, content } = built?;
    let written = fleet.store.set_snapshot((name, version), &template.id, &content).await;
    written.map_err(|error| Failure::platform(chain(&error)))?;
    fleet.reconcile.notify_one();
    Ok(template.id)
}

/// From the disk where the builder still has it, from the artifact else.
async fn rebuild(
    fleet: &Arc<Fleet>,
    making: &Making<'_>,
    content: Option<ImageContent>,
) -> Result<Built, Failure> {
    if let Some(content) = content
        && let Some(rootfs) = disk(fleet, making, &content).await?
    {
        let template = ensure(fleet, making, &content, &rootfs).await?;
        return Ok(Built { template, content });
    }
    image_build::from_artifact(fleet, making).await
}

/// From the disk that the builder was given.
pub(crate) async fn from_disk(
    fleet: &Arc<Fleet>,
    making: &Making<'_>,
    content: &ImageContent,
) -> Result<Built, Failure> {
    let found = disk(fleet, making, content).await?;
    let rootfs = found.ok_or_else(|| Failure::platform("the disk of the image is not there"))?;
    let template = ensure(fleet, making, content, &rootfs).await?;
    Ok(Built { template, content: content.clone() })
}

async fn disk(
    fleet: &Fleet,
    making: &Making<'_>,
    content: &ImageContent,
) -> Result<Option<PathBuf>, Failure> {
    image_build::make_work(making.work_dir).await?;
    Ok(fleet.outside.image_builder.disk(&content.disk, making.work_dir).await?)
}

/// Removes the templates that no version and no MicroVM is made from. Not while one is made, which
/// nothing names yet; the next reconciliation looks again.
pub(crate) async fn collect(fleet: &Fleet) {
    let Ok(_alone) = fleet.templates.unnamed.try_write() else { return };
    let listed = fleet.outside.engine.list_templates().await;
    let (listed, used) = match (listed, fleet.store.templates_in_use().await) {
        (Ok(listed), Ok(used)) => (listed, used),
        (Err(error), _) => return warn!("templates cannot be listed: {}", chain(&error)),
        (_, Err(error)) => return warn!("templates cannot be compared: {}", chain(&error)),
    };
    for template in listed.into_iter().filter(|id| !used.contains(id)) {
        match fleet.outside.engine.remove_template(&template).await {
            Ok(()) => info!(%template, "nothing uses it any more: removed"),
            // It costs disk, no correctness.
            Err(error) => warn!(%template, "its files are not removed: {}", chain(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ImageName, testing::image_spec};

    fn spec_of(version: &str, app_env: &[(&str, &str)]) -> TemplateSpec {
        let config = ControlConfig::new("/nowhere");
        let image = config.image_arn(&ImageName::parse("worker").unwrap());
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let spec = ImageSpec { environment: vec![pair("B", "request")], ..image_spec() };
        let making = Making {
            image: &image,
            version: ImageVersion::parse(version).unwrap(),
            spec: &spec,
            work_dir: Path::new("/nowhere"),
            progress: &mpsc::unbounded_channel().0,
        };
        let env = app_env.iter().map(|&(key, value)| pair(key, value)).collect();
        let app = App { env, ..App::default() };
        let content = ImageContent { disk: "d".to_owned(), app, code_bytes: 1 };
        template_spec(&config, &making, &content, Path::new("/nowhere/rootfs"))
    }

    #[test]
    fn the_platform_has_the_last_word_on_an_apps_environment() {
        let spec = spec_of("1.0", &[("A", "file"), ("B", "file"), ("AWS_REGION", "file")]);
        let value = |key: &str| {
            let mut values = spec.app.env.iter().filter(|(name, _)| name == key);
            let value = values.next().map(|(_, value)| value.as_str());
            assert_eq!(values.next(), None, "{key} is there once");
            value.unwrap_or_default()
        };
        assert_eq!(value("A"), "file");
        assert_eq!(value("B"), "request");
        assert_eq!(value("AWS_REGION"), "us-east-1");
        assert_eq!(value("AWS_ENDPOINT_URL"), "http://10.0.0.1:7420");
        assert!(value("AWS_LAMBDA_MICROVM_IMAGE_ARN").ends_with(":microvm-image:worker"));
        assert_eq!(value("AWS_LAMBDA_MICROVM_IMAGE_VERSION"), "1.0");
    }

    #[test]
    fn versions_with_the_same_content_share_a_template() {
        let id = |version, env: &[(&str, &str)]| template_id("d", &spec_of(version, env));
        assert_eq!(id("1.0", &[]), id("2.0", &[]));
        assert_ne!(id("1.0", &[]), id("1.0", &[("A", "1")]));
        assert_ne!(next(&id("1.0", &[])), id("1.0", &[]));
    }

    #[test]
    fn processors_follow_memory_as_aws_has_it() {
        let sizes = crate::IMAGE_MEMORY_MIB.map(vcpus);
        assert_eq!(sizes, [1, 2, 4, 8, 16, 16, 16]);
    }
}
