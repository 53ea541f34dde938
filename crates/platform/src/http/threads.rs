//! `/v1/sessions/{session}/threads` and `…/resources`: parts of a session that are seen alone.
//!
//! A session has one thread here, its primary one; its resources are the memory stores that it
//! was created with.

use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::answer::whole;
use super::input::{Body, Query};
use super::sessions::{id as session_id, refuse_mount, stats, usage};
use super::{Emu, events, stream};
use crate::emulator::Caller;
use crate::fault::Fault;
use crate::machine::status_of;
use crate::store::SessionRow;
use axum::response::IntoResponse;

pub(super) async fn list(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(session): Path<String>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    let session = surface.emulator.session(&caller, &session_id(&session)?).await?;
    let statuses = query.many("statuses");
    let status = status_of(session.state.status());
    let wanted = statuses.is_empty() || statuses.iter().any(|wanted| wanted == status);
    let threads = wanted.then(|| show(&session, &surface)).into_iter().collect();
    Ok(Json(whole(threads)))
}

pub(super) async fn get(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path((session, thread)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    let session = find(&surface, &caller, &session, &thread).await?;
    Ok(Json(show(&session, &surface)))
}

/// The primary thread lasts as long as its session: archiving it alone is refused.
pub(super) async fn archive(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path((session, thread)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let session = find(&surface, &caller, &session, &thread).await?;
    if session.archived_at.is_some() {
        return Ok(Json(show(&session, &surface)));
    }
    Err(Fault::Invalid {
        message: format!("thread {thread} is the session's primary one: archive the session"),
        code: None,
    })
}

pub(super) async fn thread_events(
    state: Emu,
    caller: Extension<Caller>,
    Path((session, thread)): Path<(String, String)>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    find(&state.0, &caller, &session, &thread).await?;
    events::list(state, caller, Path(session), query).await
}

pub(super) async fn thread_stream(
    state: Emu,
    caller: Extension<Caller>,
    Path((session, thread)): Path<(String, String)>,
    query: Query,
) -> Result<impl IntoResponse, Fault> {
    find(&state.0, &caller, &session, &thread).await?;
    stream::stream(state, caller, Path(session), query).await
}

pub(super) async fn resources(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(session): Path<String>,
) -> Result<Json<Value>, Fault> {
    let session = surface.emulator.session(&caller, &session_id(&session)?).await?;
    Ok(Json(whole(session.body.resources)))
}

/// A memory store has no id as a resource: the store's own stands for it.
pub(super) async fn resource(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path((session, resource)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    let session = surface.emulator.session(&caller, &session_id(&session)?).await?;
    find_resource(&session, &resource).map(Json)
}

pub(super) async fn add_resource(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(session): Path<String>,
    Body(mut fields): Body,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    surface.emulator.session(&caller, &session_id(&session)?).await?;
    let kind = fields.required_text("type", 64)?;
    if kind == "memory_store" {
        return Err(fields.fault("type", "memory stores are attached when a session is created"));
    }
    Err(refuse_mount(&fields, &kind))
}

pub(super) async fn update_resource(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path((session, resource)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let session = surface.emulator.session(&caller, &session_id(&session)?).await?;
    find_resource(&session, &resource)?;
    Err(Fault::field("authorization_token", "only github_repository resources have one"))
}

pub(super) async fn delete_resource(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path((session, resource)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let session = surface.emulator.session(&caller, &session_id(&session)?).await?;
    find_resource(&session, &resource)?;
    Err(Fault::Invalid {
        message: "a memory store stays attached for as long as its session lasts".into(),
        code: None,
    })
}

fn find_resource(session: &SessionRow, id: &str) -> Result<Value, Fault> {
    let found = session.body.resources.iter().find(|resource| resource["memory_store_id"] == *id);
    found.cloned().ok_or_else(|| Fault::not_found("resource", id))
}

async fn find(
    surface: &super::Surface,
    caller: &Caller,
    session: &str,
    thread: &str,
) -> Result<SessionRow, Fault> {
    let session = surface.emulator.session(caller, &session_id(session)?).await?;
    if session.state.thread().as_str() == thread {
        Ok(session)
    } else {
        Err(Fault::not_found("thread", thread))
    }
}

fn show(session: &SessionRow, surface: &super::Surface) -> Value {
    let mut agent = session.agent.clone();
    if let Value::Object(members) = &mut agent {
        members.remove("multiagent");
    }
    let now = surface.emulator.now();
    json!({
        "type": "session_thread",
        "id": session.state.thread().as_str(),
        "session_id": session.id.as_str(),
        "parent_thread_id": null,
        "workflow_run_id": null,
        "agent": agent,
        "status": status_of(session.state.status()),
        "stats": stats(session, now),
        "usage": usage(session, now),
        "created_at": session.created_at.to_string(),
        "updated_at": session.updated_at.to_string(),
        "archived_at": session.archived_at.map(|time| time.to_string()),
    })
}
