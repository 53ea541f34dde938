//! Presigned requests of the kind before version 4: what boto3 makes for S3 in `us-east-1` unless it
//! is told otherwise. `AWSAccessKeyId`, `Expires` and `Signature` stand in the query.
//!
//! Only for S3 and only presigned, as that is what stock clients still send. The body is not signed.

use crate::{protocol::form, sigv4::SignatureFault};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::request::Parts;
use percent_encoding::percent_decode_str;
use ring::hmac;
use std::collections::BTreeMap;
use subtle::ConstantTimeEq;
use time::OffsetDateTime;

/// Parameters that are part of what is signed.
const SIGNED_PARAMETERS: [&str; 21] = [
    "acl",
    "cors",
    "delete",
    "lifecycle",
    "location",
    "logging",
    "notification",
    "partNumber",
    "policy",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "tagging",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "website",
];

/// What such a request says of itself; nothing of it is verified.
#[derive(Clone, Debug)]
pub(crate) struct PresignedV2 {
    pub(crate) access_key: String,
    pub(crate) session_token: Option<String>,
    signature: String,
    /// Seconds since the epoch, as written.
    expires: String,
}

impl PresignedV2 {
    /// None: the request is not of this kind.
    pub(crate) fn read(parts: &Parts) -> Option<Self> {
        let query = parts.uri.query().filter(|query| query.contains("AWSAccessKeyId="))?;
        let mut parameters: BTreeMap<String, String> = form(query).collect();
        Some(Self {
            access_key: parameters.remove("AWSAccessKeyId")?,
            session_token: parameters.remove("x-amz-security-token"),
            signature: parameters.remove("Signature")?,
            expires: parameters.remove("Expires")?,
        })
    }

    /// `bucket`: the one in the host, which is part of what is signed.
    ///
    /// # Errors
    /// PresignedExpired, Mismatch.
    pub(crate) fn verify(
        &self,
        parts: &Parts,
        bucket: Option<&str>,
        secret: &str,
        now: OffsetDateTime,
    ) -> Result<(), SignatureFault> {
        let expires: i64 = self.expires.parse().map_err(|_| {
            SignatureFault::Incomplete("Invalid date (should be seconds since epoch).".to_owned())
        })?;
        if expires < now.unix_timestamp() {
            return Err(SignatureFault::PresignedExpired);
        }
        let text = self.string_to_sign(parts, bucket);
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
        let expected = BASE64_STANDARD.encode(hmac::sign(&key, text.as_bytes()));
        if bool::from(expected.as_bytes().ct_eq(self.signature.as_bytes())) {
            return Ok(());
        }
        Err(SignatureFault::Mismatch { canonical_request: String::new(), string_to_sign: text })
    }

    fn string_to_sign(&self, parts: &Parts, bucket: Option<&str>) -> String {
        let query = parts.uri.query().unwrap_or_default();
        let parameters: Vec<(String, String)> = form(query).collect();
        // A header may have been put into the query; it is signed as a header all the same.
        let mut headers: BTreeMap<String, String> = parameters
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
            .filter(|(name, _)| is_header(name))
            .collect();
        for (name, value) in &parts.headers {
            if is_header(name.as_str()) {
                let value = String::from_utf8_lossy(value.as_bytes()).trim().to_owned();
                headers.insert(name.as_str().to_owned(), value);
            }
        }
        let mut take = |name: &str| headers.remove(name).unwrap_or_default();
        let (md5, kind) = (take("content-md5"), take("content-type"));
        let headers: String =
            headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let mut signed: Vec<String> = query
            .split('&')
            .map(|pair| {
                pair.split_once('=').map_or((pair, None), |(name, value)| (name, Some(value)))
            })
            .filter(|(name, _)| SIGNED_PARAMETERS.contains(name))
            .map(|(name, value)| match value {
                Some(value) => format!("{name}={}", percent_decode_str(value).decode_utf8_lossy()),
                None => name.to_owned(),
            })
            .collect();
        signed.sort();
        let mut resource = bucket.map(|bucket| format!("/{bucket}")).unwrap_or_default();
        resource.push_str(parts.uri.path());
        if !signed.is_empty() {
            resource.push('?');
            resource.push_str(&signed.join("&"));
        }
        format!("{}\n{md5}\n{kind}\n{}\n{headers}{resource}", parts.method, self.expires)
    }
}

fn is_header(name: &str) -> bool {
    name.starts_with("x-amz-") || name == "content-md5" || name == "content-type"
}
