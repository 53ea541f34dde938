//! Warren's own HTTP service on the API port: what the client commands ask for beyond AWS' API.
//!
//! Each request is authenticated and authorised like any AWS one, as actions `warren:…`. VMs do not
//! reach it: the relay of theirs leads to a port that has AWS' API alone.

mod answer;
mod checkpoints;
mod console;
mod events;
mod exec;
mod image_files;
mod images;
mod life;
mod metrics;
mod vms;

pub(crate) use images::{Upload, start_build};

use crate::{
    config::Settings,
    protocol::{self, Check, SERVICE, Status},
};
use answer::Refused;
use aws::{Access, Authenticator, Context};
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{Request, State},
    routing::{delete, get, post},
};
use control::{Control, ControlError};
use http::request::Parts;
use objects::Objects;
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Largest body of a request other than an artifact, in bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Longest time that a client may take to send its body.
const BODY_TIME_MAX: Duration = Duration::from_secs(120);

/// Artifacts in memory at once: a signature is over the whole body, so that each is held before it
/// is known who sends it.
pub(crate) const UPLOADS_MAX: usize = 2;

/// What the routes work with.
pub(crate) struct Service {
    pub(crate) control: Arc<Control>,
    pub(crate) objects: Arc<Objects>,
    pub(crate) builder: Arc<image::ImageBuilder>,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) launcher: Option<launcher::Launcher>,
    pub(crate) settings: Settings,
    pub(crate) gateway: gateway::Gateway,
    /// Cancelled by whoever wants the process to end.
    pub(crate) stop: CancellationToken,
    /// Builds and execs that outlive their request's handler.
    pub(crate) tasks: TaskTracker,
    /// A permit for each artifact in memory.
    pub(crate) uploads: Semaphore,
}

/// `/healthz`, `/metrics` and everything under `/_warren/v1`.
pub(crate) fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics::metrics))
        .route(protocol::STATUS, get(status))
        .route(protocol::CHECKS, get(checks))
        .route(protocol::SHUTDOWN, post(shutdown))
        .route(protocol::VMS, get(vms::list).post(life::run))
        .route(&format!("{}/{{id}}", protocol::VMS), get(vms::inspect).delete(vms::remove))
        .route(&format!("{}/{{id}}/exec", protocol::VMS), post(exec::exec))
        .route(&format!("{}/{{id}}/console", protocol::VMS), get(console::console))
        .route(&format!("{}/{{id}}/suspend", protocol::VMS), post(life::suspend))
        .route(&format!("{}/{{id}}/resume", protocol::VMS), post(life::resume))
        .route(&format!("{}/{{id}}/forks", protocol::VMS), post(life::fork))
        .route(&format!("{}/{{id}}/checkpoints", protocol::VMS), post(checkpoints::make))
        .route(protocol::CHECKPOINTS, get(checkpoints::list))
        .route(&format!("{}/{{name}}", protocol::CHECKPOINTS), delete(checkpoints::remove))
        .route(
            &format!("{}/{{from}}/changes/{{to}}", protocol::CHECKPOINTS),
            get(checkpoints::changes),
        )
        .route(protocol::EVENTS, get(events::events))
        .route(protocol::IMAGES, get(images::list).post(images::build))
        .route(&format!("{}/{{name}}", protocol::IMAGES), delete(images::remove))
        .route(protocol::IMAGE_PRUNE, post(image_files::prune))
        .route(protocol::IMAGE_EXPORT, post(image_files::export))
        .route(protocol::IMAGE_IMPORT, post(image_files::import))
        .with_state(service)
}

impl Service {
    /// Reads the body, then lets the request pass as `action`, for example `warren:ListVms`.
    async fn admit(
        &self,
        request: Request,
        action: &str,
        body_bytes_max: usize,
    ) -> Result<(Parts, Bytes), Refused> {
        let (parts, body) = request.into_parts();
        let body = receive(body, body_bytes_max, BODY_TIME_MAX).await?;
        let principal = self
            .authenticator
            .authenticate(&parts, &body, SERVICE)
            .map_err(|e| Refused::unauthenticated(&e))?;
        let access = Access { action, resource: Some("*"), context: &Context::default() };
        self.authenticator.authorize(&principal, &access).map_err(|e| Refused::denied(&e))?;
        Ok((parts, body))
    }
}

async fn receive(body: Body, bytes_max: usize, time_max: Duration) -> Result<Bytes, Refused> {
    match tokio::time::timeout(time_max, axum::body::to_bytes(body, bytes_max)).await {
        Ok(received) => received.map_err(|_| Refused::too_large(bytes_max)),
        Err(_elapsed) => Err(Refused::too_slow(time_max)),
    }
}

async fn status(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Json<Status>, Refused> {
    service.admit(request, "warren:GetStatus", BODY_BYTES_MAX).await?;
    let report = service.control.engine_report();
    let settings = &service.settings;
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION").into(),
        vmm: report.vmm,
        accelerator: report.accelerator,
        accelerator_reason: report.reason,
        environment_id: settings.launcher.environment_id.clone(),
        launcher_mode: settings.launcher.mode,
        image: settings.launcher.image.clone(),
        platform_url: settings.platform_url.to_string(),
    }))
}

/// What only the service itself can find out for `warren verify`.
async fn checks(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Json<Vec<Check>>, Refused> {
    service.admit(request, "warren:GetStatus", BODY_BYTES_MAX).await?;
    Ok(Json(crate::verify::launcher_rights(&service)))
}

/// Takes no more webhooks, ends all VMs, answers, and then lets the process end.
async fn shutdown(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Json<serde_json::Value>, Refused> {
    service.admit(request, "warren:Shutdown", BODY_BYTES_MAX).await?;
    tracing::info!("asked to end all VMs and stop");
    let tasks = service.tasks.clone();
    // In a task of its own: a client that goes away does not stop it half way.
    let ended = tasks.spawn(async move {
        if let Some(launcher) = &service.launcher {
            launcher.shut_down().await;
        }
        service.control.terminate_all().await?;
        service.stop.cancel();
        Ok(())
    });
    let ended = ended.await.map_err(|e| Refused::internal("ending all VMs", &e))?;
    ended.map_err(|e: ControlError| Refused::control(&e))?;
    Ok(Json(serde_json::json!({})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_that_does_not_arrive_is_given_up() {
        let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
        assert!(receive(never, BODY_BYTES_MAX, Duration::ZERO).await.is_err());
        let here = receive(Body::from("{}"), BODY_BYTES_MAX, BODY_TIME_MAX).await.unwrap();
        assert_eq!(here, "{}");
    }
}
