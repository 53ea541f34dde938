//! `/v1/environments`, without the work queue.

use agents::EnvironmentId;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde_json::{Map, Value, json};

use super::Emu;
use super::answer::page;
use super::input::{Body, Fields, Query, RESOURCES};
use crate::emulator::{Caller, patch_metadata};
use crate::fault::Fault;
use crate::store::{Conditions, EnvironmentRow, Order};

const NAME_CHARS_MAX: usize = 256;
const DESCRIPTION_CHARS_MAX: usize = 2048;

pub(super) async fn create(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Body(mut fields): Body,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let name = fields.required_text("name", NAME_CHARS_MAX)?;
    let mut body = default_body();
    body.extend(members(&mut fields)?);
    let mut metadata = Map::new();
    patch_metadata(&mut metadata, fields.metadata()?)?;
    body.insert("metadata".into(), Value::Object(metadata));
    fields.finish()?;
    let environment = surface.emulator.create_environment(name, Value::Object(body)).await?;
    Ok(Json(show(&environment)))
}

/// An environment of which nothing but its name was said.
pub(crate) fn default_body() -> Map<String, Value> {
    Map::from_iter([
        ("config".to_owned(), json!({"type": "self_hosted"})),
        ("description".to_owned(), Value::Null),
        ("metadata".to_owned(), json!({})),
        ("scope".to_owned(), json!("organization")),
    ])
}

pub(super) async fn get(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(environment): Path<String>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    Ok(Json(show(&surface.emulator.environment(&id(&environment)?).await?)))
}

pub(super) async fn list(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let slice = query.slice(RESOURCES, Order::Descending)?;
    let conditions = Conditions::default().live(query.switch("include_archived")?);
    Ok(Json(page(surface.emulator.list(&conditions, slice).await?, show)))
}

pub(super) async fn update(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(environment): Path<String>,
    Body(mut fields): Body,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let name = fields.text("name", NAME_CHARS_MAX)?;
    if name.as_ref().is_some_and(String::is_empty) {
        return Err(fields.fault("name", "is empty"));
    }
    let mut metadata = fields.metadata()?;
    for value in metadata.values_mut().filter(|value| **value == "") {
        *value = Value::Null;
    }
    let changes = members(&mut fields)?;
    fields.finish()?;
    let id = id(&environment)?;
    let environment = surface.emulator.update_environment(&id, name, changes, metadata).await?;
    Ok(Json(show(&environment)))
}

pub(super) async fn archive(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(environment): Path<String>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    Ok(Json(show(&surface.emulator.archive_environment(&id(&environment)?).await?)))
}

pub(super) async fn delete(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(environment): Path<String>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    surface.emulator.delete_environment(&id(&environment)?).await?;
    Ok(Json(json!({"id": environment, "type": "environment_deleted"})))
}

/// An environment's id in a path: what cannot be one is not found.
pub(super) fn id(text: &str) -> Result<EnvironmentId, Fault> {
    EnvironmentId::new(text).map_err(|_| Fault::not_found("environment", text))
}

/// The members that create and update share. What is not said is not in it.
fn members(fields: &mut Fields) -> Result<Map<String, Value>, Fault> {
    let mut members = Map::new();
    if let Some(mut config) = fields.object("config")? {
        let kind = config.required_text("type", NAME_CHARS_MAX)?;
        if kind != "self_hosted" {
            return Err(
                config.fault("type", "this emulator has environments of type self_hosted only")
            );
        }
        config.finish()?;
        members.insert("config".into(), json!({"type": kind}));
    }
    if fields.has("description") {
        let text = fields.text("description", DESCRIPTION_CHARS_MAX)?;
        members.insert("description".into(), json!(text));
    }
    if let Some(scope) = fields.text("scope", NAME_CHARS_MAX)?
        && scope != "organization"
    {
        return Err(fields.fault("scope", "API organisations support organization only"));
    }
    Ok(members)
}

fn show(environment: &EnvironmentRow) -> Value {
    let mut value = environment.body.clone();
    value["id"] = json!(environment.id.as_str());
    value["type"] = json!("environment");
    value["name"] = json!(environment.name);
    value["created_at"] = json!(environment.created_at.to_string());
    value["updated_at"] = json!(environment.updated_at.to_string());
    value["archived_at"] = json!(environment.archived_at.map(|time| time.to_string()));
    value
}
