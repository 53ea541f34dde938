//! `/v1/skills` and their versions, with the download that workers use (spec 7.1).
//!
//! Skills are what users upload; those that the platform itself offers (`anthropic`) are not here.

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use serde_json::{Map, Value, json};

use super::Emu;
use super::answer::page;
use super::input::{Query, RESOURCES};
use super::upload::Upload;
use crate::clock::Timestamp;
use crate::emulator::{Caller, Place};
use crate::fault::Fault;
use crate::skill::Skill;
use crate::store::{Kind, Order, ResourceRow};

const NAME_CHARS_MAX: usize = 255;
/// Stands for the newest version.
const LATEST: &str = "latest";

pub(super) async fn create(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    mut upload: Upload,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let skill = read(&mut upload)?;
    let shown = upload.text("display_name")?.unwrap_or_else(|| skill.name.clone());
    if shown.chars().count() > NAME_CHARS_MAX {
        return Err(Fault::field("display_name", "has more than 255 characters"));
    }
    upload.finish()?;
    let body = Map::from_iter([
        ("display_name".to_owned(), json!(shown)),
        ("source".to_owned(), json!({"type": "custom"})),
    ]);
    let now = surface.emulator.now();
    let mut row = ResourceRow::new(Kind::Skill, body, now).with_key(&skill.name);
    let version = version(&skill, &row.id, now);
    row.body.insert("latest_version_id".into(), json!(version.id));
    let rows = vec![(row, Vec::new()), (version, skill.archive)];
    Ok(Json(surface.emulator.create_with_bytes(rows).await?.show()))
}

pub(super) async fn get(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(skill): Path<String>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    Ok(Json(surface.emulator.resource(Place::of(Kind::Skill, &skill)).await?.show()))
}

pub(super) async fn list(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let conditions = ResourceRow::all_of(Kind::Skill)
        .text_if("json_extract(body, '$.source.type')", query.one("source"));
    let slice = query.slice(RESOURCES, Order::Descending)?;
    Ok(Json(page(surface.emulator.list(&conditions, slice).await?, ResourceRow::show)))
}

pub(super) async fn delete(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(skill): Path<String>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    Ok(Json(surface.emulator.delete(Place::of(Kind::Skill, &skill)).await?.show_deleted()))
}

pub(super) async fn create_version(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(skill): Path<String>,
    mut upload: Upload,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let new = read(&mut upload)?;
    upload.finish()?;
    let row = surface.emulator.resource(Place::of(Kind::Skill, &skill)).await?;
    if row.key.as_deref() != Some(&new.name) {
        let name = row.key.unwrap_or_default();
        return Err(Fault::field(
            "files",
            format_args!("the skill is called {name}, not {}", new.name),
        ));
    }
    let version = version(&new, &skill, surface.emulator.now());
    let version = surface.emulator.create_with_bytes(vec![(version, new.archive)]).await?;
    surface.emulator.settle_latest_version(&skill).await?;
    Ok(Json(version.show()))
}

pub(super) async fn get_version(
    State(surface): Emu,
    Path((skill, version)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    Ok(Json(find(&surface, &skill, &version).await?.show()))
}

pub(super) async fn list_versions(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(skill): Path<String>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    surface.emulator.resource(Place::of(Kind::Skill, &skill)).await?;
    let conditions = ResourceRow::all_of(Kind::SkillVersion).text("parent", skill);
    let slice = query.slice(RESOURCES, Order::Descending)?;
    Ok(Json(page(surface.emulator.list(&conditions, slice).await?, ResourceRow::show)))
}

/// A skill holds at least one version: the last one goes with the skill.
pub(super) async fn delete_version(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path((skill, version)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let place = Place::within(Kind::SkillVersion, &skill, &version);
    surface.emulator.resource(place).await?;
    let conditions = ResourceRow::all_of(Kind::SkillVersion).text("parent", &*skill);
    if surface.emulator.all::<ResourceRow>(&conditions).await?.len() == 1 {
        let message = format!("version {version} is the skill's last one: delete the skill");
        return Err(Fault::Invalid { message, code: None });
    }
    let deleted = surface.emulator.delete(place).await?;
    surface.emulator.settle_latest_version(&skill).await?;
    Ok(Json(deleted.show_deleted()))
}

pub(super) async fn download(
    State(surface): Emu,
    Path((skill, version)): Path<(String, String)>,
) -> Result<impl IntoResponse, Fault> {
    let row = find(&surface, &skill, &version).await?;
    let name = format!("attachment; filename=\"{}.zip\"", row.text("name"));
    let headers =
        [(header::CONTENT_TYPE, "application/zip".to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, surface.emulator.bytes(&row).await?))
}

async fn find(surface: &super::Surface, skill: &str, version: &str) -> Result<ResourceRow, Fault> {
    let row = surface.emulator.resource(Place::of(Kind::Skill, skill)).await?;
    let id = if version == LATEST { row.text("latest_version_id") } else { version };
    surface.emulator.resource(Place::within(Kind::SkillVersion, skill, id)).await
}

fn read(upload: &mut Upload) -> Result<Skill, Fault> {
    let files = upload.files("files").into_iter();
    let files = files.map(|part| (part.filename.unwrap_or_default(), part.bytes.to_vec()));
    Skill::read(files.collect()).map_err(|why| Fault::field("files", why))
}

fn version(skill: &Skill, parent: &str, now: Timestamp) -> ResourceRow {
    let body = Map::from_iter([
        ("name".to_owned(), json!(skill.name)),
        ("description".to_owned(), json!(skill.description)),
    ]);
    ResourceRow::new(Kind::SkillVersion, body, now).of(parent)
}
