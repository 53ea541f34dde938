//! `/v1/agents`.

use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde_json::{Map, Value, json};

use super::answer::page;
use super::input::{Body, Fields, Query, RESOURCES};
use super::{Emu, toolset};
use crate::emulator::{Caller, patch_metadata};
use crate::fault::Fault;
use crate::ids::AgentId;
use crate::store::{AgentRow, AgentVersion, Conditions, Order};

const NAME_CHARS_MAX: usize = 256;
const DESCRIPTION_CHARS_MAX: usize = 2048;
const SYSTEM_CHARS_MAX: usize = 100_000;

pub(super) async fn create(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Body(mut fields): Body,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let mut body = Map::from_iter([
        ("name".to_owned(), json!(fields.required_text("name", NAME_CHARS_MAX)?)),
        ("description".to_owned(), Value::Null),
        ("system".to_owned(), Value::Null),
        ("tools".to_owned(), json!([])),
        ("skills".to_owned(), json!([])),
        ("mcp_servers".to_owned(), json!([])),
        ("multiagent".to_owned(), Value::Null),
        ("execution_identity".to_owned(), json!({"type": "service_account"})),
    ]);
    let model = toolset::model(&mut fields)?;
    body.insert("model".into(), model.ok_or_else(|| fields.fault("model", "is required"))?);
    body.extend(members(&mut fields)?);
    let mut metadata = Map::new();
    patch_metadata(&mut metadata, fields.metadata()?)?;
    body.insert("metadata".into(), Value::Object(metadata));
    fields.finish()?;
    let agent = surface.emulator.create_agent(Value::Object(body)).await?;
    Ok(Json(show(&agent)))
}

pub(super) async fn get(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(agent): Path<String>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let version = query.number("version", 1, u32::MAX.into())?;
    let version = version.and_then(|version| i64::try_from(version).ok());
    let agent = surface.emulator.agent(&AgentId::from_text(agent), version).await?;
    Ok(Json(show(&agent)))
}

pub(super) async fn list(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let slice = query.slice(RESOURCES, Order::Descending)?;
    let conditions = Conditions::default()
        .live(query.switch("include_archived")?)
        .times("created_at", query.created_at()?);
    Ok(Json(page(surface.emulator.list(&conditions, slice).await?, show)))
}

pub(super) async fn update(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(agent): Path<String>,
    Body(mut fields): Body,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let expected = fields.positive("version")?;
    let metadata = fields.metadata()?;
    let mut changes = Map::new();
    if fields.has("name") {
        changes.insert("name".into(), json!(fields.required_text("name", NAME_CHARS_MAX)?));
    }
    if let Some(model) = toolset::model(&mut fields)? {
        changes.insert("model".into(), model);
    }
    changes.extend(members(&mut fields)?);
    fields.finish()?;
    let id = AgentId::from_text(agent);
    let agent = surface.emulator.update_agent(&id, expected, changes, metadata).await?;
    Ok(Json(show(&agent)))
}

pub(super) async fn archive(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(agent): Path<String>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    Ok(Json(show(&surface.emulator.archive_agent(&AgentId::from_text(agent)).await?)))
}

pub(super) async fn versions(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(agent): Path<String>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let id = AgentId::from_text(agent);
    surface.emulator.agent(&id, None).await?;
    let slice = query.slice(RESOURCES, Order::Descending)?;
    let conditions = Conditions::default().text("id", id.as_str());
    let found = surface.emulator.list(&conditions, slice).await?;
    Ok(Json(page(found, |AgentVersion(agent)| show(agent))))
}

/// The members that create and update share. What is not said is not in it; `null` clears.
fn members(fields: &mut Fields) -> Result<Map<String, Value>, Fault> {
    let mut members = Map::new();
    for (name, max) in [("description", DESCRIPTION_CHARS_MAX), ("system", SYSTEM_CHARS_MAX)] {
        if fields.has(name) {
            let text = fields.text(name, max)?.filter(|text| !text.is_empty());
            members.insert(name.into(), json!(text));
        }
    }
    for (name, read) in [
        ("tools", toolset::tools as fn(&mut Fields) -> Result<Option<Value>, Fault>),
        ("skills", toolset::skills),
        ("mcp_servers", toolset::mcp_servers),
    ] {
        if fields.has(name) {
            members.insert(name.into(), read(fields)?.unwrap_or_else(|| json!([])));
        }
    }
    if fields.given("multiagent").is_some() {
        return Err(fields.fault("multiagent", "this emulator plays single agents only"));
    }
    if let Some(mut identity) = fields.object("execution_identity")? {
        if identity.required_text("type", NAME_CHARS_MAX)? != "service_account" {
            return Err(identity.fault("type", "this emulator knows service_account only"));
        }
        identity.finish()?;
    }
    Ok(members)
}

fn show(agent: &AgentRow) -> Value {
    let mut value = agent.body.clone();
    value["id"] = json!(agent.id.as_str());
    value["type"] = json!("agent");
    value["version"] = json!(agent.version);
    value["created_at"] = json!(agent.created_at.to_string());
    value["updated_at"] = json!(agent.updated_at.to_string());
    value["archived_at"] = json!(agent.archived_at.map(|time| time.to_string()));
    value
}
