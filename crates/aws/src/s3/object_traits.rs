//! What is said of an object besides its content: from the head of a request, to that of an answer.

use super::{
    call::{Call, set},
    error::S3Error,
};
use crate::protocol::form;
use axum::response::Response;
use objects::Traits;
use std::collections::BTreeMap;

/// Headers that are kept as they came.
const HEADERS: [&str; 6] = [
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
];
const CONTENT_TYPE: &str = "binary/octet-stream";
/// Most bytes of metadata, names and values together.
const METADATA_BYTES_MAX: usize = 2 * 1024;
const TAGS_MAX: usize = 10;

/// # Errors
/// MetadataTooLarge, InvalidTag.
pub(super) fn read(call: &Call) -> Result<Traits, S3Error> {
    let mut headers = BTreeMap::new();
    for name in HEADERS {
        let Some(value) = call.header(name) else { continue };
        // How the body was sent, not what it is.
        let value = match name {
            "content-encoding" => {
                let codings = value.split(',').map(str::trim);
                codings.filter(|coding| *coding != "aws-chunked").collect::<Vec<_>>().join(",")
            }
            _ => value.to_owned(),
        };
        if !value.is_empty() {
            headers.insert(name.to_owned(), value);
        }
    }
    let mut metadata = BTreeMap::new();
    for (name, value) in call.headers_under("x-amz-meta-") {
        let joined = metadata.remove(&name).map(|before: String| format!("{before},{value}"));
        metadata.insert(name, joined.unwrap_or(value));
    }
    let bytes: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > METADATA_BYTES_MAX {
        let message = "Your metadata headers exceed the maximum allowed metadata size";
        return Err(S3Error::new("MetadataTooLarge", 400, message)
            .with("Size", bytes.to_string())
            .with("MaxSizeAllowed", METADATA_BYTES_MAX.to_string()));
    }
    let tags = match call.header("x-amz-tagging") {
        Some(text) => tags(form(text))?,
        None => BTreeMap::new(),
    };
    Ok(Traits { headers, metadata, tags })
}

/// # Errors
/// InvalidTag, BadRequest beyond ten.
pub(super) fn tags(
    pairs: impl Iterator<Item = (String, String)>,
) -> Result<BTreeMap<String, String>, S3Error> {
    let mut tags = BTreeMap::new();
    for (name, value) in pairs {
        if !(1..=128).contains(&name.chars().count()) || value.chars().count() > 256 {
            let message = "The TagKey or TagValue you have provided is invalid";
            return Err(S3Error::new("InvalidTag", 400, message));
        }
        if tags.insert(name, value).is_some() {
            let message = "Cannot provide multiple Tags with the same key";
            return Err(S3Error::new("InvalidTag", 400, message));
        }
    }
    if tags.len() > TAGS_MAX {
        let message = format!("Object tags cannot be greater than {TAGS_MAX}");
        return Err(S3Error::new("BadRequest", 400, message));
    }
    Ok(tags)
}

/// Writes them into the head of an answer; what the query overrides (`response-content-type`…) is
/// overridden.
pub(super) fn write(call: &Call, traits: &Traits, response: &mut Response) {
    for name in HEADERS {
        let overridden = call.query(&format!("response-{name}"));
        let value = overridden.or_else(|| traits.headers.get(name).map(String::as_str));
        match value {
            Some(value) => set(response, name, value),
            None if name == "content-type" => set(response, name, CONTENT_TYPE),
            None => {}
        }
    }
    for (name, value) in &traits.metadata {
        set(response, &format!("x-amz-meta-{name}"), value);
    }
    if !traits.tags.is_empty() {
        set(response, "x-amz-tagging-count", &traits.tags.len().to_string());
    }
}
