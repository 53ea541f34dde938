//! A connection that was upgraded, to a WebSocket or to anything else: bytes both ways until both
//! ends have closed, one breaks, the VM stops, or nothing moves for too long.

use crate::{
    exchange::{Direction, Exchange},
    metrics::Metrics,
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::Notify,
    time::{sleep, timeout},
};

/// Bytes that are taken from one end at once; as many are under way at most in each direction.
const PIECE_BYTES: usize = 32 * 1024;

/// Joins the two ends once both are upgraded.
pub(crate) async fn run(
    exchange: Arc<Exchange>,
    client: OnUpgrade,
    app: OnUpgrade,
    idle_max: Duration,
) {
    let joined = async {
        let (client, app) = tokio::try_join!(client, app).map_err(io::Error::other)?;
        join(&exchange, client, app, idle_max).await
    };
    let metrics = exchange.metrics().clone();
    let _open = Metrics::while_held(&metrics.tunnels_open);
    tokio::select! {
        ended = joined => {
            if let Err(error) = ended {
                exchange.broke(error);
            }
        }
        () = exchange.backend.stopped.cancelled() => exchange.broke("the MicroVM stopped running"),
    }
}

async fn join(
    exchange: &Exchange,
    client: Upgraded,
    app: Upgraded,
    idle_max: Duration,
) -> io::Result<()> {
    let (from_client, to_client) = tokio::io::split(TokioIo::new(client));
    let (from_app, to_app) = tokio::io::split(TokioIo::new(app));
    let moved = Notify::new();
    let both = async {
        tokio::try_join!(
            pump(exchange, Direction::In, &moved, (from_client, to_app)),
            pump(exchange, Direction::Out, &moved, (from_app, to_client)),
        )
    };
    tokio::select! {
        ended = both => ended.map(drop),
        () = stall(&moved, idle_max) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Returns when nothing has moved for so long.
async fn stall(moved: &Notify, idle_max: Duration) {
    while timeout(idle_max, moved.notified()).await.is_ok() {
        // One wake-up a second is enough to know.
        sleep(Duration::from_secs(1)).await;
    }
}

async fn pump(
    exchange: &Exchange,
    direction: Direction,
    moved: &Notify,
    (mut from, mut to): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = from.read(&mut piece).await?;
        let Some(read) = piece.get(..count).filter(|read| !read.is_empty()) else {
            return to.shutdown().await;
        };
        moved.notify_one();
        if let Some(wait) = exchange.carried(direction, count) {
            sleep(wait).await;
        }
        to.write_all(read).await?;
        to.flush().await?;
    }
}
