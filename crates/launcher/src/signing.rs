//! Who may ring: the webhook signing secrets, read from Secrets Manager, kept for minutes.
//!
//! A secret that is rotated must be good at once and one that is revoked must be bad within
//! [`KEPT_MAX`]. So what is known expires, and a signature that does not fit it is a reason to
//! read again, though not more often than [`REREAD_INTERVAL_MIN`]: anybody can send a bad one.

use crate::aws::{AwsClients, code_of, full_message};
use agents::webhook::{BadSecret, Keys, Refused};
use bytes::Bytes;
use http::HeaderMap;
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use tokio::sync::Mutex;

/// Longest time that secrets are used without reading them again.
const KEPT_MAX: Duration = Duration::from_secs(300);
/// Shortest time between two readings that bad signatures ask for.
const REREAD_INTERVAL_MIN: Duration = Duration::from_secs(3);
/// How long a failed reading stands for the deliveries after it.
const FAILURE_KEPT: Duration = Duration::from_secs(1);

/// The signing secrets cannot be had, so that nothing can be verified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("the signing secret {secret_id} cannot be read: {code}: {message}")]
    Unreadable { secret_id: String, code: String, message: String },
    #[error("the signing secret {secret_id} has no text")]
    NotText { secret_id: String },
    #[error("the signing secret {secret_id} is of no use")]
    Bad {
        secret_id: String,
        #[source]
        source: BadSecret,
    },
}

impl SecretError {
    /// What the operator can do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Unreadable { secret_id, code, .. } if code == "ResourceNotFoundException" => {
                format!("store the platform's secret: warren secret put {secret_id}")
            }
            Self::Unreadable { secret_id, code, .. } if code == "AccessDeniedException" => {
                format!("allow the launcher's role secretsmanager:GetSecretValue on {secret_id}")
            }
            Self::Unreadable { .. } => "see whether the AWS API runs and is reachable".into(),
            Self::NotText { secret_id } | Self::Bad { secret_id, .. } => format!(
                "store it as whsec_<base64>, several separated by white space: warren secret put {secret_id}"
            ),
        }
    }
}

/// Why a delivery was not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotVerified {
    /// The sender's fault: 401.
    Refused(Refused),
    /// Ours: the platform must try again.
    NoSecret(SecretError),
}

#[derive(Debug)]
pub(crate) struct Signing {
    client: aws_sdk_secretsmanager::Client,
    secret_id: String,
    /// Held while reading, so that many deliveries cause one reading.
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    keys: Option<(Keys, Instant)>,
    failed: Option<(SecretError, Instant)>,
    /// When a bad signature last caused a reading.
    reread_at: Option<Instant>,
}

impl Signing {
    pub(crate) fn new(clients: &AwsClients, secret_id: String) -> Self {
        Self { client: clients.secrets.clone(), secret_id, cache: Mutex::default() }
    }

    /// Verifies the raw body of a delivery.
    pub(crate) async fn verify(
        &self,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<(), NotVerified> {
        let check = |keys: &Keys| keys.verify(headers, body, OffsetDateTime::now_utc());
        let keys = self.keys().await.map_err(NotVerified::NoSecret)?;
        match check(&keys) {
            Ok(()) => Ok(()),
            Err(Refused::Forged) => match self.reread().await {
                Some(keys) => check(&keys).map_err(NotVerified::Refused),
                None => Err(NotVerified::Refused(Refused::Forged)),
            },
            Err(
                refused @ (Refused::MissingHeader(_)
                | Refused::BadHeader(_)
                | Refused::Stale { .. }),
            ) => Err(NotVerified::Refused(refused)),
        }
    }

    /// The secrets as known, or as read now.
    pub(crate) async fn keys(&self) -> Result<Keys, SecretError> {
        let mut cache = self.cache.lock().await;
        match &cache.keys {
            Some((keys, read_at)) if read_at.elapsed() < KEPT_MAX => return Ok(keys.clone()),
            Some(_) | None => {}
        }
        match &cache.failed {
            Some((error, at)) if at.elapsed() < FAILURE_KEPT => return Err(error.clone()),
            Some(_) | None => {}
        }
        self.read_into(&mut cache).await
    }

    /// The secrets read anew, unless that was asked for a moment ago or fails.
    async fn reread(&self) -> Option<Keys> {
        let mut cache = self.cache.lock().await;
        match cache.reread_at {
            // Those that waited here while another one was reading get what it read.
            Some(at) if at.elapsed() < REREAD_INTERVAL_MIN => {
                return cache.keys.as_ref().map(|(keys, _)| keys.clone());
            }
            Some(_) | None => {}
        }
        cache.reread_at = Some(Instant::now());
        match self.read_into(&mut cache).await {
            Ok(keys) => Some(keys),
            Err(error) => {
                tracing::warn!(%error, hint = error.hint(), "a delivery's signature fits no known secret, and they cannot be read anew");
                None
            }
        }
    }

    async fn read_into(&self, cache: &mut Cache) -> Result<Keys, SecretError> {
        let read = self.read().await;
        match &read {
            Ok(keys) => {
                cache.keys = Some((keys.clone(), Instant::now()));
                cache.failed = None;
            }
            Err(error) => cache.failed = Some((error.clone(), Instant::now())),
        }
        read
    }

    async fn read(&self) -> Result<Keys, SecretError> {
        let secret_id = self.secret_id.clone();
        let answer = self.client.get_secret_value().secret_id(&self.secret_id).send().await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let (code, message) = (code_of(&error), full_message(&error));
                return Err(SecretError::Unreadable { secret_id, code, message });
            }
        };
        let Some(text) = answer.secret_string() else {
            return Err(SecretError::NotText { secret_id });
        };
        Keys::parse(text).map_err(|source| SecretError::Bad { secret_id, source })
    }
}
