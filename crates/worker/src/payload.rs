//! What the `/run` hook brings: which session, and how to get at its credential.
//!
//! The body is AWS's envelope, `{"microvmId", "runHookPayload"}`; the payload in it is a text
//! that the launcher wrote, JSON again. It holds references, never the environment key.

use agents::client::{BaseUrl, InvalidBaseUrl};
use agents::{EnvironmentId, InvalidId, SessionId, WorkId, WorkSecret, WorkSecretError};
use serde::Deserialize;

const BASE_URL_DEFAULT: &str = "https://api.anthropic.com";

/// A run, as asked for.
#[derive(Debug, Clone)]
pub struct RunRequest {
    /// This VM; `None` where the caller did not say, and then it cannot end itself.
    pub microvm_id: Option<String>,
    /// The one session that this VM is for.
    pub session: SessionId,
    /// Where its work is queued.
    pub environment: EnvironmentId,
    /// Where the platform is.
    pub base_url: BaseUrl,
    /// Region of the AWS calls, if not that of the environment.
    pub region: Option<String>,
    /// How to get at the credential.
    pub credential: CredentialSource,
    /// What becomes of the VM when there is no more work.
    pub at_end: AtEnd,
}

/// What a worker does with its VM when it has no more work for its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtEnd {
    /// Ends it.
    Terminate,
    /// Suspends it: whoever resumes it has more work.
    Suspend,
}

/// Where the credential for the platform comes from.
#[derive(Debug, Clone)]
pub enum CredentialSource {
    /// Environment key in Secrets Manager, by name or ARN.
    SecretsManager(String),
    /// Environment key in SSM Parameter Store, by name.
    Parameter(String),
    /// A work item that was claimed elsewhere, with its own secret: no key is needed.
    Claimed(WorkId, WorkSecret),
}

/// Why a `/run` body is refused. Each is answered with 400.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// Not AWS's envelope.
    #[error("the body of /run is not {{\"microvmId\":…,\"runHookPayload\":\"…\"}}: {0}")]
    Envelope(serde_json::Error),
    /// No payload in it.
    #[error(
        "runHookPayload is missing: it names the session, as {{\"session\":{{\"ANTHROPIC_SESSION_ID\":…}}}}"
    )]
    NoPayload,
    /// The payload is no JSON of the right shape.
    #[error("runHookPayload cannot be read: {0}")]
    Payload(serde_json::Error),
    /// A member is missing.
    #[error("runHookPayload has no session.{0}")]
    Missing(&'static str),
    /// An id that is none.
    #[error("runHookPayload: {0}")]
    Id(#[from] InvalidId),
    /// An end that is none.
    #[error("runHookPayload: WARREN_AT_END is {0:?}; it must be terminate or suspend")]
    AtEnd(String),
    /// A base URL that is none.
    #[error("runHookPayload: ANTHROPIC_BASE_URL: {0}")]
    BaseUrl(#[from] InvalidBaseUrl),
    /// A work secret that is none.
    #[error("runHookPayload: ANTHROPIC_WORK_SECRET: {0}")]
    WorkSecret(#[from] WorkSecretError),
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "microvmId")]
    microvm_id: Option<String>,
    #[serde(rename = "runHookPayload")]
    payload: Option<String>,
}

#[derive(Deserialize)]
struct Payload {
    session: Members,
}

#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct Members {
    anthropic_session_id: Option<String>,
    anthropic_environment_id: Option<String>,
    anthropic_base_url: Option<String>,
    aws_region: Option<String>,
    environment_key_secret_id: Option<String>,
    environment_key_param_name: Option<String>,
    anthropic_work_id: Option<String>,
    anthropic_work_secret: Option<String>,
    warren_at_end: Option<String>,
}

impl RunRequest {
    /// Reads the body of a `/run` request.
    ///
    /// # Errors
    /// [`PayloadError`] says what is missing or wrong.
    pub fn parse(body: &[u8]) -> Result<Self, PayloadError> {
        let envelope: Envelope = serde_json::from_slice(body).map_err(PayloadError::Envelope)?;
        let payload = envelope.payload.filter(|text| !text.trim().is_empty());
        let payload = payload.ok_or(PayloadError::NoPayload)?;
        let Payload { session } = serde_json::from_str(&payload).map_err(PayloadError::Payload)?;
        let id =
            session.anthropic_session_id.ok_or(PayloadError::Missing("ANTHROPIC_SESSION_ID"))?;
        let environment = session
            .anthropic_environment_id
            .ok_or(PayloadError::Missing("ANTHROPIC_ENVIRONMENT_ID"))?;
        let base = session.anthropic_base_url.as_deref().unwrap_or(BASE_URL_DEFAULT);
        let credential = match (
            session.anthropic_work_id.zip(session.anthropic_work_secret),
            session.environment_key_secret_id,
            session.environment_key_param_name,
        ) {
            (Some((work, secret)), _, _) => {
                CredentialSource::Claimed(WorkId::new(work)?, WorkSecret::decode(&secret)?)
            }
            (None, Some(secret), _) => CredentialSource::SecretsManager(secret),
            (None, None, Some(parameter)) => CredentialSource::Parameter(parameter),
            (None, None, None) => return Err(PayloadError::Missing("ENVIRONMENT_KEY_SECRET_ID")),
        };
        let at_end = match session.warren_at_end.as_deref() {
            None | Some("terminate") => AtEnd::Terminate,
            Some("suspend") => AtEnd::Suspend,
            Some(other) => return Err(PayloadError::AtEnd(other.to_owned())),
        };
        Ok(Self {
            at_end,
            microvm_id: envelope.microvm_id.filter(|id| !id.is_empty()),
            session: SessionId::new(id)?,
            environment: EnvironmentId::new(environment)?,
            base_url: base.parse()?,
            region: session.aws_region,
            credential,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn body(session: serde_json::Value) -> Vec<u8> {
        let payload = json!({"version": "1", "session": session}).to_string();
        json!({"microvmId": "microvm-1", "runHookPayload": payload}).to_string().into_bytes()
    }

    #[test]
    fn the_launchers_payload_is_read() {
        let request = RunRequest::parse(&body(json!({
            "ANTHROPIC_SESSION_ID": "sesn_1", "ANTHROPIC_ENVIRONMENT_ID": "env_1",
            "AWS_REGION": "us-east-1", "ENVIRONMENT_KEY_SECRET_ID": "warren/environment-key",
            "ANTHROPIC_BASE_URL": "http://10.0.0.1:7430"
        })))
        .unwrap();
        assert_eq!(request.session.as_str(), "sesn_1");
        assert_eq!(request.microvm_id.as_deref(), Some("microvm-1"));
        assert_eq!(request.base_url.to_string(), "http://10.0.0.1:7430");
        assert!(
            matches!(request.credential, CredentialSource::SecretsManager(name) if name == "warren/environment-key")
        );
    }

    #[test]
    fn a_claimed_item_needs_no_key() {
        let secret =
            WorkSecret { sessions_token: agents::Secret::new("sk-ant-req-1"), api_base_url: None };
        let request = RunRequest::parse(&body(json!({
            "ANTHROPIC_SESSION_ID": "sesn_1", "ANTHROPIC_ENVIRONMENT_ID": "env_1",
            "ANTHROPIC_WORK_ID": "work_1", "ANTHROPIC_WORK_SECRET": secret.encode()
        })))
        .unwrap();
        assert!(matches!(request.credential, CredentialSource::Claimed(..)));
        assert!(!format!("{request:?}").contains("sk-ant-req"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (body, named) in [
            (b"{}".to_vec(), "runHookPayload is missing"),
            (b"hello".to_vec(), "the body of /run"),
            (br#"{"runHookPayload":"x"}"#.to_vec(), "runHookPayload cannot be read"),
            (body(json!({})), "ANTHROPIC_SESSION_ID"),
            (body(json!({"ANTHROPIC_SESSION_ID": "s"})), "ANTHROPIC_ENVIRONMENT_ID"),
            (
                body(json!({"ANTHROPIC_SESSION_ID": "s", "ANTHROPIC_ENVIRONMENT_ID": "e"})),
                "ENVIRONMENT_KEY_SECRET_ID",
            ),
            (
                body(json!({"ANTHROPIC_SESSION_ID": "a/b", "ANTHROPIC_ENVIRONMENT_ID": "e",
                    "ENVIRONMENT_KEY_SECRET_ID": "x"})),
                "session id",
            ),
        ] {
            let text = RunRequest::parse(&body).unwrap_err().to_string();
            assert!(text.contains(named), "{text}");
        }
    }
}
