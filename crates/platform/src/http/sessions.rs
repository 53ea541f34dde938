//! `/v1/sessions`, without their events.

use agents::{EnvironmentId, SessionId};
use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde_json::{Map, Value, json};

use super::answer::page_with_previous;
use super::input::{Body, Fields, Query, RESOURCES};
use super::{Emu, events, toolset};
use crate::clock::Timestamp;
use crate::emulator::{Attachment, Caller, NewSession, patch_metadata};
use crate::fault::Fault;
use crate::ids::AgentId;
use crate::machine::{UserEvent, status_of};
use crate::store::{Conditions, Order, SessionBody, SessionRow};

const TITLE_CHARS_MAX: usize = 512;
const SYSTEM_CHARS_MAX: usize = 100_000;
const ID_CHARS_MAX: usize = 256;
const INITIAL_EVENTS_MAX: usize = 50;
const RESOURCES_MAX: usize = 500;
/// Memory stores of one session (spec 7.2).
const STORES_MAX: usize = 8;
const INSTRUCTIONS_CHARS_MAX: usize = 4096;
/// The memory stores of a session, from its `resources`.
const ATTACHED_STORES: &str =
    "(SELECT json_extract(value, '$.memory_store_id') FROM json_each(body, '$.resources'))";
const STATUSES: [&str; 4] = ["rescheduling", "running", "idle", "terminated"];

pub(super) async fn create(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Body(mut fields): Body,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let AgentChoice { id, version, overrides } = agent(&mut fields)?;
    let environment: EnvironmentId = fields.required_id("environment_id")?;
    let attachments = attachments(&mut fields)?;
    let mut metadata = Map::new();
    patch_metadata(&mut metadata, fields.metadata()?)?;
    let body = SessionBody {
        title: fields.text("title", TITLE_CHARS_MAX)?,
        metadata,
        resources: Vec::new(),
        vault_ids: vault_ids(&mut fields)?,
        budget: fields.object("budget")?.map(|budget| Value::Object(budget.rest())),
    };
    let initial = initial_events(&mut fields, &["user.message", "user.define_outcome"])?;
    let initial_events = initial.map(|(_, events)| events).unwrap_or_default();
    fields.finish()?;
    let new = NewSession {
        agent: id,
        agent_version: version,
        overrides,
        environment,
        body,
        attachments: attachments.into_iter().map(|(_, attachment)| attachment).collect(),
        initial_events,
        deployment: None,
    };
    let session = surface.emulator.create_session(new).await?;
    Ok(Json(show(&session, surface.emulator.now())))
}

pub(super) async fn get(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(session): Path<String>,
) -> Result<Json<Value>, Fault> {
    let session = surface.emulator.session(&caller, &id(&session)?).await?;
    Ok(Json(show(&session, surface.emulator.now())))
}

pub(super) async fn list(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let statuses = query.many("statuses");
    if let Some(bad) = statuses.iter().find(|status| !STATUSES.contains(&status.as_str())) {
        return Err(Fault::field(
            "statuses",
            format_args!("{bad:?} is not one of {}", STATUSES.join(", ")),
        ));
    }
    let mut conditions = Conditions::default()
        .live(query.switch("include_archived")?)
        .one_of("status", statuses)
        .text_if("agent_id", query.one("agent_id"))
        .text_if("deployment_id", query.one("deployment_id"))
        .among_if(ATTACHED_STORES, query.one("memory_store_id"))
        .times("created_at", query.created_at()?);
    let version = query.number("agent_version", 1, u32::MAX.into())?;
    if let (Some(_), Some(version)) = (query.one("agent_id"), version) {
        let version = i64::try_from(version).unwrap_or(i64::MAX);
        conditions = conditions.number("agent_version", "=", version);
    }
    let slice = query.slice(RESOURCES, Order::Descending)?;
    let now = surface.emulator.now();
    let found = surface.emulator.list(&conditions, slice).await?;
    Ok(Json(page_with_previous(found, |session| show(session, now))))
}

pub(super) async fn update(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(session): Path<String>,
    Body(mut fields): Body,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let title = match fields.has("title") {
        true => Some(fields.text("title", TITLE_CHARS_MAX)?),
        false => None,
    };
    let metadata = fields.metadata()?;
    let mut changes = Map::new();
    if let Some(mut agent) = fields.object("agent")? {
        changes = replaced_tools(&mut agent)?;
        agent.finish()?;
    }
    fields.finish()?;
    let id = id(&session)?;
    let session = surface.emulator.update_session(&id, title, metadata, changes).await?;
    Ok(Json(show(&session, surface.emulator.now())))
}

pub(super) async fn archive(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(session): Path<String>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let session = surface.emulator.archive_session(&id(&session)?).await?;
    Ok(Json(show(&session, surface.emulator.now())))
}

pub(super) async fn delete(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(session): Path<String>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    surface.emulator.delete_session(&id(&session)?).await?;
    Ok(Json(json!({"id": session, "type": "session_deleted"})))
}

/// A session's id in a path: what cannot be one is not found.
pub(super) fn id(text: &str) -> Result<SessionId, Fault> {
    SessionId::new(text).map_err(|_| Fault::not_found("session", text))
}

/// Which agent a session gets.
struct AgentChoice {
    id: AgentId,
    version: Option<i64>,
    /// Members that replace the agent's own.
    overrides: Map<String, Value>,
}

/// `agent`: an id, a reference with a version, or one with overrides.
fn agent(fields: &mut Fields) -> Result<AgentChoice, Fault> {
    let place = fields.place("agent");
    let value = match fields.given("agent") {
        None => return Err(Fault::field(place, "is required")),
        Some(Value::String(id)) => {
            let id = AgentId::from_text(id);
            return Ok(AgentChoice { id, version: None, overrides: Map::new() });
        }
        Some(value) => value,
    };
    let mut agent = Fields::of(&place, value)
        .map_err(|_| Fault::field(&place, "must be an agent's id, or an object with an id"))?;
    let kind = agent.required_text("type", ID_CHARS_MAX)?;
    let id = AgentId::from_text(agent.required_text("id", ID_CHARS_MAX)?);
    let version = agent.positive("version")?;
    let overrides = match kind.as_str() {
        "agent" => Map::new(),
        "agent_with_overrides" => {
            let mut overrides = replaced_tools(&mut agent)?;
            if agent.has("system") {
                let system = agent.text("system", SYSTEM_CHARS_MAX)?;
                overrides.insert("system".into(), json!(system));
            }
            let model = toolset::model(&mut agent)?.map(|model| ("model".to_owned(), model));
            let skills = toolset::skills(&mut agent)?.map(|skills| ("skills".to_owned(), skills));
            overrides.extend(model.into_iter().chain(skills));
            overrides
        }
        _ => return Err(agent.fault("type", "must be agent or agent_with_overrides")),
    };
    agent.finish()?;
    Ok(AgentChoice { id, version, overrides })
}

fn replaced_tools(agent: &mut Fields) -> Result<Map<String, Value>, Fault> {
    let tools = toolset::tools(agent)?.map(|tools| ("tools".to_owned(), tools));
    let servers = toolset::mcp_servers(agent)?.map(|list| ("mcp_servers".to_owned(), list));
    Ok(tools.into_iter().chain(servers).collect())
}

/// `resources`: memory stores, each with the wire form that a deployment shows of it. Files and
/// repositories cannot be mounted into a sandbox that is not the platform's (spec 1.2).
pub(super) fn attachments(fields: &mut Fields) -> Result<Vec<(Value, Attachment)>, Fault> {
    let place = fields.place("resources");
    let list = fields.array("resources", RESOURCES_MAX)?.unwrap_or_default();
    let mut attachments: Vec<(Value, Attachment)> = Vec::new();
    for (at, value) in list.into_iter().enumerate() {
        let mut resource = Fields::of(format_args!("{place}.{at}"), value)?;
        let kind = resource.required_text("type", ID_CHARS_MAX)?;
        if kind != "memory_store" {
            return Err(refuse_mount(&resource, &kind));
        }
        let store = resource.required_text("memory_store_id", ID_CHARS_MAX)?;
        let access = resource.text("access", ID_CHARS_MAX)?;
        let access = access.unwrap_or_else(|| "read_write".to_owned());
        if access != "read_write" && access != "read_only" {
            return Err(resource.fault("access", "must be read_write or read_only"));
        }
        let instructions = resource.text("instructions", INSTRUCTIONS_CHARS_MAX)?;
        if attachments.iter().any(|(_, other)| other.store == store) {
            return Err(resource.fault("memory_store_id", "is attached twice"));
        }
        resource.finish()?;
        let shown = json!({
            "type": kind, "memory_store_id": store, "access": access, "instructions": instructions,
        });
        attachments.push((shown, Attachment { store, access, instructions }));
    }
    if attachments.len() > STORES_MAX {
        let why = format_args!("has {} memory stores, at most {STORES_MAX}", attachments.len());
        return Err(Fault::field(place, why));
    }
    Ok(attachments)
}

/// Why something cannot be mounted.
pub(super) fn refuse_mount(resource: &Fields, kind: &str) -> Fault {
    match kind {
        "file" | "github_repository" => resource.fault(
            "type",
            format_args!("{kind} resources are not supported on self_hosted environments"),
        ),
        _ => resource.fault("type", "must be file, github_repository or memory_store"),
    }
}

pub(super) fn vault_ids(fields: &mut Fields) -> Result<Vec<String>, Fault> {
    let place = fields.place("vault_ids");
    let ids = fields.array("vault_ids", RESOURCES_MAX)?.unwrap_or_default().into_iter();
    ids.map(|id| match id {
        Value::String(id) => Ok(id),
        _ => Err(Fault::field(&place, "must hold strings")),
    })
    .collect()
}

/// Events in their wire form, and read.
pub(super) type InitialEvents = (Vec<Value>, Vec<UserEvent>);

/// Events that a session begins with.
pub(super) fn initial_events(
    fields: &mut Fields,
    types: &[&str],
) -> Result<Option<InitialEvents>, Fault> {
    let place = fields.place("initial_events");
    let Some(list) = fields.array("initial_events", INITIAL_EVENTS_MAX)? else { return Ok(None) };
    let mut events = Vec::with_capacity(list.len());
    for (at, value) in list.iter().enumerate() {
        let kind = value["type"].as_str().unwrap_or_default();
        if !types.contains(&kind) {
            let types = types.join(" or ");
            return Err(Fault::field(
                format_args!("{place}.{at}.type"),
                format_args!("must be {types}"),
            ));
        }
        events.push(events::parse(&format!("{place}.{at}"), value.clone())?);
    }
    Ok(Some((list, events)))
}

fn show(session: &SessionRow, now: Timestamp) -> Value {
    json!({
        "type": "session",
        "id": session.id.as_str(),
        "status": status_of(session.state.status()),
        "agent": session.agent,
        "environment_id": session.environment.as_str(),
        "title": session.body.title,
        "metadata": session.body.metadata,
        "resources": session.body.resources,
        "vault_ids": session.body.vault_ids,
        "budget": session.body.budget,
        "usage": usage(session, now),
        "stats": stats(session, now),
        "outcome_evaluations": [],
        "deployment_id": session.deployment,
        "created_at": session.created_at.to_string(),
        "updated_at": session.updated_at.to_string(),
        "archived_at": session.archived_at.map(|time| time.to_string()),
    })
}

pub(super) fn stats(session: &SessionRow, now: Timestamp) -> Value {
    let end = session.archived_at.unwrap_or(now);
    json!({
        "active_seconds": session.state.active(now).as_secs_f64(),
        "duration_seconds": end.since(session.created_at).as_secs_f64(),
    })
}

/// Tokens of all model requests; a scripted agent has none.
pub(super) fn usage(session: &SessionRow, now: Timestamp) -> Value {
    let usage = session.state.usage();
    json!({
        "active_seconds": session.state.active(now).as_secs_f64(),
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": usage.cache_read_input_tokens,
        "cache_creation": {
            "ephemeral_1h_input_tokens": 0,
            "ephemeral_5m_input_tokens": usage.cache_creation_input_tokens,
        },
    })
}
