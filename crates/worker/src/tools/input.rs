//! A call's input, read the way JavaScript reads it.
//!
//! The official toolset checks no schema: a missing member is `undefined`, a number where a
//! text belongs is turned into one. Models do send such inputs, so the same happens here.

use serde_json::{Map, Value};

/// The members of a call's input; any other JSON value counts as an object without members.
#[derive(Debug, Clone)]
pub(super) struct Input(Map<String, Value>);

impl Input {
    pub(super) fn new(value: &Value) -> Self {
        Self(value.as_object().cloned().unwrap_or_default())
    }

    /// A member; `null` and absence are the same.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// Whether a member is there and is none of `false`, `0`, `""`.
    pub(super) fn is_truthy(&self, name: &str) -> bool {
        match self.get(name) {
            None | Some(Value::Null) => false,
            Some(Value::Bool(value)) => *value,
            Some(Value::Number(number)) => number.as_f64().is_some_and(|n| n != 0.0),
            Some(Value::String(text)) => !text.is_empty(),
            Some(Value::Array(_) | Value::Object(_)) => true,
        }
    }

    /// A member that is truthy, as text.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        if self.is_truthy(name) { self.get(name).map(to_text) } else { None }
    }
}

/// A value as a template string shows it.
pub(super) fn to_text(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => match number.as_f64() {
            Some(n) if n.fract() == 0.0 && n.abs() < 1e21 => format!("{n:.0}"),
            Some(n) => n.to_string(),
            None => number.to_string(),
        },
        Value::String(text) => text.clone(),
        Value::Array(items) => items
            .iter()
            .map(|item| if item.is_null() { String::new() } else { to_text(item) })
            .collect::<Vec<_>>()
            .join(","),
        Value::Object(_) => "[object Object]".to_owned(),
    }
}

/// A value in arithmetic; NaN for what is no number.
pub(super) fn to_number(value: &Value) -> f64 {
    match value {
        Value::Null => 0.0,
        Value::Bool(value) => f64::from(u8::from(*value)),
        Value::Number(number) => number.as_f64().unwrap_or(f64::NAN),
        Value::String(text) if text.trim().is_empty() => 0.0,
        Value::String(text) => text.trim().parse().unwrap_or(f64::NAN),
        Value::Array(_) | Value::Object(_) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_number_reads_as_javascript_prints_it() {
        for (value, text) in [
            (json!(5), "5"),
            (json!(5.0), "5"),
            (json!(1.5), "1.5"),
            (json!(-3), "-3"),
            (json!([1, null, "a"]), "1,,a"),
            (json!({}), "[object Object]"),
        ] {
            assert_eq!(to_text(&value), text);
        }
    }

    #[test]
    fn an_input_that_is_no_object_has_no_members() {
        assert_eq!(Input::new(&json!("ls")).text("command"), None);
        assert_eq!(Input::new(&json!({"command": 0})).text("command"), None);
    }
}
