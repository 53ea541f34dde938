//! The shapes of requests, as data: what a service model says of its members, and the check of a
//! request against it, in AWS's words.
//!
//! All that a request breaks is told at once: `2 validation errors detected: Value '…' at 'name'
//! failed to satisfy constraint: …; Value null at '…' failed to satisfy constraint: …`.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use regex::Regex;
use serde_json::Value;
use std::sync::OnceLock;

/// Where a member stands in an HTTP request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Location {
    Body,
    /// In the path, between the braces of the operation's template.
    Label,
    /// In the query, under this name.
    Query(&'static str),
}

/// Whether a member must be there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Presence {
    Required,
    Optional,
    /// In AWS's model, without effect here: refused rather than passed over, unless it asks for
    /// nothing (`false`, an empty list).
    Unavailable,
}

/// A member of a structure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) name: &'static str,
    pub(crate) shape: &'static Shape,
    pub(crate) presence: Presence,
    pub(crate) location: Location,
}

/// Whether a value may be repeated in a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sensitivity {
    Public,
    Secret,
}

/// What a value may be. Lengths count characters, elements or (of a blob) bytes.
#[derive(Debug)]
pub(crate) enum Shape {
    Text {
        min: usize,
        max: usize,
        pattern: Option<Pattern>,
        sensitivity: Sensitivity,
    },
    Choice(&'static [&'static str]),
    Blob {
        min: usize,
        max: usize,
    },
    Integer {
        min: i64,
        max: i64,
    },
    Boolean,
    List {
        min: usize,
        max: usize,
        of: &'static Shape,
    },
    Map {
        min: usize,
        max: usize,
        key: &'static Shape,
        value: &'static Shape,
    },
    Structure(&'static [Member]),
    /// Exactly one of the members.
    Union(&'static [Member]),
}

/// A regular expression as the model writes it, which must fit the whole text.
#[derive(Debug)]
pub(crate) struct Pattern {
    text: &'static str,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    pub(crate) const fn new(text: &'static str) -> Self {
        Self { text, compiled: OnceLock::new() }
    }

    /// As the model writes it.
    #[cfg(test)]
    pub(crate) fn text(&self) -> &'static str {
        self.text
    }

    fn fits(&self, text: &str) -> bool {
        let compiled =
            self.compiled.get_or_init(|| Regex::new(&format!("^(?:{})$", self.text)).ok());
        compiled.as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

/// Longest text where the model sets no limit; the size of a request sets one anyway.
pub(crate) const UNLIMITED: usize = usize::MAX;

impl Shape {
    pub(crate) const fn text(min: usize, max: usize) -> Self {
        Self::Text { min, max, pattern: None, sensitivity: Sensitivity::Public }
    }

    pub(crate) const fn matching(min: usize, max: usize, pattern: &'static str) -> Self {
        let pattern = Some(Pattern::new(pattern));
        Self::Text { min, max, pattern, sensitivity: Sensitivity::Public }
    }

    pub(crate) const fn secret(min: usize, max: usize) -> Self {
        Self::Text { min, max, pattern: None, sensitivity: Sensitivity::Secret }
    }

    /// The members, where the shape has some.
    pub(crate) fn members(&self) -> &'static [Member] {
        match self {
            Self::Structure(members) | Self::Union(members) => members,
            Self::Text { .. }
            | Self::Choice(_)
            | Self::Blob { .. }
            | Self::Integer { .. }
            | Self::Boolean
            | Self::List { .. }
            | Self::Map { .. } => &[],
        }
    }

    /// Every constraint that `value` breaks, as one message. None: it breaks none.
    pub(crate) fn faults(&self, value: &Value) -> Option<String> {
        let mut check = Check { faults: Vec::new() };
        check.members(self.members(), value, "");
        let plural = if check.faults.len() == 1 { "" } else { "s" };
        (!check.faults.is_empty()).then(|| {
            format!(
                "{} validation error{plural} detected: {}",
                check.faults.len(),
                check.faults.join("; ")
            )
        })
    }
}

impl Member {
    pub(crate) const fn required(name: &'static str, shape: &'static Shape) -> Self {
        Self { name, shape, presence: Presence::Required, location: Location::Body }
    }

    pub(crate) const fn optional(name: &'static str, shape: &'static Shape) -> Self {
        Self { name, shape, presence: Presence::Optional, location: Location::Body }
    }

    pub(crate) const fn unavailable(name: &'static str) -> Self {
        static ANYTHING: Shape = Shape::text(0, UNLIMITED);
        let presence = Presence::Unavailable;
        Self { name, shape: &ANYTHING, presence, location: Location::Body }
    }

    pub(crate) const fn label(name: &'static str, shape: &'static Shape) -> Self {
        Self { name, shape, presence: Presence::Required, location: Location::Label }
    }

    pub(crate) const fn query(name: &'static str, shape: &'static Shape) -> Self {
        Self { name, shape, presence: Presence::Optional, location: Location::Query(name) }
    }

    /// As in the query under another name.
    pub(crate) const fn required_query(
        name: &'static str,
        wire_name: &'static str,
        shape: &'static Shape,
    ) -> Self {
        Self { name, shape, presence: Presence::Required, location: Location::Query(wire_name) }
    }
}

struct Check {
    faults: Vec<String>,
}

/// A value as messages repeat it, and what it is called there.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
        Value::Object(members) => {
            let members: Vec<String> =
                members.iter().map(|(key, value)| format!("{key}={}", shown(value))).collect();
            format!("{{{}}}", members.join(", "))
        }
        other => other.to_string(),
    }
}

impl Check {
    /// `value` is left out where the shape is a secret one, or holds secrets.
    fn fault(&mut self, shape: &Shape, value: &Value, at: &str, must: &str) {
        let shown = if shape.is_secret() { String::new() } else { format!(" '{}'", shown(value)) };
        self.faults.push(format!(
            "Value{shown} at '{at}' failed to satisfy constraint: Member must {must}"
        ));
    }

    fn members(&mut self, members: &[Member], value: &Value, at: &str) {
        for member in members {
            let name = lower_first(member.name);
            let at = if at.is_empty() { name } else { format!("{at}.{name}") };
            match (value.get(member.name).filter(|value| !value.is_null()), member.presence) {
                (Some(value), Presence::Unavailable) => {
                    let asks_nothing =
                        *value == Value::Bool(false) || value.as_array().is_some_and(Vec::is_empty);
                    if !asks_nothing {
                        self.faults.push(format!(
                            "Value at '{at}' failed to satisfy constraint: Member is not available \
                             in this Warren"
                        ));
                    }
                }
                (Some(value), Presence::Required | Presence::Optional) => {
                    self.value(member.shape, value, &at);
                }
                (None, Presence::Required) => self.faults.push(format!(
                    "Value null at '{at}' failed to satisfy constraint: Member must not be null"
                )),
                (None, Presence::Optional | Presence::Unavailable) => {}
            }
        }
        self.unknown_members(members, value, at);
    }

    /// What is not in the model would be passed over, and whoever sent it would not know. The value
    /// is not repeated: nobody knows what it is.
    fn unknown_members(&mut self, members: &[Member], value: &Value, at: &str) {
        let given = value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        for (name, _) in given {
            if !members.iter().any(|member| member.name == name) {
                let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                self.faults.push(format!(
                    "Value at '{at}' failed to satisfy constraint: Member is not one of this \
                     operation's model"
                ));
            }
        }
    }

    fn value(&mut self, shape: &Shape, value: &Value, at: &str) {
        match (shape, value) {
            (Shape::Text { .. } | Shape::Choice(_) | Shape::Blob { .. }, Value::String(text)) => {
                self.text(shape, text, at);
            }
            (Shape::Integer { min, max }, Value::Number(number)) => match number.as_i64() {
                Some(number) if number < *min => {
                    self.fault(
                        shape,
                        value,
                        at,
                        &format!("have value greater than or equal to {min}"),
                    );
                }
                Some(number) if number > *max => {
                    self.fault(
                        shape,
                        value,
                        at,
                        &format!("have value less than or equal to {max}"),
                    );
                }
                Some(_) => {}
                None => self.fault(shape, value, at, "be a whole number"),
            },
            (Shape::Boolean, Value::Bool(_)) => {}
            (Shape::List { min, max, of }, Value::Array(items)) => {
                for must in length_rules(items.len(), *min, *max) {
                    self.fault(shape, value, at, &must);
                }
                for (index, item) in items.iter().enumerate() {
                    self.value(of, item, &format!("{at}.{}.member", index + 1));
                }
            }
            (Shape::Map { min, max, key, value: of }, Value::Object(entries)) => {
                for must in length_rules(entries.len(), *min, *max) {
                    self.fault(shape, value, at, &must);
                }
                for (name, item) in entries {
                    self.value(key, &Value::String(name.clone()), &format!("{at}.{name}.key"));
                    self.value(of, item, &format!("{at}.{name}.member"));
                }
            }
            (Shape::Structure(members), Value::Object(_)) => self.members(members, value, at),
            (Shape::Union(members), Value::Object(given)) => {
                let set = members
                    .iter()
                    .filter(|member| given.get(member.name).is_some_and(|value| !value.is_null()));
                if set.count() == 1 {
                    self.members(members, value, at);
                } else {
                    let names: Vec<&str> = members.iter().map(|member| member.name).collect();
                    self.fault(
                        shape,
                        value,
                        at,
                        &format!("hold exactly one of [{}]", names.join(", ")),
                    );
                }
            }
            (shape, _) => self.fault(shape, value, at, &format!("be {}", shape.kind())),
        }
    }

    /// What stands in quotation marks on the wire.
    fn text(&mut self, shape: &Shape, text: &str, at: &str) {
        let mut broken = Vec::new();
        match shape {
            Shape::Text { min, max, pattern, .. } => {
                broken = length_rules(text.chars().count(), *min, *max);
                if let Some(pattern) = pattern.as_ref().filter(|pattern| !pattern.fits(text)) {
                    broken.push(format!("satisfy regular expression pattern: {}", pattern.text));
                }
            }
            Shape::Choice(choices) if !choices.contains(&text) => {
                broken.push(format!("satisfy enum value set: [{}]", choices.join(", ")));
            }
            Shape::Blob { min, max } => match BASE64_STANDARD.decode(text) {
                Ok(bytes) => broken = length_rules(bytes.len(), *min, *max),
                Err(_) => broken.push("be base64".to_owned()),
            },
            Shape::Choice(_)
            | Shape::Integer { .. }
            | Shape::Boolean
            | Shape::List { .. }
            | Shape::Map { .. }
            | Shape::Structure(_)
            | Shape::Union(_) => {}
        }
        for must in broken {
            self.fault(shape, &Value::String(text.to_owned()), at, &must);
        }
    }
}

impl Shape {
    /// Whether messages must not repeat a value of it.
    fn is_secret(&self) -> bool {
        match self {
            Self::Text { sensitivity, .. } => *sensitivity == Sensitivity::Secret,
            Self::Blob { .. } => true,
            Self::List { of, .. } => of.is_secret(),
            Self::Map { key, value, .. } => key.is_secret() || value.is_secret(),
            Self::Structure(members) | Self::Union(members) => {
                members.iter().any(|member| member.shape.is_secret())
            }
            Self::Choice(_) | Self::Integer { .. } | Self::Boolean => false,
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Text { .. } | Self::Choice(_) | Self::Blob { .. } => "a string",
            Self::Integer { .. } => "a whole number",
            Self::Boolean => "a boolean",
            Self::List { .. } => "a list",
            Self::Map { .. } => "a map",
            Self::Structure(_) | Self::Union(_) => "a structure",
        }
    }
}

fn length_rules(length: usize, min: usize, max: usize) -> Vec<String> {
    let mut broken = Vec::new();
    if length < min {
        broken.push(format!("have length greater than or equal to {min}"));
    }
    if length > max {
        broken.push(format!("have length less than or equal to {max}"));
    }
    broken
}

/// AWS names members in messages in camelCase, whatever the wire has.
fn lower_first(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    static NAME: Shape = Shape::matching(1, 4, "[a-zA-Z0-9-_]+");
    static NAMES: Shape = Shape::List { min: 0, max: 2, of: &NAME };
    static COUNT: Shape = Shape::Integer { min: 1, max: 50 };
    static PAYLOAD: Shape = Shape::secret(0, 3);
    static EMPTY: Shape = Shape::Structure(&[]);
    static EITHER: Shape =
        Shape::Union(&[Member::optional("left", &EMPTY), Member::optional("right", &EMPTY)]);
    static INPUT: Shape = Shape::Structure(&[
        Member::required("Name", &NAME),
        Member::optional("names", &NAMES),
        Member::optional("count", &COUNT),
        Member::optional("payload", &PAYLOAD),
        Member::optional("either", &EITHER),
    ]);

    fn check(value: Value, expected: &[&str]) {
        let plural = if expected.len() == 1 { "" } else { "s" };
        let expected = (!expected.is_empty()).then(|| {
            let count = expected.len();
            format!("{count} validation error{plural} detected: {}", expected.join("; "))
        });
        assert_eq!(INPUT.faults(&value), expected);
    }

    #[test]
    fn what_fits_passes_and_null_is_absence() {
        let full =
            json!({"Name": "a-_9", "names": ["a", "b"], "count": 50, "either": {"left": {}}});
        check(full, &[]);
        check(json!({"Name": "a", "names": null, "unknown": null}), &[]);
    }

    #[test]
    fn what_the_model_does_not_have_is_told_rather_than_passed_over() {
        check(
            json!({"Name": "a", "unknown": "hush", "either": {"left": {"more": 1}}}),
            &[
                "Value at 'either.left.more' failed to satisfy constraint: Member is not one of this operation's model",
                "Value at 'unknown' failed to satisfy constraint: Member is not one of this operation's model",
            ],
        );
    }

    #[test]
    fn every_broken_constraint_is_told_in_awss_words() {
        check(
            json!({"names": ["a", "", "c"], "count": 0}),
            &[
                "Value null at 'name' failed to satisfy constraint: Member must not be null",
                "Value '[a, , c]' at 'names' failed to satisfy constraint: Member must have length less than or equal to 2",
                "Value '' at 'names.2.member' failed to satisfy constraint: Member must have length greater than or equal to 1",
                "Value '' at 'names.2.member' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9-_]+",
                "Value '0' at 'count' failed to satisfy constraint: Member must have value greater than or equal to 1",
            ],
        );
    }

    #[test]
    fn a_pattern_must_fit_the_whole_text() {
        check(
            json!({"Name": "a b"}),
            &[
                "Value 'a b' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9-_]+",
            ],
        );
    }

    #[test]
    fn wrong_types_unions_and_secrets_are_told_without_the_secret() {
        check(
            json!({"Name": "a", "count": "3", "payload": "hush", "either": {}}),
            &[
                "Value '3' at 'count' failed to satisfy constraint: Member must be a whole number",
                "Value at 'payload' failed to satisfy constraint: Member must have length less than or equal to 3",
                "Value '{}' at 'either' failed to satisfy constraint: Member must hold exactly one of [left, right]",
            ],
        );
    }
}
