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
use agents::Secret;
use platform::{
    Mishaps, ModelConfig, OldSecret, Platform, PlatformConfig, PlatformError, StartingRule,
};
use serde_json::json;
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
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
    #[error("the key of the model's server cannot be read from {path}")]
    ModelKey {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("--fault: {0}")]
    Fault(String),
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
                 --listen, WARREN_PLATFORM_LISTEN, or platform.listen in warren.toml",
                address.port()
            )),
            Self::Platform(PlatformError::DataDir { .. } | PlatformError::Store(_)) => Some(
                "is the disk full? may this user write there? else take another --data-dir".into(),
            ),
            Self::Fault(_) => Some(
                "docs/platform.md has a table of all faults; `warren platform faults` shows what \
                 is set"
                    .into(),
            ),
            Self::Platform(_) | Self::Signals(_) | Self::ModelKey { .. } => None,
        }
    }
}

/// Where the emulator's own data is.
pub(crate) fn data_dir(settings: &Settings) -> PathBuf {
    settings.data_dir.join("platform")
}

pub(crate) async fn platform(context: &Context, platform: args::Platform) -> Outcome {
    let dir = data_dir(&context.settings);
    let Some(command) = platform.command else {
        return serve(context, &platform.serve, &dir).await;
    };
    let webhook_url = match &command {
        PlatformCommand::Webhook(PlatformWebhook::Add { url, .. }) => Some(url.clone()),
        PlatformCommand::Webhook(_)
        | PlatformCommand::Env(_)
        | PlatformCommand::ApiKey(_)
        | PlatformCommand::Faults(_) => None,
    };
    let answer = console::ask(&dir, &request(command)?).await?;
    show(&context.printer, answer, webhook_url.as_ref())?;
    Ok(Exit::Success)
}

/// What the running emulator is asked.
fn request(command: PlatformCommand) -> Result<Request, StartError> {
    Ok(match command {
        PlatformCommand::Env(PlatformEnv::Create { name }) => Request::CreateEnvironment { name },
        PlatformCommand::Env(PlatformEnv::Key { id }) => Request::RotateEnvironmentKey { id },
        PlatformCommand::Webhook(webhook) => match webhook {
            PlatformWebhook::Add { url, events } => {
                Request::AddWebhook { url: url.to_string(), events }
            }
            PlatformWebhook::Ls => Request::ListWebhooks,
            PlatformWebhook::Rm { id } => Request::RemoveWebhook { id },
            PlatformWebhook::Enable { id } => Request::EnableWebhook { id },
            PlatformWebhook::Rotate { id, keep_old } => {
                let old = if keep_old { OldSecret::Keep } else { OldSecret::Revoke };
                Request::RotateWebhook { id, old }
            }
            PlatformWebhook::Deliveries { limit } => Request::Deliveries { limit },
            PlatformWebhook::Redeliver { id } => Request::Redeliver { id },
        },
        PlatformCommand::ApiKey(PlatformApiKey::Create) => Request::CreateApiKey,
        PlatformCommand::Faults(args::Faults { faults, none }) => {
            let set = (none || !faults.is_empty()).then(|| mishaps(&faults)).transpose()?;
            Request::Faults { set }
        }
    })
}

/// What is to go wrong, of what was typed.
fn mishaps(faults: &[args::Fault]) -> Result<Mishaps, StartError> {
    let members = faults.iter().map(|fault| (fault.name.clone(), fault.value.clone().into()));
    let mishaps: Mishaps = serde_json::from_value(serde_json::Value::Object(members.collect()))
        .map_err(|error| StartError::Fault(error.to_string()))?;
    mishaps.check().map_err(StartError::Fault)?;
    Ok(mishaps)
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
        Answer::Webhook { id, secret } if human => vec![
            format!("endpoint  {}", url.map_or(id, ToString::to_string)),
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
        Answer::Webhooks(endpoints) => return printer.rows(&endpoints),
        Answer::Deliveries(deliveries) => return printer.rows(&deliveries),
        Answer::Faults(mishaps) => return show_mishaps(printer, &mishaps),
        Answer::Done | Answer::Refused { .. } => Vec::new(),
    };
    lines.iter().try_for_each(|line| printer.line(line))
}

fn show_mishaps(printer: &Printer, mishaps: &Mishaps) -> Result<(), Closed> {
    if printer.format() == Format::Json {
        return printer.record(mishaps);
    }
    let members = json!(mishaps);
    let mut members = members.as_object().into_iter().flatten();
    members.try_for_each(|(name, value)| printer.line(format!("{name}={value}")))
}

/// The emulator as the command line and the settings want it.
fn configured(
    settings: &Settings,
    serve: &args::Serve,
    dir: &Path,
) -> Result<PlatformConfig, StartError> {
    let listen = serve.listen.unwrap_or(settings.platform_listen);
    let mut config = PlatformConfig::new(listen, dir);
    config.api_key = serve.api_key.clone().map(Secret::new);
    config.mishaps = mishaps(&serve.faults)?;
    config.lease_ttl = Duration::from_secs(serve.lease);
    if let Some(seconds) = serve.requeue_starting {
        config.starting = StartingRule::RequeueAfter(Duration::from_secs(seconds));
    }
    if let Some(url) = &serve.model_url {
        let mut model = ModelConfig::new(url.clone());
        model.name = serve.model.clone();
        model.max_tokens = serve.model_max_tokens;
        model.key = match &serve.model_key_file {
            None => settings.model_key.clone(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| StartError::ModelKey { path: path.clone(), source })?;
                Some(Secret::new(text.trim()))
            }
        };
        config.model = Some(model);
    }
    Ok(config)
}

async fn serve(context: &Context, serve: &args::Serve, dir: &Path) -> Outcome {
    let settings = &context.settings;
    let level = match context.printer.talk() {
        Talk::Quiet => Level::Warnings,
        Talk::Normal => Level::Information,
        Talk::Verbose => Level::Everything,
    };
    log::start(settings, level);
    let config = configured(settings, serve, dir)?;
    let holder = format!("warren platform on {}", config.listen);
    let _lock = Lock::take(dir, "platform", &holder)?;
    let started = Platform::start(config).await;
    let platform = Arc::new(started.map_err(StartError::from)?);
    context.printer.note(format!("platform emulator on {}", platform.base_url()));
    context.printer.note(format!("API key in {}", dir.join("api-key").display()));
    if let Some(url) = &serve.model_url {
        context.printer.note(format!("agents are played by the model at {url}"));
    }
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
