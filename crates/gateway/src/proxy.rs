//! One request, top to bottom: what is asked, who asks, is the VM there, then to the app and back.

use crate::{
    asked::{Asked, MARKER, Marker, Upgrade, Wants},
    body::{Download, Relayed, gate},
    config::CONTINUE_MAX,
    exchange::{Direction, Exchange, Heading, Opening, log_refused},
    headers::{join_cookies, remove_hop_by_hop, remove_reserved},
    metrics::Metrics,
    refusal::Refusal,
    server::Front,
    shell, tunnel,
    upstream::Route,
};
use control::{BadToken, Grant, MicrovmId, Reach};
use http::{
    HeaderName, HeaderValue, Request, Response, StatusCode, Version, header, request::Parts,
};
use hyper::{body::Incoming, upgrade};
use std::{net::SocketAddr, sync::Arc, time::Instant};
use tokio::sync::oneshot;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

/// Answers a request, whatever becomes of it.
pub(crate) async fn answer(
    front: &Arc<Front>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Response<Download> {
    let started = Instant::now();
    let heading = || Heading {
        request_id: uuid::Uuid::new_v4().hyphenated().to_string(),
        peer,
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        version: request.version(),
    };
    let mut visit = Visit { heading: heading(), started, microvm: None, stage: Stage::AtTheDoor };
    let id = HeaderValue::from_str(&visit.heading.request_id).ok();
    let version = request.version();
    let mut response = match visit_vm(front, request, &mut visit).await {
        Ok(response) => response,
        Err(refusal) => {
            if visit.stage == Stage::AtTheDoor {
                log_refused(&visit.heading, visit.microvm.as_ref(), &refusal, started);
            }
            Metrics::add(&front.metrics.refused, 1);
            let mut response = refusal.response();
            if version != Version::HTTP_2 && refused_for_good(&refusal) {
                // What it has still to send is not waited for.
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            response
        }
    };
    front.metrics.answered(response.status());
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// Whether the client could not do better with its next request.
fn refused_for_good(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Malformed(_)
        | Refusal::MissingAuthentication
        | Refusal::TokenFailed
        | Refusal::PortDenied => true,
        Refusal::TooMany(_)
        | Refusal::VmUnreachable(_)
        | Refusal::AppUnreachable(_)
        | Refusal::AppBroke(_)
        | Refusal::ShellOnly => false,
    }
}

/// What is known of a request on its way.
struct Visit {
    heading: Heading,
    started: Instant,
    microvm: Option<MicrovmId>,
    stage: Stage,
}

/// Who says what became of a request: the visit itself, or the exchange that it became.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    AtTheDoor,
    LetIn,
}

async fn visit_vm(
    front: &Arc<Front>,
    request: Request<Incoming>,
    visit: &mut Visit,
) -> Result<Response<Download>, Refusal> {
    let (mut parts, body) = request.into_parts();
    let config = &front.config;
    let asked = Asked::take(&mut parts, &config.domain, config.any_host)?;
    let grant = authenticate(front, &asked)?;
    visit.microvm = Some(grant.microvm.clone());
    let shell = authorize(&grant, &asked, &parts)?;

    // Before the VM is asked for, so that it does not fall asleep in between.
    let traffic = front.vms.traffic(&grant.microvm);
    let running = front.vms.ensure_running(&grant.microvm).await;
    running.map_err(|error| Refusal::VmUnreachable(error.to_string()))?;
    let backend = front.backends.of(&grant);
    backend.admit()?;
    let heading = Heading {
        request_id: visit.heading.request_id.clone(),
        path: visit.heading.path.clone(),
        method: visit.heading.method.clone(),
        ..visit.heading
    };
    let metrics = front.metrics.clone();
    let port = if shell.is_some() { shell::SHELL_PORT } else { asked.port() };
    let started = visit.started;
    visit.stage = Stage::LetIn;
    let exchange = Exchange::open(Opening { heading, backend, port, metrics, traffic, started });
    let answered = match shell {
        Some(shell) => {
            let request = Request::from_parts(parts, body);
            shell::open(front, exchange.clone(), shell, request).await
        }
        None => forward(front, &exchange, asked, (parts, body)).await,
    };
    answered.inspect_err(|refusal| {
        exchange.answered(refusal.status());
        exchange.broke(refusal);
    })
}

/// Whose token it is. Its VM must be the one that is named.
fn authenticate(front: &Front, asked: &Asked) -> Result<Grant, Refusal> {
    let token = asked.token.as_deref().ok_or(Refusal::MissingAuthentication)?;
    let grant = front.tokens.open(token).map_err(|bad| match bad {
        BadToken::Unreadable => Refusal::MissingAuthentication,
        BadToken::Expired => Refusal::TokenFailed,
    })?;
    if asked.names(&grant) { Ok(grant) } else { Err(Refusal::TokenFailed) }
}

/// Some: the shell is asked for, and may be.
fn authorize(
    grant: &Grant,
    asked: &Asked,
    parts: &Parts,
) -> Result<Option<shell::Opening>, Refusal> {
    match &grant.reach {
        Reach::Ports(_) if grant.allows(asked.port()) => Ok(None),
        Reach::Ports(_) => Err(Refusal::PortDenied),
        Reach::Shell => shell::Opening::take(asked, parts).map(Some),
    }
}

/// To the app and back.
async fn forward(
    front: &Arc<Front>,
    exchange: &Arc<Exchange>,
    asked: Asked,
    (mut parts, body): (Parts, Incoming),
) -> Result<Response<Download>, Refusal> {
    let upgrading = parts.extensions.remove::<upgrade::OnUpgrade>();
    let continues = expects_continue(&parts, asked.wants);
    clean_request(&mut parts, &asked, exchange)?;
    let mut upload = Relayed::new(body, Direction::In, exchange.clone());
    let mut open_gate = None;
    if continues {
        let (gate, open) = gate(CONTINUE_MAX);
        upload = upload.behind(gate);
        open_gate = Some(open);
    }
    let mut request = Request::from_parts(parts, upload);
    request.extensions_mut().clear();
    if let Some(open) = open_gate {
        open_on_continue(&mut request, open);
    }
    let route = Route {
        vms: &*front.vms,
        backend: &exchange.backend,
        port: exchange.port,
        tasks: &front.backends.tasks,
    };
    let mut response = route.send(request, asked.wants).await?;
    exchange.answered(response.status());
    exchange.becomes_stream();
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return switch(front, exchange, &asked, (response, upgrading));
    }
    clean_response(&mut response);
    let exchange = exchange.clone();
    Ok(response.map(|body| Download::App(Relayed::new(body, Direction::Out, exchange))))
}

/// Only HTTP/1.1 apps are asked whether they want a body; hyper does not tell of it on HTTP/2.
fn expects_continue(parts: &Parts, wants: Wants) -> bool {
    let expects = parts
        .headers
        .get(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    expects && parts.version == Version::HTTP_11 && wants != Wants::Http2
}

/// The app's `100 Continue` opens the gate; so does the end of the request.
fn open_on_continue(request: &mut Request<Relayed>, open: oneshot::Sender<()>) {
    let open = std::sync::Mutex::new(Some(open));
    hyper::ext::on_informational(request, move |response| {
        if response.status() == StatusCode::CONTINUE {
            // Dropping it opens.
            open.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        }
    });
}

fn clean_request(parts: &mut Parts, asked: &Asked, exchange: &Exchange) -> Result<(), Refusal> {
    let upgrade = match &asked.upgrade {
        Upgrade::None => None,
        Upgrade::WebSocket(_) => Some(HeaderValue::from_static("websocket")),
        Upgrade::Other(to) => Some(to.clone()),
    };
    remove_hop_by_hop(&mut parts.headers);
    remove_reserved(&mut parts.headers);
    if parts.version == Version::HTTP_2 {
        join_cookies(&mut parts.headers);
        parts.headers.remove(header::EXPECT);
    }
    if let Some(to) = upgrade {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, to);
    }
    let host = app_host(parts, asked, &exchange.backend.endpoint);
    parts
        .headers
        .insert(header::HOST, host.map_err(|_| Refusal::malformed("Host is not a host name"))?);
    if let Ok(id) = HeaderValue::from_str(&exchange.heading.request_id) {
        parts.headers.insert(REQUEST_ID, id);
    }
    Ok(())
}

/// The endpoint as the client wrote it, with its port, so that addresses that the app makes of it
/// work; the plain endpoint where the VM was named otherwise.
fn app_host(
    parts: &Parts,
    asked: &Asked,
    endpoint: &str,
) -> Result<HeaderValue, header::InvalidHeaderValue> {
    use crate::asked::Named;
    match (&asked.named, parts.uri.authority(), parts.headers.get(header::HOST)) {
        (Named::Host(_), Some(authority), _) => HeaderValue::from_str(authority.as_str()),
        (Named::Host(_), None, Some(host)) => Ok(host.clone()),
        (Named::Host(_) | Named::Name(_) | Named::Nothing, _, _) => HeaderValue::from_str(endpoint),
    }
}

fn clean_response<B>(response: &mut Response<B>) {
    // What the app speaks ends here; hyper makes of it what the client speaks.
    *response.version_mut() = Version::HTTP_11;
    let headers = response.headers_mut();
    remove_hop_by_hop(headers);
    remove_reserved(headers);
}

/// The app has agreed to another protocol: from here on bytes go both ways.
fn switch(
    front: &Arc<Front>,
    exchange: &Arc<Exchange>,
    asked: &Asked,
    (mut response, client): (Response<Incoming>, Option<upgrade::OnUpgrade>),
) -> Result<Response<Download>, Refusal> {
    let (Some(client), false) = (client, asked.upgrade == Upgrade::None) else {
        return Err(Refusal::AppBroke("it switched protocols unasked".into()));
    };
    let app = upgrade::on(&mut response);
    let upgrade = response.headers_mut().remove(header::UPGRADE);
    clean_response(&mut response);
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(upgrade) = upgrade {
        headers.insert(header::UPGRADE, upgrade);
    }
    let offered = asked.upgrade == Upgrade::WebSocket(Marker::Offered);
    if offered && !headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        // Browsers break off where none of what they offered is chosen.
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(MARKER));
    }
    let (exchange, idle_max) = (exchange.clone(), front.config.idle_max);
    let stop = front.stop.clone();
    front.tasks.spawn(async move {
        stop.run_until_cancelled(tunnel::run(exchange, client, app, idle_max)).await;
    });
    Ok(response.map(|_| Download::text("")))
}
