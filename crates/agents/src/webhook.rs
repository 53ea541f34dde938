//! Webhook deliveries: who sent this, when, and what does it say?
//!
//! Signatures are Standard Webhooks: base64(HMAC-SHA256(key, `<id>.<timestamp>.<raw body>`)).
//! They are checked over the bytes that came in, before anything parses them. Time comes in as
//! an argument. The crate `standardwebhooks` was looked at and not taken: it reads the clock
//! itself, knows one secret at a time and insists on UTF-8.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use time::OffsetDateTime;

use crate::ids::SessionId;

/// The delivery's id, the same for each attempt.
pub const ID_HEADER: &str = "webhook-id";
/// Unix seconds of this attempt.
pub const TIMESTAMP_HEADER: &str = "webhook-timestamp";
/// Space-separated `v1,<base64>` entries.
pub const SIGNATURE_HEADER: &str = "webhook-signature";
/// How far a delivery's time may be from ours, either way.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// Signatures looked at in one delivery; more are ignored.
const SIGNATURES_MAX: usize = 16;
/// Shortest key that is taken, in bytes. The platform's have 32, the standard asks for 24.
const KEY_LEN_MIN: usize = 16;

/// Why a secret cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    /// Nothing but white space.
    #[error("no webhook signing secret is given: it looks like whsec_<base64>")]
    Empty,
    /// Secret number `index` (from 1) is not base64.
    #[error("webhook signing secret number {index} is not whsec_<base64>")]
    NotBase64 {
        /// Which of the secrets, from 1.
        index: usize,
    },
    /// Secret number `index` (from 1) is too short to be one.
    #[error(
        "webhook signing secret number {index} has {len} bytes, at least {KEY_LEN_MIN} are needed"
    )]
    TooShort {
        /// Which of the secrets, from 1.
        index: usize,
        /// Its length in bytes.
        len: usize,
    },
}

/// Why a delivery is refused. All of these are answered with 401.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A header is missing.
    #[error("the header {0} is missing")]
    MissingHeader(&'static str),
    /// A header cannot be read.
    #[error("the header {0} cannot be read")]
    BadHeader(&'static str),
    /// Signed too long ago, or too far in the future.
    #[error("signed {seconds} s away from this machine's clock, more than the {} s allowed", TOLERANCE.as_secs())]
    Stale {
        /// How far, in seconds; positive is the past.
        seconds: i64,
    },
    /// No signature fits any of the secrets.
    #[error("no signature matches a known secret")]
    Forged,
}

/// The secrets that deliveries may be signed with, newest first.
#[derive(Clone)]
pub struct Keys(Vec<Vec<u8>>);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} secrets)", self.0.len())
    }
}

impl Keys {
    /// Reads one secret or several, separated by white space, newest first: during a rotation
    /// both the new and the old one are good. The prefix `whsec_` may be missing.
    ///
    /// # Errors
    /// [`BadSecret`], without the secret in it.
    pub fn parse(text: &str) -> Result<Self, BadSecret> {
        let keys = text
            .split_whitespace()
            .zip(1..)
            .map(|(word, index)| {
                let key = STANDARD
                    .decode(word.strip_prefix("whsec_").unwrap_or(word))
                    .map_err(|_| BadSecret::NotBase64 { index })?;
                if key.len() < KEY_LEN_MIN {
                    return Err(BadSecret::TooShort { index, len: key.len() });
                }
                Ok(key)
            })
            .collect::<Result<Vec<_>, _>>()?;
        if keys.is_empty() { Err(BadSecret::Empty) } else { Ok(Self(keys)) }
    }

    /// Signs a delivery with the newest secret; the result is the value of
    /// [`SIGNATURE_HEADER`].
    pub fn sign(&self, id: &str, at: OffsetDateTime, body: &[u8]) -> String {
        let timestamp = at.unix_timestamp().to_string();
        let key = self.0.first().map(Vec::as_slice).unwrap_or_default();
        format!("v1,{}", STANDARD.encode(mac(key, id, &timestamp, body)))
    }

    /// Checks a delivery over its raw body.
    ///
    /// # Errors
    /// [`Refused`]. The signature is checked after the time, so a stale delivery is called
    /// stale whether or not it was genuine.
    pub fn verify(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        now: OffsetDateTime,
    ) -> Result<(), Refused> {
        let id = header(headers, ID_HEADER)?;
        let timestamp = header(headers, TIMESTAMP_HEADER)?;
        let signatures = header(headers, SIGNATURE_HEADER)?;
        let signed_at: i64 = timestamp.parse().map_err(|_| Refused::BadHeader(TIMESTAMP_HEADER))?;
        let seconds = now.unix_timestamp().saturating_sub(signed_at);
        if seconds.unsigned_abs() > TOLERANCE.as_secs() {
            return Err(Refused::Stale { seconds });
        }
        let given: Vec<Vec<u8>> = signatures
            .split(' ')
            .filter_map(|entry| entry.strip_prefix("v1,"))
            .take(SIGNATURES_MAX)
            .filter_map(|text| STANDARD.decode(text).ok())
            .collect();
        let genuine = self.0.iter().any(|key| {
            let expected = mac(key, id, timestamp, body);
            given.iter().any(|signature| bool::from(signature.as_slice().ct_eq(&expected)))
        });
        if genuine { Ok(()) } else { Err(Refused::Forged) }
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, Refused> {
    let value = headers.get(name).ok_or(Refused::MissingHeader(name))?;
    value.to_str().map_err(|_| Refused::BadHeader(name))
}

fn mac(key: &[u8], id: &str, timestamp: &str, body: &[u8]) -> [u8; 32] {
    // HMAC takes a key of any length: the error case does not exist.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// Type of the event on which a VM is wanted.
pub const SESSION_RUN_STARTED: &str = "session.status_run_started";

/// The body of a delivery.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// Always `event`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `whe_…`, the same as [`ID_HEADER`]; free-form, older ones begin with `event_`.
    pub id: String,
    /// RFC 3339.
    #[serde(default)]
    pub created_at: Option<String>,
    /// What happened.
    pub data: DeliveryData,
    /// All other members.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What a delivery tells about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeliveryData {
    /// `session.status_run_started`, `agent.created`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Id of the object in question: of a session, an agent, …
    pub id: String,
    /// All other members: `organization_id`, `workspace_id`, `session_thread_id`, …
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Delivery {
    /// Reads the body of a verified delivery.
    ///
    /// # Errors
    /// What serde says about the place where it is not one.
    pub fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }

    /// The session that just began to run, if that is what this delivery tells.
    pub fn run_started(&self) -> Option<SessionId> {
        if self.data.kind != SESSION_RUN_STARTED {
            return None;
        }
        SessionId::new(self.data.id.clone()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OLD: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    fn headers(id: &str, timestamp: &str, signature: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(ID_HEADER, id.parse().unwrap());
        headers.insert(TIMESTAMP_HEADER, timestamp.parse().unwrap());
        headers.insert(SIGNATURE_HEADER, signature.parse().unwrap());
        headers
    }

    #[test]
    fn the_published_test_vector_of_the_standard_is_met() {
        let keys = Keys::parse(NEW).unwrap();
        let body = br#"{"test": 2432232314}"#;
        assert_eq!(
            keys.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", at(1_614_265_330), body),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn either_secret_of_a_rotation_is_good_and_others_are_not() {
        let both = Keys::parse(&format!("{NEW}\n{OLD}")).unwrap();
        let old = Keys::parse(OLD).unwrap();
        let signature = old.sign("whe_1", at(1000), b"{}");
        let headers = headers("whe_1", "1000", &format!("v0,xx v1,AAAA {signature}"));
        assert_eq!(both.verify(&headers, b"{}", at(1000)), Ok(()));
        let new = Keys::parse(NEW).unwrap();
        assert_eq!(new.verify(&headers, b"{}", at(1000)), Err(Refused::Forged));
        assert_eq!(both.verify(&headers, b"{} ", at(1000)), Err(Refused::Forged));
    }

    #[test]
    fn a_stale_delivery_is_refused_in_both_directions() {
        let keys = Keys::parse(NEW).unwrap();
        let headers = headers("whe_1", "1000", &keys.sign("whe_1", at(1000), b"x"));
        assert_eq!(keys.verify(&headers, b"x", at(1300)), Ok(()));
        assert_eq!(keys.verify(&headers, b"x", at(1301)), Err(Refused::Stale { seconds: 301 }));
        assert_eq!(keys.verify(&headers, b"x", at(699)), Err(Refused::Stale { seconds: -301 }));
    }

    #[test]
    fn a_missing_or_unreadable_header_is_named() {
        let keys = Keys::parse(NEW).unwrap();
        let verify = |headers| keys.verify(&headers, b"", at(0));
        assert_eq!(verify(HeaderMap::new()), Err(Refused::MissingHeader(ID_HEADER)));
        assert_eq!(verify(headers("a", "soon", "v1,")), Err(Refused::BadHeader(TIMESTAMP_HEADER)));
    }

    #[test]
    fn a_bad_secret_is_told_without_showing_it() {
        assert_eq!(Keys::parse(" \n").unwrap_err(), BadSecret::Empty);
        assert_eq!(Keys::parse("whsec_!").unwrap_err(), BadSecret::NotBase64 { index: 1 });
        let short = Keys::parse(&format!("{NEW} whsec_AAAA")).unwrap_err();
        assert_eq!(short, BadSecret::TooShort { index: 2, len: 3 });
    }

    #[test]
    fn only_a_started_run_names_a_session_to_launch_for() {
        let body = |kind: &str| {
            format!(r#"{{"type":"event","id":"whe_1","data":{{"type":"{kind}","id":"sesn_1"}}}}"#)
        };
        let started = Delivery::parse(body(SESSION_RUN_STARTED).as_bytes()).unwrap();
        assert_eq!(started.run_started().map(String::from).as_deref(), Some("sesn_1"));
        let idled = Delivery::parse(body("session.status_idled").as_bytes()).unwrap();
        assert_eq!(idled.run_started(), None);
    }
}
