//! One clock for all of the control plane, so that a test can move it.
//!
//! Two kinds of time: a [`Timestamp`] is what a wall clock shows, for people, signatures and
//! records; a [`Steady`] is what deadlines are counted in. Steady time goes on evenly when the host's
//! clock is set, while the host sleeps, and over restarts of this process, so that a deadline that
//! was written down holds. Over a restart of the host, which only suspended VMs outlive, it goes on
//! by the wall clock.

use async_trait::async_trait;
use rustix::time::ClockId;
use std::{
    fmt, fs,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use time::OffsetDateTime;
use uuid::Uuid;

/// Wall-clock time in milliseconds since the epoch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }

    pub const fn ms(self) -> i64 {
        self.0
    }

    /// Seconds with their fraction, as AWS writes times in JSON bodies.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// The end of time where the sum does not fit.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// The beginning of time where the difference does not fit.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// Zero where `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// For calendars; times outside of year 0 to 9999 are the epoch.
    pub fn utc(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.utc().format(&time::format_description::well_known::Rfc3339);
        f.write_str(&text.unwrap_or_else(|_| self.0.to_string()))
    }
}

/// A point in steady time, in milliseconds; only the difference of two means something.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Steady(i64);

impl Steady {
    pub(crate) const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }

    pub(crate) const fn ms(self) -> i64 {
        self.0
    }

    /// The end of time where the sum does not fit.
    #[must_use]
    pub(crate) fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// Zero where `earlier` is not earlier.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// The end of time where it does not fit.
fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// How long the machine has been up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Uptime {
    /// Names this boot; another boot has another name.
    pub boot: String,
    /// Since the boot, sleep of the machine included. Never set.
    pub elapsed: Duration,
}

/// Where time comes from.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// The wall clock, which may be set forward and back.
    fn now(&self) -> Timestamp;

    fn uptime(&self) -> Uptime;

    /// Sleeps for this part of the uptime. May be dropped at any time.
    async fn sleep(&self, duration: Duration);
}

/// How steady time is reckoned from a machine's uptime; kept in the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Reckoning {
    pub(crate) boot: String,
    /// Steady time at that boot, milliseconds.
    pub(crate) at_boot_ms: i64,
    /// Steady time less the wall clock's, when that was last looked at: what the clock was set by
    /// in all.
    pub(crate) ahead_of_wall_ms: i64,
}

impl Reckoning {
    /// Goes on from an earlier reckoning, or begins with the wall clock's time.
    pub(crate) fn go_on(earlier: Option<Self>, uptime: &Uptime, wall: Timestamp) -> Self {
        let up_ms = millis(uptime.elapsed);
        match earlier {
            Some(same) if same.boot == uptime.boot => same.seen(uptime, wall),
            other => {
                let ahead_of_wall_ms = other.map_or(0, |earlier| earlier.ahead_of_wall_ms);
                let steady_ms = wall.ms().saturating_add(ahead_of_wall_ms);
                let at_boot_ms = steady_ms.saturating_sub(up_ms);
                Self { boot: uptime.boot.clone(), at_boot_ms, ahead_of_wall_ms }
            }
        }
    }

    /// The same, with the wall clock as it is now.
    pub(crate) fn seen(mut self, uptime: &Uptime, wall: Timestamp) -> Self {
        self.ahead_of_wall_ms = self.at(uptime.elapsed).ms().saturating_sub(wall.ms());
        self
    }

    pub(crate) fn at(&self, elapsed: Duration) -> Steady {
        Steady(self.at_boot_ms.saturating_add(millis(elapsed)))
    }
}

/// Tells steady time.
#[derive(Clone)]
pub(crate) struct SteadyClock {
    clock: Arc<dyn Clock>,
    reckoning: Reckoning,
}

impl SteadyClock {
    pub(crate) fn new(clock: Arc<dyn Clock>, earlier: Option<Reckoning>) -> Self {
        let reckoning = Reckoning::go_on(earlier, &clock.uptime(), clock.now());
        Self { clock, reckoning }
    }

    pub(crate) fn now(&self) -> Steady {
        self.reckoning.at(self.clock.uptime().elapsed)
    }

    /// Returns at once where `at` has passed. May be dropped at any time.
    pub(crate) async fn sleep_until(&self, at: Steady) {
        self.clock.sleep(at.since(self.now())).await;
    }

    /// What the next process is to go on from.
    pub(crate) fn reckoning(&self) -> Reckoning {
        self.reckoning.clone().seen(&self.clock.uptime(), self.clock.now())
    }
}

impl fmt::Debug for SteadyClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SteadyClock").field("reckoning", &self.reckoning).finish_non_exhaustive()
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// Longest sleep before the uptime is looked at again: a timer does not count while the machine
/// sleeps, the uptime does.
const UPTIME_CHECK: Duration = Duration::from_secs(30);

/// Names the boot (Linux, random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(0).plus(since_epoch)
    }

    fn uptime(&self) -> Uptime {
        static BOOT: OnceLock<String> = OnceLock::new();
        // Where it cannot be read, every process is a boot of its own and goes by the wall clock.
        let unnamed = || Uuid::new_v4().to_string();
        let boot = BOOT.get_or_init(|| {
            fs::read_to_string(BOOT_ID).map_or_else(|_| unnamed(), |id| id.trim().to_owned())
        });
        Uptime { boot: boot.clone(), elapsed: since_boot() }
    }

    async fn sleep(&self, duration: Duration) {
        let until = since_boot().saturating_add(duration);
        loop {
            let left = until.saturating_sub(since_boot());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(UPTIME_CHECK)).await;
        }
    }
}

fn since_boot() -> Duration {
    let time = rustix::time::clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_differences_never_overflow() {
        let end = Timestamp::from_ms(i64::MAX);
        assert_eq!(end.plus(Duration::MAX), end);
        assert_eq!(Timestamp::from_ms(1).since(end), Duration::ZERO);
        assert_eq!(Timestamp::from_ms(1500).seconds(), 1.5);
    }

    fn up(boot: &str, seconds: u64) -> Uptime {
        Uptime { boot: boot.to_owned(), elapsed: Duration::from_secs(seconds) }
    }

    #[test]
    fn setting_the_wall_clock_moves_no_steady_time() {
        let first = Reckoning::go_on(None, &up("a", 100), Timestamp::from_ms(5_000_000));
        assert_eq!(first.at(Duration::from_secs(100)).ms(), 5_000_000, "it begins with the wall's");
        // Eight hours forward, then another process.
        let set = Timestamp::from_ms(5_000_000 + 28_800_000);
        let second = Reckoning::go_on(Some(first.clone()), &up("a", 101), set);
        assert_eq!(second.at(Duration::from_secs(101)).ms(), 5_001_000);
    }

    #[test]
    fn steady_time_goes_on_by_the_wall_clock_over_a_boot() {
        let first = Reckoning::go_on(None, &up("a", 100), Timestamp::from_ms(5_000_000));
        // The clock was set by 1000 s while the first boot lasted.
        let first = first.seen(&up("a", 200), Timestamp::from_ms(5_100_000 + 1_000_000));
        assert_eq!(first.ahead_of_wall_ms, -1_000_000);
        // An hour later the machine has been up for 5 s.
        let later = Timestamp::from_ms(5_100_000 + 1_000_000 + 3_600_000);
        let second = Reckoning::go_on(Some(first), &up("b", 5), later);
        assert_eq!(second.at(Duration::from_secs(5)).ms(), 5_100_000 + 3_600_000);
    }

    #[tokio::test]
    async fn the_machines_clock_goes_on() {
        let steady = SteadyClock::new(Arc::new(SystemClock), None);
        let before = steady.now();
        steady.sleep_until(before.plus(Duration::from_millis(5))).await;
        assert!(steady.now().since(before) >= Duration::from_millis(5));
    }
}
