//! One change at a time for each VM or checkpoint: a stop waits for the suspend that was asked for before it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};
use tokio::sync::{Mutex as Lock, OwnedMutexGuard};

/// Who may change what, by name.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<String, Weak<Lock<()>>>>);

impl Turns {
    /// Waits until nobody else changes what has this name.
    pub(crate) async fn take(&self, name: &str) -> OwnedMutexGuard<()> {
        self.of(name).lock_owned().await
    }

    fn of(&self, name: &str) -> Arc<Lock<()>> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(name).and_then(Weak::upgrade) {
            return turn;
        }
        // Those that nobody holds or waits for.
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::new(Lock::new(()));
        turns.insert(name.to_owned(), Arc::downgrade(&turn));
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_waits_for_the_first_and_others_do_not() {
        let turns = Turns::default();
        let first = turns.take("a").await;
        let second = turns.of("a");
        assert!(second.try_lock().is_err());
        assert!(turns.of("b").try_lock().is_ok());
        drop(first);
        assert!(second.try_lock().is_ok());
        drop(second);
        drop(turns.take("c").await);
        assert_eq!(turns.0.lock().unwrap().len(), 1, "what nobody waits for is forgotten");
    }
}
