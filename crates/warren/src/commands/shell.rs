//! `warren shell`: this terminal as that of a shell in a VM, over the VM's endpoint.

use super::Context;
use crate::{
    args,
    client::{ClientError, Socket},
    failure::{Exit, Failure, Outcome, Remedy},
    protocol::PIECE_BYTES_MAX,
    terminal,
};
use futures::{SinkExt, StreamExt, stream::SplitSink};
use gateway::{ShellControl, ShellNotice, ShellQuery};
use std::io;
use tokio::{
    io::AsyncReadExt,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_tungstenite::tungstenite::Message;

/// Messages to the shell that may wait; each is at most a piece.
const QUEUE_MESSAGES_MAX: usize = 16;

#[derive(Debug, thiserror::Error)]
enum ShellError {
    #[error("a shell needs a terminal, and standard input is none")]
    NoTerminal,
    #[error("the terminal cannot be used")]
    Terminal(#[source] io::Error),
    #[error("the shell could not be started in the VM: {reason}")]
    NotStarted { reason: String },
    #[error("the shell was lost: {reason}")]
    Lost { reason: String },
    #[error("VM {microvm_id} was run without the connector SHELL_INGRESS")]
    NoIngress { microvm_id: String },
}

impl Remedy for ShellError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NoTerminal => Some("for a single command: warren exec VM -- COMMAND".into()),
            Self::NotStarted { .. } => Some("is it in the image, and in its PATH?".into()),
            Self::NoIngress { .. } => {
                Some("`warren exec -t VM -- bash` works on every VM, for the operator".into())
            }
            Self::Terminal(_) | Self::Lost { .. } => None,
        }
    }
    fn exit(&self) -> Exit {
        match self {
            // As shells have it.
            Self::NotStarted { .. } => Exit::Command(127),
            Self::NoTerminal | Self::Terminal(_) | Self::Lost { .. } | Self::NoIngress { .. } => {
                Exit::NoCommand
            }
        }
    }
}

pub(crate) async fn shell(context: &Context, shell: args::Shell) -> Outcome {
    if !io::IsTerminal::is_terminal(&io::stdin()) {
        return Err(ShellError::NoTerminal.into());
    }
    let socket = open(context, &shell).await?;
    // Restored when this function is left, however that happens.
    let _raw = terminal::Raw::enter().map_err(ShellError::Terminal)?;
    let (to, mut from) = socket.split();
    let (queue, queued) = mpsc::channel(QUEUE_MESSAGES_MAX);
    // Input and output go on independently: a shell that waits for its output to be taken must not
    // wait for our input as well.
    let feeding = tokio::spawn(feed(to, queued));
    let reading = tokio::spawn(read_input(queue.clone()));
    let watching = tokio::spawn(watch_window(queue));
    let outcome = tokio::select! {
        outcome = show(context, &mut from) => outcome,
        exit = end_signal() => Ok(exit),
    };
    for task in [feeding, reading, watching] {
        task.abort();
    }
    outcome
}

async fn open(context: &Context, shell: &args::Shell) -> Result<Socket, Failure> {
    let no_command = |e: ClientError| {
        let unreachable = e.exit() == Exit::Unreachable;
        let failure = Failure::from(e);
        if unreachable { failure } else { failure.with_exit(Exit::NoCommand) }
    };
    let client = context.client().map_err(|e| Failure::from(e).with_exit(Exit::NoCommand))?;
    let vm = client.vm(&shell.vm).await.map_err(no_command)?;
    let query = ShellQuery {
        user: shell.user.clone(),
        term: context.settings.term.clone(),
        command: shell.command.clone(),
    };
    let opened = client.shell(&context.settings.gateway, &vm.microvm_id, &query).await;
    opened.map_err(|error| match error {
        ClientError::Refused { message, .. } if message.contains("SHELL_INGRESS") => {
            ShellError::NoIngress { microvm_id: vm.microvm_id }.into()
        }
        error => no_command(error),
    })
}

/// What the shell prints, until it has ended.
async fn show(context: &Context, from: &mut futures::stream::SplitStream<Socket>) -> Outcome {
    while let Some(message) = from.next().await {
        let lost = |reason: String| ShellError::Lost { reason };
        match message.map_err(|e| lost(e.to_string()))? {
            Message::Binary(bytes) => context.printer.bytes(&bytes)?,
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(ShellNotice::Exit { code: Some(code), .. }) => {
                    return Ok(Exit::Command(u8::try_from(code).unwrap_or(1)));
                }
                Ok(ShellNotice::Exit { signal: Some(signal), .. }) => {
                    return Ok(Exit::Command(u8::try_from(128 + signal).unwrap_or(255)));
                }
                Ok(ShellNotice::Exit { error, .. }) => {
                    let reason = error.unwrap_or_else(|| "it is not known why".into());
                    return Err(ShellError::NotStarted { reason }.into());
                }
                // A notice of a later version.
                Ok(ShellNotice::SessionInit { .. }) | Err(_) => {}
            },
            Message::Close(close) => {
                let reason = close.map_or_else(String::new, |close| close.reason.to_string());
                return Err(lost(reason).into());
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
    Err(ShellError::Lost { reason: "the connection ended".into() }.into())
}

/// A connection that breaks here is noticed, and named, where the output is read.
async fn feed(mut to: SplitSink<Socket, Message>, mut queued: mpsc::Receiver<Message>) {
    while let Some(message) = queued.recv().await {
        if to.send(message).await.is_err() {
            return;
        }
    }
}

async fn read_input(queue: mpsc::Sender<Message>) {
    let mut stdin = tokio::io::stdin();
    let mut piece = vec![0; PIECE_BYTES_MAX];
    loop {
        // A terminal that is gone ends this process by a signal.
        let Ok(count @ 1..) = stdin.read(&mut piece).await else { return };
        let typed = piece.get(..count).unwrap_or_default().to_vec();
        if queue.send(Message::binary(typed)).await.is_err() {
            return;
        }
    }
}

/// Tells the size of the window now, and whenever it changes.
async fn watch_window(queue: mpsc::Sender<Message>) {
    let Ok(mut resized) = signal(SignalKind::window_change()) else { return };
    loop {
        let size = terminal::size();
        let resize = ShellControl::Resize { cols: size.columns, rows: size.rows };
        let Ok(text) = serde_json::to_string(&resize) else { return };
        if queue.send(Message::text(text)).await.is_err() || resized.recv().await.is_none() {
            return;
        }
    }
}

/// In raw mode Ctrl-C is a byte of input; a signal comes from elsewhere and ends this process, with
/// the terminal as it was.
async fn end_signal() -> Exit {
    let listen = |kind| signal(kind).ok();
    let (Some(mut interrupt), Some(mut terminate), Some(mut hangup)) = (
        listen(SignalKind::interrupt()),
        listen(SignalKind::terminate()),
        listen(SignalKind::hangup()),
    ) else {
        return std::future::pending().await;
    };
    let kind = tokio::select! {
        _ = interrupt.recv() => SignalKind::interrupt(),
        _ = terminate.recv() => SignalKind::terminate(),
        _ = hangup.recv() => SignalKind::hangup(),
    };
    Exit::Command(u8::try_from(128 + kind.as_raw_value()).unwrap_or(255))
}
