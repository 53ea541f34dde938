//! The emulator as its owner sees it: started, asked for keys and endpoints, shut down.
//!
//! What the real platform offers in its Console only (environment keys, webhook endpoints, API
//! keys) is a method here; all else is done through the API, by whoever has a key.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agents::webhook::{BadSecret, Keys};
use agents::{EnvironmentId, Secret};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::{Clock, SystemClock, Timestamp};
use crate::deliveries::{self, DeliveryRules};
use crate::due;
use crate::emulator::{
    Bells, Emulator, EndpointChange, Identity, Listeners, OldSecret, QueueRule, Rules, checked_url,
};
use crate::fault::Fault;
use crate::http::{self, Surface};
use crate::ids::{EndpointId, HookId, random_id};
use crate::keys::{self, KeyKind, TokenKey};
use crate::machine::{Lease, Mind, StartingRule};
use crate::minds;
use crate::mishaps::{Dice, Mishaps};
use crate::model::{Caller, ModelConfig};
use crate::steps;
use crate::store::{
    AttemptRow, Credential, DeliveryRow, EndpointRow, EndpointState, EnvironmentRow, Outcome,
    Store, StoreError, Subject, meta, set_meta,
};

/// How long requests that are under way may take when the emulator shuts down.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How the emulator is started.
#[derive(Debug, Clone)]
pub struct PlatformConfig {
    /// Where it listens; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Where its state is; made if it is not there.
    pub data_dir: PathBuf,
    /// Where it takes the time from.
    pub clock: Arc<dyn Clock>,
    /// The organisation's API key; none: the one of the data directory, made at the first start.
    pub api_key: Option<Secret>,
    /// How long a heartbeat is good for. The platform's default is 300 s.
    pub lease_ttl: Duration,
    /// What an item comes to that is acknowledged and never gets a heartbeat.
    pub starting: StartingRule,
    /// When a session's first work item is queued.
    pub queue: QueueRule,
    /// How long the scripted agent thinks before each step.
    pub think: Duration,
    /// How often a silent event stream sends a ping.
    pub ping: Duration,
    /// How webhooks are retried.
    pub deliveries: DeliveryRules,
    /// The model that plays agents; none: messages are scripts. Agents whose own model is called
    /// `scripted` play scripts in any case.
    pub model: Option<ModelConfig>,
    /// What goes wrong on purpose.
    pub mishaps: Mishaps,
}

impl PlatformConfig {
    /// The platform's own ways, on the machine's clock, with an agent that thinks at once.
    pub fn new(listen: SocketAddr, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            listen,
            data_dir: data_dir.into(),
            clock: Arc::new(SystemClock),
            api_key: None,
            lease_ttl: Duration::from_secs(300),
            starting: StartingRule::StaysForever,
            queue: QueueRule::OnFirstRun,
            think: Duration::ZERO,
            ping: Duration::from_secs(15),
            deliveries: DeliveryRules::default(),
            model: None,
            mishaps: Mishaps::default(),
        }
    }
}

/// Why the emulator does not start, or does not do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// The address cannot be had.
    #[error("the platform emulator cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A file or directory of its own cannot be read or written.
    #[error("the platform emulator cannot use {path}")]
    DataDir {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The database fails.
    #[error("the platform emulator's database fails")]
    Store(#[from] StoreError),
    /// A webhook endpoint cannot be one.
    #[error("{url} cannot be a webhook endpoint: {reason}")]
    Endpoint {
        /// Its URL.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A signing secret cannot be one.
    #[error("the webhook signing secret cannot be used")]
    Secret(#[source] BadSecret),
    /// What was asked cannot be done.
    #[error("{0}")]
    Refused(String),
}

impl From<Fault> for PlatformError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Store(error) => Self::Store(error),
            other => Self::Refused(other.to_string()),
        }
    }
}

/// An environment and the key of its workers.
#[derive(Debug, Clone)]
pub struct NewEnvironment {
    /// `env_…`.
    pub id: EnvironmentId,
    /// `sk-ant-oat01-…`; shown this once.
    pub key: Secret,
}

/// A webhook endpoint and its signing secret.
#[derive(Debug, Clone)]
pub struct NewEndpoint {
    /// `whep_…`.
    pub id: EndpointId,
    /// `whsec_…`.
    pub secret: Secret,
}

/// A webhook endpoint, without its secret.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `whep_…`.
    pub id: EndpointId,
    /// Where deliveries go.
    pub url: String,
    /// What it is told.
    pub types: Vec<String>,
    /// Whether it is told anything.
    pub enabled: bool,
    /// Why the platform disabled it, if it did.
    pub disabled_reason: Option<String>,
    /// Attempts that have failed since the last one that was taken.
    pub failures: u64,
}

/// Where a webhook delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// An attempt is to come.
    Pending,
    /// Some attempt was answered with 2xx.
    Delivered,
    /// No more attempts are made.
    Dropped,
}

/// One attempt of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryAttempt {
    /// When it began.
    pub at: Timestamp,
    /// The endpoint's answer, if there was one.
    pub status: Option<u16>,
    /// Why there was none.
    pub error: Option<String>,
}

/// A line of the delivery log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The event's id, which is its `webhook-id`.
    pub id: HookId,
    /// Where it goes.
    pub url: String,
    /// `session.status_run_started`, …
    pub event_type: String,
    /// The session that it is about.
    pub subject: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// When it was emitted.
    pub created_at: Timestamp,
    /// What has been tried.
    pub attempts: Vec<DeliveryAttempt>,
}

/// A running emulator. Dropped without [`Platform::shutdown`], its tasks end without waiting.
#[derive(Debug)]
pub struct Platform {
    emulator: Arc<Emulator>,
    address: SocketAddr,
    api_key: Secret,
    ending: CancellationToken,
    tasks: TaskTracker,
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.ending.cancel();
    }
}

impl Platform {
    /// Opens the state, listens, and goes on with what was under way.
    ///
    /// # Errors
    /// [`PlatformError`] where the address is taken, the data directory cannot be used, or the
    /// database fails.
    pub async fn start(config: PlatformConfig) -> Result<Self, PlatformError> {
        let dir = |path: &Path| {
            let path = path.to_owned();
            move |source| PlatformError::DataDir { path, source }
        };
        let data_dir = config.data_dir.as_path();
        let mut builder = tokio::fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(data_dir).await.map_err(dir(data_dir))?;
        let key_path = data_dir.join("token-key");
        let token_key = TokenKey::load(&key_path).await.map_err(dir(&key_path))?;
        let store = Store::open(&data_dir.join("platform.db")).await?;
        let api_key_path = data_dir.join("api-key");
        let api_key = keys::api_key(&api_key_path, config.api_key.as_ref())
            .await
            .map_err(dir(&api_key_path))?;
        let emulator = Emulator {
            identity: identity(&store).await?,
            store,
            clock: config.clock.clone(),
            rules: Rules {
                lease: Lease { ttl: config.lease_ttl, starting: config.starting },
                think: config.think,
                queue: config.queue,
                mind: if config.model.is_some() { Mind::Model } else { Mind::Script },
            },
            token_key,
            dice: Dice::new(config.mishaps),
            listeners: Listeners::default(),
            bells: Bells::default(),
            steps: tokio::sync::Notify::new(),
            thoughts: tokio::sync::Notify::new(),
            deliveries: tokio::sync::Notify::new(),
            due: tokio::sync::Notify::new(),
        };
        store_api_key(&emulator, &api_key).await?;
        let address = config.listen;
        let listen = |source| PlatformError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let emulator = Arc::new(emulator);
        let (ending, tasks) = spawn(&emulator, &config, listener);
        tracing::info!(%address, data_dir = %data_dir.display(), "platform emulator listens");
        Ok(Self { emulator, address, api_key, ending, tasks })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The base URL of its API, on the address that it listens on.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The organisation's API key, which stands in `<data_dir>/api-key` too.
    pub fn api_key(&self) -> &Secret {
        &self.api_key
    }

    /// Makes one more API key.
    ///
    /// # Errors
    /// [`PlatformError::Store`].
    pub async fn create_api_key(&self) -> Result<Secret, PlatformError> {
        let key = keys::new_key(KeyKind::Api);
        store_api_key(&self.emulator, &key).await?;
        Ok(key)
    }

    /// Makes a self-hosted environment with a key for its workers.
    ///
    /// # Errors
    /// [`PlatformError::Refused`] where the name is taken.
    pub async fn create_environment(&self, name: &str) -> Result<NewEnvironment, PlatformError> {
        let body = Value::Object(http::default_environment());
        let environment = self.emulator.create_environment(name.to_owned(), body).await?;
        let key = self.emulator.rotate_environment_key(&environment.id).await?;
        Ok(NewEnvironment { id: environment.id, key })
    }

    /// The environment of that name that is not archived, if there is one.
    ///
    /// # Errors
    /// [`PlatformError::Store`].
    pub async fn find_environment(
        &self,
        name: &str,
    ) -> Result<Option<EnvironmentId>, PlatformError> {
        let mut rows = self.emulator.store.read().await?;
        Ok(EnvironmentRow::find_by_name(&mut rows, name).await?.map(|found| found.id))
    }

    /// Mints a new key for the workers of an environment. The ones before are good no more.
    ///
    /// # Errors
    /// [`PlatformError::Refused`] where there is no such environment.
    pub async fn rotate_environment_key(
        &self,
        id: &EnvironmentId,
    ) -> Result<Secret, PlatformError> {
        Ok(self.emulator.rotate_environment_key(id).await?)
    }

    /// Registers a webhook endpoint for these event types, with a fresh signing secret.
    ///
    /// # Errors
    /// As [`Platform::add_webhook_endpoint_with_secret`].
    pub async fn add_webhook_endpoint(
        &self,
        url: &str,
        types: &[&str],
    ) -> Result<NewEndpoint, PlatformError> {
        let secret = keys::new_webhook_secret();
        self.add_webhook_endpoint_with_secret(url, types, secret).await
    }

    /// Registers a webhook endpoint that knows its secret already. One of the same URL is
    /// replaced, and enabled again if it was disabled. Several secrets, separated by white
    /// space, are good too: the first one signs.
    ///
    /// # Errors
    /// [`PlatformError::Endpoint`] where the URL is none of HTTP or `types` is empty; [`PlatformError::Secret`] where the secret
    /// is none.
    pub async fn add_webhook_endpoint_with_secret(
        &self,
        url: &str,
        types: &[&str],
        secret: Secret,
    ) -> Result<NewEndpoint, PlatformError> {
        let bad = |reason| PlatformError::Endpoint { url: url.to_owned(), reason };
        checked_url(url).map_err(|_| bad("it must be an http:// or https:// URL with a host"))?;
        if types.is_empty() {
            return Err(bad("it subscribes to no event type"));
        }
        Keys::parse(secret.expose()).map_err(PlatformError::Secret)?;
        let said = EndpointChange {
            url: Some(url.to_owned()),
            types: Some(types.iter().map(|&kind| kind.to_owned()).collect()),
            ..EndpointChange::default()
        };
        let endpoint = self.emulator.put_endpoint(said, &secret).await?;
        Ok(NewEndpoint { id: endpoint.id, secret })
    }

    /// The webhook endpoints.
    ///
    /// # Errors
    /// [`PlatformError::Store`].
    pub async fn webhook_endpoints(&self) -> Result<Vec<Endpoint>, PlatformError> {
        Ok(self.emulator.endpoints().await?.into_iter().map(endpoint).collect())
    }

    /// Removes a webhook endpoint, and what is on its way to it.
    ///
    /// # Errors
    /// [`PlatformError::Refused`] where there is no such endpoint.
    pub async fn remove_webhook_endpoint(&self, id: &EndpointId) -> Result<(), PlatformError> {
        Ok(self.emulator.delete_endpoint(id).await?)
    }

    /// Tells a webhook endpoint again what happens, after it was disabled.
    ///
    /// # Errors
    /// [`PlatformError::Refused`] where there is no such endpoint.
    pub async fn enable_webhook_endpoint(&self, id: &EndpointId) -> Result<(), PlatformError> {
        let state = Some(EndpointState::Enabled);
        let said = EndpointChange { state, ..EndpointChange::default() };
        self.emulator.update_endpoint(id, said).await?;
        Ok(())
    }

    /// Signs deliveries to an endpoint with a fresh secret.
    ///
    /// # Errors
    /// [`PlatformError::Refused`] where there is no such endpoint.
    pub async fn rotate_webhook_secret(
        &self,
        id: &EndpointId,
        old: OldSecret,
    ) -> Result<Secret, PlatformError> {
        Ok(self.emulator.rotate_secret(id, old).await?)
    }

    /// Delivers an event once more to all endpoints that it went to; returns how many these are.
    ///
    /// # Errors
    /// [`PlatformError::Refused`] where no delivery of that id is over.
    pub async fn redeliver(&self, id: &HookId) -> Result<u64, PlatformError> {
        Ok(self.emulator.redeliver(id).await?)
    }

    /// The delivery log, the newest first, at most `limit` lines.
    ///
    /// # Errors
    /// [`PlatformError::Store`].
    pub async fn deliveries(&self, limit: u32) -> Result<Vec<Delivery>, PlatformError> {
        Ok(self.emulator.deliveries(limit).await?.into_iter().map(delivery).collect())
    }

    /// What goes wrong on purpose.
    pub fn mishaps(&self) -> Mishaps {
        self.emulator.dice.mishaps()
    }

    /// Sets what goes wrong on purpose from now on.
    pub fn set_mishaps(&self, mishaps: Mishaps) {
        self.emulator.dice.set(mishaps);
    }

    /// Ends streams and polls, finishes what is under way, closes the database.
    pub async fn shutdown(self) {
        self.ending.cancel();
        if tokio::time::timeout(DRAIN_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!("requests were cut off at shutdown");
        }
        self.emulator.store.close().await;
    }
}

/// Starts the server and the two tasks that act by themselves.
fn spawn(
    emulator: &Arc<Emulator>,
    config: &PlatformConfig,
    listener: TcpListener,
) -> (CancellationToken, TaskTracker) {
    let (ending, tasks) = (CancellationToken::new(), TaskTracker::new());
    let surface = Surface { emulator: emulator.clone(), ending: ending.clone(), ping: config.ping };
    let router = http::router(surface);
    let ended = ending.clone().cancelled_owned();
    tasks.spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(ended).await;
        if let Err(error) = served {
            tracing::error!(error = &error as &dyn std::error::Error, "the server ended");
        }
    });
    tasks.spawn(steps::run(emulator.clone(), ending.clone()));
    tasks.spawn(deliveries::run(emulator.clone(), config.deliveries, ending.clone()));
    if let Some(model) = &config.model {
        let caller = Caller::new(model.clone());
        tasks.spawn(minds::run(emulator.clone(), caller, ending.clone()));
    }
    tasks.spawn(due::run(emulator.clone(), ending.clone()));
    tasks.close();
    (ending, tasks)
}

async fn store_api_key(emulator: &Emulator, key: &Secret) -> Result<(), PlatformError> {
    let credential = Credential { hash: keys::hash(key.expose()), subject: Subject::Organisation };
    let mut change = emulator.store.change().await?;
    credential.insert(change.rows(), emulator.now()).await?;
    change.commit().await?;
    Ok(())
}

/// The organisation and workspace of this data directory, made at the first start.
async fn identity(store: &Store) -> Result<Identity, StoreError> {
    let mut change = store.change().await?;
    let mut kept = Vec::new();
    let fresh = [
        ("organization_id", uuid::Uuid::new_v4().to_string()),
        ("workspace_id", random_id("wrkspc_")),
    ];
    for (key, fresh) in fresh {
        let value = match meta(change.rows(), key).await? {
            Some(value) => value,
            None => {
                set_meta(change.rows(), key, &fresh).await?;
                fresh
            }
        };
        kept.push(value);
    }
    change.commit().await?;
    let workspace = kept.pop().unwrap_or_default();
    Ok(Identity { organization: kept.pop().unwrap_or_default(), workspace })
}

fn endpoint(row: EndpointRow) -> Endpoint {
    Endpoint {
        enabled: row.is_enabled(),
        disabled_reason: match row.state {
            EndpointState::Enabled | EndpointState::Disabled => None,
            EndpointState::GivenUp(reason) => Some(reason),
        },
        failures: row.failing.map_or(0, |(_, failures)| u64::try_from(failures).unwrap_or(0)),
        id: row.id,
        url: row.url,
        types: row.types,
    }
}

fn delivery(row: DeliveryRow) -> Delivery {
    Delivery {
        id: row.hook,
        url: row.url,
        event_type: row.kind,
        subject: row.subject,
        state: match row.outcome {
            Outcome::Pending => DeliveryState::Pending,
            Outcome::Delivered => DeliveryState::Delivered,
            Outcome::Dropped => DeliveryState::Dropped,
        },
        created_at: row.created_at,
        attempts: row.attempts.into_iter().map(attempt).collect(),
    }
}

fn attempt(row: AttemptRow) -> DeliveryAttempt {
    DeliveryAttempt { at: row.at, status: row.status, error: row.error }
}
