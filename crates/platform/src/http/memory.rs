//! `/v1/memory_stores`, their memories and the versions of these (spec 7.2).

use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde_json::{Map, Value, json};
use unicode_normalization::is_nfc;

use super::Emu;
use super::answer::page;
use super::input::{Body, Fields, PageLimit, Query, RESOURCES};
use crate::emulator::{Caller, MemoryChange, NewMemory, Place, below, patch_metadata};
use crate::fault::Fault;
use crate::store::{Conditions, Kind, Order, Page, ResourceRow, Slice};

const NAME_CHARS_MAX: usize = 255;
const DESCRIPTION_CHARS_MAX: usize = 1024;
/// Longest content, in bytes.
const CONTENT_BYTES_MAX: usize = 102_400;
const PATH_BYTES_MAX: usize = 1024;
const SEGMENTS_MAX: usize = 20;
/// Pages that hold contents.
const FULL: PageLimit = PageLimit { default: 20, max: 20 };
/// Memories that are looked through to group them by folder: all that a store may have.
const GROUPED_MAX: u32 = 2000;

pub(super) async fn create(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Body(mut fields): Body,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let body = Map::from_iter([
        ("name".to_owned(), json!(fields.required_text("name", NAME_CHARS_MAX)?)),
        ("description".to_owned(), json!("")),
        ("metadata".to_owned(), json!({})),
    ]);
    let mut row = ResourceRow::new(Kind::MemoryStore, body, surface.emulator.now());
    fill(&mut row, fields)?;
    Ok(Json(surface.emulator.create(row).await?.show()))
}

pub(super) async fn get(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(store): Path<String>,
) -> Result<Json<Value>, Fault> {
    caller.may_remember(&surface.emulator, &store).await?;
    Ok(Json(surface.emulator.resource(Place::of(Kind::MemoryStore, &store)).await?.show()))
}

pub(super) async fn list(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let conditions = ResourceRow::all_of(Kind::MemoryStore)
        .live(query.switch("include_archived")?)
        .times("created_at", query.created_at()?);
    let slice = query.slice(RESOURCES, Order::Descending)?;
    Ok(Json(page(surface.emulator.list(&conditions, slice).await?, ResourceRow::show)))
}

pub(super) async fn update(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(store): Path<String>,
    Body(mut fields): Body,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let name = fields.text("name", NAME_CHARS_MAX)?.filter(|name| !name.is_empty());
    let row = surface.emulator.alter(Place::of(Kind::MemoryStore, &store), |row| {
        if let Some(name) = name {
            row.body.insert("name".into(), json!(name));
        }
        fill(row, fields)
    });
    Ok(Json(row.await?.show()))
}

pub(super) async fn archive(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(store): Path<String>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    Ok(Json(surface.emulator.archive(Place::of(Kind::MemoryStore, &store)).await?.show()))
}

pub(super) async fn delete(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(store): Path<String>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let place = Place::of(Kind::MemoryStore, &store);
    Ok(Json(surface.emulator.delete(place).await?.show_deleted()))
}

fn fill(row: &mut ResourceRow, mut fields: Fields) -> Result<(), Fault> {
    if let Some(text) = fields.text("description", DESCRIPTION_CHARS_MAX)? {
        row.body.insert("description".into(), json!(text));
    }
    let patch = fields.metadata()?;
    if let Some(Value::Object(metadata)) = row.body.get_mut("metadata") {
        patch_metadata(metadata, patch)?;
    }
    fields.finish()
}

pub(super) async fn create_memory(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(store): Path<String>,
    query: Query,
    Body(mut fields): Body,
) -> Result<Json<Value>, Fault> {
    caller.may_remember(&surface.emulator, &store).await?;
    let path = path(&mut fields)?.ok_or_else(|| fields.fault("path", "is required"))?;
    let content = content(&mut fields)?.unwrap_or_default();
    fields.finish()?;
    let new = NewMemory { path, content };
    let memory = surface.emulator.create_memory(&caller, &store, new).await?;
    Ok(Json(show(&memory, view(&query, View::Basic)?)))
}

pub(super) async fn get_memory(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path((store, memory)): Path<(String, String)>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    caller.may_remember(&surface.emulator, &store).await?;
    let memory = surface.emulator.resource(Place::within(Kind::Memory, &store, &memory)).await?;
    Ok(Json(show(&memory, view(&query, View::Full)?)))
}

pub(super) async fn update_memory(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path((store, memory)): Path<(String, String)>,
    query: Query,
    Body(mut fields): Body,
) -> Result<Json<Value>, Fault> {
    caller.may_remember(&surface.emulator, &store).await?;
    let mut change =
        MemoryChange { path: path(&mut fields)?, content: content(&mut fields)?, expected: None };
    if let Some(mut precondition) = fields.object("precondition")? {
        if precondition.required_text("type", NAME_CHARS_MAX)? != "content_sha256" {
            return Err(precondition.fault("type", "must be content_sha256"));
        }
        change.expected = precondition.text("content_sha256", NAME_CHARS_MAX)?;
        precondition.finish()?;
    }
    fields.finish()?;
    let place = Place::within(Kind::Memory, &store, &memory);
    let memory = surface.emulator.update_memory(&caller, place, change).await?;
    Ok(Json(show(&memory, view(&query, View::Basic)?)))
}

pub(super) async fn delete_memory(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path((store, memory)): Path<(String, String)>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    caller.may_remember(&surface.emulator, &store).await?;
    let place = Place::within(Kind::Memory, &store, &memory);
    let expected = query.one("expected_content_sha256");
    Ok(Json(surface.emulator.delete_memory(&caller, place, expected).await?.show_deleted()))
}

pub(super) async fn list_memories(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(store): Path<String>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    caller.may_remember(&surface.emulator, &store).await?;
    surface.emulator.resource(Place::of(Kind::MemoryStore, &store)).await?;
    let view = view(&query, View::Basic)?;
    let prefix = query.one("path_prefix").unwrap_or("/");
    if !prefix.starts_with('/') || !prefix.ends_with('/') {
        return Err(Fault::field("path_prefix", "must begin and end with /"));
    }
    let conditions = below(ResourceRow::all_of(Kind::Memory).text("parent", store), prefix);
    let slice = query.slice(view.limit(), Order::Ascending)?;
    if query.number("depth", 0, 1)? == Some(1) {
        return grouped(&surface.emulator, &conditions, prefix, view, slice).await.map(Json);
    }
    let found = surface.emulator.list(&conditions, slice).await?;
    Ok(Json(page(found, |memory| show(memory, view))))
}

/// What stands directly below a prefix: memories, and folders of them, by path.
async fn grouped(
    emulator: &crate::emulator::Emulator,
    conditions: &Conditions,
    prefix: &str,
    view: View,
    slice: Slice,
) -> Result<Value, Fault> {
    let every = Slice { limit: GROUPED_MAX, cursor: None, order: Order::Ascending };
    let mut memories: Page<ResourceRow> = emulator.list(conditions, every).await?;
    memories.rows.sort_by(|a, b| a.text("path").cmp(b.text("path")));
    let mut items: Vec<Value> = Vec::new();
    for memory in &memories.rows {
        let rest = memory.text("path").strip_prefix(prefix).unwrap_or_default();
        let item = match rest.split_once('/') {
            None => show(memory, view),
            Some((folder, _)) => {
                json!({"type": "memory_prefix", "path": format!("{prefix}{folder}/")})
            }
        };
        if items.last() != Some(&item) {
            items.push(item);
        }
    }
    Ok(page(slice.cut(items), Value::clone))
}

pub(super) async fn list_versions(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(store): Path<String>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    caller.may_remember(&surface.emulator, &store).await?;
    surface.emulator.resource(Place::of(Kind::MemoryStore, &store)).await?;
    let view = view(&query, View::Basic)?;
    let conditions = ResourceRow::all_of(Kind::MemoryVersion)
        .text("parent", store)
        .text_if("key", query.one("memory_id"))
        .text_if("json_extract(body, '$.operation')", query.one("operation"))
        .text_if("json_extract(body, '$.created_by.api_key_id')", query.one("api_key_id"))
        .text_if("json_extract(body, '$.created_by.session_id')", query.one("session_id"))
        .text_if(
            "json_extract(body, '$.created_by.service_account_id')",
            query.one("service_account_id"),
        )
        .times("created_at", query.created_at()?);
    let slice = query.slice(view.limit(), Order::Descending)?;
    Ok(Json(page(surface.emulator.list(&conditions, slice).await?, |row| show(row, view))))
}

pub(super) async fn get_version(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path((store, version)): Path<(String, String)>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    caller.may_remember(&surface.emulator, &store).await?;
    let place = Place::within(Kind::MemoryVersion, &store, &version);
    Ok(Json(show(&surface.emulator.resource(place).await?, view(&query, View::Full)?)))
}

pub(super) async fn redact_version(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path((store, version)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let place = Place::within(Kind::MemoryVersion, &store, &version);
    Ok(Json(surface.emulator.redact_version(&caller, place).await?.show()))
}

/// Whether contents are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    Basic,
    Full,
}

impl View {
    fn limit(self) -> PageLimit {
        match self {
            Self::Basic => RESOURCES,
            Self::Full => FULL,
        }
    }
}

fn view(query: &Query, default: View) -> Result<View, Fault> {
    match query.one("view") {
        None => Ok(default),
        Some("basic") => Ok(View::Basic),
        Some("full") => Ok(View::Full),
        Some(_) => Err(Fault::field("view", "must be basic or full")),
    }
}

fn show(row: &ResourceRow, view: View) -> Value {
    let mut shown = row.show();
    if view == View::Basic {
        shown["content"] = Value::Null;
    }
    shown
}

fn content(fields: &mut Fields) -> Result<Option<String>, Fault> {
    let content = fields.text("content", usize::MAX)?;
    match content {
        Some(text) if text.len() > CONTENT_BYTES_MAX => Err(fields.fault(
            "content",
            format_args!("has {} bytes, at most {CONTENT_BYTES_MAX}", text.len()),
        )),
        content => Ok(content),
    }
}

fn path(fields: &mut Fields) -> Result<Option<String>, Fault> {
    let Some(path) = fields.text("path", usize::MAX)? else { return Ok(None) };
    let why = if path.len() > PATH_BYTES_MAX {
        "has more than 1024 bytes"
    } else if !path.starts_with('/') {
        "must begin with /"
    } else if !is_nfc(&path) {
        "must be in Unicode Normalization Form C"
    } else if path.chars().any(|c| c.is_control() || is_format(c)) {
        "has control or format characters"
    } else if path.split('/').skip(1).any(|segment| matches!(segment, "" | "." | "..")) {
        "has a segment that is empty, . or .."
    } else if path.split('/').count() > SEGMENTS_MAX + 1 {
        "has more than 20 segments"
    } else {
        return Ok(Some(path));
    };
    Err(fields.fault("path", why))
}

/// Characters that change how others look, and the two separators that break lines.
fn is_format(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0001}' | '\u{e0020}'..='\u{e007f}')
}
