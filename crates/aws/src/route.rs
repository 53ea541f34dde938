//! Which operation a request names: by `X-Amz-Target`, path, form and signing name, never by Host,
//! since endpoint overrides arrive under any.

use crate::{
    SERVICES,
    error::ApiError,
    protocol::{Protocol, form},
    service::{Operation, Service},
    sigv4::Claim,
};
use http::{header::CONTENT_TYPE, request::Parts};
use percent_encoding::percent_decode_str;

/// An operation that was found.
pub(crate) struct Found {
    pub(crate) service: &'static Service,
    pub(crate) operation: &'static Operation,
    /// Members that stand in the path, decoded.
    pub(crate) labels: Vec<(&'static str, String)>,
}

/// A request that names nothing that is done here, and how its sender wants to be told.
pub(crate) struct NotFound {
    pub(crate) protocol: Protocol,
    pub(crate) service: Option<&'static Service>,
    /// What it asked for: an operation's name, or method and path.
    pub(crate) asked: String,
}

impl NotFound {
    pub(crate) fn error(&self) -> ApiError {
        let message = format!("Unknown operation: {} is not available in this Warren.", self.asked);
        ApiError::unknown_operation(self.protocol, message)
    }
}

/// # Errors
/// [`NotFound`] with the answer.
pub(crate) fn find(parts: &Parts, body: &[u8]) -> Result<Found, NotFound> {
    let signing_name = Claim::service_named(&parts.headers, &parts.uri).unwrap_or_default();
    if let Some(target) = parts.headers.get("x-amz-target") {
        return by_target(&String::from_utf8_lossy(target.as_bytes()));
    }
    let path = parts.uri.path();
    let first = path.split('/').nth(1).unwrap_or_default();
    let by_prefix = SERVICES.iter().find(|service| service.path_prefixes.contains(&first));
    let by_name = SERVICES
        .iter()
        .find(|service| service.signing_name == signing_name && !service.path_prefixes.is_empty());
    if let Some(service) = by_prefix.or(by_name) {
        return by_path(service, parts);
    }
    if let Some(form) = form_of(parts, body) {
        return by_action(&signing_name, &form);
    }
    let what = match signing_name.as_str() {
        "" => format!("{} {path}", parts.method),
        service => format!("{} {path} of the service {service}", parts.method),
    };
    Err(unknown(Protocol::RestJson, None, what))
}

fn unknown(protocol: Protocol, service: Option<&'static Service>, asked: String) -> NotFound {
    NotFound { protocol, service, asked }
}

fn by_target(target: &str) -> Result<Found, NotFound> {
    let (prefix, name) = target.split_once('.').unwrap_or((target, ""));
    let service = SERVICES
        .iter()
        .find(|service| !service.target_prefix.is_empty() && service.target_prefix == prefix);
    let Some(service) = service else {
        return Err(unknown(Protocol::Json, None, target.to_owned()));
    };
    by_operation_name(service, name)
}

fn by_operation_name(service: &'static Service, name: &str) -> Result<Found, NotFound> {
    match service.operations.iter().find(|operation| operation.name == name) {
        Some(operation) => Ok(Found { service, operation, labels: Vec::new() }),
        None => Err(unknown(
            service.protocol,
            Some(service),
            format!("{name} of the service {}", service.signing_name),
        )),
    }
}

fn by_path(service: &'static Service, parts: &Parts) -> Result<Found, NotFound> {
    let path = parts.uri.path();
    for operation in service.operations {
        if let Some((method, template)) = &operation.route
            && *method == parts.method
            && let Some(labels) = labels_of(template, path)
        {
            return Ok(Found { service, operation, labels });
        }
    }
    let named = service.unavailable.iter().find(|(method, template, _)| {
        *method == parts.method && labels_of(template, path).is_some()
    });
    let asked =
        named.map_or_else(|| format!("{} {path}", parts.method), |(_, _, name)| (*name).to_owned());
    Err(unknown(service.protocol, Some(service), asked))
}

/// Values of a template's labels. None: the path is not of the template.
fn labels_of(template: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    let mut labels = Vec::new();
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(labels),
            (Some(wanted), Some(given)) => {
                match wanted.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                    Some(name) => {
                        labels.push((name, percent_decode_str(given).decode_utf8_lossy().into()));
                    }
                    None if wanted == given => {}
                    None => return None,
                }
            }
            (Some(_), None) | (None, Some(_)) => return None,
        }
    }
}

/// The form of a query call, in the body or the query.
pub(crate) fn form_of(parts: &Parts, body: &[u8]) -> Option<String> {
    let is_form = parts
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    let query = parts.uri.query().unwrap_or_default();
    if is_form {
        return Some(format!("{query}&{}", String::from_utf8_lossy(body)));
    }
    form(query).any(|(name, _)| name == "Action").then(|| query.to_owned())
}

fn by_action(signing_name: &str, text: &str) -> Result<Found, NotFound> {
    let action = form(text).find(|(name, _)| name == "Action").map(|(_, value)| value);
    let action = action.unwrap_or_default();
    let service = SERVICES.iter().find(|service| {
        service.protocol == Protocol::Query && service.signing_name == signing_name
    });
    match service {
        Some(service) => by_operation_name(service, &action),
        None => {
            let asked = format!("{action} of the service {signing_name}");
            Err(unknown(Protocol::Query, None, asked))
        }
    }
}
