//! `warren up` and `warren down`.

use super::Context;
use crate::{
    args,
    client::ClientError,
    doctor,
    failure::{Exit, Failure, Outcome, Remedy},
    lock::{Lock, LockError},
    log::{self, Level},
    node::{self, Names, Node},
    print::Talk,
    protocol::SHUTDOWN,
};
use control::BuildProgress;
use hyper::Method;
use std::{io, time::Duration};
use tokio::signal::unix::{SignalKind, signal};

/// How long `warren down` waits for the service to be gone after it has ended its VMs.
const GONE_SECONDS_MAX: u64 = 30;
const GONE_EVERY: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
enum UpError {
    #[error("signals cannot be waited for")]
    Signals(#[source] io::Error),
    #[error("the service has ended its VMs, but still runs after {GONE_SECONDS_MAX} s")]
    StillThere,
}

impl Remedy for UpError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Signals(_) => None,
            Self::StillThere => Some("see what it logs; its process id is in warren.lock".into()),
        }
    }
}

pub(crate) async fn up(context: &Context, up: args::Up) -> Outcome {
    let mut settings = context.settings.clone();
    if up.environment.is_some() {
        settings.launcher.environment_id = up.environment;
    }
    let level = match context.printer.talk() {
        Talk::Quiet => Level::Warnings,
        Talk::Normal => Level::Information,
        Talk::Verbose => Level::Everything,
    };
    log::start(&settings, level);
    doctor::lacks(&settings).await?;
    let image = settings.launcher.image.clone();
    let environment = settings.launcher.environment_id.clone();
    let node = Node::open(settings, Names::default()).await?;
    let report = node.control().engine_report();
    tracing::info!(
        address = %node.address,
        vmm = report.vmm,
        accelerator = report.accelerator,
        "warren is up"
    );
    match environment {
        Some(environment) => tracing::info!(environment, image, "launching for sessions"),
        None => tracing::warn!(
            "no environment is configured, so webhooks are not served: \
             warren up --environment ID, or launcher.environment_id"
        ),
    }
    let building = tokio::spawn(watch_default_image(node.ensure_default_image().await));
    let waited = wait_for_end(&node).await;
    building.abort();
    node.close().await;
    waited?;
    Ok(Exit::Success)
}

/// Logs how the default image's build goes. The service works without it meanwhile.
async fn watch_default_image(
    started: Result<Option<control::StartedBuild>, node::DefaultImageError>,
) {
    let mut progress = match started {
        Ok(Some(control::StartedBuild { progress: Some(progress), .. })) => progress,
        Ok(_) => return,
        Err(error) => {
            let hint = error.hint();
            tracing::error!(
                error = &error as &dyn std::error::Error,
                hint,
                "the default image is not built"
            );
            return;
        }
    };
    tracing::info!(image = node::DEFAULT_IMAGE, "building the default image");
    while let Some(step) = progress.recv().await {
        match step {
            BuildProgress::Step(step) => tracing::info!(image = node::DEFAULT_IMAGE, step, "build"),
            BuildProgress::Line(line) => tracing::debug!(line, "build"),
            BuildProgress::Finished { result: Ok(_), version } => {
                tracing::info!(image = node::DEFAULT_IMAGE, %version, "the default image is ready");
            }
            BuildProgress::Finished { result: Err(error), .. } => {
                tracing::error!(error, "the default image could not be built");
            }
        }
    }
}

async fn wait_for_end(node: &Node) -> Result<(), UpError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(UpError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(UpError::Signals)?;
    tokio::select! {
        _ = interrupt.recv() => tracing::info!("interrupted: stopping, VMs that run go on"),
        _ = terminate.recv() => tracing::info!("terminated: stopping, VMs that run go on"),
        () = node.service.stop.cancelled() => tracing::info!("all VMs have ended: stopping"),
    }
    Ok(())
}

pub(crate) async fn down(context: &Context) -> Outcome {
    let settings = &context.settings;
    // Whoever holds the data directory is asked; where nobody does, VMs may still be there.
    match Lock::take(&settings.data_dir, "warren", "warren down") {
        Ok(lock) => {
            drop(lock);
            return down_offline(context).await;
        }
        Err(LockError::Held { .. }) => {}
        Err(e) => return Err(e.into()),
    }
    let client = context.client()?;
    let asked: Result<serde_json::Value, ClientError> = client.own(Method::POST, SHUTDOWN).await;
    asked.map_err(Failure::from)?;
    let gone = async {
        while Lock::take(&settings.data_dir, "warren", "warren down").is_err() {
            tokio::time::sleep(GONE_EVERY).await;
        }
    };
    let limit = Duration::from_secs(GONE_SECONDS_MAX);
    tokio::time::timeout(limit, gone).await.map_err(|_| UpError::StillThere)?;
    context.printer.note("all VMs have ended; warren has stopped");
    Ok(Exit::Success)
}

/// After a `kill -9`, say: the VMs live on without their service.
async fn down_offline(context: &Context) -> Outcome {
    let settings = &context.settings;
    if !settings.data_dir.join("engine").exists() {
        context.printer.note(format!("nothing runs in {}", settings.data_dir.display()));
        return Ok(Exit::Success);
    }
    node::terminate_orphans(settings).await?;
    context.printer.note("warren was not running; no VM of it is left");
    Ok(Exit::Success)
}
