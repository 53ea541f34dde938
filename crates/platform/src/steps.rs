//! The agents at work: one task that plays each session's next step when it is due.
//!
//! What is due stands in the rows, so the task holds no state: after a start it goes on where
//! the sessions stand.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::emulator::Emulator;
use crate::fault::Fault;

/// Pause after a fault of the store, so that a broken disk is not asked all the time.
const FAULT_PAUSE: Duration = Duration::from_secs(1);

/// Plays steps until `ending`.
pub(crate) async fn run(emulator: Arc<Emulator>, ending: CancellationToken) {
    while !ending.is_cancelled() {
        // A step that is under way is finished: it is one short transaction.
        if let Err(fault) = play_next(&emulator, &ending).await {
            tracing::error!(error = &fault as &dyn std::error::Error, "an agent's step failed");
            tokio::select! {
                () = tokio::time::sleep(FAULT_PAUSE) => {}
                () = ending.cancelled() => {}
            }
        }
    }
}

/// Waits for the next step that is due and plays it, or for news.
async fn play_next(emulator: &Emulator, ending: &CancellationToken) -> Result<(), Fault> {
    match emulator.next_step().await? {
        Some((session, at)) if at <= emulator.now() => emulator.step(&session).await?,
        Some((_, at)) => tokio::select! {
            () = emulator.clock.sleep_until(at) => {}
            () = emulator.steps.notified() => {}
            () = ending.cancelled() => {}
        },
        None => tokio::select! {
            () = emulator.steps.notified() => {}
            () = ending.cancelled() => {}
        },
    }
    Ok(())
}
