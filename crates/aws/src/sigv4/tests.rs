//! Signatures: AWS's published example, botocore's signer on a table of odd requests, and every way
//! in which a request may be altered.

use super::*;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderValue, Request, request::Parts};
use serde::Deserialize;
use std::{path::PathBuf, process::Command};
use time::Duration;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// `get-vanilla` of AWS's published test suite.
fn vanilla() -> Parts {
    Request::get("/")
        .header("host", "example.amazonaws.com")
        .header("x-amz-date", "20150830T123600Z")
        .header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
             SignedHeaders=host;x-amz-date, \
             Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        )
        .body(())
        .unwrap()
        .into_parts()
        .0
}

fn expectation(service: &str) -> Expectation<'_> {
    Expectation {
        region: "us-east-1",
        service,
        dialect: if service == "s3" { Dialect::S3 } else { Dialect::General },
        now: time::macros::datetime!(2015-08-30 12:36:00 UTC),
        skew: Duration::minutes(5),
    }
}

fn verdict(parts: &Parts, expected: &Expectation<'_>) -> Result<(), SignatureFault> {
    verify(&Claim::parse(parts)?, parts, b"", expected, SECRET)
}

/// The vanilla request with one thing changed.
fn altered(change: impl FnOnce(&mut Parts, &mut Expectation<'_>)) -> SignatureFault {
    let (mut parts, mut expected) = (vanilla(), expectation("service"));
    change(&mut parts, &mut expected);
    verdict(&parts, &expected).unwrap_err()
}

fn set(parts: &mut Parts, name: &'static str, value: &str) {
    parts.headers.insert(name, HeaderValue::from_str(value).unwrap());
}

/// Replaces a part of the `Authorization` header.
fn rewrite(parts: &mut Parts, from: &str, to: &str) {
    let header = parts.headers["authorization"].to_str().unwrap().replace(from, to);
    set(parts, "authorization", &header);
}

#[test]
fn the_published_example_is_believed() {
    verdict(&vanilla(), &expectation("service")).unwrap();
}

#[test]
fn an_altered_request_is_not_believed() {
    let mismatch = |fault: SignatureFault| {
        assert!(matches!(fault, SignatureFault::Mismatch { .. }), "{fault:?}");
    };
    mismatch(altered(|parts, _| parts.method = http::Method::POST));
    mismatch(altered(|parts, _| parts.uri = "/x".parse().unwrap()));
    mismatch(altered(|parts, _| parts.uri = "/?x=1".parse().unwrap()));
    mismatch(altered(|parts, _| set(parts, "host", "example.org")));
    mismatch(altered(|parts, _| rewrite(parts, "5fa00fa3", "5fa00fa4")));
    let claim = Claim::parse(&vanilla()).unwrap();
    mismatch(verify(&claim, &vanilla(), b"x", &expectation("service"), SECRET).unwrap_err());
    mismatch(verify(&claim, &vanilla(), b"", &expectation("service"), "wrong").unwrap_err());
}

#[test]
fn a_mismatch_shows_our_canonical_request() {
    let text = altered(|parts, _| set(parts, "host", "example.org")).to_string();
    assert!(text.contains("GET\n/\n\nhost:example.org\nx-amz-date:20150830T123600Z\n\n"), "{text}");
    assert!(
        text.contains("AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/service"),
        "{text}"
    );
}

#[test]
fn what_is_not_signed_may_not_decide() {
    let unsigned = altered(|parts, _| set(parts, "x-amz-target", "secretsmanager.DeleteSecret"));
    assert_eq!(
        unsigned.to_string(),
        "There were headers present in the request which were not signed: 'x-amz-target'."
    );
    let no_host = altered(|parts, _| rewrite(parts, "SignedHeaders=host;", "SignedHeaders="));
    assert!(no_host.to_string().starts_with("'Host' or ':authority' must be"));
    let absent = altered(|parts, _| rewrite(parts, "host;x-amz-date", "host;x-amz-date;x-gone"));
    assert!(absent.to_string().contains("names a header that is not in the request"));
}

#[test]
fn clocks_may_differ_by_five_minutes() {
    let minutes = |minutes: i64| {
        let mut expected = expectation("service");
        expected.now += Duration::minutes(minutes);
        verdict(&vanilla(), &expected)
    };
    minutes(5).unwrap();
    minutes(-5).unwrap();
    assert_eq!(
        minutes(6).unwrap_err().to_string(),
        "Signature expired: 20150830T123600Z is now earlier than 20150830T123700Z \
         (20150830T124200Z - 5 min.)"
    );
    assert!(minutes(-6).unwrap_err().to_string().starts_with("Signature not yet current"));
}

#[test]
fn scope_and_payload_must_be_the_right_ones() {
    let region = altered(|_, expected| expected.region = "eu-west-1");
    assert_eq!(
        region.to_string().trim_end(),
        "Credential should be scoped to a valid region, not 'us-east-1'."
    );
    let service = altered(|_, expected| expected.service = "sts");
    assert_eq!(
        service.to_string().trim_end(),
        "Credential should be scoped to correct service: 'sts'."
    );
    let date = altered(|parts, _| rewrite(parts, "20150830/us", "20150831/us"));
    assert!(date.to_string().starts_with("Date in Credential scope does not match"));
    let payload = altered(|parts, _| {
        set(parts, "x-amz-content-sha256", "UNSIGNED-PAYLOAD");
        rewrite(parts, "host;x-amz-date", "host;x-amz-content-sha256;x-amz-date");
    });
    assert_eq!(payload, SignatureFault::PayloadMismatch);
}

#[test]
fn what_cannot_be_read_is_named() {
    let text = |change: fn(&mut Parts)| altered(|parts, _| change(parts)).to_string();
    let none = altered(|parts, _| {
        parts.headers.remove("authorization");
    });
    assert_eq!(none, SignatureFault::Missing);
    assert_eq!(
        text(|parts| set(parts, "authorization", "Bearer sk-secret")),
        "Unsupported AWS 'algorithm': 'Bearer'."
    );
    assert_eq!(
        text(|parts| set(parts, "authorization", "AWS4-HMAC-SHA256 Credential=a/b")),
        "Authorization header requires 'SignedHeaders' parameter."
    );
    assert!(text(|parts| set(parts, "x-amz-date", "yesterday")).starts_with("Date must be in"));
    assert!(text(|parts| set(parts, "x-amz-date", "20151330T123600Z")).starts_with("Date must be"));
    assert!(text(|parts| rewrite(parts, "/aws4_request", "")).starts_with("Credential must have"));
    assert!(text(|parts| drop(parts.headers.remove("x-amz-date"))).contains("'X-Amz-Date'"));
}

#[derive(Deserialize)]
struct Signed {
    name: String,
    service: String,
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Signed {
    fn parts(&self) -> Parts {
        let mut request = Request::builder().method(self.method.as_str()).uri(&self.target);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(()).unwrap().into_parts().0
    }
}

/// Every request that botocore signs must be believed, and none of them with another secret.
#[test]
fn botocores_signatures_are_believed() {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let oracles = std::env::var_os("WARREN_ORACLES")
        .map_or_else(|| manifest.join("../../target/oracles"), PathBuf::from);
    let python = oracles.join("venv/bin/python3");
    assert!(python.exists(), "{} is missing; run: scripts/oracles", python.display());
    let output = Command::new(python).arg(manifest.join("tests/oracles/sign.py")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let mut refused = Vec::new();
    for line in lines.lines() {
        let signed: Signed = serde_json::from_str(line).unwrap();
        let (parts, body) = (signed.parts(), BASE64_STANDARD.decode(&signed.body).unwrap());
        let claim = Claim::parse(&parts).unwrap();
        let expected = Expectation { now: claim.signed_at, ..expectation(&signed.service) };
        let verdict = |secret: &str| match expected.dialect {
            Dialect::General => verify(&claim, &parts, &body, &expected, secret),
            Dialect::S3 => verify_head(&claim, &parts, &expected, secret).map(drop),
        };
        if let Err(fault) = verdict(SECRET) {
            refused.push(format!("{}: {fault}", signed.name));
        }
        let fault = verdict("another").unwrap_err();
        assert!(matches!(fault, SignatureFault::Mismatch { .. }), "{}: {fault}", signed.name);
    }
    assert!(lines.lines().count() > 80, "only {} requests were signed", lines.lines().count());
    assert!(refused.is_empty(), "{}", refused.join("\n\n"));
}

#[test]
fn a_presigned_request_lives_as_long_as_it_says() {
    let (key, date) = ("AKIDEXAMPLE/20150830/us-east-1/service/aws4_request", "20150830T123600Z");
    let target = |expires: &str| {
        format!(
            "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={}&X-Amz-Date={date}\
             &X-Amz-Expires={expires}&X-Amz-SignedHeaders=host&X-Amz-Signature=0",
            key.replace('/', "%2F")
        )
    };
    let at = |expires: &str, seconds: i64| {
        let request = Request::get(target(expires)).header("host", "x").body(()).unwrap();
        let mut expected = expectation("service");
        expected.now += Duration::seconds(seconds);
        verdict(&request.into_parts().0, &expected).unwrap_err()
    };
    assert_eq!(at("60", 61), SignatureFault::PresignedExpired);
    assert!(matches!(at("60", 60), SignatureFault::Mismatch { .. }));
    assert!(matches!(at("0", 0), SignatureFault::Incomplete(_)));
    assert!(matches!(at("604801", 0), SignatureFault::Incomplete(_)));
}
