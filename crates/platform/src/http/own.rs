//! `/_warren/v1/…`: what the emulator has and the platform has not, for tests.

use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::Emu;
use super::answer::whole;
use super::environments::id as environment_id;
use super::input::{Body, Query};
use super::work::{show, work_id};
use crate::emulator::Caller;
use crate::fault::Fault;
use crate::ids::HookId;
use crate::mishaps::Mishaps;
use crate::store::{AttemptRow, DeliveryRow, Outcome};

const DELIVERIES_DEFAULT: u64 = 100;
const DELIVERIES_MAX: u64 = 10_000;

/// What goes wrong on purpose.
pub(super) async fn faults(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Mishaps>, Fault> {
    caller.may_operate()?;
    Ok(Json(surface.emulator.dice.mishaps()))
}

/// Sets what goes wrong; what is not said does not.
pub(super) async fn set_faults(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Body(fields): Body,
) -> Result<Json<Mishaps>, Fault> {
    caller.may_operate()?;
    let invalid = |message| Fault::Invalid { message, code: None };
    let mishaps: Mishaps = serde_json::from_value(Value::Object(fields.rest()))
        .map_err(|error| invalid(error.to_string()))?;
    mishaps.check().map_err(invalid)?;
    surface.emulator.dice.set(mishaps);
    Ok(Json(mishaps))
}

/// The log of webhook deliveries, the newest first.
pub(super) async fn deliveries(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let limit = query.number("limit", 1, DELIVERIES_MAX)?.unwrap_or(DELIVERIES_DEFAULT);
    let log = surface.emulator.deliveries(u32::try_from(limit).unwrap_or(u32::MAX)).await?;
    Ok(Json(whole(log.iter().map(show_delivery).collect())))
}

/// Delivers an event once more.
pub(super) async fn redeliver(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(hook): Path<String>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let endpoints = surface.emulator.redeliver(&HookId::from_text(&*hook)).await?;
    Ok(Json(json!({"id": hook, "endpoints": endpoints})))
}

/// Lets the lease of a work item run out now.
pub(super) async fn expire(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path((environment, work)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let (environment, work) = (environment_id(&environment)?, work_id(&work)?);
    Ok(Json(show(&surface.emulator.expire(&environment, &work).await?)))
}

fn show_delivery(row: &DeliveryRow) -> Value {
    let attempt = |attempt: &AttemptRow| json!({"at": attempt.at.to_string(), "status": attempt.status, "error": attempt.error});
    json!({
        "id": row.hook.as_str(),
        "url": row.url,
        "type": row.kind,
        "subject": row.subject,
        "state": match row.outcome {
            Outcome::Pending => "pending",
            Outcome::Delivered => "delivered",
            Outcome::Dropped => "dropped",
        },
        "created_at": row.created_at.to_string(),
        "attempts": row.attempts.iter().map(attempt).collect::<Vec<_>>(),
    })
}
