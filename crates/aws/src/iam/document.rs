//! Policy documents: the JSON grammar of IAM, read strictly.
//!
//! A policy that is misread is a hole, so nothing is passed over: an unknown member or condition
//! operator is an error that names its place.

use super::condition::Condition;
use serde::Deserialize;
use serde_json::{Map, Value};

/// What is wrong with a policy document, and where.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("it is not a JSON policy document: {0}")]
    Syntax(#[source] serde_json::Error),
    #[error("statement {statement}: {reason}")]
    Statement { statement: usize, reason: String },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub(crate) enum Effect {
    Allow,
    Deny,
}

/// A list, and whether it names what is meant or what is not.
#[derive(Clone, Debug)]
pub(crate) enum Selection {
    These(Vec<String>),
    AllBut(Vec<String>),
}

/// Whom a trust policy speaks of.
#[derive(Clone, Debug)]
pub(crate) enum Trusted {
    Everyone,
    /// ARNs, account numbers or `*`.
    Aws(Vec<String>),
    /// For example `lambda.amazonaws.com`.
    Service(Vec<String>),
}

#[derive(Clone, Debug)]
pub(crate) struct Statement {
    pub(crate) effect: Effect,
    pub(crate) actions: Selection,
    /// None in a trust policy: the role itself.
    pub(crate) resources: Option<Selection>,
    /// Empty in an identity's policy.
    pub(crate) trusted: Vec<Trusted>,
    pub(crate) conditions: Vec<Condition>,
}

/// A parsed policy.
#[derive(Clone, Debug)]
pub(crate) struct PolicyDocument {
    pub(crate) statements: Vec<Statement>,
    /// Whether any of it depends on `aws:ResourceTag/…`: looking the tags up costs a read.
    pub(crate) reads_resource_tags: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDocument {
    #[serde(rename = "Version")]
    _version: Option<Version>,
    #[serde(rename = "Id")]
    _id: Option<String>,
    #[serde(rename = "Statement")]
    statement: OneOrMany<Map<String, Value>>,
}

#[derive(Deserialize)]
enum Version {
    #[serde(rename = "2012-10-17")]
    Current,
    #[serde(rename = "2008-10-17")]
    First,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct RawStatement {
    #[serde(rename = "Sid")]
    _sid: Option<String>,
    effect: Effect,
    principal: Option<Value>,
    action: Option<OneOrMany<String>>,
    not_action: Option<OneOrMany<String>>,
    resource: Option<OneOrMany<String>>,
    not_resource: Option<OneOrMany<String>>,
    #[serde(default)]
    condition: Map<String, Value>,
}

impl PolicyDocument {
    /// # Errors
    /// [`PolicyError`] with the number of the statement, counted from 1.
    pub(crate) fn parse(text: &str) -> Result<Self, PolicyError> {
        let raw: RawDocument = serde_json::from_str(text).map_err(PolicyError::Syntax)?;
        let statements = raw.statement.into_vec().into_iter().enumerate().map(|(index, raw)| {
            statement(raw).map_err(|reason| PolicyError::Statement { statement: index + 1, reason })
        });
        Ok(Self {
            statements: statements.collect::<Result<_, _>>()?,
            reads_resource_tags: text.to_ascii_lowercase().contains("aws:resourcetag/"),
        })
    }
}

fn statement(raw: Map<String, Value>) -> Result<Statement, String> {
    let raw: RawStatement =
        serde_json::from_value(Value::Object(raw)).map_err(|error| error.to_string())?;
    let actions = selection(raw.action, raw.not_action)
        .map_err(|()| "both Action and NotAction".to_owned())?
        .ok_or("neither Action nor NotAction")?;
    let resources = selection(raw.resource, raw.not_resource)
        .map_err(|()| "both Resource and NotResource".to_owned())?;
    let trusted = raw.principal.map(trusted).transpose()?.unwrap_or_default();
    if resources.is_none() && trusted.is_empty() {
        return Err("neither Resource nor NotResource (nor Principal, in a trust policy)".into());
    }
    let mut conditions = Vec::new();
    for (operator, keys) in raw.condition {
        let Value::Object(keys) = keys else {
            return Err(format!("condition {operator} is not an object of keys"));
        };
        for (key, values) in keys {
            conditions.push(Condition::parse(&operator, &key, strings(values)?)?);
        }
    }
    Ok(Statement { effect: raw.effect, actions, resources, trusted, conditions })
}

fn selection(
    these: Option<OneOrMany<String>>,
    but: Option<OneOrMany<String>>,
) -> Result<Option<Selection>, ()> {
    match (these, but) {
        (Some(_), Some(_)) => Err(()),
        (Some(these), None) => Ok(Some(Selection::These(these.into_vec()))),
        (None, Some(but)) => Ok(Some(Selection::AllBut(but.into_vec()))),
        (None, None) => Ok(None),
    }
}

fn trusted(principal: Value) -> Result<Vec<Trusted>, String> {
    match principal {
        Value::String(star) if star == "*" => Ok(vec![Trusted::Everyone]),
        Value::Object(kinds) => kinds
            .into_iter()
            .map(|(kind, values)| match kind.as_str() {
                "AWS" => Ok(Trusted::Aws(strings(values)?)),
                "Service" => Ok(Trusted::Service(strings(values)?)),
                other => Err(format!("principals of kind {other:?} do not exist here")),
            })
            .collect(),
        other => Err(format!("Principal is neither \"*\" nor an object: {other}")),
    }
}

/// Condition values may be numbers and truth values too; they are compared as written.
fn strings(values: Value) -> Result<Vec<String>, String> {
    let one = |value: Value| match value {
        Value::String(text) => Ok(text),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(format!("{other} is not a text, a number or a truth value")),
    };
    match values {
        Value::Array(values) => values.into_iter().map(one).collect(),
        value => Ok(vec![one(value)?]),
    }
}
