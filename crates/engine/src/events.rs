//! How ends reach whoever listens: each listener has a queue of its own, and none is skipped.

use crate::EngineEvent;
use std::sync::{Mutex, PoisonError};
use tokio::sync::mpsc;

/// The sending side of [`crate::Engine::events`].
#[derive(Debug, Default)]
pub struct Events(Mutex<Vec<mpsc::UnboundedSender<EngineEvent>>>);

impl Events {
    /// Hears all that is told from now on.
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<EngineEvent> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }

    /// Tells every listener; those that are gone are forgotten.
    pub fn tell(&self, event: &EngineEvent) {
        let mut listeners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| listener.send(event.clone()).is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VmId;
    use wire::AppExit;

    #[test]
    fn a_listener_that_is_slow_misses_nothing() {
        let (events, id) = (Events::default(), VmId::new("vm").unwrap());
        drop(events.subscribe());
        let mut slow = events.subscribe();
        for code in 0..10_000 {
            events.tell(&EngineEvent::AppExited { id: id.clone(), exit: AppExit { code } });
        }
        for expected in 0..10_000 {
            let EngineEvent::AppExited { exit, .. } = slow.try_recv().unwrap() else { panic!() };
            assert_eq!(exit.code, expected);
        }
    }
}
