//! The launcher as a whole: put together, mounted, shut down.

use crate::{
    aws::{AwsClients, TlsError},
    config::{LauncherConfig, Mode},
    delivery,
    event::{Announcer, LauncherEvent, LauncherEventKind},
    handover::Handover,
    microvms::Microvms,
    poll::Poller,
    secret::SecretError,
    sessions::Sessions,
    signing::Signing,
    store::{Store, StoreError},
};
use agents::client::Transport;
use aws_credential_types::provider::SharedCredentialsProvider;
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::sync::{Semaphore, broadcast};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Deliveries under way at once; more are told to come again.
const DELIVERIES_MAX: usize = 256;
/// Between two calls that keep the connection open; servers commonly close an idle one after 60 s
/// or more, and credentials are renewed on the way.
const WARM_INTERVAL: Duration = Duration::from_secs(45);
/// Between two clearings of old rows.
const FORGET_INTERVAL: Duration = Duration::from_secs(3600);

/// The launcher cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Turns webhooks, or what a poll finds, into MicroVMs. Cheap to clone; ends with [`Launcher::shut_down`].
#[derive(Clone, Debug)]
pub struct Launcher {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) config: LauncherConfig,
    pub(crate) store: Store,
    pub(crate) signing: Signing,
    pub(crate) sessions: Arc<Sessions>,
    /// A place for each delivery under way.
    pub(crate) places: Semaphore,
    announcer: Announcer,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl Inner {
    pub(crate) fn announce(&self, kind: LauncherEventKind) {
        self.announcer.announce(kind);
    }

    pub(crate) fn is_shutting_down(&self) -> bool {
        self.shutdown.is_cancelled()
    }
}

impl Launcher {
    /// Opens the database and begins to keep the connection to AWS warm. `credentials` are those of
    /// the launcher's own role: it needs secretsmanager:GetSecretValue on the signing secret,
    /// lambda:RunMicrovm, GetMicrovm, ResumeMicrovm and PassNetworkConnector on the image, and
    /// iam:PassRole on the execution role; in [`Mode::Poll`] also TerminateMicrovm, and GetSecretValue on
    /// the environment key. AWS need not answer yet.
    ///
    /// # Errors
    /// [`StartError`]: the database cannot be opened, TLS cannot be set up.
    pub async fn start(
        config: LauncherConfig,
        credentials: SharedCredentialsProvider,
    ) -> Result<Self, StartError> {
        let store = Store::open(&config.data_dir).await?;
        let clients = AwsClients::new(&config, credentials)?;
        let microvms = Microvms::new(&clients);
        let announcer = Announcer::new();
        let tasks = TaskTracker::new();
        let shutdown = CancellationToken::new();
        tasks.spawn(keep_warm(microvms.clone(), shutdown.clone()));
        tasks.spawn(forget_old(store.clone(), shutdown.clone()));
        let sessions = Arc::new(Sessions::new(
            config.clone(),
            store.clone(),
            microvms.clone(),
            announcer.clone(),
            tasks.clone(),
        ));
        if let Mode::Poll { platform_url } = &config.mode {
            let ends = (tasks.clone(), shutdown.clone());
            let poller = Poller {
                config: config.clone(),
                platform_url: platform_url.clone(),
                secrets: clients.secrets.clone(),
                transport: Transport::new(),
                handover: Handover::new(
                    store.clone(),
                    sessions.clone(),
                    microvms,
                    announcer.clone(),
                    ends,
                ),
            };
            tasks.spawn(poller.run(shutdown.clone()));
        }
        let inner = Inner {
            signing: Signing::new(&clients, config.signing_secret_id.clone()),
            config,
            store,
            sessions,
            places: Semaphore::new(DELIVERIES_MAX),
            announcer,
            shutdown,
            tasks,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The route [`crate::WEBHOOK_PATH`]. Other methods than POST get 405.
    pub fn router(&self) -> axum::Router {
        delivery::router(self.inner.clone())
    }

    /// Whether deliveries could be verified now.
    ///
    /// # Errors
    /// [`SecretError`], whose hint says what to do.
    pub async fn check_signing_secret(&self) -> Result<(), SecretError> {
        self.inner.signing.keys().await.map(|_| ())
    }

    /// Sessions by the id of the VM that each was given last.
    ///
    /// # Errors
    /// [`StoreError`]: the database cannot be read.
    pub async fn sessions_by_vm(&self) -> Result<HashMap<String, String>, StoreError> {
        self.inner.store.sessions_by_vm().await
    }

    /// All that happens from now on.
    pub fn events(&self) -> broadcast::Receiver<LauncherEvent> {
        self.inner.announcer.subscribe()
    }

    /// Answers new deliveries with 503 and waits for the launches under way, each of which is
    /// bounded in time; then closes the database.
    pub async fn shut_down(&self) {
        self.inner.shutdown.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        self.inner.store.close().await;
    }
}

async fn keep_warm(microvms: Microvms, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(WARM_INTERVAL);
    let forever = async {
        loop {
            ticks.tick().await;
            microvms.keep_warm().await;
        }
    };
    shutdown.run_until_cancelled(forever).await;
}

async fn forget_old(store: Store, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(FORGET_INTERVAL);
    let forever = async {
        loop {
            ticks.tick().await;
            if let Err(error) = store.forget_old().await {
                tracing::warn!(%error, "the launcher's database stays as large as it is");
            }
        }
    };
    shutdown.run_until_cancelled(forever).await;
}
