//! `/v1/sessions/{session}/events`: what is said to a session, and what has been said in it.

use agents::{Event, EventId};
use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde_json::{Value, json};

use super::Emu;
use super::answer::page;
use super::input::{Body, EVENTS, Fields, Query};
use super::sessions::id as session_id;
use crate::emulator::Caller;
use crate::fault::Fault;
use crate::machine::UserEvent;
use crate::store::{EventRow, Order, Page};

/// Events in one request, at most.
const EVENTS_MAX: usize = 100;
/// Blocks in one event, at most.
const BLOCKS_MAX: usize = 1000;
const ID_CHARS_MAX: usize = 256;

pub(super) async fn list(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(session): Path<String>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    let session = session_id(&session)?;
    surface.emulator.session(&caller, &session).await?;
    let conditions = EventRow::of(&session)
        .one_of("type", query.many("types"))
        .times("processed_at", query.created_at()?);
    let slice = query.slice(EVENTS, Order::Ascending)?;
    let found: Page<EventRow> = surface.emulator.list(&conditions, slice).await?;
    Ok(Json(page(found, |row| json!(row.event))))
}

pub(super) async fn send(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(session): Path<String>,
    Body(mut fields): Body,
) -> Result<Json<Value>, Fault> {
    let list = fields.array("events", EVENTS_MAX)?;
    let list = list.ok_or_else(|| fields.fault("events", "is required"))?;
    if list.is_empty() {
        return Err(fields.fault("events", "is empty"));
    }
    fields.finish()?;
    let events = list
        .into_iter()
        .enumerate()
        .map(|(at, value)| parse(&format!("events.{at}"), value))
        .collect::<Result<Vec<_>, _>>()?;
    let stored = surface.emulator.send(&caller, &session_id(&session)?, events).await?;
    Ok(Json(json!({"data": stored})))
}

/// Reads an event that a client or a worker sends (spec 2.2).
pub(super) fn parse(place: &str, value: Value) -> Result<UserEvent, Fault> {
    let mut fields = Fields::of(place, value)?;
    let kind = fields.required_text("type", ID_CHARS_MAX)?;
    let parsed = match kind.as_str() {
        "user.message" => message(&mut fields)?,
        "system.message" => {
            let content = content(&mut fields, &["text"])?;
            let content = content.ok_or_else(|| fields.fault("content", "is required"))?;
            UserEvent::SystemMessage { event: Event::new(&kind).with("content", content) }
        }
        "user.interrupt" => {
            fields.take("session_thread_id");
            UserEvent::Interrupt { event: Event::new(&kind) }
        }
        "user.tool_confirmation" => confirmation(&mut fields)?,
        "user.tool_result" => {
            let (event, call, is_error) = result(&mut fields, &kind, "tool_use_id")?;
            UserEvent::ToolResult { event, call, is_error }
        }
        "user.custom_tool_result" => {
            let (event, call, is_error) = result(&mut fields, &kind, "custom_tool_use_id")?;
            UserEvent::CustomToolResult { event, call, is_error }
        }
        "user.define_outcome" => {
            return Err(fields.fault("type", "this emulator does not evaluate outcomes"));
        }
        _ => {
            return Err(fields.fault(
                "type",
                format_args!("{kind:?} is no event that can be sent to a session"),
            ));
        }
    };
    fields.finish()?;
    Ok(parsed)
}

fn message(fields: &mut Fields) -> Result<UserEvent, Fault> {
    let content = content(fields, &["text", "image", "document"])?;
    let content = content.ok_or_else(|| fields.fault("content", "is required"))?;
    if content.is_empty() {
        return Err(fields.fault("content", "is empty"));
    }
    let texts = content.iter().filter_map(|block| block.get("text")).filter_map(Value::as_str);
    let text = texts.collect::<Vec<_>>().join("\n");
    Ok(UserEvent::Message { event: Event::new("user.message").with("content", content), text })
}

fn confirmation(fields: &mut Fields) -> Result<UserEvent, Fault> {
    let call: EventId = fields.required_id("tool_use_id")?;
    let result = fields.required_text("result", ID_CHARS_MAX)?;
    let deny_message = fields.text("deny_message", usize::MAX)?;
    fields.take("session_thread_id");
    let allow = match result.as_str() {
        "allow" if deny_message.is_some() => {
            return Err(fields.fault("deny_message", "goes with result deny only"));
        }
        "allow" => true,
        "deny" => false,
        _ => return Err(fields.fault("result", "must be allow or deny")),
    };
    let mut event = Event::new("user.tool_confirmation")
        .with("tool_use_id", call.as_str())
        .with("result", result);
    if let Some(message) = &deny_message {
        event.set("deny_message", message.as_str());
    }
    Ok(UserEvent::Confirmation { event, call, allow, deny_message })
}

/// A result of a tool; `named` is the member that names the call.
fn result(fields: &mut Fields, kind: &str, named: &str) -> Result<(Event, EventId, bool), Fault> {
    let call: EventId = fields.required_id(named)?;
    let is_error = fields.boolean("is_error")?.unwrap_or(false);
    let content = content(fields, &["text", "image", "document", "search_result"])?;
    fields.take("session_thread_id");
    let event = Event::new(kind)
        .with(named, call.as_str())
        .with("is_error", is_error)
        .with("content", content.unwrap_or_default());
    Ok((event, call, is_error))
}

/// `content`: blocks of certain types. What is in a block other than text is the client's
/// business.
fn content(fields: &mut Fields, types: &[&str]) -> Result<Option<Vec<Value>>, Fault> {
    let place = fields.place("content");
    let Some(blocks) = fields.array("content", BLOCKS_MAX)? else { return Ok(None) };
    for (at, block) in blocks.iter().enumerate() {
        let mut block = Fields::of(format_args!("{place}.{at}"), block.clone())?;
        let kind = block.required_text("type", ID_CHARS_MAX)?;
        if !types.contains(&kind.as_str()) {
            return Err(block.fault("type", format_args!("must be one of {}", types.join(", "))));
        }
        if kind == "text" && block.text("text", usize::MAX)?.is_none() {
            return Err(block.fault("text", "is required"));
        }
    }
    Ok(Some(blocks))
}
