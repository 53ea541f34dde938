//! `warren exec`: a command in a VM, with this process' input and output.

use super::Context;
use crate::{
    args,
    client::{ClientError, ExecStream, Sender},
    failure::{Exit, Failure, Outcome, Remedy},
    protocol::{Down, Exec, PIECE_BYTES_MAX, Up},
    terminal,
};
use std::io;
use tokio::{
    io::AsyncReadExt,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use wire::ExitStatus;

/// Messages to the command that may wait; each is at most a piece.
const QUEUE_MESSAGES_MAX: usize = 16;

#[derive(Debug, thiserror::Error)]
enum AttachError {
    #[error("the command could not be started in the VM: {reason}")]
    NotStarted { reason: String },
    #[error("the terminal cannot be used")]
    Terminal(#[source] io::Error),
}

impl Remedy for AttachError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NotStarted { .. } => Some("is it in the image, and in its PATH?".into()),
            Self::Terminal(_) => None,
        }
    }
    fn exit(&self) -> Exit {
        match self {
            // As shells have it.
            Self::NotStarted { .. } => Exit::Command(127),
            Self::Terminal(_) => Exit::NoCommand,
        }
    }
}

pub(crate) async fn exec(context: &Context, exec: args::Exec) -> Outcome {
    let request = Exec {
        argv: exec.command,
        env: exec.env,
        working_dir: exec.workdir,
        user: exec.user,
        terminal: exec.tty.then(terminal::size),
    };
    run(context, &exec.vm, request).await
}

async fn run(context: &Context, vm: &str, exec: Exec) -> Outcome {
    let no_command = |e: ClientError| {
        let unreachable = e.exit() == Exit::Unreachable;
        let failure = Failure::from(e);
        if unreachable { failure } else { failure.with_exit(Exit::NoCommand) }
    };
    let client = context.client().map_err(|e| Failure::from(e).with_exit(Exit::NoCommand))?;
    let vm = client.vm(vm).await.map_err(no_command)?;
    let (sender, stream) = client.exec(&vm.microvm_id, &exec).await.map_err(no_command)?;
    // Restored when this function is left, however that happens.
    let _raw = match exec.terminal {
        Some(_) => terminal::Raw::enter().map_err(AttachError::Terminal)?,
        None => None,
    };
    let (queue, queued) = mpsc::channel(QUEUE_MESSAGES_MAX);
    // Input and output go on independently: a command that waits for its output to be taken must
    // not wait for our input as well.
    let feeding = tokio::spawn(feed(sender, queued));
    let reading = tokio::spawn(read_input(queue.clone()));
    let watching = tokio::spawn(watch_signals(queue));
    let outcome = show(context, stream).await;
    for task in [feeding, reading, watching] {
        task.abort();
    }
    outcome
}

async fn show(context: &Context, mut stream: ExecStream) -> Outcome {
    loop {
        match stream.next().await? {
            Down::Stdout(bytes) => context.printer.bytes(&bytes)?,
            Down::Stderr(bytes) => context.printer.error_bytes(&bytes),
            Down::Exit(ExitStatus::Code(code)) => {
                return Ok(Exit::Command(u8::try_from(code).unwrap_or(1)));
            }
            Down::Exit(ExitStatus::Signal(signal)) => {
                return Ok(Exit::Command(u8::try_from(128 + signal).unwrap_or(255)));
            }
            Down::Exit(ExitStatus::NotStarted(reason)) => {
                return Err(AttachError::NotStarted { reason }.into());
            }
        }
    }
}

/// A connection that breaks here is noticed, and named, where the output is read.
async fn feed(mut sender: Sender, mut queued: mpsc::Receiver<Up>) {
    while let Some(message) = queued.recv().await {
        if sender.send(&message).await.is_err() {
            return;
        }
    }
}

async fn read_input(queue: mpsc::Sender<Up>) {
    let mut stdin = tokio::io::stdin();
    let mut piece = vec![0; PIECE_BYTES_MAX];
    loop {
        let message = match stdin.read(&mut piece).await {
            Ok(0) | Err(_) => Up::Close,
            Ok(count) => Up::Stdin(piece.get(..count).unwrap_or_default().to_vec()),
        };
        let last = message == Up::Close;
        if queue.send(message).await.is_err() || last {
            return;
        }
    }
}

/// In raw mode Ctrl-C is a byte of input; a signal comes from elsewhere and is passed on.
async fn watch_signals(queue: mpsc::Sender<Up>) {
    let listen = |kind| signal(kind).ok();
    let (Some(mut resized), Some(mut interrupted), Some(mut terminated)) = (
        listen(SignalKind::window_change()),
        listen(SignalKind::interrupt()),
        listen(SignalKind::terminate()),
    ) else {
        return;
    };
    loop {
        let message = tokio::select! {
            Some(()) = resized.recv() => Up::Resize(terminal::size()),
            Some(()) = interrupted.recv() => Up::Signal(SignalKind::interrupt().as_raw_value()),
            Some(()) = terminated.recv() => Up::Signal(SignalKind::terminate().as_raw_value()),
            else => return,
        };
        if queue.send(message).await.is_err() {
            return;
        }
    }
}
