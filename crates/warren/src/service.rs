//! Warren's own HTTP service on the API port: what the client commands ask for beyond AWS' API.
//!
//! Each request is authenticated and authorised like any AWS one, as actions `warren:…`, so that a
//! VM's role, which reaches the same port, can do nothing here.

mod answer;
mod exec;
mod images;
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
use control::Control;
use http::request::Parts;
use std::sync::Arc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Largest body of a request other than an artifact, in bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// What the routes work with.
pub(crate) struct Service {
    pub(crate) control: Arc<Control>,
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) launcher: Option<launcher::Launcher>,
    pub(crate) settings: Settings,
    /// Cancelled by whoever wants the process to end.
    pub(crate) stop: CancellationToken,
    /// Builds and execs that outlive their request's handler.
    pub(crate) tasks: TaskTracker,
}

/// `/healthz` and everything under `/_warren/v1`.
pub(crate) fn router(service: Arc<Service>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route(protocol::STATUS, get(status))
        .route(protocol::CHECKS, get(checks))
        .route(protocol::SHUTDOWN, post(shutdown))
        .route(protocol::VMS, get(vms::list))
        .route(&format!("{}/{{id}}", protocol::VMS), delete(vms::remove))
        .route(&format!("{}/{{id}}/exec", protocol::VMS), post(exec::exec))
        .route(protocol::IMAGES, get(images::list).post(images::build))
        .route(&format!("{}/{{name}}", protocol::IMAGES), delete(images::remove))
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
        let body: Body = body;
        let body = axum::body::to_bytes(body, body_bytes_max)
            .await
            .map_err(|_| Refused::too_large(body_bytes_max))?;
        let principal = self
            .authenticator
            .authenticate(&parts, &body, SERVICE)
            .map_err(|e| Refused::unauthenticated(&e))?;
        let access = Access { action, resource: Some("*"), context: &Context::default() };
        self.authenticator.authorize(&principal, &access).map_err(|e| Refused::denied(&e))?;
        Ok((parts, body))
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

/// Ends all VMs, answers, and then lets the process end.
async fn shutdown(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Json<serde_json::Value>, Refused> {
    service.admit(request, "warren:Shutdown", BODY_BYTES_MAX).await?;
    tracing::info!("asked to end all VMs and stop");
    service.control.terminate_all().await.map_err(|e| Refused::control(&e))?;
    service.stop.cancel();
    Ok(Json(serde_json::json!({})))
}
