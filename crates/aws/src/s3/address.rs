//! Which bucket and object a request is for: in the path, or the bucket in the host.

use http::{header::HOST, request::Parts};
use percent_encoding::percent_decode_str;

/// What a request is for, as it was written; names are not checked yet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Address {
    pub(super) bucket: Option<String>,
    /// None: the bucket itself. Not UTF-8 becomes the replacement character.
    pub(super) key: Option<String>,
}

impl Address {
    /// `domains`: hosts whose subdomains are buckets.
    pub(super) fn read(parts: &Parts, domains: &[String]) -> Self {
        let path = parts.uri.path();
        let path = path.strip_prefix('/').unwrap_or(path);
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let some = |text: &str| (!text.is_empty()).then(|| decoded(text));
        match bucket_of_host(parts, domains) {
            Some(bucket) => Self { bucket: Some(bucket), key: some(path) },
            None => {
                let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
                Self { bucket: some(bucket), key: some(key) }
            }
        }
    }
}

/// The bucket of `<bucket>.<domain>`.
pub(super) fn bucket_of_host(parts: &Parts, domains: &[String]) -> Option<String> {
    let host = parts.headers.get(HOST)?.to_str().ok()?;
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let host = host.to_ascii_lowercase();
    let found = domains.iter().filter_map(|domain| {
        let bucket = host.strip_suffix(domain.as_str())?.strip_suffix('.')?;
        (!bucket.is_empty()).then(|| bucket.to_owned())
    });
    // Of `b.s3.localhost` under `localhost` and `s3.localhost`, the shorter name is meant.
    found.min_by_key(String::len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn check(host: &str, path: &str, bucket: Option<&str>, key: Option<&str>) {
        let request = Request::get(path).header("host", host).body(()).unwrap();
        let domains = ["localhost", "s3.localhost"].map(str::to_owned);
        let found = Address::read(&request.into_parts().0, &domains);
        let expected = Address { bucket: bucket.map(Into::into), key: key.map(Into::into) };
        assert_eq!(found, expected, "{host} {path}");
    }

    #[test]
    fn a_bucket_is_in_the_path_or_in_the_host() {
        check("127.0.0.1:7420", "/", None, None);
        check("127.0.0.1:7420", "/b", Some("b"), None);
        check("127.0.0.1:7420", "/b/", Some("b"), None);
        check("localhost:7420", "/b/a//b%2Fc%20d+e", Some("b"), Some("a//b/c d+e"));
        check("b.localhost:7420", "/b/c", Some("b"), Some("b/c"));
        check("my.bucket.S3.localhost", "/", Some("my.bucket"), None);
        check("elsewhere.example", "/b/../c", Some("b"), Some("../c"));
    }
}
