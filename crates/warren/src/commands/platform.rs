//! `warren platform`: the emulator in a process of its own, and what its Console would do.

use super::Context;
use crate::{
    args::{self, PlatformApiKey, PlatformCommand, PlatformEnv, PlatformWebhook},
    config::Settings,
    console::{self, Answer, ConsoleError, Request},
    failure::{Exit, Outcome, Remedy},
    lock::Lock,
    log::{self, Level},
    print::{Closed, Format, Printer, Talk},
};
use platform::{Platform, PlatformConfig, PlatformError};
use serde_json::json;
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("the address {address} is taken by another program")]
    PortTaken { address: std::net::SocketAddr },
    #[error(transparent)]
    Platform(PlatformError),
    #[error("signals cannot be waited for")]
    Signals(#[source] io::Error),
}

impl From<PlatformError> for StartError {
    fn from(error: PlatformError) -> Self {
        match error {
            PlatformError::Listen { address, source }
                if source.kind() == io::ErrorKind::AddrInUse =>
            {
                Self::PortTaken { address }
            }
            other => Self::Platform(other),
        }
    }
}

impl Remedy for StartError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::PortTaken { address } => Some(format!(
                "`ss -ltnp 'sport = :{}'` shows by whom; end that, or choose another address: \
                 WARREN_PLATFORM_LISTEN, or platform.listen in warren.toml",
                address.port()
            )),
            Self::Platform(PlatformError::DataDir { .. } | PlatformError::Store(_)) => Some(
                "is the disk full? may this user write there? else take another --data-dir".into(),
            ),
            Self::Platform(_) | Self::Signals(_) => None,
        }
    }
}

/// Where the emulator's own data is.
pub(crate) fn data_dir(settings: &Settings) -> PathBuf {
    settings.data_dir.join("platform")
}

pub(crate) async fn platform(context: &Context, platform: args::Platform) -> Outcome {
    let dir = data_dir(&context.settings);
    let (request, webhook_url) = match platform.command {
        None | Some(PlatformCommand::Serve) => return serve(context, &dir).await,
        Some(PlatformCommand::Env(PlatformEnv::Create { name })) => {
            (Request::CreateEnvironment { name }, None)
        }
        Some(PlatformCommand::Env(PlatformEnv::Key { id })) => {
            (Request::RotateEnvironmentKey { id }, None)
        }
        Some(PlatformCommand::Webhook(PlatformWebhook::Add { url })) => {
            (Request::AddWebhook { url: url.to_string() }, Some(url))
        }
        Some(PlatformCommand::ApiKey(PlatformApiKey::Create)) => (Request::CreateApiKey, None),
    };
    let answer = console::ask(&dir, &request).await?;
    show(&context.printer, answer, webhook_url.as_ref())?;
    Ok(Exit::Success)
}

fn show(printer: &Printer, answer: Answer, url: Option<&url::Url>) -> Result<(), Closed> {
    let human = printer.format() == Format::Human;
    let lines = match answer {
        Answer::Environment { id, key } if human => vec![
            format!("environment  {id}"),
            format!("key          {key}"),
            String::new(),
            "The key is shown this once. What to do with them:".into(),
            format!("  warren up --environment {id}"),
            format!(
                "  printf %s {key} | warren secret put {}",
                launcher::ENVIRONMENT_KEY_SECRET_ID_DEFAULT
            ),
        ],
        Answer::Webhook { secret, .. } if human => vec![
            format!("endpoint  {}", url.map(ToString::to_string).unwrap_or_default()),
            format!("secret    {secret}"),
            String::new(),
            "The secret is shown this once. Where it belongs:".into(),
            format!(
                "  printf %s {secret} | warren secret put {}",
                launcher::SIGNING_SECRET_ID_DEFAULT
            ),
        ],
        Answer::ApiKey { key } if human => vec![key],
        Answer::Environment { id, key } => {
            return printer.record(&json!({"environment_id": id, "key": key}));
        }
        Answer::Webhook { id, secret } => {
            return printer.record(&json!({"endpoint_id": id, "secret": secret}));
        }
        Answer::ApiKey { key } => return printer.record(&json!({"key": key})),
        Answer::Refused { .. } => Vec::new(),
    };
    lines.iter().try_for_each(|line| printer.line(line))
}

async fn serve(context: &Context, dir: &Path) -> Outcome {
    let settings = &context.settings;
    let level = match context.printer.talk() {
        Talk::Quiet => Level::Warnings,
        Talk::Normal => Level::Information,
        Talk::Verbose => Level::Everything,
    };
    log::start(settings, level);
    let holder = format!("warren platform on {}", settings.platform_listen);
    let _lock = Lock::take(dir, "platform", &holder)?;
    let started = Platform::start(PlatformConfig::new(settings.platform_listen, dir)).await;
    let platform = Arc::new(started.map_err(StartError::from)?);
    context.printer.note(format!("platform emulator on {}", platform.base_url()));
    context.printer.note(format!("API key in {}", dir.join("api-key").display()));
    let stop = CancellationToken::new();
    let console = {
        let (dir, platform, stop) = (dir.to_owned(), platform.clone(), stop.clone());
        tokio::spawn(async move { console::serve(&dir, platform, stop).await })
    };
    let waited = wait_for_end().await;
    stop.cancel();
    let served = console.await.unwrap_or_else(|e| Err(ConsoleError::Refused(e.to_string())));
    if let Some(platform) = Arc::into_inner(platform) {
        platform.shutdown().await;
    }
    waited.map_err(StartError::Signals)?;
    served?;
    Ok(Exit::Success)
}

async fn wait_for_end() -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
