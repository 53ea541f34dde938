//! The one task that writes log events: what has come in meanwhile is committed together.

use crate::{
    Clock, ControlError, LogBatch,
    error::chain,
    store::{NewEvents, Store},
};
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Jobs that wait for the writer; whoever has more to say waits.
pub(crate) const JOBS_WAITING_MAX: usize = 256;

/// Jobs in one commit. A commit costs about the same whatever is in it.
const JOBS_PER_COMMIT_MAX: usize = 256;

/// Events to be written, and who waits for that.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) events: NewEvents,
    pub(crate) reply: Option<oneshot::Sender<Result<(), ControlError>>>,
}

pub(crate) struct LogWriter {
    pub(crate) store: Arc<Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) batches: broadcast::Sender<Arc<LogBatch>>,
    /// One task gives out the numbers, so they need no sequence in the database.
    pub(crate) next_sequence: u64,
}

impl LogWriter {
    pub(crate) async fn run(mut self, mut jobs: mpsc::Receiver<Job>, stop: CancellationToken) {
        let mut taken = Vec::with_capacity(JOBS_PER_COMMIT_MAX);
        loop {
            let count = tokio::select! {
                biased;
                count = jobs.recv_many(&mut taken, JOBS_PER_COMMIT_MAX) => count,
                () = stop.cancelled() => {
                    jobs.close();
                    continue;
                }
            };
            if count == 0 {
                return;
            }
            self.commit(std::mem::take(&mut taken)).await;
        }
    }

    async fn commit(&mut self, jobs: Vec<Job>) {
        let (events, replies): (Vec<_>, Vec<_>) =
            jobs.into_iter().map(|job| (job.events, job.reply)).unzip();
        let now = self.clock.now();
        let appended = match self.store.append_log(&events, self.next_sequence, now).await {
            Ok(appended) => appended,
            Err(error) => {
                warn!("{} batches of log events are lost: {}", events.len(), chain(&error));
                for reply in replies.into_iter().flatten() {
                    let _ = reply.send(Err(ControlError::LogsNotWritten));
                }
                return;
            }
        };
        for (outcome, reply) in appended.into_iter().zip(replies) {
            let outcome = outcome.map(|batch| {
                let written = batch.events.len() as u64;
                self.next_sequence += written;
                if written > 0 {
                    // Nobody has to listen.
                    let _ = self.batches.send(Arc::new(batch));
                }
            });
            if let Some(reply) = reply {
                let _ = reply.send(outcome);
            }
        }
    }
}
