//! Which headers go through, and which end here.
//!
//! What is about one connection (RFC 9110 7.6.1) belongs to that connection; what is the proxy's own
//! is for the proxy. Everything else goes through as it came, several lines of one name included.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// The gateway's own headers begin with this. `_` counts as `-`, since many servers make one of the
/// other, and an app must not take a client's word for the gateway's.
const RESERVED: &str = "x-aws-proxy-";

/// What holds for one connection only, besides what `Connection` names.
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
];

/// Headers that a `Connection` line cannot make disappear: they decide where a request goes, how long
/// its body is, or who sent it.
const KEPT: [HeaderName; 4] =
    [header::HOST, header::CONTENT_LENGTH, header::AUTHORIZATION, header::COOKIE];

/// Takes away what was for the connection that it came by. `TE: trailers` stays, which gRPC needs.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = listed(headers, &header::CONNECTION)
        .filter_map(|name| name.parse().ok())
        .filter(|name| !KEPT.contains(name))
        .collect();
    let trailers = listed(headers, &header::TE).any(|te| te.eq_ignore_ascii_case("trailers"));
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    headers.remove(header::TE);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
}

/// Takes away what is only between the client and the gateway, or pretends to be.
pub(crate) fn remove_reserved(headers: &mut HeaderMap) {
    let reserved: Vec<HeaderName> =
        headers.keys().filter(|name| is_reserved(name.as_str())).cloned().collect();
    for name in reserved {
        headers.remove(name);
    }
}

fn is_reserved(name: &str) -> bool {
    name.len() >= RESERVED.len()
        && name
            .bytes()
            .zip(RESERVED.bytes())
            .all(|(b, r)| if b == b'_' { r == b'-' } else { b == r })
}

/// The elements of a header that is a list, over all its lines; what is no text is passed over.
pub(crate) fn listed<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|element| !element.is_empty())
}

/// HTTP/2 allows several lines of cookies, HTTP/1.1 one (RFC 9113 8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let lines: Vec<&[u8]> =
        headers.get_all(header::COOKIE).into_iter().map(HeaderValue::as_bytes).collect();
    if lines.len() < 2 {
        return;
    }
    // Each was a header's value, so their sum is one too.
    if let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let parse = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())
        };
        let mut map = HeaderMap::new();
        for (name, value) in lines.iter().map(parse) {
            map.append(name, value);
        }
        map
    }

    fn names(map: &HeaderMap) -> BTreeSet<&str> {
        map.keys().map(HeaderName::as_str).collect()
    }

    #[test]
    fn what_is_of_the_connection_stays_on_it() {
        let mut map = headers(&[
            ("connection", "close, X-Private"),
            ("connection", "host, content-length"),
            ("x-private", "1"),
            ("host", "h"),
            ("content-length", "3"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
            ("te", "gzip, Trailers"),
            ("traceparent", "00-1"),
        ]);
        remove_hop_by_hop(&mut map);
        assert_eq!(names(&map), ["host", "content-length", "traceparent", "te"].into());
        assert_eq!(map["te"], "trailers");
    }

    #[test]
    fn reserved_headers_go_in_every_spelling() {
        let mut map = headers(&[
            ("x-aws-proxy-auth", "t"),
            ("X-AWS-Proxy-Port", "1"),
            ("x_aws_proxy_auth", "t"),
            ("x-aws_proxy-anything", "t"),
            ("x-aws-proxy", "stays"),
            ("x-amz-date", "stays"),
        ]);
        remove_reserved(&mut map);
        assert_eq!(names(&map), ["x-aws-proxy", "x-amz-date"].into());
    }

    #[test]
    fn cookies_of_http_2_become_one_line() {
        let mut map = headers(&[("cookie", "a=1"), ("cookie", "b=2; c=3")]);
        join_cookies(&mut map);
        assert_eq!(map.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
    }
}
