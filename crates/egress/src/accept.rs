//! Taking connections of one VM: a bounded number at once, all of them gone when the VM is.

use std::{sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

/// Pause after a failed accept: the process may be out of descriptors, and trying again at once
/// would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Tasks of one VM's back door.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    pub(crate) tracker: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        Self { tracker: TaskTracker::new(), stop: CancellationToken::new() }
    }

    /// Runs `work` until it ends or the VM goes.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        let work = async move {
            stop.run_until_cancelled(work).await;
        };
        // What is logged names the VM.
        self.tracker.spawn(work.in_current_span());
    }

    /// Ends everything and returns when it has ended.
    pub(crate) async fn end(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Handles each connection in a task of its own, at most `connections_max` at once; more wait in
/// the listener's backlog, which is the guest's own memory in the end.
pub(crate) fn serve<F, W>(tasks: &Tasks, listener: TcpListener, connections_max: usize, handle: F)
where
    F: Fn(TcpStream) -> W + Send + Sync + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(connections_max));
    let connections = tasks.clone();
    tasks.spawn(async move {
        // The semaphore is never closed: the loop ends with the VM.
        while let Ok(place) = places.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let work = handle(stream);
                    connections.spawn(async move {
                        work.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "a guest's connection could not be taken");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
}
