//! From a claim and a secret to a verdict.

use super::{
    Claim, Dialect, Form, Placement, SignatureFault, basic_timestamp, canonical,
    claim::ALGORITHM,
    payload::{self, Chain},
};
use http::request::Parts;
use ring::{digest, hmac};
use subtle::ConstantTimeEq;
use time::{Duration, OffsetDateTime};

/// What a claim is held against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expectation<'a> {
    pub(crate) region: &'a str,
    /// Signing name of the service that was addressed.
    pub(crate) service: &'a str,
    pub(crate) dialect: Dialect,
    pub(crate) now: OffsetDateTime,
    /// How far the client's clock may be off, either way.
    pub(crate) skew: Duration,
}

/// Checks a request whose body is here: everything but the secret, then, with `secret`, the
/// signature itself.
///
/// # Errors
/// The first thing that is wrong.
pub(crate) fn verify(
    claim: &Claim,
    parts: &Parts,
    body: &[u8],
    expected: &Expectation<'_>,
    secret: &str,
) -> Result<(), SignatureFault> {
    check_claim(claim, parts, expected)?;
    let actual = sha256_hex(body);
    match stated_hash(parts) {
        Some(stated) if !stated.eq_ignore_ascii_case(&actual) => {
            return Err(SignatureFault::PayloadMismatch);
        }
        Some(_) | None => {}
    }
    let payload = stated_hash(parts).unwrap_or(&actual);
    check_signature(claim, parts, payload, expected.dialect, secret).map(drop)
}

/// Checks a request of S3 before its body has come. The answer says how the body is to be read and
/// what it is held against.
///
/// # Errors
/// The first thing that is wrong.
pub(crate) fn verify_head(
    claim: &Claim,
    parts: &Parts,
    expected: &Expectation<'_>,
    secret: &str,
) -> Result<Form, SignatureFault> {
    check_claim(claim, parts, expected)?;
    let stated = match (stated_hash(parts), claim.placement) {
        (Some(stated), _) => stated,
        (None, Placement::Query { .. }) => payload::UNSIGNED,
        (None, Placement::Header) => return Err(SignatureFault::PayloadHashMissing),
    };
    let key = check_signature(claim, parts, stated, expected.dialect, secret)?;
    let (timestamp, scope) = (claim.timestamp.clone(), scope(claim));
    Form::read(stated, Chain::new(key.as_ref(), timestamp, scope, claim.signature.clone()))
        .ok_or(SignatureFault::PayloadHashUnreadable)
}

fn check_claim(
    claim: &Claim,
    parts: &Parts,
    expected: &Expectation<'_>,
) -> Result<(), SignatureFault> {
    check_scope(claim, expected)?;
    check_clock(claim, expected)?;
    check_signed_headers(claim, parts, expected.dialect)
}

/// The signing key, once the signature is known to be made with it.
fn check_signature(
    claim: &Claim,
    parts: &Parts,
    payload: &str,
    dialect: Dialect,
    secret: &str,
) -> Result<hmac::Tag, SignatureFault> {
    let headers = canonical::headers(&claim.signed_headers, &parts.headers).ok_or_else(|| {
        SignatureFault::Incomplete(format!(
            "SignedHeaders names a header that is not in the request, or not UTF-8: '{}'.",
            claim.signed_headers.join(";")
        ))
    })?;
    let canonical_request = [
        parts.method.as_str(),
        &canonical::path(parts.uri.path(), dialect),
        &canonical::query(parts.uri.query().unwrap_or_default()),
        &headers,
        &claim.signed_headers.join(";"),
        payload,
    ]
    .join("\n");
    let string_to_sign = format!(
        "{ALGORITHM}\n{}\n{}\n{}",
        claim.timestamp,
        scope(claim),
        sha256_hex(canonical_request.as_bytes())
    );
    let key = signing_key(secret, claim);
    let signature = hex::encode(sign(key.as_ref(), &string_to_sign));
    if bool::from(signature.as_bytes().ct_eq(claim.signature.as_bytes())) {
        Ok(key)
    } else {
        Err(SignatureFault::Mismatch { canonical_request, string_to_sign })
    }
}

fn scope(claim: &Claim) -> String {
    format!("{}/{}/{}/aws4_request", claim.date, claim.region, claim.service)
}

fn stated_hash(parts: &Parts) -> Option<&str> {
    parts.headers.get("x-amz-content-sha256").and_then(|value| value.to_str().ok())
}

fn check_scope(claim: &Claim, expected: &Expectation<'_>) -> Result<(), SignatureFault> {
    if claim.region != expected.region {
        return Err(SignatureFault::WrongScope(format!(
            "Credential should be scoped to a valid region, not '{}'. ",
            claim.region
        )));
    }
    if claim.service != expected.service {
        return Err(SignatureFault::WrongScope(format!(
            "Credential should be scoped to correct service: '{}'. ",
            expected.service
        )));
    }
    Ok(())
}

fn check_clock(claim: &Claim, expected: &Expectation<'_>) -> Result<(), SignatureFault> {
    let Expectation { now, skew, .. } = *expected;
    let skew_minutes = skew.whole_minutes();
    if claim.signed_at > now + skew {
        return Err(SignatureFault::NotYetCurrent {
            signed_at: claim.timestamp.clone(),
            limit: basic_timestamp(now + skew),
            now: basic_timestamp(now),
            skew_minutes,
        });
    }
    match claim.placement {
        Placement::Header if claim.signed_at < now - skew => Err(SignatureFault::Expired {
            signed_at: claim.timestamp.clone(),
            limit: basic_timestamp(now - skew),
            now: basic_timestamp(now),
            skew_minutes,
        }),
        Placement::Query { expires } if claim.signed_at + expires < now => {
            Err(SignatureFault::PresignedExpired)
        }
        Placement::Header | Placement::Query { .. } => Ok(()),
    }
}

/// What decides the meaning of a request must be signed: the host, and the headers of AWS's own
/// (operation, date, token, payload hash). Presigned requests carry theirs in the signed query.
fn check_signed_headers(
    claim: &Claim,
    parts: &Parts,
    dialect: Dialect,
) -> Result<(), SignatureFault> {
    let is_signed = |name: &str| claim.signed_headers.iter().any(|signed| signed == name);
    if !is_signed("host") {
        return Err(SignatureFault::Incomplete(
            "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.".to_owned(),
        ));
    }
    let deciding = |name: &str| match (claim.placement, dialect) {
        (Placement::Header, _) | (Placement::Query { .. }, Dialect::S3) => {
            name.starts_with("x-amz-") && name != "x-amz-user-agent"
        }
        (Placement::Query { .. }, Dialect::General) => name == "x-amz-target",
    };
    let unsigned: Vec<&str> = parts
        .headers
        .keys()
        .map(http::HeaderName::as_str)
        .filter(|name| deciding(name) && !is_signed(name))
        .collect();
    if unsigned.is_empty() {
        Ok(())
    } else {
        Err(SignatureFault::Incomplete(format!(
            "There were headers present in the request which were not signed: '{}'.",
            unsigned.join(", ")
        )))
    }
}

fn signing_key(secret: &str, claim: &Claim) -> hmac::Tag {
    let date = sign(format!("AWS4{secret}").as_bytes(), &claim.date);
    let region = sign(date.as_ref(), &claim.region);
    let service = sign(region.as_ref(), &claim.service);
    sign(service.as_ref(), "aws4_request")
}

pub(super) fn sign(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}
