//! The canonical request: the one text that sender and receiver make of a request.
//!
//! Rules: AWS "Create a signed AWS API request"; where that is silent, what botocore does, since
//! that is what arrives.

use super::Dialect;
use http::HeaderMap;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// All but `A-Z a-z 0-9 - . _ ~` is encoded.
const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same for a path, whose separators stay.
const PATH: &AsciiSet = &COMPONENT.remove(b'/');

/// The path as it was sent (still encoded), in canonical form.
pub(super) fn path(sent: &str, dialect: Dialect) -> String {
    match dialect {
        Dialect::General => utf8_percent_encode(&without_dot_segments(sent), PATH).to_string(),
        // S3 keys may hold "//" and "..": nothing is normalised, and what was encoded is encoded once.
        Dialect::S3 => {
            let decoded: Vec<u8> = percent_decode_str(sent).collect();
            let encoded = percent_encoding::percent_encode(&decoded, PATH).to_string();
            if encoded.is_empty() { "/".to_owned() } else { encoded }
        }
    }
}

/// RFC 3986 5.2.4, and empty segments go too.
fn without_dot_segments(sent: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in sent.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    let mut path = format!("/{}", kept.join("/"));
    if sent.ends_with('/') && !kept.is_empty() {
        path.push('/');
    }
    path
}

/// The query as it was sent, without `X-Amz-Signature`, sorted and encoded afresh.
pub(super) fn query(sent: &str) -> String {
    let mut pairs: Vec<(String, String)> = sent
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encoded_again(name), encoded_again(value)))
        .filter(|(name, _)| name != "X-Amz-Signature")
        .collect();
    pairs.sort();
    let pairs: Vec<String> =
        pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

fn encoded_again(component: &str) -> String {
    // A literal '+' stays a plus: no signer writes a space so, and servers of this API read %20.
    let decoded: Vec<u8> = percent_decode_str(component).collect();
    percent_encoding::percent_encode(&decoded, COMPONENT).to_string()
}

/// `name:value\n` of each signed header. None: one of them is not in the request, or not text.
pub(super) fn headers(signed: &[String], sent: &HeaderMap) -> Option<String> {
    let mut text = String::new();
    for name in signed {
        let mut values = sent.get_all(name.as_str()).iter().peekable();
        values.peek()?;
        let values: Option<Vec<String>> = values
            .map(|value| {
                let value = str::from_utf8(value.as_bytes()).ok()?;
                Some(value.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
            })
            .collect();
        text.push_str(name);
        text.push(':');
        text.push_str(&values?.join(","));
        text.push('\n');
    }
    Some(text)
}
