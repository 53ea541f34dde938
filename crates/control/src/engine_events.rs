//! The one listener to the engine: output goes to the logs, ends go to the keepers.

use crate::{
    LogRecord, LogTarget, MicrovmId, app_log::Addressed, error::chain, fleet::Fleet, life::Event,
};
use engine::{AppOutput, EngineEvent, VmId};
use std::sync::Arc;
use tokio::sync::{
    broadcast::{
        self,
        error::{RecvError, TryRecvError},
    },
    mpsc,
};
use tracing::{info, warn};

/// Bytes of the guest's console that are kept when it dies.
const CONSOLE_BYTES_MAX: usize = 8 * 1024;

/// Characters of the console's last line in a state reason.
const REASON_LINE_CHARS_MAX: usize = 200;

/// What is listened to.
pub(crate) struct Sources {
    pub(crate) events: mpsc::UnboundedReceiver<EngineEvent>,
    pub(crate) logs: broadcast::Receiver<AppOutput>,
    /// Names VMs that are gone, whose last output may still be on its way here.
    pub(crate) ended: mpsc::UnboundedReceiver<MicrovmId>,
}

/// Until the control plane stops. An end is heard before any output that comes after it, and after
/// all that came before.
pub(crate) async fn listen(
    fleet: Arc<Fleet>,
    Sources { mut events, mut logs, mut ended }: Sources,
) {
    loop {
        tokio::select! {
            biased;
            // First, or an engine that has much to say is listened to for ever.
            () = fleet.stop.cancelled() => break,
            event = events.recv() => match event {
                Some(event) => {
                    fleet.write_waiting(&mut logs).await;
                    fleet.engine_event(event).await;
                }
                None => break,
            },
            Some(id) = ended.recv() => {
                fleet.write_waiting(&mut logs).await;
                fleet.end_log(&id).await;
                fleet.app_logs.forget(&id);
            }
            output = logs.recv() => match output {
                Ok(output) => fleet.app_output(output).await,
                Err(RecvError::Lagged(missed)) => lost(missed),
                Err(RecvError::Closed) => break,
            },
        }
    }
    for id in fleet.app_logs.ids() {
        fleet.end_log(&id).await;
    }
}

fn lost(missed: u64) {
    warn!("{missed} pieces of apps' output came faster than they could be written, and are lost");
}

impl Fleet {
    /// Writes as much output as waits now; what comes meanwhile is left for later.
    async fn write_waiting(&self, logs: &mut broadcast::Receiver<AppOutput>) {
        for _ in 0..logs.len() {
            match logs.try_recv() {
                Ok(output) => self.app_output(output).await,
                Err(TryRecvError::Lagged(missed)) => lost(missed),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    async fn app_output(&self, AppOutput { id, error, data }: AppOutput) {
        let Some(id) = microvm(&id) else { return };
        let now = self.outside.clock.now();
        if let Some(lines) = self.app_logs.push(&id, error, &data, now) {
            self.write_log(lines).await;
        }
    }

    async fn engine_event(&self, event: EngineEvent) {
        match event {
            EngineEvent::AppExited { id, exit } => {
                let Some(id) = microvm(&id) else { return };
                info!(microvm = %id, code = exit.code, "its app ended");
                self.tell(&id, Event::AppExited { code: exit.code }).await;
            }
            EngineEvent::Died { id, reason, console } => {
                let Some(id) = microvm(&id) else { return };
                let reason = self.describe_death(&id, &reason, &console).await;
                self.tell(&id, Event::Died { reason }).await;
            }
        }
    }

    /// The state reason of a guest that is no more. Its console goes to the log.
    pub(crate) async fn death_reason(&self, id: &MicrovmId, reason: &str) -> String {
        let tail = self.outside.engine.console_tail(&id.vm_id(), CONSOLE_BYTES_MAX).await;
        self.describe_death(id, reason, &tail.unwrap_or_default()).await
    }

    async fn describe_death(&self, id: &MicrovmId, reason: &str, console: &str) -> String {
        self.end_log(id).await;
        let lines = || console.lines().map(str::trim_end).filter(|line| !line.is_empty());
        if let Some(target) = self.app_logs.target(id) {
            let at = self.outside.clock.now();
            let told = lines().map(|line| LogRecord { at, message: format!("console: {line}") });
            self.write_log((target, told.collect())).await;
        }
        let last: Option<String> =
            lines().next_back().map(|line| line.chars().take(REASON_LINE_CHARS_MAX).collect());
        match last {
            Some(line) => format!("The MicroVM ended unexpectedly: {reason} (console: {line})"),
            None => format!("The MicroVM ended unexpectedly: {reason}"),
        }
    }

    async fn end_log(&self, id: &MicrovmId) {
        if let Some(lines) = self.app_logs.finish(id, self.outside.clock.now()) {
            self.write_log(lines).await;
        }
    }

    async fn write_log(&self, (target, records): Addressed) {
        if records.is_empty() {
            return;
        }
        let LogTarget { group, stream } = &target;
        if let Err(error) = self.logs.append(&target, records).await {
            warn!(%group, %stream, "output of an app is lost: {}", chain(&error));
        }
    }
}

/// None for a VM of the engine's own, such as one that a template is made in.
fn microvm(id: &VmId) -> Option<MicrovmId> {
    MicrovmId::parse(id.as_str()).ok()
}
