//! The models at work: one task that asks what sessions wait to have asked.
//!
//! Which requests are wanted stands in the rows, so after a start those that were under way are
//! made again; one that nobody waits for any more (the user interrupted) is dropped where it is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use agents::{EventId, SessionId};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::emulator::Emulator;
use crate::fault::Fault;
use crate::model::Caller;

/// Pause after a fault of the store.
const FAULT_PAUSE: Duration = Duration::from_secs(1);

/// Asks until `ending`.
pub(crate) async fn run(emulator: Arc<Emulator>, caller: Caller, ending: CancellationToken) {
    let mut minds = Minds { emulator, caller, requests: JoinSet::new(), under_way: HashMap::new() };
    while !ending.is_cancelled() {
        if let Err(fault) = minds.settle().await {
            tracing::error!(error = &fault as &dyn std::error::Error, "models cannot be asked");
            tokio::time::sleep(FAULT_PAUSE).await;
        }
        tokio::select! {
            () = minds.emulator.thoughts.notified() => {}
            Some(done) = minds.requests.join_next() => {
                if let Ok(span) = done {
                    minds.under_way.remove(&span);
                }
            }
            () = ending.cancelled() => {}
        }
    }
}

struct Minds {
    emulator: Arc<Emulator>,
    caller: Caller,
    requests: JoinSet<EventId>,
    under_way: HashMap<EventId, AbortHandle>,
}

impl Minds {
    /// Begins what is wanted and not under way, ends what is under way and not wanted.
    async fn settle(&mut self) -> Result<(), Fault> {
        let wanted: HashMap<EventId, SessionId> =
            self.emulator.asked().await?.into_iter().collect();
        self.under_way.retain(|span, request| {
            let keep = wanted.contains_key(span);
            if !keep {
                request.abort();
            }
            keep
        });
        for (span, session) in wanted {
            if self.under_way.contains_key(&span) {
                continue;
            }
            let (emulator, caller) = (self.emulator.clone(), self.caller.clone());
            let of_task = span.clone();
            let request = self.requests.spawn(async move {
                if let Err(fault) = emulator.think(&caller, &session, &of_task).await {
                    tracing::error!(
                        %session,
                        error = &fault as &dyn std::error::Error,
                        "what a model said cannot be written down"
                    );
                    tokio::time::sleep(FAULT_PAUSE).await;
                }
                of_task
            });
            self.under_way.insert(span, request);
        }
        Ok(())
    }
}
