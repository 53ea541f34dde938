//! Requests taken apart: JSON bodies and query strings, with every fault named by its field.
//!
//! A body is read member by member, and what is left over at the end is an error: a misspelt
//! member is told to its author instead of being ignored.

use std::fmt;
use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde_json::{Map, Value};

use super::BODY_BYTES_MAX;
use crate::clock::Timestamp;
use crate::fault::Fault;
use crate::store::{Cursor, Order, Slice};

/// A JSON object of a request, and where in the body it stands.
#[derive(Debug)]
pub(super) struct Fields {
    place: String,
    members: Map<String, Value>,
}

/// A body; an empty one is an object without members.
pub(super) struct Body(pub(super) Fields);

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Fault;

    async fn from_request(request: Request, state: &S) -> Result<Self, Fault> {
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
                Fault::TooLarge { limit: BODY_BYTES_MAX }
            } else {
                Fault::field("body", rejection.body_text())
            }
        })?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self(Fields { place: String::new(), members: Map::new() }));
        }
        let value = serde_json::from_slice(&bytes)
            .map_err(|error| Fault::field("body", format_args!("not valid JSON: {error}")))?;
        Fields::of("body", value).map(|fields| Self(Fields { place: String::new(), ..fields }))
    }
}

impl Fields {
    /// Takes a value as an object.
    pub(super) fn of(place: impl fmt::Display, value: Value) -> Result<Self, Fault> {
        match value {
            Value::Object(members) => Ok(Self { place: format!("{place}."), members }),
            _ => Err(Fault::field(place, "must be an object")),
        }
    }

    /// A fault at a member.
    pub(super) fn fault(&self, name: &str, why: impl fmt::Display) -> Fault {
        Fault::field(format_args!("{}{name}", self.place), why)
    }

    /// The member's place in the body.
    pub(super) fn place(&self, name: &str) -> String {
        format!("{}{name}", self.place)
    }

    /// Whether a member is there, `null` or not.
    pub(super) fn has(&self, name: &str) -> bool {
        self.members.contains_key(name)
    }

    /// A member, taken out, if it is there. `null` is there.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name)
    }

    /// A member that is there and not `null`.
    pub(super) fn given(&mut self, name: &str) -> Option<Value> {
        self.take(name).filter(|value| !value.is_null())
    }

    /// A string of at most `max` characters, if given.
    pub(super) fn text(&mut self, name: &str, max: usize) -> Result<Option<String>, Fault> {
        match self.given(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.chars().count() <= max => Ok(Some(text)),
            Some(Value::String(_)) => {
                Err(self.fault(name, format_args!("has more than {max} characters")))
            }
            Some(_) => Err(self.fault(name, "must be a string")),
        }
    }

    /// A string that must be there, and not be empty.
    pub(super) fn required_text(&mut self, name: &str, max: usize) -> Result<String, Fault> {
        match self.text(name, max)? {
            Some(text) if !text.is_empty() => Ok(text),
            Some(_) => Err(self.fault(name, "is empty")),
            None => Err(self.fault(name, "is required")),
        }
    }

    /// An id that must be there.
    pub(super) fn required_id<T: FromStr>(&mut self, name: &str) -> Result<T, Fault>
    where
        T::Err: fmt::Display,
    {
        let text = self.required_text(name, usize::MAX)?;
        text.parse().map_err(|error| self.fault(name, error))
    }

    /// An array of at most `max` entries, if given.
    pub(super) fn array(&mut self, name: &str, max: usize) -> Result<Option<Vec<Value>>, Fault> {
        match self.given(name) {
            None => Ok(None),
            Some(Value::Array(list)) if list.len() <= max => Ok(Some(list)),
            Some(Value::Array(_)) => {
                Err(self.fault(name, format_args!("has more than {max} entries")))
            }
            Some(_) => Err(self.fault(name, "must be an array")),
        }
    }

    /// An object, if given.
    pub(super) fn object(&mut self, name: &str) -> Result<Option<Self>, Fault> {
        let place = self.place(name);
        self.given(name).map(|value| Self::of(place, value)).transpose()
    }

    /// A boolean, if given.
    pub(super) fn boolean(&mut self, name: &str) -> Result<Option<bool>, Fault> {
        match self.given(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(_) => Err(self.fault(name, "must be true or false")),
        }
    }

    /// A whole number from 1 on, if given.
    pub(super) fn positive(&mut self, name: &str) -> Result<Option<i64>, Fault> {
        match self.given(name) {
            None => Ok(None),
            Some(value) => match value.as_i64() {
                Some(number) if number >= 1 => Ok(Some(number)),
                Some(_) | None => Err(self.fault(name, "must be a whole number from 1 on")),
            },
        }
    }

    /// A patch or a bag of metadata; its pairs are checked where it is merged.
    pub(super) fn metadata(&mut self) -> Result<Map<String, Value>, Fault> {
        Ok(self.object("metadata")?.map(|fields| fields.members).unwrap_or_default())
    }

    /// What has not been taken.
    pub(super) fn rest(self) -> Map<String, Value> {
        self.members
    }

    /// Nothing may be left.
    pub(super) fn finish(self) -> Result<(), Fault> {
        match self.members.keys().next() {
            None => Ok(()),
            Some(name) => Err(self.fault(name, "is not known here")),
        }
    }
}

/// A query string.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fault> {
        let text = parts.uri.query().unwrap_or_default();
        Ok(Self(url::form_urlencoded::parse(text.as_bytes()).into_owned().collect()))
    }
}

impl Query {
    /// A parameter; an empty one is as good as none.
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// All values of a parameter, written as `name` or `name[]`.
    pub(super) fn many(&self, name: &str) -> Vec<String> {
        let named = |key: &str| key == name || key.strip_suffix("[]") == Some(name);
        self.0.iter().filter(|(key, _)| named(key)).map(|(_, value)| value.clone()).collect()
    }

    /// A whole number within bounds.
    pub(super) fn number(&self, name: &str, min: u64, max: u64) -> Result<Option<u64>, Fault> {
        let Some(text) = self.one(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) if (min..=max).contains(&number) => Ok(Some(number)),
            Ok(_) | Err(_) => {
                Err(Fault::field(name, format_args!("must be a whole number from {min} to {max}")))
            }
        }
    }

    /// A switch that is off if nothing is said.
    pub(super) fn switch(&self, name: &str) -> Result<bool, Fault> {
        match self.one(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Fault::field(name, "must be true or false")),
        }
    }

    /// The conditions `created_at[gt]` and so on, as operators of SQL.
    pub(super) fn created_at(&self) -> Result<Vec<(&'static str, Timestamp)>, Fault> {
        let mut conditions = Vec::new();
        for (key, operator) in [("gt", ">"), ("gte", ">="), ("lt", "<"), ("lte", "<=")] {
            let name = format!("created_at[{key}]");
            if let Some(text) = self.one(&name) {
                let time = Timestamp::parse(text)
                    .ok_or_else(|| Fault::field(&name, "must be an RFC 3339 time"))?;
                conditions.push((operator, time));
            }
        }
        Ok(conditions)
    }

    /// Which part of a list is wanted: `limit`, `page`, `order`.
    pub(super) fn slice(&self, limit: PageLimit, order: Order) -> Result<Slice, Fault> {
        let given = self.number("limit", 1, u64::from(limit.max))?;
        let cursor = match self.one("page") {
            None => None,
            Some(text) => Some(
                Cursor::decode(text)
                    .ok_or_else(|| Fault::field("page", "is no cursor of this API"))?,
            ),
        };
        let order = match self.one("order") {
            None => order,
            Some("asc") => Order::Ascending,
            Some("desc") => Order::Descending,
            Some(_) => return Err(Fault::field("order", "must be asc or desc")),
        };
        let limit = given.map_or(limit.default, |given| u32::try_from(given).unwrap_or(u32::MAX));
        Ok(Slice { limit, cursor, order })
    }
}

/// How long pages are.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageLimit {
    /// Without a wish.
    pub(super) default: u32,
    /// At most.
    pub(super) max: u32,
}

/// Pages of resources.
pub(super) const RESOURCES: PageLimit = PageLimit { default: 20, max: 100 };
/// Pages of events: a worker asks for 1000 (spec 1.2).
pub(super) const EVENTS: PageLimit = PageLimit { default: 1000, max: 1000 };
