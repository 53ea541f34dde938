//! Who may ring: the webhook signing secrets, read from Secrets Manager, kept for minutes.
//!
//! A secret that is rotated must be good at once and one that is revoked must be bad within
//! [`KEPT_MAX`]. So what is known expires, and a signature that does not fit it is a reason to
//! read again, though not more often than [`REREAD_INTERVAL_MIN`]: anybody can send a bad one.

use crate::{
    aws::AwsClients,
    secret::{SecretError, secret_text},
};
use agents::webhook::{Keys, Refused};
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
        let text = secret_text(&self.client, &self.secret_id).await?;
        Keys::parse(&text)
            .map_err(|source| SecretError::Bad { secret_id: self.secret_id.clone(), source })
    }
}
