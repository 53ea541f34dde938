//! Bytes from a VM to one place on the host and back, and to nowhere else.

use crate::{
    accept::{self, Tasks},
    stats::{Counters, RelayCounters, count},
};
use std::{
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    time::timeout,
};

/// Connections of one VM at once.
const CONNECTIONS_MAX: usize = 128;
/// Shortest time between two warnings of one relay.
const WARNING_INTERVAL_MIN: Duration = Duration::from_secs(10);
/// Longest time that the far end may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection on which nothing moved for so long is cut: the far end is gone, or the guest forgot
/// it. Longer than the longest request of an SDK (600 s).
const IDLE_TIMEOUT: Duration = Duration::from_secs(1800);
/// Bytes in flight in each direction of a connection.
const BUFFER_BYTES: usize = 16 * 1024;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name or address.
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// One relay of one VM.
pub(crate) struct Relay {
    name: &'static str,
    target: Option<Target>,
    counters: Arc<Counters>,
    which: fn(&Counters) -> &RelayCounters,
    /// When the last failure was logged for an operator to see.
    warned_at: Mutex<Option<Instant>>,
}

impl Relay {
    /// A relay without a target refuses every connection.
    pub(crate) fn new(
        name: &'static str,
        target: Option<Target>,
        counters: Arc<Counters>,
        which: fn(&Counters) -> &RelayCounters,
    ) -> Self {
        Self { name, target, counters, which, warned_at: Mutex::new(None) }
    }

    pub(crate) fn serve(self, tasks: &Tasks, listener: TcpListener) {
        let relay = Arc::new(self);
        accept::serve(tasks, listener, CONNECTIONS_MAX, move |guest| {
            let relay = relay.clone();
            async move { relay.connection(guest).await }
        });
    }

    /// Serves one connection of the guest. Where it leads nowhere the guest sees a reset at once
    /// rather than a connection that hangs.
    async fn connection(&self, guest: TcpStream) {
        let counters = (self.which)(&self.counters);
        count(&counters.accepted);
        match self.connect().await {
            Ok(host) => {
                let _open = counters.opened();
                pass(guest, host, counters).await;
            }
            Err(reason) => {
                count(&counters.failed);
                self.complain(&reason);
                reset(guest);
            }
        }
    }

    async fn connect(&self) -> Result<TcpStream, String> {
        let Some(target) = &self.target else {
            return Err("none is configured on this host".into());
        };
        let address = (target.host.as_str(), target.port);
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(host)) => Ok(host),
            Ok(Err(error)) => Err(format!("{target}: {error}")),
            Err(_elapsed) => Err(format!("{target}: no answer in {CONNECT_TIMEOUT:?}")),
        }
    }

    /// A guest decides how often this happens, so it must not decide how large the log gets.
    fn complain(&self, reason: &str) {
        let mut warned_at = self.warned_at.lock().unwrap_or_else(PoisonError::into_inner);
        match *warned_at {
            Some(at) if at.elapsed() < WARNING_INTERVAL_MIN => {}
            Some(_) | None => {
                *warned_at = Some(Instant::now());
                tracing::warn!(to = self.name, reason, "the guest's connection leads nowhere");
            }
        }
    }
}

/// Closes with a reset, which a client reports as an error rather than as an empty answer.
fn reset(guest: TcpStream) {
    if let Err(error) = guest.set_zero_linger() {
        tracing::debug!(%error, "a connection is closed instead of reset");
    }
}

/// Moves bytes both ways until both sides have said all, one of them breaks, or nothing moves.
async fn pass(mut guest: TcpStream, mut host: TcpStream, counters: &RelayCounters) {
    for stream in [&guest, &host] {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "a relayed connection stays with Nagle's algorithm");
        }
    }
    let (from_guest, to_guest) = guest.split();
    let (from_host, to_host) = host.split();
    let moved = AtomicU64::new(0);
    let both = async {
        tokio::try_join!(
            pump(from_guest, to_host, [&counters.sent_bytes, &moved]),
            pump(from_host, to_guest, [&counters.received_bytes, &moved]),
        )
    };
    tokio::select! {
        ended = both => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a relayed connection broke");
            }
        }
        () = stalled(&moved) => tracing::debug!("a relayed connection was idle for too long"),
    }
}

/// One direction. Its end is passed on as the end of that direction only: a client may well close
/// its sending side and go on reading.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    counters: [&AtomicU64; 2],
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = from.read(&mut buffer).await?;
        let Some(data) = buffer.get(..length).filter(|data| !data.is_empty()) else {
            return to.shutdown().await;
        };
        for counter in counters {
            counter.fetch_add(length as u64, Relaxed);
        }
        to.write_all(data).await?;
    }
}

async fn stalled(moved: &AtomicU64) {
    let mut before = moved.load(Relaxed);
    loop {
        tokio::time::sleep(IDLE_TIMEOUT).await;
        let now = moved.load(Relaxed);
        if now == before {
            return;
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn listener() -> (TcpListener, Target) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, Target { host: "127.0.0.1".into(), port })
    }

    /// A guest's end of a connection that is relayed to `target`.
    async fn guest(target: Option<Target>, counters: &Arc<Counters>) -> TcpStream {
        let (door, at) = listener().await;
        let relay = Relay::new("platform", target, counters.clone(), |all| &all.platform);
        relay.serve(&Tasks::new(), door);
        TcpStream::connect((at.host, at.port)).await.unwrap()
    }

    #[tokio::test]
    async fn large_bodies_pass_both_ways_and_a_half_close_ends_one_way_only() {
        let (host, target) = listener().await;
        let counters = Arc::new(Counters::default());
        let mut guest = guest(Some(target), &counters).await;
        let answering = tokio::spawn(async move {
            let (mut stream, _) = host.accept().await.unwrap();
            let mut request = Vec::new();
            // Ends only because the guest's half-close was passed on.
            stream.read_to_end(&mut request).await.unwrap();
            stream.write_all(&[7; 5_000_000]).await.unwrap();
            request
        });
        let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
        guest.write_all(&sent).await.unwrap();
        guest.shutdown().await.unwrap();
        let mut received = Vec::new();
        guest.read_to_end(&mut received).await.unwrap();
        assert_eq!(answering.await.unwrap(), sent);
        assert_eq!(received, [7; 5_000_000]);
        assert_eq!(counters.read().platform.sent_bytes, 3_000_000);
        assert_eq!(counters.read().platform.received_bytes, 5_000_000);
    }

    #[tokio::test]
    async fn a_relay_that_leads_nowhere_is_reset_at_once() {
        let (gone, target) = listener().await;
        drop(gone);
        let counters = Arc::new(Counters::default());
        for target in [None, Some(target)] {
            let mut guest = guest(target, &counters).await;
            let error = guest.read(&mut [0]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
        assert_eq!(counters.read().platform.failed, 2);
    }
}
