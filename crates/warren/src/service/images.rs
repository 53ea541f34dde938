//! Images: listed with sizes, built from an uploaded artifact, removed.

use super::{BODY_BYTES_MAX, Service, UPLOADS_MAX, answer::Refused};
use crate::failure::with_causes;
use crate::node::store;
use crate::protocol::{self, ARTIFACT_BYTES_MAX, BuildLine, IMAGE_HEADER, Image, ImageRequest};
use axum::{
    Json,
    body::{Body, Bytes},
    extract::{Path, Request, State},
    response::Response,
};
use control::{
    BuildProgress, Control, ControlError, CreateImage, Hook, Hooks, ImageName, ImageSpec, Logging,
    OsCapabilities, PageRequest, RoleArn, SnapshotSizes, StartedBuild, UpdateImage, Version,
    VersionState,
};
use futures::StreamExt;
use http::HeaderValue;
use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

const PAGE_ITEMS: usize = 50;
pub(super) async fn list(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Json<Vec<Image>>, Refused> {
    service.admit(request, "warren:ListImages", BODY_BYTES_MAX).await?;
    shown(&service.control).await.map(Json).map_err(|e| Refused::control(&e))
}

pub(super) async fn remove(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<serde_json::Value>, Refused> {
    service.admit(request, "warren:RemoveImage", BODY_BYTES_MAX).await?;
    let name = ImageName::parse(&name).map_err(|e| Refused::bad_request(e.to_string()))?;
    let images = service.control.images();
    // Deleting what is not there is no error on AWS; a person has mistyped then.
    images.get(&name).await.map_err(|e| Refused::control(&e))?;
    images.delete(&name).await.map_err(|e| Refused::control(&e))?;
    Ok(Json(serde_json::json!({})))
}

/// Takes a zip and answers with the build's progress as JSON lines. The build goes on where the
/// client leaves.
pub(super) async fn build(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Response, Refused> {
    let uploading =
        service.uploads.try_acquire().map_err(|_| Refused::too_many_uploads(UPLOADS_MAX))?;
    let (parts, body) = service.admit(request, "warren:BuildImage", ARTIFACT_BYTES_MAX).await?;
    let header = parts.headers.get(IMAGE_HEADER).map(HeaderValue::as_bytes).unwrap_or_default();
    let asked: ImageRequest = serde_json::from_slice(header)
        .map_err(|e| Refused::bad_request(format!("header {IMAGE_HEADER}: {e}")))?;
    let key = format!("uploads/{}.zip", uuid::Uuid::new_v4());
    let artifact_uri = store(&service.objects, &key, &body)
        .await
        .map_err(|e| Refused::internal("keeping the artifact", &e))?;
    drop((uploading, body));
    let upload = Upload { asked, artifact_uri, description: None };
    let started = start_build(&service.control, upload).await.map_err(|e| Refused::control(&e))?;
    Ok(followed(&service, started))
}

/// The progress of a build, as JSON lines. It goes on where the client leaves.
pub(super) fn followed(service: &Service, started: StartedBuild) -> Response {
    let (sender, lines) = mpsc::unbounded_channel();
    let control = service.control.clone();
    service.tasks.spawn(async move { follow(&control, started, &sender).await });
    let body = UnboundedReceiverStream::new(lines).map(Ok::<_, Infallible>);
    Response::new(Body::from_stream(body))
}

/// An image to be built from an artifact in S3.
pub(crate) struct Upload {
    pub(crate) asked: ImageRequest,
    pub(crate) artifact_uri: String,
    pub(crate) description: Option<String>,
}

/// Begins the image, or its next version where it exists.
pub(crate) async fn start_build(
    control: &Control,
    upload: Upload,
) -> Result<StartedBuild, ControlError> {
    let name = ImageName::parse(&upload.asked.name)?;
    let spec = spec(control, upload)?;
    match control.images().get(&name).await {
        Ok(_) => control.images().update(UpdateImage { name, spec, client_token: None }).await,
        Err(ControlError::ImageNotFound(_)) => {
            let tags = BTreeMap::new();
            control.images().create(CreateImage { name, spec, tags, client_token: None }).await
        }
        Err(e) => Err(e),
    }
}

fn spec(control: &Control, upload: Upload) -> Result<ImageSpec, ControlError> {
    let account = &control.config().account;
    let no_base = || ControlError::BadImageSpec("Warren offers no base image".into());
    let base = control.images().managed().into_iter().next().ok_or_else(no_base)?;
    let hooks = match upload.asked.hooks_port {
        None => Hooks::default(),
        port @ Some(_) => {
            let timeouts = Hook::ALL.into_iter().filter_map(|hook| {
                let seconds = upload.asked.timeouts_s.get(hook.name())?;
                Some((hook, Duration::from_secs(u64::from(*seconds))))
            });
            Hooks { port, timeouts: timeouts.collect(), ..Hooks::default() }
        }
    };
    Ok(ImageSpec {
        artifact_uri: upload.artifact_uri,
        base_image_arn: base.arn.to_string(),
        base_image_version: None,
        architectures: Vec::new(),
        build_role: RoleArn::parse(&format!("arn:aws:iam::{account}:role/warren-build"))?,
        description: upload.description,
        memory_mib: upload.asked.memory_mib,
        hooks,
        environment: upload.asked.environment,
        egress_connectors: Vec::new(),
        logging: Logging::Default,
        os_capabilities: match upload.asked.capabilities {
            protocol::OsCapabilities::Container => OsCapabilities::Default,
            protocol::OsCapabilities::All => OsCapabilities::All,
        },
    })
}

/// Turns a build's progress into lines, until its end.
async fn follow(control: &Control, started: StartedBuild, lines: &mpsc::UnboundedSender<Bytes>) {
    let name = started.image.arn.name.clone();
    let say = |line: BuildLine| {
        let Ok(mut text) = serde_json::to_vec(&line) else { return };
        text.push(b'\n');
        // The client may have left; the build goes on.
        let _ = lines.send(text.into());
    };
    let Some(mut progress) = started.progress else { return };
    while let Some(step) = progress.recv().await {
        match step {
            BuildProgress::Step(stage) => say(BuildLine::Stage { stage }),
            BuildProgress::Line(text) => say(BuildLine::Log { text }),
            BuildProgress::Finished { result: Err(error), .. } => {
                say(BuildLine::Failed { error, hint: None });
            }
            BuildProgress::Finished { version, result: Ok(_) } => {
                let built = match control.images().version(&name, version).await {
                    Ok(version) => one(control, version).await,
                    Err(e) => Err(e),
                };
                say(match built {
                    Ok(image) => BuildLine::Built { image },
                    Err(e) => BuildLine::Failed { error: with_causes(&e), hint: e.hint() },
                });
            }
        }
    }
}

async fn shown(control: &Control) -> Result<Vec<Image>, ControlError> {
    let mut shown = Vec::new();
    let mut token = None;
    loop {
        let page = PageRequest { items_max: PAGE_ITEMS, token };
        let images = control.images().list(None, page).await?;
        for image in &images.items {
            let page = PageRequest { items_max: PAGE_ITEMS, token: None };
            for version in control.images().versions(&image.arn.name, page).await?.items {
                shown.push(one(control, version).await?);
            }
        }
        token = images.next_token;
        if token.is_none() {
            return Ok(shown);
        }
    }
}

async fn one(control: &Control, version: Version) -> Result<Image, ControlError> {
    let name = &version.image.name;
    let builds = control.images().builds(name, version.version).await?;
    let build = builds.first();
    let built = version.state == VersionState::Successful;
    let state = if built { version.status.as_str() } else { version.state.as_str() };
    Ok(Image {
        name: name.to_string(),
        version: version.version.to_string(),
        state: state.into(),
        state_reason: version.state_reason,
        memory_mib: Some(version.spec.memory_mib),
        cold_boot_ms: build.and_then(|b| b.cold_boot_ms),
        disk_bytes: build.and_then(|b| b.snapshot).map(SnapshotSizes::total_bytes),
        created_at: version.created_at.to_string(),
    })
}
