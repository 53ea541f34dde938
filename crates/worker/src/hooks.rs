//! The hooks that a VM's life is announced by, over HTTP.
//!
//! Every hook is answered with 200 as soon as it is understood; what follows from it happens
//! elsewhere, told by [`HookEvents`]. Connections are closed after each answer: a kept one
//! would be dead after a suspend, and the caller would find that out the hard way.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::payload::RunRequest;

const PREFIX: &str = "/aws/lambda-microvms/runtime/v1/";
/// Longest body, in bytes: a payload has 16 KiB at most, and as a JSON text within JSON up to
/// six times that.
const BODY_LEN_MAX: usize = 128 * 1024;
const CONNECTIONS_MAX: usize = 16;
/// Time for a request to come in.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long `/terminate` waits for the session to be given back.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(8);

/// What hooks tell the rest of the worker.
#[derive(Debug, Clone)]
pub(crate) struct HookEvents {
    /// Takes the run of this VM; another one where it was copied.
    pub(crate) run: mpsc::Sender<RunRequest>,
    /// Counts the wake-ups from suspension.
    pub(crate) resumed: Arc<watch::Sender<u64>>,
    /// Cancelled when the worker shall come to its end.
    pub(crate) drain: CancellationToken,
    /// Cancelled when it has.
    pub(crate) drained: CancellationToken,
}

/// Serves the hooks on `port` of all addresses until `stop`; open answers are finished first.
///
/// # Errors
/// Where the port cannot be had.
pub(crate) async fn serve(
    port: u16,
    events: HookEvents,
    stop: CancellationToken,
) -> io::Result<()> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await?;
    tracing::info!(address = %listener.local_addr()?, "hooks are served");
    let state = Arc::new(Hooks { events, begun: Mutex::new(None) });
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of files, most likely; others will be closed meanwhile.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(slot) = slots.clone().acquire_owned().await else { break };
        let (state, stop) = (state.clone(), stop.clone());
        tasks.spawn(async move {
            serve_connection(stream, state, stop).await;
            drop(slot);
        });
    }
    tasks.close();
    // Nobody may hold up the end: the connections' own limits are longer than this.
    let _ = tokio::time::timeout(Duration::from_secs(1), tasks.wait()).await;
    Ok(())
}

async fn serve_connection(stream: TcpStream, state: Arc<Hooks>, stop: CancellationToken) {
    let service = service_fn(move |request| {
        let state = state.clone();
        async move { Ok::<_, Infallible>(state.answer(request).await) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(REQUEST_TIMEOUT).keep_alive(false);
    let connection = server.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        result = &mut connection => {
            if let Err(error) = result {
                tracing::debug!(%error, "a hook connection broke off");
            }
        }
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

struct Hooks {
    events: HookEvents,
    begun: Mutex<Option<Begun>>,
}

/// The run that was begun.
struct Begun {
    microvm_id: Option<String>,
    body: Bytes,
}

impl Hooks {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let Some(hook) = path.strip_prefix(PREFIX) else {
            return refusal(StatusCode::NOT_FOUND, &format!("no hook is at {path}"));
        };
        if request.method() != Method::POST {
            return refusal(StatusCode::METHOD_NOT_ALLOWED, "hooks are called by POST");
        }
        match hook {
            "ready" | "validate" => done(),
            "run" => self.run(request).await,
            "suspend" => {
                tracing::info!("about to be suspended");
                done()
            }
            "resume" => {
                tracing::info!("resumed");
                self.events.resumed.send_modify(|count| *count += 1);
                done()
            }
            "terminate" => {
                tracing::info!("about to be terminated");
                self.events.drain.cancel();
                let _ = tokio::time::timeout(DRAIN_TIMEOUT, self.events.drained.cancelled()).await;
                done()
            }
            other => refusal(StatusCode::NOT_FOUND, &format!("there is no hook called {other:?}")),
        }
    }

    /// Begins the run, once. The same run again is answered as before; another is refused, unless it
    /// names another VM: then this one goes on from a moment of the first, and is for that run.
    async fn run(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let body = Limited::new(request.into_body(), BODY_LEN_MAX).collect();
        let body = match tokio::time::timeout(REQUEST_TIMEOUT, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) => {
                return refusal(
                    StatusCode::BAD_REQUEST,
                    &format!("the body cannot be read: {error}"),
                );
            }
            Err(_) => return refusal(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"),
        };
        let run = match RunRequest::parse(&body) {
            Ok(run) => run,
            Err(error) => {
                tracing::error!(%error, "a run is refused");
                return refusal(StatusCode::BAD_REQUEST, &error.to_string());
            }
        };
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(begun) = &*begun {
            if begun.body == body {
                return done();
            }
            if begun.microvm_id == run.microvm_id {
                return refusal(StatusCode::CONFLICT, "this VM runs another session already");
            }
        }
        *begun = Some(Begun { microvm_id: run.microvm_id.clone(), body });
        // Full or closed: the worker is about to end.
        let _ = self.events.run.try_send(run);
        done()
    }
}

fn done() -> Response<Full<Bytes>> {
    answer(StatusCode::OK, "{}".to_owned())
}

fn refusal(status: StatusCode, reason: &str) -> Response<Full<Bytes>> {
    answer(status, json!({"message": reason}).to_string())
}

fn answer(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
