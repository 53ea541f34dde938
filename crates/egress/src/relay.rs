//! Bytes from a VM to one place on the host and back, and to nowhere else.

use crate::stats::{RelayCounters, count};
use std::{
    fmt, io,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    time::timeout,
};

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

/// Serves one connection of a guest. Where `target` is None or does not answer, the guest sees a
/// reset at once rather than a connection that hangs.
pub(crate) async fn connection(
    guest: TcpStream,
    target: Option<&Target>,
    counters: &RelayCounters,
) {
    count(&counters.accepted);
    let Some(target) = target else {
        tracing::warn!("the guest calls the platform by its relay, but none is configured");
        count(&counters.failed);
        return reset(guest);
    };
    let address = (target.host.as_str(), target.port);
    let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
    match connected.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into())) {
        Ok(host) => {
            let _open = counters.opened();
            pass(guest, host, counters).await;
        }
        Err(error) => {
            tracing::warn!(%target, %error, "the guest's connection leads nowhere");
            count(&counters.failed);
            reset(guest);
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
    use std::sync::Arc;
    use tokio::net::TcpListener;

    async fn listener() -> (TcpListener, Target) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, Target { host: "127.0.0.1".into(), port })
    }

    /// A guest's end of a connection that is relayed to `target`.
    async fn guest(target: Option<Target>, counters: &Arc<RelayCounters>) -> TcpStream {
        let (door, at) = listener().await;
        let counters = counters.clone();
        tokio::spawn(async move {
            let (stream, _) = door.accept().await.unwrap();
            connection(stream, target.as_ref(), &counters).await;
        });
        TcpStream::connect((at.host, at.port)).await.unwrap()
    }

    #[tokio::test]
    async fn large_bodies_pass_both_ways_and_a_half_close_ends_one_way_only() {
        let (host, target) = listener().await;
        let counters = Arc::new(RelayCounters::default());
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
        assert_eq!(counters.sent_bytes.load(Relaxed), 3_000_000);
        assert_eq!(counters.received_bytes.load(Relaxed), 5_000_000);
    }

    #[tokio::test]
    async fn a_relay_that_leads_nowhere_is_reset_at_once() {
        let (gone, target) = listener().await;
        drop(gone);
        let counters = Arc::new(RelayCounters::default());
        for target in [None, Some(target)] {
            let mut guest = guest(target, &counters).await;
            let error = guest.read(&mut [0]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        }
        assert_eq!(counters.failed.load(Relaxed), 2);
    }
}
