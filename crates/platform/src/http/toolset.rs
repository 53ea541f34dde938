//! An agent's model, tools and skills: checked, and resolved to what the API shows.

use serde_json::{Map, Value, json};

use super::input::Fields;
use crate::fault::Fault;

const TOOLSET: &str = "agent_toolset_20260401";
const TOOLS: [&str; 8] =
    ["bash", "read", "write", "edit", "glob", "grep", "web_fetch", "web_search"];
const POLICIES: [&str; 3] = ["always_allow", "always_ask", "auto"];
/// Entries in `tools`, `skills` and `mcp_servers`, at most.
const TOOLS_MAX: usize = 256;
const SKILLS_MAX: usize = 64;
const SERVERS_MAX: usize = 20;
/// Characters in names and the like.
const NAME_CHARS_MAX: usize = 256;

/// `model`: a name, or an object with an `id`.
pub(super) fn model(fields: &mut Fields) -> Result<Option<Value>, Fault> {
    let place = fields.place("model");
    match fields.given("model") {
        None => Ok(None),
        Some(Value::String(id)) if !id.is_empty() => Ok(Some(json!({"id": id}))),
        Some(value @ Value::Object(_)) => {
            let mut model = Fields::of(place, value)?;
            let id = model.required_text("id", NAME_CHARS_MAX)?;
            let mut resolved = model.rest();
            if let Some(Value::String(level)) = resolved.get("effort") {
                let level = json!({"type": level});
                resolved.insert("effort".into(), level);
            }
            resolved.insert("id".into(), id.into());
            Ok(Some(Value::Object(resolved)))
        }
        Some(_) => Err(Fault::field(place, "must be a model's id, or an object with an id")),
    }
}

/// `tools`, with all defaults filled in.
pub(super) fn tools(fields: &mut Fields) -> Result<Option<Value>, Fault> {
    let place = fields.place("tools");
    let Some(list) = fields.array("tools", TOOLS_MAX)? else { return Ok(None) };
    let tools = list.into_iter().enumerate().map(|(at, tool)| {
        let mut tool = Fields::of(format_args!("{place}.{at}"), tool)?;
        match tool.required_text("type", NAME_CHARS_MAX)?.as_str() {
            TOOLSET => toolset(tool),
            "custom" => custom(tool),
            "mcp_toolset" => mcp(tool),
            other => Err(tool.fault(
                "type",
                format_args!("{other:?} is not one of {TOOLSET}, custom, mcp_toolset"),
            )),
        }
    });
    tools.collect::<Result<Vec<_>, _>>().map(|tools| Some(Value::Array(tools)))
}

fn toolset(mut tool: Fields) -> Result<Value, Fault> {
    let default = tool.object("default_config")?;
    let default = default.map_or_else(
        || Ok(json!({"enabled": true, "permission_policy": {"type": "always_allow"}})),
        |config| config_of(config, true, &json!({"type": "always_allow"})),
    )?;
    let policy = default["permission_policy"].clone();
    let enabled = default["enabled"] == true;
    let place = tool.place("configs");
    let mut configs = Vec::new();
    for (at, config) in
        tool.array("configs", TOOLS_MAX)?.unwrap_or_default().into_iter().enumerate()
    {
        let mut config = Fields::of(format_args!("{place}.{at}"), config)?;
        let name = config.required_text("name", NAME_CHARS_MAX)?;
        if !TOOLS.contains(&name.as_str()) {
            return Err(config.fault("name", format_args!("must be one of {}", TOOLS.join(", "))));
        }
        config.text("type", NAME_CHARS_MAX)?;
        let mut resolved = config_of(config, enabled, &policy)?;
        resolved["name"] = json!(name);
        resolved["type"] = json!(name);
        configs.push(resolved);
    }
    tool.finish()?;
    Ok(json!({"type": TOOLSET, "default_config": default, "configs": configs}))
}

/// `enabled` and `permission_policy`, with what they are if nothing is said.
fn config_of(mut config: Fields, enabled: bool, policy: &Value) -> Result<Value, Fault> {
    let enabled = config.boolean("enabled")?.unwrap_or(enabled);
    let policy = match config.object("permission_policy")? {
        None => policy.clone(),
        Some(mut given) => {
            let kind = given.required_text("type", NAME_CHARS_MAX)?;
            if !POLICIES.contains(&kind.as_str()) {
                return Err(
                    given.fault("type", format_args!("must be one of {}", POLICIES.join(", ")))
                );
            }
            given.finish()?;
            json!({"type": kind})
        }
    };
    config.finish()?;
    Ok(json!({"enabled": enabled, "permission_policy": policy}))
}

fn custom(mut tool: Fields) -> Result<Value, Fault> {
    let name = tool.required_text("name", NAME_CHARS_MAX)?;
    let description = tool.text("description", usize::MAX)?.unwrap_or_default();
    let schema = tool.object("input_schema")?;
    let schema = schema.ok_or_else(|| tool.fault("input_schema", "is required"))?.rest();
    tool.finish()?;
    Ok(json!({
        "type": "custom", "name": name, "description": description, "input_schema": schema,
    }))
}

/// Kept as it is: MCP servers are the platform's business, and the emulator calls none.
fn mcp(mut tool: Fields) -> Result<Value, Fault> {
    let server = tool.required_text("mcp_server_name", NAME_CHARS_MAX)?;
    let mut resolved = Map::from_iter([
        ("type".to_owned(), json!("mcp_toolset")),
        ("mcp_server_name".to_owned(), json!(server)),
        (
            "default_config".to_owned(),
            json!({"enabled": true, "permission_policy": {"type": "always_ask"}}),
        ),
        ("configs".to_owned(), json!([])),
    ]);
    resolved.extend(tool.rest().into_iter().filter(|(_, value)| !value.is_null()));
    Ok(Value::Object(resolved))
}

/// `skills`, each with a version.
pub(super) fn skills(fields: &mut Fields) -> Result<Option<Value>, Fault> {
    let place = fields.place("skills");
    let Some(list) = fields.array("skills", SKILLS_MAX)? else { return Ok(None) };
    let skills = list.into_iter().enumerate().map(|(at, skill)| {
        let mut skill = Fields::of(format_args!("{place}.{at}"), skill)?;
        let kind = skill.required_text("type", NAME_CHARS_MAX)?;
        if kind != "anthropic" && kind != "custom" {
            return Err(skill.fault("type", "must be anthropic or custom"));
        }
        let id = skill.required_text("skill_id", NAME_CHARS_MAX)?;
        let version = skill.text("version", NAME_CHARS_MAX)?;
        skill.finish()?;
        Ok(json!({
            "type": kind, "skill_id": id, "version": version.unwrap_or_else(|| "latest".into()),
        }))
    });
    skills.collect::<Result<Vec<_>, _>>().map(|skills| Some(Value::Array(skills)))
}

/// `mcp_servers`, as they are.
pub(super) fn mcp_servers(fields: &mut Fields) -> Result<Option<Value>, Fault> {
    let place = fields.place("mcp_servers");
    let Some(list) = fields.array("mcp_servers", SERVERS_MAX)? else { return Ok(None) };
    for (at, server) in list.iter().enumerate() {
        Fields::of(format_args!("{place}.{at}"), server.clone())?
            .required_text("name", NAME_CHARS_MAX)?;
    }
    Ok(Some(Value::Array(list)))
}
