//! `/v1/deployments` and `/v1/deployment_runs`: sessions by plan, by hand or by schedule.

use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde_json::{Map, Value, json};

use super::Emu;
use super::answer::page;
use super::input::{Body, Fields, Query, RESOURCES};
use super::sessions::{attachments, initial_events, vault_ids};
use crate::cron::Cron;
use crate::emulator::{Caller, DeploymentDraft, Place, Trigger, show_deployment};
use crate::fault::Fault;
use crate::ids::AgentId;
use crate::store::{Kind, Order, ResourceRow};

const NAME_CHARS_MAX: usize = 256;
const DESCRIPTION_CHARS_MAX: usize = 2048;
const EVENTS: [&str; 3] = ["user.message", "user.define_outcome", "system.message"];

pub(super) async fn create(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Body(mut fields): Body,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    for name in ["name", "agent", "environment_id", "initial_events"] {
        if !fields.has(name) {
            return Err(fields.fault(name, "is required"));
        }
    }
    let draft = draft(&mut fields)?;
    fields.finish()?;
    let row = surface.emulator.create_deployment(draft).await?;
    Ok(Json(show_deployment(&row, surface.emulator.now())))
}

pub(super) async fn get(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(deployment): Path<String>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let row = surface.emulator.resource(Place::of(Kind::Deployment, &deployment)).await?;
    Ok(Json(show_deployment(&row, surface.emulator.now())))
}

pub(super) async fn list(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let mut conditions = ResourceRow::all_of(Kind::Deployment)
        .live(query.switch("include_archived")?)
        .text_if("key", query.one("agent_id"))
        .times("created_at", query.created_at()?);
    conditions = match query.one("status") {
        None => conditions,
        Some("active") => conditions.holds("json_extract(body, '$.paused_reason') IS NULL"),
        Some("paused") => conditions.holds("json_extract(body, '$.paused_reason') IS NOT NULL"),
        Some(_) => return Err(Fault::field("status", "must be active or paused")),
    };
    let slice = query.slice(RESOURCES, Order::Descending)?;
    let now = surface.emulator.now();
    Ok(Json(page(surface.emulator.list(&conditions, slice).await?, |row| {
        show_deployment(row, now)
    })))
}

pub(super) async fn update(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(deployment): Path<String>,
    Body(mut fields): Body,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let draft = draft(&mut fields)?;
    fields.finish()?;
    let row = surface.emulator.update_deployment(&deployment, draft).await?;
    Ok(Json(show_deployment(&row, surface.emulator.now())))
}

pub(super) async fn archive(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(deployment): Path<String>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let row = surface.emulator.archive(Place::of(Kind::Deployment, &deployment)).await?;
    Ok(Json(show_deployment(&row, surface.emulator.now())))
}

pub(super) async fn pause(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(deployment): Path<String>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let reason = Some(json!({"type": "manual"}));
    let row = surface.emulator.pause_deployment(&deployment, reason).await?;
    Ok(Json(show_deployment(&row, surface.emulator.now())))
}

pub(super) async fn unpause(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(deployment): Path<String>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let row = surface.emulator.pause_deployment(&deployment, None).await?;
    Ok(Json(show_deployment(&row, surface.emulator.now())))
}

pub(super) async fn run(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(deployment): Path<String>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    Ok(Json(surface.emulator.run_deployment(&deployment, Trigger::Manual).await?.show()))
}

pub(super) async fn get_run(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(run): Path<String>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    Ok(Json(surface.emulator.resource(Place::of(Kind::DeploymentRun, &run)).await?.show()))
}

pub(super) async fn list_runs(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let mut conditions = ResourceRow::all_of(Kind::DeploymentRun)
        .text_if("parent", query.one("deployment_id"))
        .text_if("json_extract(body, '$.trigger_context.type')", query.one("trigger_type"))
        .times("created_at", query.created_at()?);
    if query.one("has_error").is_some() {
        conditions = conditions.holds(match query.switch("has_error")? {
            true => "json_extract(body, '$.error') IS NOT NULL",
            false => "json_extract(body, '$.error') IS NULL",
        });
    }
    let slice = query.slice(RESOURCES, Order::Descending)?;
    Ok(Json(page(surface.emulator.list(&conditions, slice).await?, ResourceRow::show)))
}

/// What create and update share.
fn draft(fields: &mut Fields) -> Result<DeploymentDraft, Fault> {
    let mut members = Map::new();
    if fields.has("name") {
        let name = fields.required_text("name", NAME_CHARS_MAX)?;
        members.insert("name".into(), json!(name));
    }
    if fields.has("description") {
        let text = fields.text("description", DESCRIPTION_CHARS_MAX)?;
        let text = text.filter(|text| !text.is_empty());
        members.insert("description".into(), json!(text));
    }
    if fields.has("environment_id") {
        let id = fields.required_text("environment_id", NAME_CHARS_MAX)?;
        members.insert("environment_id".into(), json!(id));
    }
    if fields.has("vault_ids") {
        members.insert("vault_ids".into(), json!(vault_ids(fields)?));
    }
    if fields.has("budget") {
        let budget = fields.object("budget")?.map(|budget| Value::Object(budget.rest()));
        members.insert("budget".into(), budget.unwrap_or_default());
    }
    let attachments = match fields.has("resources") {
        true => Some(attachments(fields)?.into_iter().unzip()),
        false => None,
    };
    let events = initial_events(fields, &EVENTS)?;
    if events.as_ref().is_some_and(|(shown, _)| shown.is_empty()) {
        return Err(fields.fault("initial_events", "is empty"));
    }
    let agent = agent(fields)?;
    let mut schedule = None;
    if fields.has("schedule") {
        let (shown, cron) = read_schedule(fields)?;
        members.insert("schedule".into(), shown);
        schedule = Some(cron);
    }
    let metadata = fields.metadata()?;
    Ok(DeploymentDraft { agent, events, attachments, schedule, metadata, members })
}

fn agent(fields: &mut Fields) -> Result<Option<(AgentId, Option<i64>)>, Fault> {
    let place = fields.place("agent");
    match fields.given("agent") {
        None => Ok(None),
        Some(Value::String(id)) => Ok(Some((AgentId::from_text(id), None))),
        Some(value) => {
            let mut agent = Fields::of(place, value)?;
            if agent.required_text("type", NAME_CHARS_MAX)? != "agent" {
                return Err(agent.fault("type", "must be agent"));
            }
            let id = AgentId::from_text(agent.required_text("id", NAME_CHARS_MAX)?);
            let version = agent.positive("version")?;
            agent.finish()?;
            Ok(Some((id, version)))
        }
    }
}

fn read_schedule(fields: &mut Fields) -> Result<(Value, Option<Cron>), Fault> {
    let Some(mut schedule) = fields.object("schedule")? else { return Ok((Value::Null, None)) };
    if schedule.required_text("type", NAME_CHARS_MAX)? != "cron" {
        return Err(schedule.fault("type", "must be cron"));
    }
    let expression = schedule.required_text("expression", NAME_CHARS_MAX)?;
    let timezone = schedule.required_text("timezone", NAME_CHARS_MAX)?;
    let cron =
        Cron::parse(&expression, &timezone).map_err(|(field, why)| schedule.fault(field, why))?;
    schedule.finish()?;
    let shown = json!({
        "type": "cron", "expression": expression, "timezone": timezone, "last_run_at": null,
    });
    Ok((shown, Some(cron)))
}
