//! `/v1/vaults` and their credentials: kept, shown without their secrets, used by nothing here.
//!
//! The platform injects credentials into what leaves its own sandboxes and into calls of MCP
//! servers; a self-hosted environment has neither.

use axum::extract::{Path, State};
use axum::{Extension, Json};
use serde_json::{Map, Value, json};

use super::Emu;
use super::answer::page;
use super::input::{Body, Fields, Query, RESOURCES};
use crate::clock::Timestamp;
use crate::emulator::{Caller, Place, patch_metadata};
use crate::fault::Fault;
use crate::store::{Kind, Order, ResourceRow};

const NAME_CHARS_MAX: usize = 255;
const SECRET_CHARS_MAX: usize = 16 * 1024;
const HOSTS_MAX: usize = 16;

pub(super) async fn create(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Body(mut fields): Body,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let name = fields.required_text("display_name", NAME_CHARS_MAX)?;
    let mut metadata = Map::new();
    patch_metadata(&mut metadata, fields.metadata()?)?;
    fields.finish()?;
    let body = Map::from_iter([
        ("display_name".to_owned(), json!(name)),
        ("metadata".to_owned(), json!(metadata)),
    ]);
    let row = ResourceRow::new(Kind::Vault, body, surface.emulator.now());
    Ok(Json(surface.emulator.create(row).await?.show()))
}

pub(super) async fn get(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(vault): Path<String>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    Ok(Json(surface.emulator.resource(Place::of(Kind::Vault, &vault)).await?.show()))
}

pub(super) async fn list(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let conditions = ResourceRow::all_of(Kind::Vault).live(query.switch("include_archived")?);
    let slice = query.slice(RESOURCES, Order::Descending)?;
    Ok(Json(page(surface.emulator.list(&conditions, slice).await?, ResourceRow::show)))
}

pub(super) async fn update(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(vault): Path<String>,
    Body(fields): Body,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let row = surface.emulator.alter(Place::of(Kind::Vault, &vault), |row| rename(row, fields));
    Ok(Json(row.await?.show()))
}

pub(super) async fn archive(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(vault): Path<String>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    Ok(Json(surface.emulator.archive(Place::of(Kind::Vault, &vault)).await?.show()))
}

pub(super) async fn delete(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(vault): Path<String>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    Ok(Json(surface.emulator.delete(Place::of(Kind::Vault, &vault)).await?.show_deleted()))
}

/// Name and metadata of a vault or a credential.
fn rename(row: &mut ResourceRow, mut fields: Fields) -> Result<(), Fault> {
    if let Some(name) = fields.text("display_name", NAME_CHARS_MAX)? {
        row.body.insert("display_name".into(), json!(name));
    }
    let patch = fields.metadata()?;
    if let Some(Value::Object(metadata)) = row.body.get_mut("metadata") {
        patch_metadata(metadata, patch)?;
    }
    fields.finish()
}

pub(super) async fn create_credential(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(vault): Path<String>,
    Body(mut fields): Body,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let auth = fields.object("auth")?.ok_or_else(|| fields.fault("auth", "is required"))?;
    let now = surface.emulator.now();
    let (auth, secrets) = new_auth(auth, now)?;
    let body = Map::from_iter([
        ("auth".to_owned(), auth),
        ("display_name".to_owned(), Value::Null),
        ("metadata".to_owned(), json!({})),
    ]);
    let mut row = ResourceRow::new(Kind::Credential, body, now).of(&vault);
    row.hidden = Value::Object(secrets);
    rename(&mut row, fields)?;
    Ok(Json(surface.emulator.create(row).await?.show()))
}

pub(super) async fn get_credential(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path((vault, credential)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let place = Place::within(Kind::Credential, &vault, &credential);
    Ok(Json(surface.emulator.resource(place).await?.show()))
}

pub(super) async fn list_credentials(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path(vault): Path<String>,
    query: Query,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    surface.emulator.resource(Place::of(Kind::Vault, &vault)).await?;
    let conditions = ResourceRow::all_of(Kind::Credential)
        .text("parent", vault)
        .live(query.switch("include_archived")?);
    let slice = query.slice(RESOURCES, Order::Descending)?;
    Ok(Json(page(surface.emulator.list(&conditions, slice).await?, ResourceRow::show)))
}

pub(super) async fn update_credential(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path((vault, credential)): Path<(String, String)>,
    Body(mut fields): Body,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let auth = fields.object("auth")?;
    let place = Place::within(Kind::Credential, &vault, &credential);
    let row = surface.emulator.alter(place, |row| {
        if let Some(auth) = auth {
            change_auth(row, auth)?;
        }
        rename(row, fields)
    });
    Ok(Json(row.await?.show()))
}

pub(super) async fn archive_credential(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path((vault, credential)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let place = Place::within(Kind::Credential, &vault, &credential);
    Ok(Json(surface.emulator.archive(place).await?.show()))
}

pub(super) async fn delete_credential(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path((vault, credential)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let place = Place::within(Kind::Credential, &vault, &credential);
    Ok(Json(surface.emulator.delete(place).await?.show_deleted()))
}

/// The emulator calls no MCP server, so it cannot tell whether a credential works.
pub(super) async fn validate_credential(
    State(surface): Emu,
    Extension(caller): Extension<Caller>,
    Path((vault, credential)): Path<(String, String)>,
) -> Result<Json<Value>, Fault> {
    caller.may_operate()?;
    let place = Place::within(Kind::Credential, &vault, &credential);
    let row = surface.emulator.resource(place).await?;
    if row.body["auth"]["type"] != "mcp_oauth" {
        return Err(Fault::field("auth.type", "must be mcp_oauth"));
    }
    Ok(Json(json!({
        "type": "vault_credential_validation",
        "credential_id": row.id,
        "vault_id": vault,
        "status": "unknown",
        "has_refresh_token": row.hidden.get("refresh_token").is_some(),
        "mcp_probe": {"method": "initialize", "http_response": null},
        "refresh": null,
        "validated_at": surface.emulator.now().to_string(),
    })))
}

/// `auth` of a new credential: what is shown, and what is not.
fn new_auth(mut auth: Fields, now: Timestamp) -> Result<(Value, Map<String, Value>), Fault> {
    let kind = auth.required_text("type", NAME_CHARS_MAX)?;
    let mut secrets = Map::new();
    let shown = match kind.as_str() {
        "static_bearer" => {
            keep(&mut secrets, "token", auth.required_text("token", SECRET_CHARS_MAX)?);
            json!({"type": kind, "mcp_server_url": server_url(&mut auth)?})
        }
        "mcp_oauth" => {
            let token = auth.required_text("access_token", SECRET_CHARS_MAX)?;
            keep(&mut secrets, "access_token", token);
            let url = server_url(&mut auth)?;
            let expires = expiry(&mut auth, now)?;
            let refresh = match auth.object("refresh")? {
                None => Value::Null,
                Some(refresh) => new_refresh(refresh, &mut secrets)?,
            };
            json!({"type": kind, "mcp_server_url": url, "expires_at": expires, "refresh": refresh})
        }
        "environment_variable" => {
            keep(&mut secrets, "secret", auth.required_text("secret_value", SECRET_CHARS_MAX)?);
            let name = auth.required_text("secret_name", NAME_CHARS_MAX)?;
            let networking =
                networking(&mut auth)?.ok_or_else(|| auth.fault("networking", "is required"))?;
            let location = location(&mut auth, &json!({"body": false, "header": true}))?;
            json!({
                "type": kind, "secret_name": name, "networking": networking,
                "injection_location": location,
            })
        }
        _ => {
            return Err(
                auth.fault("type", "must be mcp_oauth, static_bearer or environment_variable")
            );
        }
    };
    auth.finish()?;
    Ok((shown, secrets))
}

fn new_refresh(mut refresh: Fields, secrets: &mut Map<String, Value>) -> Result<Value, Fault> {
    keep(secrets, "refresh_token", refresh.required_text("refresh_token", SECRET_CHARS_MAX)?);
    let mut endpoint_auth = refresh
        .object("token_endpoint_auth")?
        .ok_or_else(|| refresh.fault("token_endpoint_auth", "is required"))?;
    let kind = endpoint_auth.required_text("type", NAME_CHARS_MAX)?;
    match kind.as_str() {
        "none" => {}
        "client_secret_basic" | "client_secret_post" => {
            let secret = endpoint_auth.required_text("client_secret", SECRET_CHARS_MAX)?;
            keep(secrets, "client_secret", secret);
        }
        _ => {
            let why = "must be none, client_secret_basic or client_secret_post";
            return Err(endpoint_auth.fault("type", why));
        }
    }
    endpoint_auth.finish()?;
    let shown = json!({
        "client_id": refresh.required_text("client_id", NAME_CHARS_MAX)?,
        "token_endpoint": refresh.required_text("token_endpoint", SECRET_CHARS_MAX)?,
        "token_endpoint_auth": {"type": kind},
        "resource": refresh.text("resource", SECRET_CHARS_MAX)?,
        "scope": refresh.text("scope", SECRET_CHARS_MAX)?,
    });
    refresh.finish()?;
    Ok(shown)
}

/// Changes what may be changed: secrets, times, places; never the type or what is addressed.
fn change_auth(row: &mut ResourceRow, mut auth: Fields) -> Result<(), Fault> {
    let kind = auth.required_text("type", NAME_CHARS_MAX)?;
    let mut shown = row.body.get("auth").cloned().unwrap_or_default();
    if shown["type"] != *kind {
        return Err(auth.fault("type", format_args!("is {} and stays so", shown["type"])));
    }
    let Value::Object(secrets) = &mut row.hidden else {
        return Err(auth.fault("type", "the credential has no secrets any more"));
    };
    for (member, kept) in
        [("token", "token"), ("access_token", "access_token"), ("secret_value", "secret")]
    {
        if secrets.contains_key(kept)
            && let Some(secret) = auth.text(member, SECRET_CHARS_MAX)?
        {
            keep(secrets, kept, secret);
        }
    }
    match kind.as_str() {
        "mcp_oauth" => {
            if auth.has("expires_at") {
                shown["expires_at"] = json!(expiry(&mut auth, row.created_at)?);
            }
            if let Some(mut refresh) = auth.object("refresh")? {
                if let Some(token) = refresh.text("refresh_token", SECRET_CHARS_MAX)? {
                    keep(secrets, "refresh_token", token);
                }
                if let Some(scope) = refresh.text("scope", SECRET_CHARS_MAX)? {
                    let scope = Some(scope).filter(|scope| !scope.is_empty());
                    shown["refresh"]["scope"] = json!(scope);
                }
                if let Some(mut endpoint) = refresh.object("token_endpoint_auth")? {
                    endpoint.required_text("type", NAME_CHARS_MAX)?;
                    if let Some(secret) = endpoint.text("client_secret", SECRET_CHARS_MAX)? {
                        keep(secrets, "client_secret", secret);
                    }
                    endpoint.finish()?;
                }
                refresh.finish()?;
            }
        }
        "environment_variable" => {
            if let Some(networking) = networking(&mut auth)? {
                shown["networking"] = networking;
            }
            let before = shown["injection_location"].clone();
            shown["injection_location"] = location(&mut auth, &before)?;
        }
        _ => {}
    }
    auth.finish()?;
    row.body.insert("auth".into(), shown);
    Ok(())
}

fn keep(secrets: &mut Map<String, Value>, name: &str, secret: String) {
    secrets.insert(name.to_owned(), Value::String(secret));
}

fn server_url(auth: &mut Fields) -> Result<String, Fault> {
    let url = auth.required_text("mcp_server_url", SECRET_CHARS_MAX)?;
    match url::Url::parse(&url) {
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") => Ok(url),
        Ok(_) | Err(_) => Err(auth.fault("mcp_server_url", "must be an http(s) URL")),
    }
}

fn expiry(auth: &mut Fields, after: Timestamp) -> Result<Option<String>, Fault> {
    let Some(text) = auth.text("expires_at", NAME_CHARS_MAX)? else { return Ok(None) };
    match Timestamp::parse(&text) {
        Some(at) if at > after => Ok(Some(at.to_string())),
        Some(_) => Err(auth.fault("expires_at", "must be in the future")),
        None => Err(auth.fault("expires_at", "must be an RFC 3339 time")),
    }
}

fn networking(auth: &mut Fields) -> Result<Option<Value>, Fault> {
    let Some(mut networking) = auth.object("networking")? else { return Ok(None) };
    let shown = match networking.required_text("type", NAME_CHARS_MAX)?.as_str() {
        "unrestricted" => json!({"type": "unrestricted"}),
        "limited" => {
            let hosts = networking.array("allowed_hosts", HOSTS_MAX)?;
            let hosts = hosts.ok_or_else(|| networking.fault("allowed_hosts", "is required"))?;
            if !hosts.iter().all(is_host) {
                let why = "must hold host names without scheme, port or path";
                return Err(networking.fault("allowed_hosts", why));
            }
            json!({"type": "limited", "allowed_hosts": hosts})
        }
        _ => return Err(networking.fault("type", "must be unrestricted or limited")),
    };
    networking.finish()?;
    Ok(Some(shown))
}

fn is_host(value: &Value) -> bool {
    value.as_str().is_some_and(|host| {
        let host = host.strip_prefix("*.").unwrap_or(host);
        let letters = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
        !host.is_empty() && host.chars().all(letters)
    })
}

fn location(auth: &mut Fields, before: &Value) -> Result<Value, Fault> {
    let mut shown = before.clone();
    if let Some(mut location) = auth.object("injection_location")? {
        for place in ["body", "header"] {
            if let Some(on) = location.boolean(place)? {
                shown[place] = json!(on);
            }
        }
        location.finish()?;
    }
    if shown["body"] == false && shown["header"] == false {
        return Err(auth.fault("injection_location", "must have body or header enabled"));
    }
    Ok(shown)
}
