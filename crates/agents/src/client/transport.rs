//! HTTP to anywhere: plain and TLS, names resolved without libc.
//!
//! A static glibc binary has no getaddrinfo, so hickory resolves, /etc/hosts first. It reads
//! /etc/resolv.conf when the first name is looked up, not before: a worker is frozen into a
//! snapshot and wakes up elsewhere. IP literals never reach the resolver.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hickory_resolver::TokioResolver;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};

/// Longest body of an answer that is read into memory, in bytes: a page of events may hold
/// some hundred tool results of 100 KiB.
pub const BODY_LEN_MAX: usize = 32 << 20;
/// Time to reach the other side.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time from a request to the end of its answer; streams are not bound by it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// When TCP asks whether the other side is still there; finds streams that died in silence.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Idle connections kept for each host, and for how long.
const IDLE_CONNECTIONS_MAX: usize = 2;
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no answer at all.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// No connection, or it broke.
    #[error("cannot reach {authority}")]
    Unreachable {
        /// Host and port.
        authority: String,
        /// What the connector says.
        #[source]
        source: hyper_util::client::legacy::Error,
    },
    /// The answer broke off.
    #[error("the answer of {authority} broke off")]
    BrokenOff {
        /// Host and port.
        authority: String,
        /// What HTTP says.
        #[source]
        source: hyper::Error,
    },
    /// No answer in time.
    #[error("no answer from {authority} within {} s", .after.as_secs())]
    TimedOut {
        /// Host and port.
        authority: String,
        /// The time that was given.
        after: Duration,
    },
    /// More bytes than [`BODY_LEN_MAX`].
    #[error("the answer of {authority} is longer than {BODY_LEN_MAX} bytes")]
    TooLong {
        /// Host and port.
        authority: String,
    },
}

/// An answer with its whole body.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body, at most [`BODY_LEN_MAX`] bytes.
    pub body: Bytes,
}

/// A pool of HTTP/1.1 connections. Cheap to clone; clones share the pool.
#[derive(Clone, Debug)]
pub struct Transport {
    http: HyperClient<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
}

impl Default for Transport {
    fn default() -> Self {
        Self::new()
    }
}

impl Transport {
    /// A new pool, with no connection yet. Trusts the roots of the Web PKI.
    pub fn new() -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Resolver::default());
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_nodelay(true);
        let roots = hyper_rustls::ConfigBuilderExt::with_webpki_roots(tls_builder());
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(roots.with_no_client_auth())
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let http = HyperClient::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(https);
        Self { http }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// [`TransportError`] where there is no whole answer; every status is an answer.
    pub async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, TransportError> {
        let authority = authority(&request);
        let exchange = async {
            let (head, body) = self.open_as(&authority, request).await?.into_parts();
            let body = read_bounded(&authority, body).await?;
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        match tokio::time::timeout(REQUEST_TIMEOUT, exchange).await {
            Ok(result) => result,
            Err(_) => Err(TransportError::TimedOut { authority, after: REQUEST_TIMEOUT }),
        }
    }

    /// Sends a request and leaves the body of the answer to the caller.
    ///
    /// # Errors
    /// [`TransportError`] where there is no head of an answer within a minute.
    pub async fn open(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TransportError> {
        self.open_within(request, REQUEST_TIMEOUT).await
    }

    /// As [`Transport::open`], with another time for the head of the answer to come.
    ///
    /// # Errors
    /// [`TransportError`] where there is no head of an answer within `limit`.
    pub async fn open_within(
        &self,
        request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<Response<Incoming>, TransportError> {
        let authority = authority(&request);
        match tokio::time::timeout(limit, self.open_as(&authority, request)).await {
            Ok(result) => result,
            Err(_) => Err(TransportError::TimedOut { authority, after: limit }),
        }
    }

    async fn open_as(
        &self,
        authority: &str,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, TransportError> {
        self.http.request(request).await.map_err(|source| TransportError::Unreachable {
            authority: authority.to_owned(),
            source,
        })
    }
}

fn tls_builder() -> rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    match rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
    {
        Ok(builder) => builder,
        // ring has suites for both versions of TLS; the other arm is for providers that lack one.
        Err(error) => unreachable!("ring offers no protocol version: {error}"),
    }
}

fn authority(request: &Request<Full<Bytes>>) -> String {
    request.uri().authority().map(ToString::to_string).unwrap_or_default()
}

/// Reads `body` to its end.
pub(super) async fn read_bounded(
    authority: &str,
    mut body: Incoming,
) -> Result<Bytes, TransportError> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|source| TransportError::BrokenOff {
            authority: authority.to_owned(),
            source,
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len().saturating_add(data.len()) > BODY_LEN_MAX {
            return Err(TransportError::TooLong { authority: authority.to_owned() });
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// Resolves names by hickory; made when first used.
#[derive(Clone, Default)]
struct Resolver(Arc<OnceLock<TokioResolver>>);

impl Resolver {
    fn get(&self) -> Result<&TokioResolver, BoxError> {
        if let Some(resolver) = self.0.get() {
            return Ok(resolver);
        }
        let resolver = TokioResolver::builder_tokio()?.build()?;
        Ok(self.0.get_or_init(|| resolver))
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Addresses = std::vec::IntoIter<SocketAddr>;

impl tower::Service<Name> for Resolver {
    type Response = Addresses;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Addresses, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let found = this.get()?.lookup_ip(name.as_str()).await?;
            // The connector puts the port in.
            let addresses: Vec<_> = found.iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            Ok(addresses.into_iter())
        })
    }
}
