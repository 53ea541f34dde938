//! `/v1/environments/{env}/work`: the queue that workers are served from.

use std::time::Duration;

use agents::{Heartbeat, NO_HEARTBEAT, StopWork, WorkData, WorkId, WorkItem};
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::{Extension, Json};
use serde_json::{Map, Value, json};

use super::Emu;
use super::answer::page;
use super::environments::id as environment_id;
use super::input::{Body, Query, RESOURCES};
use crate::clock::Timestamp;
use crate::emulator::{Caller, PollRequest};
use crate::fault::Fault;
use crate::machine::{Beat, WorkState};
use crate::store::{Order, WorkRow};

/// How long a poll may wait (spec 1.2); 0 is refused.
const BLOCK_MS_MAX: u64 = 999;
/// After how long an item that nobody acknowledged is handed out again, if the poll says nothing.
const RECLAIM_MS_DEFAULT: u64 = 5000;
const RECLAIM_MS_MAX: u64 = 24 * 3600 * 1000;
const TTL_SECONDS_MAX: u64 = 3600;
/// Longest name of a worker, in bytes.
const WORKER_ID_LEN_MAX: usize = 256;

pub(super) async fn poll(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(environment): Path<String>,
    query: Query,
    headers: HeaderMap,
) -> Result<Json<Option<Value>>, Fault> {
    let environment = environment_id(&environment)?;
    caller.may_poll(&environment)?;
    let block = query.number("block_ms", 1, BLOCK_MS_MAX)?.unwrap_or(0);
    let reclaim = query.number("reclaim_older_than_ms", 0, RECLAIM_MS_MAX)?;
    let worker = headers.get("anthropic-worker-id").and_then(|value| value.to_str().ok());
    let request = PollRequest {
        block: Duration::from_millis(block),
        reclaim: Duration::from_millis(reclaim.unwrap_or(RECLAIM_MS_DEFAULT)),
        worker: worker.filter(|id| id.len() <= WORKER_ID_LEN_MAX).map(str::to_owned),
    };
    let wait = surface.emulator.poll(&environment, &request);
    let found = tokio::select! {
        found = wait => found?,
        () = surface.ending.cancelled() => None,
    };
    // An empty poll is `null`, not 204: the Python worker dies of that (spec 0 no. 4).
    Ok(Json(found.map(|(item, secret)| show_with(&item, Some(secret)))))
}

pub(super) async fn ack(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path((environment, work)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    let (environment, work) = (environment_id(&environment)?, work_id(&work)?);
    caller.may_hold(&environment, &work)?;
    Ok(Json(show(&surface.emulator.ack(&environment, &work).await?)))
}

pub(super) async fn heartbeat(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path((environment, work)): Path<(String, String)>,
    query: Query,
) -> Result<Json<Heartbeat>, Fault> {
    let (environment, work) = (environment_id(&environment)?, work_id(&work)?);
    caller.may_hold(&environment, &work)?;
    let beat = match query.one("expected_last_heartbeat") {
        None => Beat::Whatever,
        Some(NO_HEARTBEAT) => Beat::First,
        Some(last) => Beat::After(last.to_owned()),
    };
    let ttl = query.number("desired_ttl_seconds", 1, TTL_SECONDS_MAX)?.map(Duration::from_secs);
    let (item, answer, ttl) = surface.emulator.heartbeat(&environment, &work, &beat, ttl).await?;
    Ok(Json(Heartbeat {
        last_heartbeat: answer.last.map(|last| last.to_string()).unwrap_or_default(),
        lease_extended: answer.lease_extended,
        state: wire_state(item.work.state),
        ttl_seconds: ttl.as_secs(),
        rest: Map::from_iter([("type".to_owned(), json!("work_heartbeat"))]),
    }))
}

pub(super) async fn stop(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path((environment, work)): Path<(String, String)>,
    Body(mut fields): Body,
) -> Result<Json<Value>, Fault> {
    let (environment, work) = (environment_id(&environment)?, work_id(&work)?);
    caller.may_stop(&environment, &work)?;
    let how = match fields.boolean("force")? {
        Some(true) => StopWork::Force,
        Some(false) | None => StopWork::Ask,
    };
    fields.finish()?;
    Ok(Json(show(&surface.emulator.stop(&environment, &work, how).await?)))
}

pub(super) async fn stats(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(environment): Path<String>,
) -> Result<Json<Value>, Fault> {
    let environment = environment_id(&environment)?;
    caller.may_see_queue(&environment)?;
    let depth = surface.emulator.depth(&environment).await?;
    Ok(Json(json!({
        "type": "work_queue_stats",
        "depth": depth.depth,
        "pending": depth.pending,
        "oldest_queued_at": depth.oldest.map(|time| time.to_string()),
        "workers_polling": depth.workers,
    })))
}

pub(super) async fn list(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(environment): Path<String>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    let environment = environment_id(&environment)?;
    caller.may_see_queue(&environment)?;
    let slice = query.slice(RESOURCES, Order::Descending)?;
    Ok(Json(page(surface.emulator.works(&environment, slice).await?, show)))
}

pub(super) async fn get(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path((environment, work)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let (environment, work) = (environment_id(&environment)?, work_id(&work)?);
    Ok(Json(show(&surface.emulator.work(&environment, &work).await?)))
}

pub(super) async fn update(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path((environment, work)): Path<(String, String)>,
    Body(mut fields): Body,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let (environment, work) = (environment_id(&environment)?, work_id(&work)?);
    let metadata = fields.metadata()?;
    fields.finish()?;
    Ok(Json(show(&surface.emulator.update_work(&environment, &work, metadata).await?)))
}

pub(super) fn work_id(text: &str) -> Result<WorkId, Fault> {
    WorkId::new(text).map_err(|_| Fault::not_found("work item", text))
}

fn wire_state(state: WorkState) -> agents::WorkState {
    match state {
        WorkState::Queued { .. } => agents::WorkState::Queued,
        WorkState::Starting { .. } => agents::WorkState::Starting,
        WorkState::Active { .. } => agents::WorkState::Active,
        WorkState::Stopping { .. } => agents::WorkState::Stopping,
        WorkState::Stopped => agents::WorkState::Stopped,
    }
}

/// A state as it stands on the wire.
pub(super) fn state_name(state: WorkState) -> Value {
    json!(wire_state(state))
}

pub(super) fn show(item: &WorkRow) -> Value {
    show_with(item, None)
}

fn show_with(item: &WorkRow, secret: Option<String>) -> Value {
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string());
    json!(WorkItem {
        id: item.id.clone(),
        environment_id: item.environment.clone(),
        state: wire_state(item.work.state),
        data: WorkData::Session { id: item.session.clone() },
        secret,
        created_at: Some(item.created_at.to_string()),
        acknowledged_at: time(item.work.acknowledged_at),
        started_at: time(item.work.started_at),
        latest_heartbeat_at: time(item.work.latest_heartbeat_at),
        stop_requested_at: time(item.work.stop_requested_at),
        stopped_at: time(item.work.stopped_at),
        rest: Map::from_iter([
            ("type".to_owned(), json!("work")),
            ("metadata".to_owned(), Value::Object(item.metadata.clone())),
        ]),
    })
}
