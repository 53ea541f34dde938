//! Which tools may the agent call, and who has to agree? (spec 6.7)
//!
//! Read from the resolved `tools` of a session's agent, as the HTTP layer stores them.

use serde_json::{Value, json};

/// The toolset whose calls a worker runs.
pub(crate) const TOOLSET: &str = "agent_toolset_20260401";
/// Its tools that a worker runs.
pub(crate) const WORKER_TOOLS: [&str; 6] = ["bash", "read", "write", "edit", "glob", "grep"];
/// Its tools that the platform runs itself.
pub(crate) const SERVER_TOOLS: [&str; 2] = ["web_fetch", "web_search"];

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Judgement {
    /// A worker runs it. `evaluation` names the policy.
    Allow { evaluation: Value },
    /// A person is asked first.
    Ask { evaluation: Value },
    /// Nobody runs it; `why` is what the agent hears.
    Deny { evaluation: Option<Value>, why: String },
    /// A custom tool: the client runs it, no policy applies.
    Custom,
}

/// What a script asks to be made of a call, whatever the agent's policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Override {
    /// Run it.
    Allow,
    /// Wait for a `user.tool_confirmation`.
    Ask,
    /// Refuse it, as the server does under the policy `auto`.
    Deny,
}

/// The tools of one agent: a view on its resolved `tools` array.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tools<'a>(&'a [Value]);

impl<'a> Tools<'a> {
    /// The tools of a resolved agent.
    pub(crate) fn of(agent: &'a Value) -> Self {
        Self(agent.get("tools").and_then(Value::as_array).map_or(&[], Vec::as_slice))
    }

    /// What becomes of a call of `name`.
    pub(crate) fn judge(&self, name: &str, script: Option<Override>) -> Judgement {
        if self.has_custom(name) {
            return Judgement::Custom;
        }
        let Some(policy) = self.policy(name) else {
            return Judgement::Deny {
                evaluation: None,
                why: format!(
                    "tool {name:?} is not enabled for this agent: its tools need {TOOLSET} \
                     with {name:?} enabled, or a custom tool of that name"
                ),
            };
        };
        if SERVER_TOOLS.contains(&name) {
            let why = format!("{name} runs at the platform, and this emulator has no web access");
            return Judgement::Deny { evaluation: Some(auto("deny")), why };
        }
        match (script, policy) {
            (Some(Override::Deny), _) => Judgement::Deny {
                evaluation: Some(auto("deny")),
                why: format!("the call of {name} was denied by the platform's policy"),
            },
            (Some(Override::Ask), _) | (None, "always_ask") => {
                Judgement::Ask { evaluation: json!({"type": "always_ask"}) }
            }
            (None, "auto") => Judgement::Allow { evaluation: auto("allow") },
            (Some(Override::Allow), _) | (None, _) => {
                Judgement::Allow { evaluation: json!({"type": "always_allow"}) }
            }
        }
    }

    fn has_custom(&self, name: &str) -> bool {
        self.0.iter().any(|tool| text(tool, "type") == "custom" && text(tool, "name") == name)
    }

    /// The permission policy of a tool of the toolset; `None` where it is not enabled.
    fn policy(&self, name: &str) -> Option<&'a str> {
        if !WORKER_TOOLS.contains(&name) && !SERVER_TOOLS.contains(&name) {
            return None;
        }
        let toolset = self.0.iter().find(|tool| text(tool, "type") == TOOLSET)?;
        let own = toolset
            .get("configs")
            .and_then(Value::as_array)
            .and_then(|configs| configs.iter().find(|config| text(config, "name") == name));
        let config = own.or_else(|| toolset.get("default_config"))?;
        if config.get("enabled").and_then(Value::as_bool) == Some(false) {
            return None;
        }
        Some(config.get("permission_policy").map_or("always_allow", |policy| text(policy, "type")))
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn auto(verdict: &str) -> Value {
    let mut permission = json!({"type": verdict});
    if verdict == "deny" {
        permission["reason_code"] = json!("high_risk");
    }
    json!({"type": "auto", "evaluated_permission": permission})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> Value {
        json!({"tools": [
            {"type": TOOLSET,
             "default_config": {"enabled": true, "permission_policy": {"type": "always_allow"}},
             "configs": [
                {"name": "write", "enabled": false},
                {"name": "edit", "enabled": true, "permission_policy": {"type": "always_ask"}},
                {"name": "glob", "enabled": true, "permission_policy": {"type": "auto"}}]},
            {"type": "custom", "name": "lookup"}]})
    }

    #[test]
    fn the_policy_of_a_tool_decides_who_has_to_agree() {
        let agent = agent();
        let tools = Tools::of(&agent);
        assert!(matches!(tools.judge("bash", None), Judgement::Allow { .. }));
        assert!(matches!(tools.judge("glob", None), Judgement::Allow { .. }));
        assert!(matches!(tools.judge("edit", None), Judgement::Ask { .. }));
        assert_eq!(tools.judge("lookup", None), Judgement::Custom);
    }

    #[test]
    fn a_tool_that_is_not_enabled_is_denied_without_an_evaluation() {
        let agent = agent();
        for name in ["write", "unknown"] {
            let judgement = Tools::of(&agent).judge(name, Some(Override::Allow));
            assert!(matches!(judgement, Judgement::Deny { evaluation: None, .. }), "{name}");
        }
        assert!(matches!(
            Tools::of(&json!({})).judge("bash", None),
            Judgement::Deny { evaluation: None, .. }
        ));
    }

    #[test]
    fn a_script_may_ask_for_another_verdict() {
        let agent = agent();
        let tools = Tools::of(&agent);
        assert!(matches!(tools.judge("bash", Some(Override::Ask)), Judgement::Ask { .. }));
        assert!(matches!(tools.judge("edit", Some(Override::Allow)), Judgement::Allow { .. }));
        assert!(matches!(
            tools.judge("bash", Some(Override::Deny)),
            Judgement::Deny { evaluation: Some(_), .. }
        ));
    }
}
