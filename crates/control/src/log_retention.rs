//! Takes away log events that are too old for their group, and the oldest of all where there are
//! too many bytes.
//!
//! In small commits, so that whoever writes does not wait; what one round does not end, the next
//! one does.

use crate::{Clock, ControlError, error::chain, store::Store};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(600);

const DAY: Duration = Duration::from_secs(24 * 3600);

pub(crate) struct LogRetention {
    pub(crate) store: Arc<Store>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Messages of all groups together, in bytes.
    pub(crate) bytes_max: u64,
}

impl LogRetention {
    pub(crate) async fn repeat(self, stop: CancellationToken) {
        loop {
            if let Some(Err(error)) = stop.run_until_cancelled(self.sweep()).await {
                warn!("old log events could not be removed: {}", chain(&error));
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.clock.sleep(EVERY) => {}
            }
        }
    }

    async fn sweep(&self) -> Result<(), ControlError> {
        let mut removed = 0;
        for (group, days) in self.store.log_retentions().await? {
            let before = self.clock.now().minus(DAY.saturating_mul(days));
            loop {
                let step = self.store.expire_log_events(group, before).await?;
                removed += step.events;
                if step.events == 0 {
                    break;
                }
            }
        }
        let mut bytes = self.store.log_bytes().await?;
        while bytes > self.bytes_max {
            let step = self.store.drop_oldest_log_events(bytes - self.bytes_max).await?;
            removed += step.events;
            bytes = bytes.saturating_sub(step.bytes);
            if step.events == 0 {
                break;
            }
        }
        if removed > 0 {
            info!(removed, "log events past their time are removed");
        }
        Ok(())
    }
}
