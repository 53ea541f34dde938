//! The gateway as a whole: what it is made of, and the loop that takes connections.

use crate::{
    GatewayConfig, Metrics, TlsMode,
    backend::Backends,
    connection::{self, Greeting},
    vms::Vms,
};
use control::ProxyTokens;
use std::{io, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::Semaphore, time::sleep};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Pause after a failed accept: it fails where descriptors have run out, until some are closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The front door of a Warren's VMs.
#[derive(Clone)]
pub struct Gateway {
    front: Arc<Front>,
}

/// What requests work with.
pub(crate) struct Front {
    pub(crate) config: GatewayConfig,
    pub(crate) greeting: Greeting,
    pub(crate) vms: Arc<dyn Vms>,
    pub(crate) tokens: Arc<ProxyTokens>,
    pub(crate) backends: Arc<Backends>,
    pub(crate) metrics: Arc<Metrics>,
    /// Ends every connection.
    pub(crate) stop: CancellationToken,
    /// Connections, tunnels and shells.
    pub(crate) tasks: TaskTracker,
}

impl Gateway {
    pub fn new(config: GatewayConfig, vms: Arc<dyn Vms>, tokens: Arc<ProxyTokens>) -> Self {
        let stop = CancellationToken::new();
        let tls = |certificate: &crate::Certificate| {
            TlsAcceptor::from(certificate.server_config(&["h2", "http/1.1"]))
        };
        let greeting = match &config.tls {
            TlsMode::Off => Greeting::Plain,
            TlsMode::Optional(certificate) => Greeting::Either(tls(certificate)),
            TlsMode::Required(certificate) => Greeting::Tls(tls(certificate)),
        };
        let backends = Backends::new(vms.clone(), config.limits, stop.clone());
        let (metrics, tasks) = (Arc::default(), TaskTracker::new());
        let front = Front { config, greeting, vms, tokens, backends, metrics, stop, tasks };
        Self { front: Arc::new(front) }
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.front.metrics
    }

    /// Takes connections until [`Gateway::close`].
    pub async fn serve(&self, listener: TcpListener) {
        let front = &self.front;
        front.stop.run_until_cancelled(self.accept(listener)).await;
    }

    async fn accept(&self, listener: TcpListener) {
        let front = &self.front;
        let places = Arc::new(Semaphore::new(front.config.connections_max));
        loop {
            // Those who find no place wait in the kernel's queue, which has a bound of its own.
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) if left_early(&error) => continue,
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let front = front.clone();
            self.front.tasks.spawn(async move {
                let metrics = front.metrics.clone();
                Metrics::add(&metrics.connections, 1);
                let _open = Metrics::while_held(&metrics.connections_open);
                connection::attend(front, stream, peer).await;
                drop(place);
            });
        }
    }

    /// Takes no more, gives what is under way some seconds, and returns when nothing is left.
    pub async fn close(&self) {
        self.front.stop.cancel();
        for tasks in [&self.front.tasks, &self.front.backends.tasks] {
            tasks.close();
            tasks.wait().await;
        }
    }
}

fn left_early(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}
