//! What the real platform keeps to its Console (keys, webhook endpoints), for `warren platform …`:
//! a socket in the emulator's data directory that only its owner can open. One line of JSON asks,
//! one answers.

use crate::{
    failure::{Exit, Remedy},
    print::Row,
};
use agents::EnvironmentId;
use platform::{DeliveryState, EndpointId, HookId, Mishaps, OldSecret, Platform};
use serde::{Deserialize, Serialize};
use std::{
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
};
use tokio_util::sync::CancellationToken;

/// Longest question or answer: the log of deliveries.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(10);

/// Events of a session that an endpoint is told of.
const HOOKS: &[&str] = &[
    "session.status_run_started",
    "session.status_idled",
    "session.status_rescheduled",
    "session.status_terminated",
];

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    CreateEnvironment { name: String },
    RotateEnvironmentKey { id: String },
    AddWebhook { url: String, events: Vec<String> },
    ListWebhooks,
    RemoveWebhook { id: String },
    EnableWebhook { id: String },
    RotateWebhook { id: String, old: OldSecret },
    Deliveries { limit: u32 },
    Redeliver { id: String },
    CreateApiKey,
    Faults { set: Option<Mishaps> },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Environment { id: String, key: String },
    Webhook { id: String, secret: String },
    Webhooks(Vec<Endpoint>),
    Deliveries(Vec<Delivery>),
    ApiKey { key: String },
    Faults(Mishaps),
    Done,
    Refused { reason: String },
}

/// An endpoint, as it is listed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    endpoint_id: String,
    url: String,
    events: Vec<String>,
    state: String,
}

impl Row for Endpoint {
    const HEADS: &'static [&'static str] = &["ENDPOINT", "URL", "STATE", "EVENTS"];

    fn cells(&self) -> Vec<String> {
        let events = self.events.join(" ");
        vec![self.endpoint_id.clone(), self.url.clone(), self.state.clone(), events]
    }
}

/// A delivery, as it is listed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Delivery {
    event_id: String,
    event: String,
    subject: String,
    url: String,
    state: String,
    created_at: String,
    /// What was answered to each attempt, or why nothing was.
    attempts: Vec<String>,
}

impl Row for Delivery {
    const HEADS: &'static [&'static str] =
        &["EVENT", "TYPE", "SUBJECT", "URL", "CREATED", "STATE", "ATTEMPTS"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.event_id.clone(),
            self.event.clone(),
            self.subject.clone(),
            self.url.clone(),
            self.created_at.clone(),
            self.state.clone(),
            self.attempts.join(", "),
        ]
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ConsoleError {
    #[error("the platform emulator is not running: {path} does not answer")]
    NotRunning {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} cannot be used")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{0}")]
    Refused(String),
}

impl Remedy for ConsoleError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NotRunning { .. } => Some(
                "start it in another terminal: warren platform, with the same --data-dir".into(),
            ),
            Self::Io { .. } | Self::Refused(_) => None,
        }
    }
    fn exit(&self) -> Exit {
        match self {
            Self::NotRunning { .. } => Exit::Unreachable,
            Self::Io { .. } | Self::Refused(_) => Exit::Failed,
        }
    }
}

fn socket(data_dir: &Path) -> PathBuf {
    data_dir.join("console.sock")
}

/// Serves until `stop`. The caller holds the directory's lock, so an old socket is nobody's.
pub(crate) async fn serve(
    data_dir: &Path,
    platform: Arc<Platform>,
    stop: CancellationToken,
) -> Result<(), ConsoleError> {
    let path = socket(data_dir);
    let failed = |source| ConsoleError::Io { path: path.clone(), source };
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&path).map_err(failed)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    let serving = async {
        loop {
            // One after the other: a person asks.
            let (stream, _) = listener.accept().await.map_err(failed)?;
            match tokio::time::timeout(TIMEOUT, answer(&platform, stream)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "a question to the console broke off"),
                Err(_) => tracing::warn!("a question to the console took too long"),
            }
        }
    };
    let served = stop.run_until_cancelled(serving).await;
    // It is gone with the directory otherwise.
    let _ = std::fs::remove_file(&path);
    served.unwrap_or(Ok(()))
}

async fn answer(platform: &Platform, stream: UnixStream) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(LINE_BYTES_MAX)).read_line(&mut line).await?;
    let request = serde_json::from_str(&line)?;
    let answer = match act(platform, request).await {
        Ok(answer) => answer,
        Err(reason) => Answer::Refused { reason },
    };
    let mut text = serde_json::to_vec(&answer)?;
    text.push(b'\n');
    write.write_all(&text).await
}

async fn act(platform: &Platform, request: Request) -> Result<Answer, String> {
    let words = |e: platform::PlatformError| e.to_string();
    Ok(match request {
        Request::CreateEnvironment { name } => {
            let made = platform.create_environment(&name).await.map_err(words)?;
            Answer::Environment { id: made.id.to_string(), key: made.key.expose().to_owned() }
        }
        Request::RotateEnvironmentKey { id } => {
            let id = EnvironmentId::new(id).map_err(|e| e.to_string())?;
            let key = platform.rotate_environment_key(&id).await.map_err(words)?;
            Answer::Environment { id: id.to_string(), key: key.expose().to_owned() }
        }
        Request::AddWebhook { url, events } => {
            let events: Vec<&str> = events.iter().map(String::as_str).collect();
            let events = if events.is_empty() { HOOKS } else { &events };
            let made = platform.add_webhook_endpoint(&url, events).await.map_err(words)?;
            Answer::Webhook { id: made.id.to_string(), secret: made.secret.expose().to_owned() }
        }
        Request::ListWebhooks => {
            let endpoints = platform.webhook_endpoints().await.map_err(words)?;
            Answer::Webhooks(endpoints.into_iter().map(endpoint).collect())
        }
        Request::RemoveWebhook { id } => {
            platform.remove_webhook_endpoint(&EndpointId::from_text(id)).await.map_err(words)?;
            Answer::Done
        }
        Request::EnableWebhook { id } => {
            platform.enable_webhook_endpoint(&EndpointId::from_text(id)).await.map_err(words)?;
            Answer::Done
        }
        Request::RotateWebhook { id, old } => {
            let endpoint = EndpointId::from_text(&*id);
            let secret = platform.rotate_webhook_secret(&endpoint, old).await.map_err(words)?;
            Answer::Webhook { id, secret: secret.expose().to_owned() }
        }
        Request::Deliveries { limit } => {
            let log = platform.deliveries(limit).await.map_err(words)?;
            Answer::Deliveries(log.into_iter().map(delivery).collect())
        }
        Request::Redeliver { id } => {
            platform.redeliver(&HookId::from_text(id)).await.map_err(words)?;
            Answer::Done
        }
        Request::Faults { set } => {
            if let Some(mishaps) = set {
                mishaps.check()?;
                platform.set_mishaps(mishaps);
            }
            Answer::Faults(platform.mishaps())
        }
        Request::CreateApiKey => {
            let key = platform.create_api_key().await.map_err(words)?;
            Answer::ApiKey { key: key.expose().to_owned() }
        }
    })
}

fn endpoint(endpoint: platform::Endpoint) -> Endpoint {
    Endpoint {
        endpoint_id: endpoint.id.to_string(),
        url: endpoint.url,
        events: endpoint.types,
        state: match (endpoint.enabled, endpoint.disabled_reason) {
            (true, _) => "enabled".to_owned(),
            (false, None) => "disabled".to_owned(),
            (false, Some(reason)) => format!("disabled: {reason}"),
        },
    }
}

fn delivery(delivery: platform::Delivery) -> Delivery {
    let attempt = |attempt: platform::DeliveryAttempt| match (attempt.status, attempt.error) {
        (Some(status), _) => status.to_string(),
        (None, Some(error)) => error,
        (None, None) => "no answer".to_owned(),
    };
    Delivery {
        event_id: delivery.id.to_string(),
        event: delivery.event_type,
        subject: delivery.subject,
        url: delivery.url,
        state: match delivery.state {
            DeliveryState::Pending => "pending",
            DeliveryState::Delivered => "delivered",
            DeliveryState::Dropped => "dropped",
        }
        .to_owned(),
        created_at: delivery.created_at.to_string(),
        attempts: delivery.attempts.into_iter().map(attempt).collect(),
    }
}

/// Asks the emulator that runs in `data_dir`.
///
/// # Errors
/// [`ConsoleError::NotRunning`], [`ConsoleError::Refused`] with the emulator's reason.
pub(crate) async fn ask(data_dir: &Path, request: &Request) -> Result<Answer, ConsoleError> {
    let path = socket(data_dir);
    let stream = UnixStream::connect(&path)
        .await
        .map_err(|source| ConsoleError::NotRunning { path: path.clone(), source })?;
    let asked = async {
        let (read, mut write) = stream.into_split();
        let mut text = serde_json::to_vec(request)?;
        text.push(b'\n');
        write.write_all(&text).await?;
        let mut line = String::new();
        BufReader::new(read.take(LINE_BYTES_MAX)).read_line(&mut line).await?;
        Ok(serde_json::from_str(&line)?)
    };
    let answer = match tokio::time::timeout(TIMEOUT, asked).await {
        Ok(answer) => answer,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut)),
    };
    match answer.map_err(|source| ConsoleError::Io { path, source })? {
        Answer::Refused { reason } => Err(ConsoleError::Refused(reason)),
        answer @ (Answer::Environment { .. }
        | Answer::Webhook { .. }
        | Answer::Webhooks(_)
        | Answer::Deliveries(_)
        | Answer::ApiKey { .. }
        | Answer::Faults(_)
        | Answer::Done) => Ok(answer),
    }
}
