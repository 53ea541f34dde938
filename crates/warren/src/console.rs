//! What the real platform keeps to its Console (keys, webhook endpoints), for `warren platform …`:
//! a socket in the emulator's data directory that only its owner can open. One line of JSON asks,
//! one answers.

use crate::failure::{Exit, Remedy};
use agents::EnvironmentId;
use platform::Platform;
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

const LINE_BYTES_MAX: u64 = 64 * 1024;
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
    AddWebhook { url: String },
    CreateApiKey,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Environment { id: String, key: String },
    Webhook { id: String, secret: String },
    ApiKey { key: String },
    Refused { reason: String },
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
        Request::AddWebhook { url } => {
            let made = platform.add_webhook_endpoint(&url, HOOKS).await.map_err(words)?;
            Answer::Webhook { id: made.id.to_string(), secret: made.secret.expose().to_owned() }
        }
        Request::CreateApiKey => {
            let key = platform.create_api_key().await.map_err(words)?;
            Answer::ApiKey { key: key.expose().to_owned() }
        }
    })
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
        answer @ (Answer::Environment { .. } | Answer::Webhook { .. } | Answer::ApiKey { .. }) => {
            Ok(answer)
        }
    }
}
