//! AWS's protocols: from an HTTP request to one JSON value, and from a reply or an error to HTTP.
//!
//! A handler sees one form of request and gives one form of reply; what is in the path, the query,
//! a form or a JSON body, and whether the answer is JSON or XML, is settled here.

use crate::{
    error::ApiError,
    shape::{Location, Member, Shape},
};
use axum::{body::Body, response::Response};
use http::{HeaderValue, StatusCode, header};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// How a service speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Protocol {
    /// JSON bodies, members in path and query too; the error's code in a header.
    RestJson,
    /// JSON 1.1: everything is `POST /`, the operation in `X-Amz-Target`.
    Json,
    /// A form in, XML out.
    Query,
}

/// What a handler answers.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    /// None: an empty body.
    pub(crate) body: Option<Value>,
}

impl Reply {
    pub(crate) fn ok(body: Value) -> Self {
        Self { status: StatusCode::OK, body: Some(body) }
    }

    /// 204.
    pub(crate) fn no_content() -> Self {
        Self { status: StatusCode::NO_CONTENT, body: None }
    }

    /// 201.
    pub(crate) fn created(body: Value) -> Self {
        Self { status: StatusCode::CREATED, body: Some(body) }
    }

    /// 202.
    pub(crate) fn accepted(body: Value) -> Self {
        Self { status: StatusCode::ACCEPTED, body: Some(body) }
    }

    /// 200 without a body, as JSON 1.1 operations without output answer.
    pub(crate) fn empty() -> Self {
        Self { status: StatusCode::OK, body: None }
    }
}

/// Parts of the answer that belong to the service rather than to the operation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) protocol: Protocol,
    /// Name of the operation, for the elements of a query answer.
    pub(crate) operation: &'a str,
    pub(crate) xml_namespace: &'a str,
    /// How errors name their message: `message` or `Message`.
    pub(crate) message_member: &'a str,
    pub(crate) request_id: &'a str,
}

/// The members of a request in path, query and JSON body, as one object.
///
/// # Errors
/// `SerializationException` where the body is not a JSON object.
pub(crate) fn decode_json(
    input: &Shape,
    labels: Vec<(&'static str, String)>,
    query: &str,
    body: &[u8],
) -> Result<Value, ApiError> {
    let mut request = if body.iter().all(u8::is_ascii_whitespace) {
        Map::new()
    } else {
        match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => members,
            Ok(_) => {
                return Err(ApiError::serialization("The request body is not a JSON object."));
            }
            Err(error) => {
                return Err(ApiError::serialization(format!(
                    "The request body is not JSON: {} at line {} column {}",
                    kind_of(&error),
                    error.line(),
                    error.column()
                )));
            }
        }
    };
    for (name, value) in labels {
        request.insert(name.to_owned(), Value::String(value));
    }
    let members = input.members().iter();
    for member in members {
        let Location::Query(wire_name) = member.location else { continue };
        // A member of the query cannot be smuggled in by the body.
        request.remove(member.name);
        let values: Vec<String> =
            form(query).filter(|(name, _)| name == wire_name).map(|(_, value)| value).collect();
        if let Some(value) = from_texts(member.shape, values) {
            request.insert(member.name.to_owned(), value);
        }
    }
    Ok(Value::Object(request))
}

/// Says what is wrong with JSON without repeating any of it.
fn kind_of(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        serde_json::error::Category::Eof => "unexpected end",
        serde_json::error::Category::Syntax => "syntax error",
        serde_json::error::Category::Data | serde_json::error::Category::Io => "unreadable",
    }
}

/// The members of a form: `Tags.member.1.Key=…`.
pub(crate) fn decode_form(input: &Shape, form_text: &str) -> Value {
    let fields: BTreeMap<String, String> = form(form_text).collect();
    from_fields(input, "", &fields).unwrap_or_else(|| Value::Object(Map::new()))
}

fn from_fields(shape: &Shape, at: &str, fields: &BTreeMap<String, String>) -> Option<Value> {
    let below = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    match shape {
        Shape::Structure(members) | Shape::Union(members) => {
            let members: Map<String, Value> = members
                .iter()
                .filter_map(|Member { name, shape, .. }| {
                    Some(((*name).to_owned(), from_fields(shape, &below(name), fields)?))
                })
                .collect();
            (!members.is_empty()).then_some(Value::Object(members))
        }
        Shape::List { of, .. } => {
            let items: Vec<Value> = (1..)
                .map_while(|index| from_fields(of, &below(&format!("member.{index}")), fields))
                .collect();
            (!items.is_empty()).then_some(Value::Array(items))
        }
        Shape::Map { .. } => None,
        Shape::Text { .. }
        | Shape::Choice(_)
        | Shape::Blob { .. }
        | Shape::Integer { .. }
        | Shape::Boolean => fields.get(at).map(|text| from_text(shape, text.clone())),
    }
}

/// A member that came as text, perhaps repeatedly: only a list takes more than the first.
fn from_texts(shape: &Shape, values: Vec<String>) -> Option<Value> {
    if let (Shape::List { of, .. }, false) = (shape, values.is_empty()) {
        return Some(values.into_iter().map(|value| from_text(of, value)).collect());
    }
    values.into_iter().next().map(|value| from_text(shape, value))
}

/// A value that came as text, as its shape has it. Text that is not of the shape stays text, so
/// that the check of the shape says so.
fn from_text(shape: &Shape, text: String) -> Value {
    match shape {
        Shape::Integer { .. } => text.parse::<i64>().map_or(Value::String(text), Value::from),
        Shape::Boolean => text.parse::<bool>().map_or(Value::String(text), Value::from),
        Shape::Text { .. }
        | Shape::Choice(_)
        | Shape::Blob { .. }
        | Shape::List { .. }
        | Shape::Map { .. }
        | Shape::Structure(_)
        | Shape::Union(_) => Value::String(text),
    }
}

/// The decoded pairs of a query or form.
pub(crate) fn form(text: &str) -> impl Iterator<Item = (String, String)> {
    let decoded =
        |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    text.split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

/// A reply on the wire.
pub(crate) fn encode(reply: Reply, frame: &Frame<'_>) -> Response {
    let (content_type, body) = match (frame.protocol, reply.body) {
        (Protocol::RestJson, body) => {
            ("application/json", body.map(|body| body.to_string()).unwrap_or_default())
        }
        (Protocol::Json, body) => {
            ("application/x-amz-json-1.1", body.map(|body| body.to_string()).unwrap_or_default())
        }
        (Protocol::Query, body) => ("text/xml", query_answer(body, frame)),
    };
    respond(reply.status, content_type, body, frame.request_id)
}

/// An error on the wire.
pub(crate) fn encode_error(error: &ApiError, frame: &Frame<'_>) -> Response {
    let message = error.message.clone().map_or(Value::Null, Value::String);
    let mut members = error.members.clone();
    let message_member = error.message_member.unwrap_or(frame.message_member);
    members.insert(message_member.to_owned(), message);
    let mut response = match frame.protocol {
        Protocol::RestJson => {
            let body = Value::Object(members).to_string();
            respond(error.status, "application/json", body, frame.request_id)
        }
        Protocol::Json => {
            members.insert("__type".to_owned(), Value::String(error.code.clone().into_owned()));
            let body = Value::Object(members).to_string();
            respond(error.status, "application/x-amz-json-1.1", body, frame.request_id)
        }
        Protocol::Query => {
            respond(error.status, "text/xml", xml_error(error, frame), frame.request_id)
        }
    };
    let headers = response.headers_mut();
    if matches!(frame.protocol, Protocol::RestJson | Protocol::Json)
        && let Ok(code) = HeaderValue::from_str(&error.code)
    {
        headers.insert("x-amzn-errortype", code);
    }
    if let Some(seconds) = error.retry_after_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn respond(status: StatusCode, content_type: &'static str, body: String, id: &str) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert("x-amzn-requestid", id);
    }
    response
}

fn query_answer(body: Option<Value>, frame: &Frame<'_>) -> String {
    let Frame { operation, xml_namespace, request_id, .. } = frame;
    let mut xml = format!("<{operation}Response xmlns=\"{xml_namespace}\">");
    if let Some(body) = body {
        element(&mut xml, &format!("{operation}Result"), &body);
    }
    xml.push_str("<ResponseMetadata><RequestId>");
    xml.push_str(request_id);
    xml.push_str("</RequestId></ResponseMetadata>");
    xml.push_str(&format!("</{operation}Response>\n"));
    xml
}

fn xml_error(error: &ApiError, frame: &Frame<'_>) -> String {
    let mut inner = String::new();
    let whose = if error.status.is_server_error() { "Receiver" } else { "Sender" };
    element(&mut inner, "Type", &Value::from(whose));
    element(&mut inner, "Code", &Value::from(error.code.as_ref()));
    element(&mut inner, "Message", &Value::from(error.message.as_deref().unwrap_or_default()));
    let mut id = String::new();
    element(&mut id, "RequestId", &Value::from(frame.request_id));
    format!(
        "<ErrorResponse xmlns=\"{}\"><Error>{inner}</Error>{id}</ErrorResponse>\n",
        frame.xml_namespace
    )
}

/// `value` as an element; members of a list are `<member>`, what is null is left out.
fn element(xml: &mut String, name: &str, value: &Value) {
    let text = match value {
        Value::Null => return,
        Value::Object(members) => {
            xml.push_str(&format!("<{name}>"));
            members.iter().for_each(|(name, value)| element(xml, name, value));
            xml.push_str(&format!("</{name}>"));
            return;
        }
        Value::Array(items) => {
            xml.push_str(&format!("<{name}>"));
            items.iter().for_each(|item| element(xml, "member", item));
            xml.push_str(&format!("</{name}>"));
            return;
        }
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    };
    xml.push_str(&format!("<{name}>"));
    for c in text.chars() {
        match c {
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '&' => xml.push_str("&amp;"),
            '"' => xml.push_str("&quot;"),
            // XML has no way to write other control characters.
            c if c < ' ' && !matches!(c, '\t' | '\n' | '\r') => xml.push('\u{fffd}'),
            c => xml.push(c),
        }
    }
    xml.push_str(&format!("</{name}>"));
}
