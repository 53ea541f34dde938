//! The HTTP surface: which call is answered by which function.
//!
//! The table below is the whole API. A handler decodes, asks the [`Emulator`], encodes; what
//! goes wrong is a [`Fault`], which [`answer::finish`] turns into the platform's error with a
//! request id. `?beta=true` and other query parameters that nobody reads are ignored.

mod agents;
mod answer;
mod environments;
mod events;
mod input;
mod sessions;
mod stream;
mod toolset;
mod work;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, Uri, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use tokio_util::sync::CancellationToken;

use crate::emulator::Emulator;
use crate::fault::Fault;

/// Longest request body that is read, in bytes: a result with a few images in it.
pub(crate) const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What handlers share.
#[derive(Debug, Clone)]
pub(crate) struct Surface {
    pub(crate) emulator: Arc<Emulator>,
    /// Ends the streams when the server does.
    pub(crate) ending: CancellationToken,
    /// How often a silent stream says that it is alive.
    pub(crate) ping: Duration,
}

pub(crate) use environments::default_body as default_environment;

type Emu = State<Surface>;

/// The API.
pub(crate) fn router(surface: Surface) -> Router {
    let api = Router::new()
        .route("/v1/agents", get(agents::list).post(agents::create))
        .route("/v1/agents/{agent}", get(agents::get).post(agents::update))
        .route("/v1/agents/{agent}/archive", post(agents::archive))
        .route("/v1/agents/{agent}/versions", get(agents::versions))
        .route("/v1/environments", get(environments::list).post(environments::create))
        .route(
            "/v1/environments/{env}",
            get(environments::get).post(environments::update).delete(environments::delete),
        )
        .route("/v1/environments/{env}/archive", post(environments::archive))
        .route("/v1/environments/{env}/work", get(work::list))
        .route("/v1/environments/{env}/work/poll", get(work::poll))
        .route("/v1/environments/{env}/work/stats", get(work::stats))
        .route("/v1/environments/{env}/work/{work}", get(work::get).post(work::update))
        .route("/v1/environments/{env}/work/{work}/ack", post(work::ack))
        .route("/v1/environments/{env}/work/{work}/heartbeat", post(work::heartbeat))
        .route("/v1/environments/{env}/work/{work}/stop", post(work::stop))
        .route("/v1/sessions", get(sessions::list).post(sessions::create))
        .route(
            "/v1/sessions/{session}",
            get(sessions::get).post(sessions::update).delete(sessions::delete),
        )
        .route("/v1/sessions/{session}/archive", post(sessions::archive))
        .route("/v1/sessions/{session}/events", get(events::list).post(events::send))
        .route("/v1/sessions/{session}/events/stream", get(stream::stream))
        .route("/v1/sessions/{session}/resources", get(sessions::resources))
        .route("/v1/sessions/{session}/threads", get(sessions::threads))
        .layer(middleware::from_fn_with_state(surface.clone(), authenticate));
    api.fallback(no_route)
        .method_not_allowed_fallback(no_route)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(answer::finish))
        .with_state(surface)
}

async fn no_route(method: Method, uri: Uri) -> Fault {
    Fault::NoRoute { method: method.to_string(), path: uri.path().to_owned() }
}

/// Finds out who calls, and lets handlers know. Both ways to send a credential are good
/// (spec 0 no. 2).
async fn authenticate(
    State(surface): Emu,
    mut request: Request,
    next: Next,
) -> Result<Response, Fault> {
    let headers = request.headers();
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text(header::AUTHORIZATION.as_str())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, credential)| credential.trim());
    let caller = surface.emulator.authenticate(bearer.or_else(|| text("x-api-key"))).await?;
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}
