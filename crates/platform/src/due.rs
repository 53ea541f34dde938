//! What happens at its time without anybody asking: scheduled runs, files that expire.
//!
//! The times stand in the rows, so the task holds no state.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::emulator::Emulator;

/// Pause after a fault of the store.
const FAULT_PAUSE: Duration = Duration::from_secs(1);

/// Does what is due until `ending`.
pub(crate) async fn run(emulator: Arc<Emulator>, ending: CancellationToken) {
    while !ending.is_cancelled() {
        let next = match emulator.do_due().await {
            Ok(next) => next,
            Err(fault) => {
                tracing::error!(error = &fault as &dyn std::error::Error, "what is due fails");
                Some(emulator.now().plus(FAULT_PAUSE))
            }
        };
        let due = async {
            match next {
                Some(at) => emulator.clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = emulator.due.notified() => {}
            () = ending.cancelled() => {}
        }
    }
}
