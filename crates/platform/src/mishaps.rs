//! Things that go wrong on purpose, so that users can see what their programs make of it.
//!
//! Each kind has a probability. Whether the n-th chance of a kind is taken follows from the seed,
//! the kind and n alone: two runs with one seed meet the same mishaps in the same places, as far
//! as their requests come in the same order.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// How far a webhook that is to change its place is put off.
const REORDER_SPAN: Duration = Duration::from_millis(500);
/// Longest wait that may be asked for, in milliseconds.
const WAIT_MS_MAX: u64 = 3_600_000;

/// How often what goes wrong: probabilities from 0 to 1, all 0 to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mishaps {
    /// What all decisions follow from.
    pub seed: u64,
    /// A call is answered with 500 and not done.
    pub error_500: f64,
    /// A call is answered with 429 and not done.
    pub error_429: f64,
    /// A call is done, and answered with 500.
    pub lost_answer: f64,
    /// `retry-after-ms` of these answers; 0: they have none.
    pub retry_after_ms: u64,
    /// An event stream ends after an event.
    pub cut_stream: f64,
    /// A heartbeat finds its lease run out.
    pub expire_lease: f64,
    /// A webhook is never sent.
    pub drop_webhook: f64,
    /// A webhook is sent later, by up to `webhook_delay_ms`.
    pub delay_webhook: f64,
    /// Longest delay of such a webhook, in milliseconds.
    pub webhook_delay_ms: u64,
    /// A webhook is sent twice.
    pub duplicate_webhook: f64,
    /// A webhook is overtaken by later ones, if there are any within half a second.
    pub reorder_webhook: f64,
}

impl Mishaps {
    /// Says what cannot be: probabilities outside 0 to 1, waits of more than an hour.
    ///
    /// # Errors
    /// The member's name, and what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        for (name, value) in [
            ("error_500", self.error_500),
            ("error_429", self.error_429),
            ("lost_answer", self.lost_answer),
            ("cut_stream", self.cut_stream),
            ("expire_lease", self.expire_lease),
            ("drop_webhook", self.drop_webhook),
            ("delay_webhook", self.delay_webhook),
            ("duplicate_webhook", self.duplicate_webhook),
            ("reorder_webhook", self.reorder_webhook),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(format!("{name}: must be from 0 to 1, it is {value}"));
            }
        }
        for (name, value) in
            [("retry_after_ms", self.retry_after_ms), ("webhook_delay_ms", self.webhook_delay_ms)]
        {
            if value > WAIT_MS_MAX {
                return Err(format!("{name}: must be at most {WAIT_MS_MAX}, it is {value}"));
            }
        }
        Ok(())
    }
}

/// A chance for something to go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chance {
    Error500,
    Error429,
    LostAnswer,
    CutStream,
    ExpireLease,
    DropWebhook,
    DelayWebhook,
    DuplicateWebhook,
    ReorderWebhook,
    /// Not whether, but how long.
    Span,
}

const CHANCES: usize = 10;

/// What becomes of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WebhookFate {
    /// How often it is sent.
    pub(crate) copies: usize,
    /// How much later.
    pub(crate) delay: Duration,
}

/// Decides what goes wrong.
#[derive(Debug, Default)]
pub(crate) struct Dice {
    mishaps: RwLock<Mishaps>,
    thrown: [AtomicU64; CHANCES],
}

impl Dice {
    pub(crate) fn new(mishaps: Mishaps) -> Self {
        Self { mishaps: RwLock::new(mishaps), thrown: Default::default() }
    }

    /// What is set.
    pub(crate) fn mishaps(&self) -> Mishaps {
        *self.mishaps.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets it anew; all sequences begin again.
    pub(crate) fn set(&self, mishaps: Mishaps) {
        *self.mishaps.write().unwrap_or_else(PoisonError::into_inner) = mishaps;
        for thrown in &self.thrown {
            thrown.store(0, Ordering::Relaxed);
        }
    }

    /// Whether this chance is taken.
    pub(crate) fn hits(&self, chance: Chance) -> bool {
        let mishaps = self.mishaps();
        let probability = match chance {
            Chance::Error500 => mishaps.error_500,
            Chance::Error429 => mishaps.error_429,
            Chance::LostAnswer => mishaps.lost_answer,
            Chance::CutStream => mishaps.cut_stream,
            Chance::ExpireLease => mishaps.expire_lease,
            Chance::DropWebhook => mishaps.drop_webhook,
            Chance::DelayWebhook => mishaps.delay_webhook,
            Chance::DuplicateWebhook => mishaps.duplicate_webhook,
            Chance::ReorderWebhook => mishaps.reorder_webhook,
            Chance::Span => 0.0,
        };
        probability > 0.0 && self.throw(mishaps.seed, chance) < probability
    }

    /// What becomes of the next webhook.
    pub(crate) fn webhook(&self) -> WebhookFate {
        let mishaps = self.mishaps();
        if self.hits(Chance::DropWebhook) {
            return WebhookFate { copies: 0, delay: Duration::ZERO };
        }
        let mut delay = Duration::ZERO;
        if self.hits(Chance::DelayWebhook) {
            let longest = Duration::from_millis(mishaps.webhook_delay_ms);
            delay += longest.mul_f64(self.throw(mishaps.seed, Chance::Span));
        }
        if self.hits(Chance::ReorderWebhook) {
            delay += REORDER_SPAN;
        }
        let copies = if self.hits(Chance::DuplicateWebhook) { 2 } else { 1 };
        WebhookFate { copies, delay }
    }

    /// The next number of a sequence, from 0 to below 1.
    fn throw(&self, seed: u64, chance: Chance) -> f64 {
        let Some(thrown) = self.thrown.get(chance as usize) else { return 1.0 };
        let nth = thrown.fetch_add(1, Ordering::Relaxed);
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update([chance as u8]);
        hash.update(nth.to_le_bytes());
        let digest: [u8; 32] = hash.finalize().into();
        let (word, _) = digest.split_at(4);
        let word = word.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        f64::from(word) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seed: u64) -> Vec<bool> {
        let dice = Dice::new(Mishaps { seed, error_500: 0.3, ..Mishaps::default() });
        (0..1000).map(|_| dice.hits(Chance::Error500)).collect()
    }

    #[test]
    fn one_seed_meets_the_same_mishaps_in_the_same_places() {
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
        let hits = run(7).into_iter().filter(|hit| *hit).count();
        assert!((250..350).contains(&hits), "{hits}");
    }

    #[test]
    fn nothing_goes_wrong_unless_it_is_asked_for() {
        let dice = Dice::new(Mishaps::default());
        assert!((0..100).all(|_| !dice.hits(Chance::CutStream)));
        assert_eq!(dice.webhook(), WebhookFate { copies: 1, delay: Duration::ZERO });
    }

    #[test]
    fn a_probability_that_is_none_is_refused_by_its_name() {
        let bad = Mishaps { cut_stream: 1.5, ..Mishaps::default() };
        assert_eq!(bad.check().unwrap_err(), "cut_stream: must be from 0 to 1, it is 1.5");
    }
}
