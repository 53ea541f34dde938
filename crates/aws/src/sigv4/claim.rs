//! What a signed request says of itself: its `Authorization` header or its presigned query.

use super::SignatureFault;
use http::{HeaderMap, Uri, header::AUTHORIZATION, request::Parts};
use percent_encoding::percent_decode_str;
use time::{Date, Duration, Month, OffsetDateTime, PrimitiveDateTime, Time};

pub(super) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// AWS's limit for `X-Amz-Expires`.
const PRESIGNED_SECONDS_MAX: i64 = 7 * 24 * 3600;

/// Where the signature stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placement {
    Header,
    /// In the query, valid for so long from its date.
    Query {
        expires: Duration,
    },
}

/// A parsed claim; nothing of it is verified.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) access_key: String,
    /// `20260102`, as in the scope.
    pub(crate) date: String,
    pub(crate) region: String,
    pub(crate) service: String,
    pub(super) signed_headers: Vec<String>,
    pub(super) signature: String,
    pub(super) signed_at: OffsetDateTime,
    /// `20260102T030405Z`, as it goes into the string to sign.
    pub(super) timestamp: String,
    pub(crate) session_token: Option<String>,
    pub(crate) placement: Placement,
}

impl Claim {
    /// # Errors
    /// [`SignatureFault::Missing`] where there is no signature, [`SignatureFault::Incomplete`] where
    /// it cannot be read.
    pub(crate) fn parse(parts: &Parts) -> Result<Self, SignatureFault> {
        if let Some(header) = parts.headers.get(AUTHORIZATION) {
            let header = header.to_str().map_err(|_| {
                SignatureFault::Incomplete("Authorization header is not ASCII.".to_owned())
            })?;
            return Self::from_header(header, &parts.headers);
        }
        if query_value(&parts.uri, "X-Amz-Algorithm").is_some() {
            return Self::from_query(&parts.uri);
        }
        Err(SignatureFault::Missing)
    }

    /// The service of the scope, before anything else is looked at: it says which protocol the
    /// answer, an error too, must speak.
    pub(crate) fn service_named(headers: &HeaderMap, uri: &Uri) -> Option<String> {
        let credential = match headers.get(AUTHORIZATION) {
            Some(header) => {
                let header = header.to_str().ok()?;
                let from = header.find("Credential=")? + "Credential=".len();
                header.get(from..)?.split([',', ' ']).next()?.to_owned()
            }
            None => query_value(uri, "X-Amz-Credential")?,
        };
        let service = credential.rsplit('/').nth(1)?;
        Some(service.to_owned())
    }

    fn from_header(header: &str, headers: &HeaderMap) -> Result<Self, SignatureFault> {
        let incomplete = |what: String| SignatureFault::Incomplete(what);
        let (algorithm, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if algorithm != ALGORITHM {
            return Err(incomplete(format!("Unsupported AWS 'algorithm': '{algorithm}'.")));
        }
        let part = |name: &str| {
            rest.split(',')
                .filter_map(|part| part.trim().split_once('='))
                .find_map(|(key, value)| (key == name).then(|| value.to_owned()))
                .filter(|value| !value.is_empty())
        };
        let required = |name: &str| {
            part(name).ok_or_else(|| {
                // Never the header itself: it may hold a credential of another scheme.
                incomplete(format!("Authorization header requires '{name}' parameter."))
            })
        };
        let credential = required("Credential")?;
        let signed_headers = required("SignedHeaders")?;
        let signature = required("Signature")?;
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let date = text("x-amz-date").or_else(|| text("date")).ok_or_else(|| {
            incomplete(
                "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
                    .to_owned(),
            )
        })?;
        let session_token = text("x-amz-security-token").map(str::to_owned);
        let (date, placement) = (date.to_owned(), Placement::Header);
        Written { credential, signed_headers, signature, date, session_token, placement }.read()
    }

    fn from_query(uri: &Uri) -> Result<Self, SignatureFault> {
        let required = |name: &str| {
            query_value(uri, name).filter(|value| !value.is_empty()).ok_or_else(|| {
                SignatureFault::Incomplete(format!(
                    "AWS query-string parameters must include '{name}'."
                ))
            })
        };
        let algorithm = required("X-Amz-Algorithm")?;
        if algorithm != ALGORITHM {
            return Err(SignatureFault::Incomplete(format!(
                "Unsupported AWS 'algorithm': '{algorithm}'."
            )));
        }
        let seconds = required("X-Amz-Expires")?;
        let seconds = seconds
            .parse::<i64>()
            .ok()
            .filter(|seconds| (1..=PRESIGNED_SECONDS_MAX).contains(seconds))
            .ok_or_else(|| {
                SignatureFault::Incomplete(
                    "X-Amz-Expires must be a number of seconds from 1 to 604800.".to_owned(),
                )
            })?;
        Written {
            credential: required("X-Amz-Credential")?,
            signed_headers: required("X-Amz-SignedHeaders")?,
            signature: required("X-Amz-Signature")?,
            date: required("X-Amz-Date")?,
            session_token: query_value(uri, "X-Amz-Security-Token"),
            placement: Placement::Query { expires: Duration::seconds(seconds) },
        }
        .read()
    }
}

/// The parts of a signature as they were written.
struct Written {
    credential: String,
    signed_headers: String,
    signature: String,
    date: String,
    session_token: Option<String>,
    placement: Placement,
}

impl Written {
    fn read(self) -> Result<Claim, SignatureFault> {
        let Self { credential, date, .. } = &self;
        let scope: Vec<&str> = credential.split('/').collect();
        let [access_key, scope_date, region, service, "aws4_request"] = scope.as_slice() else {
            return Err(SignatureFault::Incomplete(format!(
                "Credential must have exactly 5 slash-delimited elements, e.g. \
                 keyid/date/region/service/term, got '{credential}'"
            )));
        };
        let signed_at = parse_basic(date).ok_or_else(|| {
            SignatureFault::Incomplete(format!(
                "Date must be in ISO-8601 'basic format'. Got '{date}'. See \
                 http://en.wikipedia.org/wiki/ISO_8601"
            ))
        })?;
        let day = date.get(..8).unwrap_or_default();
        if day != *scope_date {
            return Err(SignatureFault::WrongScope(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from \
                 HTTP: '{scope_date}' != '{day}', from '{date}'."
            )));
        }
        let mut signed_headers: Vec<String> =
            self.signed_headers.split(';').map(str::to_ascii_lowercase).collect();
        signed_headers.sort();
        Ok(Claim {
            access_key: (*access_key).to_owned(),
            date: day.to_owned(),
            region: (*region).to_owned(),
            service: (*service).to_owned(),
            signed_headers,
            signature: self.signature,
            signed_at,
            timestamp: self.date,
            session_token: self.session_token,
            placement: self.placement,
        })
    }
}

/// The decoded value of the first query parameter of this name.
pub(crate) fn query_value(uri: &Uri, name: &str) -> Option<String> {
    uri.query()?
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| percent_decode_str(value).decode_utf8_lossy().into_owned())
}

fn parse_basic(text: &str) -> Option<OffsetDateTime> {
    if text.len() != 16 || !text.ends_with('Z') || text.get(8..9) != Some("T") {
        return None;
    }
    let number = |from: usize, to: usize| -> Option<u16> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let two = |from: usize| number(from, from + 2).and_then(|n| u8::try_from(n).ok());
    let month = Month::try_from(two(4)?).ok()?;
    let date = Date::from_calendar_date(i32::from(number(0, 4)?), month, two(6)?).ok()?;
    let time = Time::from_hms(two(9)?, two(11)?, two(13)?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_utc())
}
