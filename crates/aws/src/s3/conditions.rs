//! Conditional requests and ranges, as RFC 9110 and S3 have them.

use super::{
    call::{Call, parse_http_date},
    error::S3Error,
};
use objects::{Condition, Object};
use std::ops::Range;

/// Which headers hold the conditions.
#[derive(Clone, Copy)]
pub(super) struct Names {
    if_match: &'static str,
    if_none_match: &'static str,
    if_modified_since: &'static str,
    if_unmodified_since: &'static str,
}

pub(super) const OF_READ: Names = Names {
    if_match: "if-match",
    if_none_match: "if-none-match",
    if_modified_since: "if-modified-since",
    if_unmodified_since: "if-unmodified-since",
};

pub(super) const OF_COPY_SOURCE: Names = Names {
    if_match: "x-amz-copy-source-if-match",
    if_none_match: "x-amz-copy-source-if-none-match",
    if_modified_since: "x-amz-copy-source-if-modified-since",
    if_unmodified_since: "x-amz-copy-source-if-unmodified-since",
};

/// What a list of conditions says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Holds,
    /// The client has it already.
    NotModified,
    Fails(&'static str),
}

/// Holds an object against the conditions of a request.
pub(super) fn judge(call: &Call, names: Names, object: &Object) -> Verdict {
    let listed = |list: &str| {
        list.split(',').map(|tag| unquoted(tag.trim())).any(|tag| tag == "*" || tag == object.etag)
    };
    // Dates have whole seconds.
    let modified = object.modified_at.replace_millisecond(0).unwrap_or(object.modified_at);
    let date = |name: &str| call.header(name).and_then(parse_http_date);
    match (call.header(names.if_match), date(names.if_unmodified_since)) {
        (Some(list), _) if !listed(list) => return Verdict::Fails("If-Match"),
        (None, Some(since)) if modified > since => return Verdict::Fails("If-Unmodified-Since"),
        (Some(_) | None, _) => {}
    }
    match (call.header(names.if_none_match), date(names.if_modified_since)) {
        (Some(list), _) if listed(list) => Verdict::NotModified,
        (None, Some(since)) if modified <= since => Verdict::NotModified,
        (Some(_) | None, _) => Verdict::Holds,
    }
}

/// What a write asks of the object that is there.
///
/// # Errors
/// NotImplemented for what S3 does not take either.
pub(super) fn of_write(call: &Call) -> Result<Condition, S3Error> {
    match (call.header("if-none-match"), call.header("if-match")) {
        (None, None) => Ok(Condition::None),
        (Some("*"), None) => Ok(Condition::Absent),
        (None, Some(etag)) => Ok(Condition::Etag(unquoted(etag).to_owned())),
        (Some(_), _) => {
            let message = "A header you provided implies functionality that is not implemented";
            Err(S3Error::new("NotImplemented", 501, message).with("Header", "If-None-Match"))
        }
    }
}

pub(super) fn unquoted(etag: &str) -> &str {
    let etag = etag.strip_prefix("W/").unwrap_or(etag);
    etag.strip_prefix('"').and_then(|etag| etag.strip_suffix('"')).unwrap_or(etag)
}

/// The bytes that a `Range` header asks for. None: all of them; what is not one range in bytes is
/// passed over, as RFC 9110 has it.
///
/// # Errors
/// InvalidRange where there are none of these bytes.
pub(super) fn range(header: Option<&str>, size: u64) -> Result<Option<Range<u64>>, S3Error> {
    let Some(text) = header else { return Ok(None) };
    let Some((from, to)) = text.trim().strip_prefix("bytes=").and_then(|r| r.split_once('-'))
    else {
        return Ok(None);
    };
    let number = |text: &str| match text.trim() {
        "" => Some(None),
        digits => digits.parse::<u64>().ok().map(Some),
    };
    let range = match (number(from), number(to)) {
        (Some(Some(from)), Some(Some(to))) if from <= to => from..to.saturating_add(1).min(size),
        (Some(Some(from)), Some(None)) => from..size,
        (Some(None), Some(Some(last))) => size.saturating_sub(last)..size,
        _ => return Ok(None),
    };
    if range.start >= range.end {
        let message = "The requested range is not satisfiable";
        return Err(S3Error::new("InvalidRange", 416, message)
            .with("RangeRequested", text)
            .with("ActualObjectSize", size.to_string()));
    }
    Ok(Some(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_at_the_end() {
        let check = |text: &str, expected: Option<Range<u64>>| {
            assert_eq!(range(Some(text), 10).unwrap(), expected, "{text}");
        };
        check("bytes=0-3", Some(0..4));
        check("bytes=8-99", Some(8..10));
        check("bytes=5-", Some(5..10));
        check("bytes=-3", Some(7..10));
        check("bytes=-99", Some(0..10));
        for ignored in ["bytes=3-1", "bytes=a-b", "bytes=0-1,3-4", "lines=0-1", "bytes=-"] {
            check(ignored, None);
        }
        for (text, size) in [("bytes=10-", 10), ("bytes=-0", 10), ("bytes=0-", 0)] {
            assert_eq!(range(Some(text), size).unwrap_err().code, "InvalidRange", "{text}");
        }
        assert_eq!(unquoted("W/\"a\""), "a");
    }
}
