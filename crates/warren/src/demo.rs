//! `warren demo`: the platform, the service and one session in one process.
//!
//! It works in the data directory of `warren up`, so that images and templates are shared with it,
//! but under names of its own (secrets `warren/demo/…`, data in `demo/`), so that nothing of the
//! user's is touched. What it shows is what the parts themselves say: the launcher's events,
//! control's transitions, the platform's public event stream.

mod script;
mod show;
mod stage;
mod timeline;
mod workspace;

use crate::{
    args,
    commands::{Context, platform::StartError},
    doctor,
    failure::{Exit, Failure, Outcome, Remedy},
    log::{self, Level},
    node::{DefaultImageError, NodeError},
    print::{Closed, Format, Talk},
};
use agents::client::ClientError as PlatformClientError;
use control::ControlError;
use script::Script;
use show::Show;
use stage::Stage;
use std::path::Path;
use timeline::{Event, Summary, Timeline};
use tokio::signal::unix::{SignalKind, signal};
use workspace::{Workspace, WorkspaceError};

const SCRIPT: &str = include_str!("../../../examples/inventory/script.json");

#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Emulator(#[from] StartError),
    #[error("the platform does not do what is asked")]
    Platform(#[from] PlatformClientError),
    #[error("the platform's answer lacks {0}")]
    Answer(&'static str),
    #[error("the demo cannot be set up")]
    Control(#[from] ControlError),
    #[error(transparent)]
    DefaultImage(#[from] DefaultImageError),
    #[error("the image {image} could not be built: {reason}")]
    Build { image: String, reason: String },
    #[error("there is no image {image}, or no version of it is active")]
    NoImage { image: String },
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    #[error("the launcher refused the webhook ({status}): {reason}")]
    Refused { status: u16, reason: String },
    #[error("the VM ended before the session did: {reason}{}", tail(.console))]
    VmEnded { reason: String, console: String },
    #[error("the session failed: {0}")]
    Session(String),
    #[error("the platform's event stream broke off")]
    Stream,
    #[error("nothing happened for {seconds} s while waiting for {what}")]
    Silent { seconds: u64, what: String },
    #[error("interrupted")]
    Interrupted,
    #[error(transparent)]
    Closed(#[from] Closed),
}

fn tail(console: &str) -> String {
    if console.trim().is_empty() {
        String::new()
    } else {
        format!("\nits console ended with:\n{}", console.trim_end())
    }
}

impl Remedy for DemoError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Node(e) => e.hint(),
            Self::Emulator(e) => e.hint(),
            Self::Control(e) => e.hint(),
            Self::DefaultImage(e) => e.hint(),
            Self::Workspace(e) => e.hint(),
            Self::Build { .. } => Some("the build's last lines are above; `warren doctor` helps too".into()),
            Self::NoImage { .. } => Some(
                "build it: `warren up` in one terminal, `warren image build DIR --name NAME` in another".into(),
            ),
            Self::Refused { .. } | Self::VmEnded { .. } | Self::Silent { .. } => {
                Some("run it again with -v for the log; `warren doctor` says what this machine lacks".into())
            }
            Self::Platform(_) | Self::Answer(_) | Self::Session(_) | Self::Stream => {
                Some("run it again with -v for the log".into())
            }
            Self::Interrupted | Self::Closed(_) => None,
        }
    }
    fn exit(&self) -> Exit {
        match self {
            Self::Node(e) => e.exit(),
            Self::Workspace(e) => e.exit(),
            Self::Closed(e) => e.exit(),
            // As shells have it.
            Self::Interrupted => Exit::Command(130),
            _ => Exit::Failed,
        }
    }
}

pub(crate) async fn demo(context: &Context, demo: args::Demo) -> Outcome {
    let script = match &demo.script {
        Some(path) => Script::read(path)?,
        None => Script::parse(Path::new("examples/inventory/script.json"), SCRIPT)?,
    };
    let workspace = match (demo.workspace, &demo.script) {
        (Some(dir), _) => Workspace::Directory(dir),
        (None, Some(_)) => Workspace::Empty,
        (None, None) => Workspace::Example,
    };
    workspace.check()?;
    let level = match context.printer.talk() {
        Talk::Quiet | Talk::Normal => Level::Errors,
        Talk::Verbose => Level::Information,
    };
    log::start(&context.settings, level);
    doctor::lacks(&context.settings).await?;
    if context.printer.format() == Format::Human {
        context
            .printer
            .note("one session through the whole chain: platform, webhook, launcher, VM, worker");
    }
    let stage = Stage::set(context, demo.image).await?;
    let mut show = Show::new(&stage, Timeline::new(&context.printer));
    let played = tokio::select! {
        played = show.play(&script, &workspace, demo.keep) => played,
        () = interrupted() => Err(DemoError::Interrupted),
    };
    let summary = match &played {
        Ok(summary) => summary.clone(),
        Err(_) => Summary::default(),
    };
    let shown = show.tell(&Event::Done(summary));
    if demo.keep && played.is_ok() {
        look_around(context, &stage, show.vm());
        interrupted().await;
    }
    show.end().await;
    stage.clear().await;
    played?;
    shown.map_err(Failure::from)?;
    Ok(Exit::Success)
}

/// Returns when the user wants it to end.
async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Then the signals do what they do by default: end this process.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

fn look_around(context: &Context, stage: &Stage, vm: Option<&str>) {
    let short: String =
        vm.and_then(|id| id.strip_prefix("microvm-")).unwrap_or_default().chars().take(8).collect();
    let at = format!("warren --data-dir {}", context.settings.data_dir.display());
    let say = |text: String| {
        if context.printer.format() == Format::Human {
            context.printer.note(text);
        }
    };
    say("\neverything still runs; Ctrl-C ends it. In another terminal:".into());
    say(format!("  {at} ps"));
    say(format!("  {at} shell {short}"));
    say(format!("  {at} logs -f"));
    say(format!("  eval \"$({at} env)\" && aws lambda-microvms list-microvms"));
    say(format!(
        "  the platform's API is at {}, its key in {}",
        stage.platform_url(),
        stage.key_file()
    ));
}
