//! `/v1/organizations/webhooks`: webhook endpoints through the API.
//!
//! They are the same that `warren platform webhook` manages, and may subscribe to every event
//! type; the platform's API has those of the organisation only, and its Console the others.

use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::Emu;
use super::input::{Body, Fields, Query};
use crate::emulator::{Caller, EndpointChange, OldSecret};
use crate::fault::Fault;
use crate::ids::EndpointId;
use crate::keys;
use crate::store::{EndpointRow, EndpointState};

const URL_CHARS_MAX: usize = 2048;
const NAME_CHARS_MAX: usize = 256;
const DESCRIPTION_CHARS_MAX: usize = 2048;
const TYPES_MAX: usize = 64;

pub(super) async fn create(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Body(mut fields): Body,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let said = said(&mut fields)?;
    if said.url.is_none() {
        return Err(fields.fault("url", "is required"));
    }
    if said.types.as_ref().is_none_or(Vec::is_empty) {
        return Err(fields.fault("enabled_events", "must list at least one"));
    }
    fields.finish()?;
    let secret = keys::new_webhook_secret();
    let endpoint = surface.emulator.put_endpoint(said, &secret).await?;
    let mut shown = show(&endpoint);
    shown["signing_secret"] = json!(secret.expose());
    Ok(Json(shown))
}

pub(super) async fn get(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(endpoint): Path<String>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    Ok(Json(show(&surface.emulator.endpoint(&EndpointId::from_text(endpoint)).await?)))
}

/// All in one page: there are at most 32. `after_id` and `before_id` cut it.
pub(super) async fn list(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let mut endpoints = surface.emulator.endpoints().await?;
    match query.one("order") {
        None | Some("desc") => endpoints.reverse(),
        Some("asc") => {}
        Some(_) => return Err(Fault::field("order", "must be asc or desc")),
    }
    let limit = query.number("limit", 1, 1000)?.unwrap_or(20);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let at = |name| {
        let id = query.one(name)?;
        endpoints.iter().position(|endpoint| endpoint.id.as_str() == id)
    };
    let (from, to) = match (at("after_id"), at("before_id")) {
        (Some(after), _) => (after + 1, endpoints.len()),
        (None, Some(before)) => (before.saturating_sub(limit), before),
        (None, None) => (0, endpoints.len()),
    };
    let shown: Vec<Value> =
        endpoints.get(from..to).unwrap_or_default().iter().take(limit).map(show).collect();
    let id = |endpoint: Option<&Value>| endpoint.map(|endpoint| endpoint["id"].clone());
    Ok(Json(json!({
        "has_more": to - from > shown.len(),
        "first_id": id(shown.first()),
        "last_id": id(shown.last()),
        "data": shown,
    })))
}

pub(super) async fn update(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(endpoint): Path<String>,
    Body(mut fields): Body,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let mut said = said(&mut fields)?;
    said.state = match fields.text("state", NAME_CHARS_MAX)?.as_deref() {
        None => None,
        Some("enabled") => Some(EndpointState::Enabled),
        Some("disabled") => Some(EndpointState::Disabled),
        Some(_) => return Err(fields.fault("state", "must be enabled or disabled")),
    };
    fields.finish()?;
    let id = EndpointId::from_text(endpoint);
    Ok(Json(show(&surface.emulator.update_endpoint(&id, said).await?)))
}

pub(super) async fn delete(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(endpoint): Path<String>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    surface.emulator.delete_endpoint(&EndpointId::from_text(&*endpoint)).await?;
    Ok(Json(json!({"id": endpoint, "type": "webhook_endpoint_deleted"})))
}

pub(super) async fn regenerate_secret(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(endpoint): Path<String>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let id = EndpointId::from_text(endpoint);
    let secret = surface.emulator.rotate_secret(&id, OldSecret::Revoke).await?;
    Ok(Json(json!({"signing_secret": secret.expose()})))
}

fn said(fields: &mut Fields) -> Result<EndpointChange, Fault> {
    let types = fields.array("enabled_events", TYPES_MAX)?.map(|types| {
        let types = types.into_iter().map(|kind| match kind {
            Value::String(kind) => Ok(kind),
            _ => Err(fields.fault("enabled_events", "must hold strings")),
        });
        types.collect::<Result<Vec<_>, _>>()
    });
    Ok(EndpointChange {
        types: types.transpose()?,
        url: fields.text("url", URL_CHARS_MAX)?,
        name: fields.text("name", NAME_CHARS_MAX)?,
        description: fields.text("description", DESCRIPTION_CHARS_MAX)?,
        state: None,
    })
}

fn show(endpoint: &EndpointRow) -> Value {
    let reason = match &endpoint.state {
        EndpointState::Enabled | EndpointState::Disabled => "",
        EndpointState::GivenUp(reason) => reason,
    };
    json!({
        "id": endpoint.id.as_str(),
        "url": endpoint.url,
        "name": endpoint.name,
        "description": endpoint.description,
        "enabled_events": endpoint.types,
        "state": if endpoint.is_enabled() { "enabled" } else { "disabled" },
        "disabled_reason": reason,
        "created_at": endpoint.created_at.to_string(),
        "updated_at": endpoint.updated_at.to_string(),
    })
}
