//! A shell in a VM over a WebSocket: the PTY's bytes as binary messages both ways, control as JSON
//! texts. The form is that of AWS (spec 6); what Warren adds is asked for by the client, by query and
//! by the subprotocol [`EXIT_STATUS_PROTOCOL`], and described in docs/gateway.md.

use crate::{
    asked::{Asked, MARKER, Upgrade},
    body::Download,
    exchange::{Direction, Exchange},
    metrics::Metrics,
    refusal::Refusal,
    server::Front,
};
use control::{Attach, ExecInput, ExecOutput, ExecRequest, ExecSession, ExitStatus, TerminalSize};
use futures::{
    SinkExt, Stream, StreamExt,
    stream::{SplitSink, SplitStream},
};
use http::{HeaderValue, Request, Response, StatusCode, header, request::Parts};
use hyper::{body::Incoming, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

/// Where the shell is, under an endpoint.
pub const SHELL_PATH: &str = "/shell";

/// The port that a client may name for the shell; nothing listens on it.
pub const SHELL_PORT: u16 = 8022;

/// A client that offers this subprotocol is told how the shell ended, by [`ShellNotice::Exit`] before
/// the close.
pub const EXIT_STATUS_PROTOCOL: &str = "warren.exit-status";

/// Largest message of a client in bytes: a paste is one.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long a client may take for what it is sent at the end.
const GOODBYE_MAX: Duration = Duration::from_secs(5);

/// Time between two pings, by which a client that is gone is noticed.
const PING_EVERY: Duration = Duration::from_secs(30);

/// Linux' number of the signal that a terminal sends when it goes away.
const SIGHUP: i32 = 1;

/// The window until the client tells its own.
const SIZE_DEFAULT: TerminalSize = TerminalSize { columns: 80, rows: 24 };

/// As whom a shell runs that names nobody.
const USER_DEFAULT: &str = "root";

/// What a client may ask for in the query of [`SHELL_PATH`], beyond AWS.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ShellQuery {
    /// As whom; empty: root.
    pub user: String,
    /// Value of `TERM`; empty: `xterm-256color`.
    pub term: String,
    /// What to run; empty: the user's shell.
    pub command: Vec<String>,
}

impl ShellQuery {
    fn parse(query: &str) -> Self {
        let mut parsed = Self::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "user" => parsed.user = value.into_owned(),
                "term" => parsed.term = value.into_owned(),
                "command" => parsed.command.push(value.into_owned()),
                _ => {}
            }
        }
        parsed
    }

    /// The query as text, without `?`.
    pub fn encode(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in [("user", &self.user), ("term", &self.term)] {
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        }
        query.extend_pairs(self.command.iter().map(|word| ("command", word)));
        query.finish()
    }
}

/// What a client says in a text message. Any other text is typed into the shell.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ShellControl {
    /// The client's window has another size.
    Resize { cols: u16, rows: u16 },
}

/// What the gateway says in a text message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ShellNotice {
    /// The first message of a session.
    SessionInit { session_id: String },
    /// How the shell ended, for clients that asked for it; exactly one member is set.
    Exit {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<i32>,
        /// Linux' number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
        /// Why it never began.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}

impl From<ExitStatus> for ShellNotice {
    fn from(status: ExitStatus) -> Self {
        let (mut code, mut signal, mut error) = (None, None, None);
        match status {
            ExitStatus::Code(n) => code = Some(n),
            ExitStatus::Signal(n) => signal = Some(n),
            ExitStatus::NotStarted(reason) => error = Some(reason),
        }
        Self::Exit { code, signal, error }
    }
}

impl ShellNotice {
    fn message(&self) -> Message {
        Message::text(serde_json::to_string(self).expect("texts and numbers always serialise"))
    }
}

/// A shell that may be opened.
pub(crate) struct Opening {
    query: ShellQuery,
    /// Of the WebSocket handshake.
    accept: HeaderValue,
    exit_status: ExitStatusWanted,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ExitStatusWanted {
    Yes,
    No,
}

impl Opening {
    /// # Errors
    /// 502 for what is no WebSocket handshake, as on AWS; 403 for anything but the shell.
    pub(crate) fn take(asked: &Asked, parts: &Parts) -> Result<Self, Refusal> {
        let Upgrade::WebSocket(_) = asked.upgrade else { return Err(Refusal::ShellOnly) };
        let other_port = asked.given_port().is_some_and(|port| port != SHELL_PORT);
        if parts.uri.path() != SHELL_PATH || other_port {
            return Err(Refusal::PortDenied);
        }
        let key = parts.headers.get(header::SEC_WEBSOCKET_KEY);
        let version = parts.headers.get(header::SEC_WEBSOCKET_VERSION);
        let (Some(key), Some(b"13")) = (key, version.map(HeaderValue::as_bytes)) else {
            return Err(Refusal::malformed("no WebSocket handshake of version 13"));
        };
        let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
            .map_err(|_| Refusal::malformed("Sec-WebSocket-Key is no key"))?;
        let wanted = crate::headers::listed(&parts.headers, &header::SEC_WEBSOCKET_PROTOCOL)
            .any(|name| name == EXIT_STATUS_PROTOCOL);
        let query = ShellQuery::parse(parts.uri.query().unwrap_or_default());
        let exit_status = if wanted { ExitStatusWanted::Yes } else { ExitStatusWanted::No };
        Ok(Self { query, accept, exit_status })
    }
}

/// Starts the shell, then answers the handshake.
pub(crate) async fn open(
    front: &Arc<Front>,
    exchange: Arc<Exchange>,
    opening: Opening,
    mut request: Request<Incoming>,
) -> Result<Response<Download>, Refusal> {
    let Opening { query, accept, exit_status } = opening;
    let or = |given: String, default: &str| if given.is_empty() { default.into() } else { given };
    let exec = ExecRequest {
        argv: query.command,
        env: vec![("TERM".to_owned(), or(query.term, "xterm-256color"))],
        working_dir: String::new(),
        user: or(query.user, USER_DEFAULT),
        terminal: Some(SIZE_DEFAULT),
        attach: Attach::Input,
    };
    let session = front.vms.exec(&exchange.backend.id, exec).await;
    let session = session.map_err(|error| Refusal::VmUnreachable(error.to_string()))?;
    let upgrading = hyper::upgrade::on(&mut request);
    exchange.answered(StatusCode::SWITCHING_PROTOCOLS);
    let stop = front.stop.clone();
    front.tasks.spawn(async move {
        let metrics = exchange.metrics().clone();
        let _open = Metrics::while_held(&metrics.shells_open);
        let serving = async {
            match upgrading.await {
                Ok(upgraded) => serve(&exchange, session, upgraded, exit_status).await,
                Err(error) => exchange.broke(error),
            }
        };
        stop.run_until_cancelled(serving).await;
    });
    let mut response = Response::new(Download::text(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let chosen = match exit_status {
        ExitStatusWanted::Yes => EXIT_STATUS_PROTOCOL,
        ExitStatusWanted::No => MARKER,
    };
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(chosen));
    Ok(response)
}

type Socket = WebSocketStream<TokioIo<Upgraded>>;

async fn serve(
    exchange: &Exchange,
    session: ExecSession,
    upgraded: Upgraded,
    exit_status: ExitStatusWanted,
) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let (mut to_client, from_client) = socket.split();
    let ExecSession { input, output } = session;
    // The two directions go on apart: a shell that waits for its output to be taken does not keep
    // its input from being read, nor the other way round.
    let goodbye = tokio::select! {
        goodbye = send_output(exchange, output, &mut to_client, exit_status) => goodbye,
        () = take_input(exchange, &input, from_client) => {
            // As a terminal that goes away; a shell that has ended takes neither.
            let _ = input.send(ExecInput::Signal(SIGHUP)).await;
            let _ = input.send(ExecInput::Close).await;
            return;
        }
        () = exchange.backend.stopped.cancelled() => {
            Some((CloseCode::Away, "the MicroVM stopped running"))
        }
    };
    if let Some((code, reason)) = goodbye {
        let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
        let sent = async {
            to_client.send(close).await?;
            to_client.close().await
        };
        // A client that does not take it is gone.
        let _ = timeout(GOODBYE_MAX, sent).await;
    }
}

/// Until the shell has ended; answers how to say so. None: the client takes no more.
async fn send_output(
    exchange: &Exchange,
    mut output: mpsc::Receiver<ExecOutput>,
    to: &mut SplitSink<Socket, Message>,
    exit_status: ExitStatusWanted,
) -> Option<(CloseCode, &'static str)> {
    let session_id = uuid::Uuid::new_v4().hyphenated().to_string();
    to.send(ShellNotice::SessionInit { session_id }.message()).await.ok()?;
    loop {
        let piece = match timeout(PING_EVERY, output.recv()).await {
            Ok(piece) => piece,
            Err(_) => {
                to.send(Message::Ping(Vec::new().into())).await.ok()?;
                continue;
            }
        };
        match piece {
            Some(ExecOutput::Stdout(data) | ExecOutput::Stderr(data)) => {
                if let Some(wait) = exchange.carried(Direction::Out, data.len()) {
                    sleep(wait).await;
                }
                to.send(Message::binary(data)).await.ok()?;
            }
            Some(ExecOutput::Exited(status)) => {
                if exit_status == ExitStatusWanted::Yes {
                    to.send(ShellNotice::from(status).message()).await.ok()?;
                }
                return Some((CloseCode::Normal, "shell exited"));
            }
            None => return Some((CloseCode::Error, "the shell was lost")),
        }
    }
}

/// Until the client leaves.
async fn take_input(
    exchange: &Exchange,
    input: &mpsc::Sender<ExecInput>,
    mut from: SplitStream<Socket>,
) {
    while let Some(message) = next(&mut from).await {
        let event = match message {
            Message::Binary(data) => typed(exchange, data.to_vec()).await,
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(ShellControl::Resize { cols, rows }) => {
                    ExecInput::Resize(TerminalSize { columns: cols, rows })
                }
                // What is no control is typed, as on AWS.
                Err(_) => typed(exchange, text.as_bytes().to_vec()).await,
            },
            Message::Close(_) => return,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => continue,
        };
        if input.send(event).await.is_err() {
            // The shell has ended: that is told by the other direction.
            std::future::pending::<()>().await;
        }
    }
}

async fn typed(exchange: &Exchange, data: Vec<u8>) -> ExecInput {
    if let Some(wait) = exchange.carried(Direction::In, data.len()) {
        sleep(wait).await;
    }
    ExecInput::Data(data)
}

async fn next(
    from: &mut (impl Stream<Item = Result<Message, tungstenite::Error>> + Unpin),
) -> Option<Message> {
    from.next().await?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_comes_back_as_it_was() {
        let query = ShellQuery {
            user: "me".into(),
            term: String::new(),
            command: vec!["sh".into(), "-c".into(), "echo a&b=ü +".into()],
        };
        assert_eq!(ShellQuery::parse(&query.encode()), query);
        assert_eq!(ShellQuery::parse("unknown=1&user"), ShellQuery::default());
    }

    #[test]
    fn controls_have_the_form_of_aws() {
        let resize = serde_json::to_string(&ShellControl::Resize { cols: 132, rows: 50 }).unwrap();
        assert_eq!(resize, r#"{"type":"resize","cols":132,"rows":50}"#);
        assert!(serde_json::from_str::<ShellControl>(r#"{"type":"other"}"#).is_err());
        let exit = ShellNotice::from(ExitStatus::Code(3));
        assert_eq!(serde_json::to_string(&exit).unwrap(), r#"{"type":"exit","code":3}"#);
    }
}
