//! One connection of a client, from its first byte to its last: TLS or not, HTTP/1.1 or HTTP/2, and
//! the clocks that end what is too slow. The HTTP is hyper's.

use crate::{
    config::{
        CONNECTION_WINDOW_BYTES, DRAIN_MAX, GatewayConfig, HEAD_BYTES_MAX, HEAD_LINES_MAX,
        PING_EVERY, PONG_MAX, RESETS_PENDING_MAX, SEND_BUFFER_BYTES, STREAM_WINDOW_BYTES,
        STREAMS_MAX,
    },
    server::Front,
};
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

/// First byte of a TLS handshake.
const HANDSHAKE: u8 = 0x16;

/// How often the clocks of a connection are looked at.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// Requests that a client may abandon on one connection, where they are more than it lets be
/// answered: beyond is an attack by resets (CVE-2023-44487), which costs the app more than the client.
const ABANDONED_MAX: usize = 100;

/// How a connection begins.
#[derive(Clone)]
pub(crate) enum Greeting {
    Plain,
    Either(TlsAcceptor),
    Tls(TlsAcceptor),
}

/// Serves a connection to its end.
pub(crate) async fn attend(front: Arc<Front>, stream: TcpStream, peer: SocketAddr) {
    // Small pieces must not wait for acknowledgements; a socket that cannot do it still works.
    let _ = stream.set_nodelay(true);
    let started = Instant::now();
    let first_request_max = front.config.first_request_max;
    let tls = match timeout(first_request_max, acceptor(&front.greeting, &stream)).await {
        Ok(Ok(tls)) => tls,
        // It left, was too slow, or is plain where TLS is required.
        Ok(Err(_)) | Err(_) => return,
    };
    let pulse = Arc::new(Pulse::new(started));
    let watched = Watched { stream, pulse: pulse.clone() };
    match tls {
        None => serve(front, watched, peer, pulse).await,
        Some(acceptor) => {
            let left = first_request_max.saturating_sub(started.elapsed());
            match timeout(left, acceptor.accept(watched)).await {
                Ok(Ok(stream)) => serve(front, stream, peer, pulse).await,
                Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS handshake"),
                Err(_) => tracing::debug!(%peer, "the TLS handshake took too long"),
            }
        }
    }
}

async fn acceptor(greeting: &Greeting, stream: &TcpStream) -> io::Result<Option<TlsAcceptor>> {
    match greeting {
        Greeting::Plain => Ok(None),
        Greeting::Tls(acceptor) => Ok(Some(acceptor.clone())),
        Greeting::Either(acceptor) => {
            let mut first = [0];
            if stream.peek(&mut first).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok((first == [HANDSHAKE]).then(|| acceptor.clone()))
        }
    }
}

async fn serve<S>(front: Arc<Front>, stream: S, peer: SocketAddr, pulse: Arc<Pulse>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (config, stop) = (front.config.clone(), front.stop.clone());
    let service = {
        let pulse = pulse.clone();
        service_fn(move |request| {
            let (front, under_way) = (front.clone(), pulse.begin());
            async move {
                let response = crate::proxy::answer(&front, peer, request).await;
                // The answer's body is part of the request.
                Ok::<_, Infallible>(response.map(|body| UnderWay::over(under_way, body)))
            }
        })
    };
    let builder = builder(&config);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        // How it ended is the client's business.
        _ = connection.as_mut() => return,
        over = pulse.stops(&config) => match over {
            Over::Unused => {}
            Over::Flooded => {
                tracing::warn!(%peer, "cut: it resets more requests than it lets be answered");
                return;
            }
        },
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    // Dropping it cuts what is left.
    let _ = timeout(DRAIN_MAX, connection).await;
}

fn builder(config: &GatewayConfig) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.keep_alive_max)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEAD_LINES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_MAX);
    builder
}

/// When things last happened on a connection.
#[derive(Debug)]
pub(crate) struct Pulse {
    started: Instant,
    /// Milliseconds since `started`.
    moved: AtomicU64,
    requested: AtomicU64,
    /// Requests whose answer is not complete.
    under_way: AtomicUsize,
    begun: AtomicUsize,
    /// Requests whose client did not take the whole answer.
    abandoned: AtomicUsize,
    flooded: Notify,
}

impl Pulse {
    fn new(started: Instant) -> Self {
        let (moved, requested) = (AtomicU64::new(0), AtomicU64::new(0));
        let count = AtomicUsize::default;
        let (under_way, begun, abandoned) = (count(), count(), count());
        Self { started, moved, requested, under_way, begun, abandoned, flooded: Notify::new() }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn begin(self: &Arc<Self>) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        UnderWay { pulse: self.clone(), left: Left::InTheMiddle }
    }

    /// Returns when the connection is no more use to anybody.
    async fn stops(&self, config: &GatewayConfig) -> Over {
        let every = CHECK_EVERY.min(config.first_request_max);
        loop {
            tokio::select! {
                () = sleep(every) => {}
                () = self.flooded.notified() => return Over::Flooded,
            }
            let since = |mark: &AtomicU64| {
                Duration::from_millis(self.now().saturating_sub(mark.load(Ordering::Relaxed)))
            };
            let over = if self.under_way.load(Ordering::Relaxed) > 0 {
                since(&self.moved) > config.idle_max
            } else if self.begun.load(Ordering::Relaxed) == 0 {
                self.started.elapsed() > config.first_request_max
            } else {
                since(&self.requested) > config.keep_alive_max
            };
            if over {
                return Over::Unused;
            }
        }
    }
}

/// Why a connection is ended from this side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Over {
    Unused,
    Flooded,
}

/// How a request was left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Left {
    InTheMiddle,
    Complete,
}

/// A request under way, until it is dropped.
pub(crate) struct UnderWay {
    pulse: Arc<Pulse>,
    left: Left,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let pulse = &self.pulse;
        pulse.requested.store(pulse.now(), Ordering::Relaxed);
        pulse.under_way.fetch_sub(1, Ordering::Relaxed);
        if self.left == Left::InTheMiddle {
            let abandoned = pulse.abandoned.fetch_add(1, Ordering::Relaxed) + 1;
            let complete = pulse.begun.load(Ordering::Relaxed).saturating_sub(abandoned);
            if abandoned > ABANDONED_MAX && abandoned > complete {
                pulse.flooded.notify_one();
            }
        }
    }
}

impl UnderWay {
    fn over<B: hyper::body::Body>(mut self, body: B) -> Answering<B> {
        if body.is_end_stream() {
            self.left = Left::Complete;
        }
        Answering { body, under_way: self }
    }
}

/// A body that keeps its request under way.
pub(crate) struct Answering<B> {
    body: B,
    under_way: UnderWay,
}

impl<B: hyper::body::Body + Unpin> hyper::body::Body for Answering<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<B::Data>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() || self.body.is_end_stream() {
            self.under_way.left = Left::Complete;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

/// A stream that notes when bytes move on it.
struct Watched {
    stream: TcpStream,
    pulse: Arc<Pulse>,
}

impl Watched {
    fn note<T>(&self, outcome: Poll<T>) -> Poll<T> {
        if outcome.is_ready() {
            self.pulse.moved.store(self.pulse.now(), Ordering::Relaxed);
        }
        outcome
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.note(outcome)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(outcome)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
