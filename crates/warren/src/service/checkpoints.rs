//! Checkpoints: made, listed, removed, compared.

use super::{
    BODY_BYTES_MAX, Service,
    answer::Refused,
    life::{document, microvm},
};
use crate::protocol::{Checkpoint, CheckpointRequest, FileChange};
use axum::{
    Json,
    extract::{Path, Request, State},
};
use control::CheckpointName;
use std::sync::Arc;

pub(super) async fn make(
    State(service): State<Arc<Service>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<Checkpoint>, Refused> {
    let (_, body) = service.admit(request, "warren:CreateCheckpoint", BODY_BYTES_MAX).await?;
    let id = microvm(&id)?;
    let CheckpointRequest { name } = document(&body)?;
    let made = service.control.checkpoint(&id, checkpoint(&name)?).await;
    made.map(|made| Json(shown(made))).map_err(|e| Refused::control(&e))
}

pub(super) async fn list(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Json<Vec<Checkpoint>>, Refused> {
    service.admit(request, "warren:ListCheckpoints", BODY_BYTES_MAX).await?;
    let listed = service.control.checkpoints().await.map_err(|e| Refused::control(&e))?;
    Ok(Json(listed.into_iter().map(shown).collect()))
}

pub(super) async fn remove(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<serde_json::Value>, Refused> {
    service.admit(request, "warren:RemoveCheckpoint", BODY_BYTES_MAX).await?;
    let removed = service.control.delete_checkpoint(&checkpoint(&name)?).await;
    removed.map_err(|e| Refused::control(&e))?;
    Ok(Json(serde_json::json!({})))
}

pub(super) async fn changes(
    State(service): State<Arc<Service>>,
    Path((from, to)): Path<(String, String)>,
    request: Request,
) -> Result<Json<Vec<FileChange>>, Refused> {
    service.admit(request, "warren:CompareCheckpoints", BODY_BYTES_MAX).await?;
    let found = service.control.file_changes(&checkpoint(&from)?, &checkpoint(&to)?).await;
    let found = found.map_err(|e| Refused::control(&e))?.into_iter().map(|found| FileChange {
        change: found.change.as_str().into(),
        path: found.path,
        size_before: found.size_before,
        size_after: found.size_after,
    });
    Ok(Json(found.collect()))
}

fn checkpoint(name: &str) -> Result<CheckpointName, Refused> {
    CheckpointName::parse(name).map_err(|e| Refused::bad_request(e.to_string()))
}

fn shown(made: control::Checkpoint) -> Checkpoint {
    Checkpoint {
        name: made.name.map(|name| name.to_string()),
        state: made.state.as_str().into(),
        microvm_id: made.microvm.to_string(),
        parent: made.parent.map(|name| name.to_string()),
        image: made.image.name.to_string(),
        version: made.version.to_string(),
        memory_bytes: made.memory_bytes,
        disk_bytes: made.disk_bytes,
        pause_ms: made.pause_ms,
        created_at: made.created_at.to_string(),
    }
}
