//! Connections to the apps in one VM: dialled, greeted, kept while they are idle, used again.

use crate::{
    asked::Wants,
    backend::Backend,
    body::Relayed,
    config::{
        CONNECTION_WINDOW_BYTES, DIAL_MAX, HEAD_BYTES_MAX, HEAD_LINES_MAX, IDLE_CONNECTION_LIFE,
        IDLE_CONNECTIONS_MAX, STREAM_WINDOW_BYTES,
    },
    probe::{Scheme, scheme_of},
    refusal::Refusal,
    tls,
    vms::{Unreachable, Vms, with_causes},
};
use http::{Request, Response, Version};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
    rt::{Executor, Read, Write},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, time::timeout};
use tokio_util::task::TaskTracker;

/// What is known of the ports of a VM, and the connections to them.
#[derive(Default)]
pub(crate) struct Upstreams {
    ports: Mutex<HashMap<u16, Port>>,
}

#[derive(Default)]
struct Port {
    /// None: not found out yet.
    scheme: Option<Scheme>,
    /// The latest used is last, and used first.
    idle: Vec<(http1::SendRequest<Relayed>, Instant)>,
    http2: Option<http2::SendRequest<Relayed>>,
}

/// A connection that can take a request.
enum Connection {
    Http1(http1::SendRequest<Relayed>),
    Http2(http2::SendRequest<Relayed>),
}

impl Upstreams {
    /// Every connection is void.
    pub(crate) fn clear(&self) {
        self.ports().clear();
    }

    fn ports(&self) -> MutexGuard<'_, HashMap<u16, Port>> {
        // The map is whole whatever panics.
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, port: u16, wants: Wants) -> Option<Connection> {
        let mut ports = self.ports();
        let port = ports.get_mut(&port)?;
        let http2 = match (wants, port.scheme) {
            (Wants::Http2, _) | (Wants::Either, Some(Scheme::Tls)) => port.http2.as_ref(),
            (Wants::Http1, _) | (Wants::Either, Some(Scheme::Plain) | None) => None,
        };
        if let Some(sender) = http2.filter(|sender| !sender.is_closed()) {
            return Some(Connection::Http2(sender.clone()));
        }
        if wants == Wants::Http2 {
            return None;
        }
        let now = Instant::now();
        while let Some((sender, since)) = port.idle.pop() {
            if now.saturating_duration_since(since) > IDLE_CONNECTION_LIFE {
                // All others are older.
                port.idle.clear();
                return None;
            }
            if sender.is_ready() {
                return Some(Connection::Http1(sender));
            }
        }
        None
    }

    fn give_back(&self, port: u16, sender: http1::SendRequest<Relayed>) {
        let mut ports = self.ports();
        // None: the VM has stopped running, and the connection with it.
        let Some(port) = ports.get_mut(&port) else { return };
        if port.idle.len() < IDLE_CONNECTIONS_MAX {
            port.idle.push((sender, Instant::now()));
        }
    }

    fn scheme(&self, port: u16) -> Option<Scheme> {
        self.ports().get(&port)?.scheme
    }

    fn learn(&self, port: u16, scheme: Scheme) {
        self.ports().entry(port).or_default().scheme = Some(scheme);
    }

    /// What listened there may be another program now.
    fn forget(&self, port: u16) {
        self.ports().remove(&port);
    }
}

/// The way to one port of one VM.
pub(crate) struct Route<'a> {
    pub(crate) vms: &'a dyn Vms,
    pub(crate) backend: &'a Arc<Backend>,
    pub(crate) port: u16,
    /// Owns what drives connections.
    pub(crate) tasks: &'a TaskTracker,
}

impl Route<'_> {
    /// Sends a request and returns with the head of its answer.
    ///
    /// # Errors
    /// [`Refusal::AppUnreachable`], [`Refusal::AppBroke`], [`Refusal::VmUnreachable`].
    pub(crate) async fn send(
        &self,
        mut request: Request<Relayed>,
        wants: Wants,
    ) -> Result<Response<Incoming>, Refusal> {
        let upstreams = &self.backend.upstreams;
        // A connection that the app has just closed gives the request back unsent.
        while let Some(connection) = upstreams.take(self.port, wants) {
            match self.send_by(connection, request).await {
                Ok(response) => return Ok(response),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(self.broke(&error)),
                },
            }
        }
        let connection = self.connect(wants).await?;
        self.send_by(connection, request).await.map_err(|error| self.broke(&error))
    }

    fn broke(&self, error: &TrySendError<Request<Relayed>>) -> Refusal {
        self.backend.upstreams.forget(self.port);
        Refusal::AppBroke(with_causes(error.error()))
    }

    async fn send_by(
        &self,
        connection: Connection,
        mut request: Request<Relayed>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Relayed>>> {
        match connection {
            Connection::Http1(mut sender) => {
                to_http1(&mut request);
                let answer = sender.try_send_request(request).await?;
                self.keep_when_done(sender);
                Ok(answer)
            }
            Connection::Http2(mut sender) => {
                to_http2(&mut request);
                sender.try_send_request(request).await
            }
        }
    }

    /// The connection is of use again when the answer's body has been taken.
    fn keep_when_done(&self, mut sender: http1::SendRequest<Relayed>) {
        let (backend, port) = (Arc::downgrade(self.backend), self.port);
        self.tasks.spawn(async move {
            if sender.ready().await.is_ok()
                && let Some(backend) = backend.upgrade()
            {
                backend.upstreams.give_back(port, sender);
            }
        });
    }

    async fn connect(&self, wants: Wants) -> Result<Connection, Refusal> {
        let upstreams = &self.backend.upstreams;
        let scheme = match upstreams.scheme(self.port) {
            Some(scheme) => scheme,
            None => {
                let scheme = scheme_of(self.dial().await?).await;
                upstreams.learn(self.port, scheme);
                scheme
            }
        };
        let stream = self.dial().await.inspect_err(|_| upstreams.forget(self.port))?;
        match scheme {
            Scheme::Plain => match wants {
                Wants::Http2 => self.http2(TokioIo::new(stream)).await,
                Wants::Http1 | Wants::Either => self.http1(TokioIo::new(stream)).await,
            },
            Scheme::Tls => {
                let protocols: &[&str] = match wants {
                    Wants::Http1 => &["http/1.1"],
                    Wants::Http2 => &["h2"],
                    Wants::Either => &["h2", "http/1.1"],
                };
                let stream = self.within(DIAL_MAX, tls::connect(stream, protocols)).await?;
                let chosen = stream.get_ref().1.alpn_protocol();
                if chosen == Some(b"h2") || (chosen.is_none() && wants == Wants::Http2) {
                    self.http2(TokioIo::new(stream)).await
                } else {
                    self.http1(TokioIo::new(stream)).await
                }
            }
        }
    }

    async fn dial(&self) -> Result<TcpStream, Refusal> {
        let dialled = timeout(DIAL_MAX, self.vms.dial(&self.backend.id, self.port)).await;
        let stream = match dialled {
            Ok(Ok(stream)) => stream,
            Ok(Err(Unreachable::App(reason))) => return Err(Refusal::AppUnreachable(reason)),
            Ok(Err(Unreachable::Vm(reason))) => return Err(Refusal::VmUnreachable(reason)),
            Err(_) => return Err(Refusal::AppUnreachable("no connection in time".into())),
        };
        // Small pieces must not wait for acknowledgements; a socket that cannot do it still works.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    async fn within<T, E: std::error::Error>(
        &self,
        most: Duration,
        step: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Refusal> {
        let reason = match timeout(most, step).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => with_causes(&error),
            Err(_) => "no handshake in time".to_owned(),
        };
        self.backend.upstreams.forget(self.port);
        Err(Refusal::AppUnreachable(reason))
    }

    async fn http1<T>(&self, io: T) -> Result<Connection, Refusal>
    where
        T: Read + Write + Send + Unpin + 'static,
    {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX).max_headers(HEAD_LINES_MAX);
        let (sender, connection) = self.within(DIAL_MAX, builder.handshake(io)).await?;
        let stopped = self.backend.stopped.clone();
        // How a connection ends is told to whoever uses it.
        self.tasks.spawn(async move {
            let _ = stopped.run_until_cancelled_owned(connection.with_upgrades()).await;
        });
        Ok(Connection::Http1(sender))
    }

    async fn http2<T>(&self, io: T) -> Result<Connection, Refusal>
    where
        T: Read + Write + Send + Unpin + 'static,
    {
        let mut builder = http2::Builder::new(Owned(self.tasks.clone()));
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_header_list_size(HEAD_BYTES_MAX as u32);
        let (sender, connection) = self.within(DIAL_MAX, builder.handshake(io)).await?;
        let stopped = self.backend.stopped.clone();
        self.tasks.spawn(async move {
            let _ = stopped.run_until_cancelled_owned(connection).await;
        });
        let mut ports = self.backend.upstreams.ports();
        ports.entry(self.port).or_default().http2 = Some(sender.clone());
        Ok(Connection::Http2(sender))
    }
}

/// Runs hyper's tasks where they are waited for.
#[derive(Clone)]
struct Owned(TaskTracker);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Owned {
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}

/// The target is the path; `Host` is there already.
fn to_http1<B>(request: &mut Request<B>) {
    *request.version_mut() = Version::HTTP_11;
    let path = request.uri().path_and_query().cloned();
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = path.or_else(|| Some(http::uri::PathAndQuery::from_static("/")));
    // A path alone always is a URI.
    *request.uri_mut() = http::Uri::from_parts(parts).unwrap_or_default();
}

/// The target is whole, and there is no `Host`.
fn to_http2<B>(request: &mut Request<B>) {
    *request.version_mut() = Version::HTTP_2;
    let host = request.headers_mut().remove(http::header::HOST);
    let authority = host.and_then(|host| host.to_str().ok()?.parse().ok());
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(http::uri::Scheme::HTTP);
    parts.authority = authority.or_else(|| Some(http::uri::Authority::from_static("localhost")));
    parts.path_and_query = request
        .uri()
        .path_and_query()
        .cloned()
        .or_else(|| Some(http::uri::PathAndQuery::from_static("/")));
    *request.uri_mut() = http::Uri::from_parts(parts).unwrap_or_default();
}
