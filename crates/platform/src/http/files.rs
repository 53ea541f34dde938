//! `/v1/files`: uploaded, listed, read again. Nothing is mounted into a self-hosted sandbox.
//!
//! The platform lets only files be downloaded that its own tools made; here all are.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use serde_json::{Map, Value, json};

use super::Emu;
use super::answer::{page, whole};
use super::input::{Query, RESOURCES};
use super::upload::Upload;
use crate::emulator::{Caller, Place};
use crate::fault::Fault;
use crate::store::{Kind, Order, ResourceRow};

const NAME_CHARS_MAX: usize = 500;
const EXPIRY_SECONDS_MIN: u64 = 3600;
const EXPIRY_SECONDS_MAX: u64 = 90 * 24 * 3600;
const IDS_MAX: usize = 100;

pub(super) async fn upload(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    mut upload: Upload,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let mut files = upload.files("file");
    let file = files.pop().ok_or_else(|| Fault::field("file", "is required"))?;
    if !files.is_empty() {
        return Err(Fault::field("file", "must be one file"));
    }
    let expires = upload.text("expires_in_seconds")?.map(|text| {
        let seconds = text.parse().ok();
        let span = EXPIRY_SECONDS_MIN..=EXPIRY_SECONDS_MAX;
        seconds.filter(|seconds| span.contains(seconds)).ok_or_else(|| {
            let why = format!("must be from {EXPIRY_SECONDS_MIN} to {EXPIRY_SECONDS_MAX}");
            Fault::field("expires_in_seconds", why)
        })
    });
    let expires = expires.transpose()?;
    upload.finish()?;
    let given = file.filename.unwrap_or_default();
    let name = given.rsplit(['/', '\\']).next().filter(|name| !name.is_empty());
    let name: String = name.unwrap_or("unnamed").chars().take(NAME_CHARS_MAX).collect();
    let kind = file.content_type.unwrap_or_else(|| "application/octet-stream".to_owned());
    let now = surface.emulator.now();
    let expires_at = expires.map(|seconds| now.plus(Duration::from_secs(seconds)));
    let body = Map::from_iter([
        ("filename".to_owned(), json!(name)),
        ("mime_type".to_owned(), json!(kind)),
        ("size_bytes".to_owned(), json!(file.bytes.len())),
        ("downloadable".to_owned(), json!(true)),
        ("expires_at".to_owned(), json!(expires_at.map(|at| at.to_string()))),
        ("scope".to_owned(), Value::Null),
    ]);
    let mut row = ResourceRow::new(Kind::File, body, now);
    row.due_at = expires_at;
    Ok(Json(surface.emulator.create_with_bytes(vec![(row, file.bytes.to_vec())]).await?.show()))
}

pub(super) async fn get(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(file): Path<String>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    Ok(Json(surface.emulator.resource(Place::of(Kind::File, &file)).await?.show()))
}

pub(super) async fn list(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let ids = query.many("ids");
    let conditions = ResourceRow::all_of(Kind::File)
        .text_if("json_extract(body, '$.scope.id')", query.one("scope_id"))
        .one_of("id", ids.clone());
    if ids.is_empty() {
        let slice = query.slice(RESOURCES, Order::Descending)?;
        return Ok(Json(page(surface.emulator.list(&conditions, slice).await?, ResourceRow::show)));
    }
    if ids.len() > IDS_MAX || query.one("page").is_some() || query.one("limit").is_some() {
        return Err(Fault::field("ids", "are at most 100, and go without page and limit"));
    }
    let found = surface.emulator.all::<ResourceRow>(&conditions).await?;
    Ok(Json(whole(found.iter().map(ResourceRow::show).collect())))
}

pub(super) async fn delete(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(file): Path<String>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    Ok(Json(surface.emulator.delete(Place::of(Kind::File, &file)).await?.show_deleted()))
}

pub(super) async fn download(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(file): Path<String>,
) -> Result<impl IntoResponse, Fault> {
    caller.may_operate()?;
    let row = surface.emulator.resource(Place::of(Kind::File, &file)).await?;
    let kind = row.text("mime_type").to_owned();
    Ok(([(header::CONTENT_TYPE, kind)], surface.emulator.bytes(&row).await?))
}
