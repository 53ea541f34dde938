//! `launcher.mode = "poll"`: this host, and no VM, asks the environment's queue for work.
//!
//! One poller for all sessions: it takes what comes, in the queue's order, so nothing is hidden from
//! anybody and nothing waits behind what nobody serves. It asks only while there is room for one more
//! launch; what a full host does not ask for stays in the queue for others.

use crate::{
    claim::Claim,
    config::LauncherConfig,
    handover::Handover,
    secret::{SecretError, secret_text},
};
use agents::{
    Secret, StopWork, WorkItem, WorkSecret,
    client::{BaseUrl, Client, ClientError, PollOptions, Transport, backoff},
};
use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// How long the platform holds an empty poll open; the most that it takes.
const BLOCK_MS: u32 = 999;
/// A platform that answers an empty poll at once is not asked again at once.
const EMPTY_POLL_MIN: Duration = Duration::from_millis(900);
const BACKOFF_START: Duration = Duration::from_secs(1);
const BACKOFF_CAP: Duration = Duration::from_secs(60);
/// Items that were complained about and are remembered for it.
const UNUSABLE_MAX: usize = 256;

/// Why polling stopped for a while.
#[derive(Debug, thiserror::Error)]
enum PollError {
    #[error(transparent)]
    Key(#[from] SecretError),
    #[error("the environment's queue cannot be polled")]
    Poll(#[from] ClientError),
}

#[derive(Debug)]
pub(crate) struct Poller {
    pub(crate) config: LauncherConfig,
    pub(crate) platform_url: BaseUrl,
    pub(crate) secrets: aws_sdk_secretsmanager::Client,
    pub(crate) transport: Transport,
    pub(crate) handover: Arc<Handover>,
}

impl Poller {
    /// Polls until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let forever = async {
            let mut failures = 0;
            let mut unusable = HashSet::new();
            loop {
                // With the key read anew: it may have been rotated.
                let error = self.poll_until_it_fails(&mut failures, &mut unusable).await;
                let hint = match &error {
                    PollError::Key(error) => error.hint(),
                    PollError::Poll(_) => {
                        "check platform.base_url, launcher.environment_id and the environment key"
                            .into()
                    }
                };
                tracing::error!(error = &error as &dyn std::error::Error, hint, "no work is found");
                tokio::time::sleep(backoff(failures, BACKOFF_START, BACKOFF_CAP)).await;
                failures += 1;
            }
        };
        shutdown.run_until_cancelled(forever).await;
    }

    async fn poll_until_it_fails(
        &self,
        failures: &mut u32,
        unusable: &mut HashSet<String>,
    ) -> PollError {
        let key_id = &self.config.environment_key_secret_id;
        let key = match secret_text(&self.secrets, key_id).await {
            Ok(key) => Secret::new(key),
            Err(error) => return error.into(),
        };
        let client = Client::new(self.transport.clone(), self.platform_url.clone(), key);
        self.handover.use_client(client.clone()).await;
        let worker = format!("warren-launcher-{}", std::process::id());
        let options = PollOptions {
            block_ms: Some(BLOCK_MS),
            reclaim_older_than_ms: None,
            worker_id: Some(&worker),
        };
        loop {
            let place = self.handover.place().await;
            let asked_at = Instant::now();
            match client.poll(&self.config.environment_id, &options).await {
                Ok(None) => {
                    *failures = 0;
                    tokio::time::sleep_until((asked_at + EMPTY_POLL_MIN).into()).await;
                }
                Ok(Some(item)) => {
                    *failures = 0;
                    match claim_of(&item) {
                        Ok(Some(claim)) => self.handover.accept(client.clone(), claim, place),
                        Ok(None) => dismiss(&client, &item).await,
                        Err(reason) => {
                            if unusable.len() < UNUSABLE_MAX && unusable.insert(item.id.to_string())
                            {
                                tracing::error!(work = %item.id, reason, "an item is left in the queue");
                            }
                        }
                    }
                }
                Err(error) => return error.into(),
            }
        }
    }
}

/// The claim that an item becomes; None for what is no session's.
fn claim_of(item: &WorkItem) -> Result<Option<Claim>, &'static str> {
    let Some(session) = item.session() else { return Ok(None) };
    let secret = item.secret.clone().filter(|secret| WorkSecret::decode(secret).is_ok()).ok_or(
        "it brings no token of its own, and a VM must not have the environment key; \
         launcher.mode = \"webhook\" serves it",
    )?;
    Ok(Some(Claim {
        work: item.id.clone(),
        session: session.clone(),
        environment: item.environment_id.clone(),
        secret,
    }))
}

/// Acknowledges and ends an item that is about no session, as the official workers do: the platform sees
/// that somebody is here.
async fn dismiss(client: &Client, item: &WorkItem) {
    let done = async {
        client.ack(&item.environment_id, &item.id).await?;
        client.stop(&item.environment_id, &item.id, StopWork::Force).await
    };
    match done.await {
        Ok(_) => {
            tracing::debug!(work = %item.id, data = ?item.data, "an item of no session is done")
        }
        Err(error) => tracing::warn!(work = %item.id, %error, "an item of no session"),
    }
}
