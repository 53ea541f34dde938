//! What has passed through a VM's back door, counted while it passes.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What has passed so far. All numbers only grow, save `open`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EgressStats {
    pub aws: RelayStats,
    pub platform: RelayStats,
    pub imds: ImdsStats,
    pub dns: DnsStats,
}

/// One relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayStats {
    /// Connections that are open now.
    pub open: u64,
    /// Connections that the guest made.
    pub accepted: u64,
    /// Those of them that led nowhere.
    pub failed: u64,
    /// Bytes from and to the guest.
    pub sent_bytes: u64,
    pub received_bytes: u64,
}

/// The metadata service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImdsStats {
    pub requests: u64,
    /// Answered with an error status.
    pub refused: u64,
    /// Times that the role's credentials were handed out.
    pub credentials: u64,
}

/// The resolver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DnsStats {
    pub queries: u64,
    /// Answered SERVFAIL or REFUSED by us, or dropped.
    pub failed: u64,
}

/// The counters behind [`EgressStats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) aws: RelayCounters,
    pub(crate) platform: RelayCounters,
    pub(crate) imds: ImdsCounters,
    pub(crate) dns: DnsCounters,
}

#[derive(Debug, Default)]
pub(crate) struct RelayCounters {
    pub(crate) open: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct ImdsCounters {
    pub(crate) requests: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) credentials: AtomicU64,
}

#[derive(Debug, Default)]
pub(crate) struct DnsCounters {
    pub(crate) queries: AtomicU64,
    pub(crate) failed: AtomicU64,
}

impl Counters {
    pub(crate) fn read(&self) -> EgressStats {
        EgressStats {
            aws: self.aws.read(),
            platform: self.platform.read(),
            imds: ImdsStats {
                requests: self.imds.requests.load(Relaxed),
                refused: self.imds.refused.load(Relaxed),
                credentials: self.imds.credentials.load(Relaxed),
            },
            dns: DnsStats {
                queries: self.dns.queries.load(Relaxed),
                failed: self.dns.failed.load(Relaxed),
            },
        }
    }
}

impl RelayCounters {
    fn read(&self) -> RelayStats {
        RelayStats {
            open: self.open.load(Relaxed),
            accepted: self.accepted.load(Relaxed),
            failed: self.failed.load(Relaxed),
            sent_bytes: self.sent_bytes.load(Relaxed),
            received_bytes: self.received_bytes.load(Relaxed),
        }
    }

    /// Counts a connection as open for as long as the result lives.
    pub(crate) fn opened(&self) -> Open<'_> {
        self.open.fetch_add(1, Relaxed);
        Open(self)
    }
}

pub(crate) struct Open<'a>(&'a RelayCounters);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
