//! The HTTP surface: which call is answered by which function.
//!
//! The table below is the whole API. A handler decodes, asks the [`Emulator`], encodes; what
//! goes wrong is a [`Fault`], which [`answer::finish`] turns into the platform's error with a
//! request id. `?beta=true` and other query parameters that nobody reads are ignored.

mod agents;
mod answer;
mod deployments;
mod endpoints;
mod environments;
mod events;
mod files;
mod input;
mod memory;
mod own;
mod sessions;
mod skills;
mod stream;
mod threads;
mod toolset;
mod upload;
mod vaults;
mod work;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use tokio_util::sync::CancellationToken;

use crate::emulator::Emulator;
use crate::fault::Fault;
use crate::mishaps::Chance;

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
        .route(
            "/v1/sessions/{session}/resources",
            get(threads::resources).post(threads::add_resource),
        )
        .route(
            "/v1/sessions/{session}/resources/{resource}",
            get(threads::resource).post(threads::update_resource).delete(threads::delete_resource),
        )
        .route("/v1/sessions/{session}/threads", get(threads::list))
        .route("/v1/sessions/{session}/threads/{thread}", get(threads::get))
        .route("/v1/sessions/{session}/threads/{thread}/archive", post(threads::archive))
        .route("/v1/sessions/{session}/threads/{thread}/events", get(threads::thread_events))
        .route("/v1/sessions/{session}/threads/{thread}/stream", get(threads::thread_stream))
        .merge(kept())
        .layer(middleware::from_fn_with_state(surface.clone(), mishap))
        .merge(own())
        .layer(middleware::from_fn_with_state(surface.clone(), authenticate));
    api.fallback(no_route)
        .method_not_allowed_fallback(no_route)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(answer::finish))
        .with_state(surface)
}

/// The calls that the platform does not have: nothing goes wrong with them on purpose.
fn own() -> Router<Surface> {
    Router::new()
        .route("/_warren/v1/faults", get(own::faults).put(own::set_faults))
        .route("/_warren/v1/deliveries", get(own::deliveries))
        .route("/_warren/v1/deliveries/{hook}/redeliver", post(own::redeliver))
        .route("/_warren/v1/environments/{env}/work/{work}/expire", post(own::expire))
}

/// Lets calls fail as often as was asked for, before they are done or after.
async fn mishap(State(surface): Emu, request: Request, next: Next) -> Result<Response, Fault> {
    let dice = &surface.emulator.dice;
    let retry_after_ms = dice.mishaps().retry_after_ms;
    if dice.hits(Chance::Error429) {
        return Err(Fault::Injected { status: StatusCode::TOO_MANY_REQUESTS, retry_after_ms });
    }
    if dice.hits(Chance::Error500) {
        return Err(Fault::Injected { status: StatusCode::INTERNAL_SERVER_ERROR, retry_after_ms });
    }
    let response = next.run(request).await;
    if dice.hits(Chance::LostAnswer) {
        return Err(Fault::Injected { status: StatusCode::INTERNAL_SERVER_ERROR, retry_after_ms });
    }
    Ok(response)
}

/// The calls of what is kept and has no state machine of its own.
fn kept() -> Router<Surface> {
    Router::new()
        .route("/v1/skills", get(skills::list).post(skills::create))
        .route("/v1/skills/{skill}", get(skills::get).delete(skills::delete))
        .route(
            "/v1/skills/{skill}/versions",
            get(skills::list_versions).post(skills::create_version),
        )
        .route(
            "/v1/skills/{skill}/versions/{version}",
            get(skills::get_version).delete(skills::delete_version),
        )
        .route("/v1/skills/{skill}/versions/{version}/content", get(skills::download))
        .route("/v1/files", get(files::list).post(files::upload))
        .route("/v1/files/{file}", get(files::get).delete(files::delete))
        .route("/v1/files/{file}/content", get(files::download))
        .route("/v1/memory_stores", get(memory::list).post(memory::create))
        .route(
            "/v1/memory_stores/{store}",
            get(memory::get).post(memory::update).delete(memory::delete),
        )
        .route("/v1/memory_stores/{store}/archive", post(memory::archive))
        .route(
            "/v1/memory_stores/{store}/memories",
            get(memory::list_memories).post(memory::create_memory),
        )
        .route(
            "/v1/memory_stores/{store}/memories/{memory}",
            get(memory::get_memory).post(memory::update_memory).delete(memory::delete_memory),
        )
        .route("/v1/memory_stores/{store}/memory_versions", get(memory::list_versions))
        .route("/v1/memory_stores/{store}/memory_versions/{version}", get(memory::get_version))
        .route(
            "/v1/memory_stores/{store}/memory_versions/{version}/redact",
            post(memory::redact_version),
        )
        .route("/v1/vaults", get(vaults::list).post(vaults::create))
        .route("/v1/vaults/{vault}", get(vaults::get).post(vaults::update).delete(vaults::delete))
        .route("/v1/vaults/{vault}/archive", post(vaults::archive))
        .route(
            "/v1/vaults/{vault}/credentials",
            get(vaults::list_credentials).post(vaults::create_credential),
        )
        .route(
            "/v1/vaults/{vault}/credentials/{credential}",
            get(vaults::get_credential)
                .post(vaults::update_credential)
                .delete(vaults::delete_credential),
        )
        .route(
            "/v1/vaults/{vault}/credentials/{credential}/archive",
            post(vaults::archive_credential),
        )
        .route(
            "/v1/vaults/{vault}/credentials/{credential}/mcp_oauth_validate",
            post(vaults::validate_credential),
        )
        .route("/v1/deployments", get(deployments::list).post(deployments::create))
        .route("/v1/deployments/{deployment}", get(deployments::get).post(deployments::update))
        .route("/v1/deployments/{deployment}/archive", post(deployments::archive))
        .route("/v1/deployments/{deployment}/pause", post(deployments::pause))
        .route("/v1/deployments/{deployment}/unpause", post(deployments::unpause))
        .route("/v1/deployments/{deployment}/run", post(deployments::run))
        .route("/v1/deployment_runs", get(deployments::list_runs))
        .route("/v1/deployment_runs/{run}", get(deployments::get_run))
        .route("/v1/organizations/webhooks", get(endpoints::list).post(endpoints::create))
        .route(
            "/v1/organizations/webhooks/{endpoint}",
            get(endpoints::get).post(endpoints::update).delete(endpoints::delete),
        )
        .route(
            "/v1/organizations/webhooks/{endpoint}/regenerate_signing_secret",
            post(endpoints::regenerate_secret),
        )
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
