//! A command in a VM over an upgraded connection: frames of [`Up`] come in, [`Down`] go out.
//!
//! The two directions are pumped apart, so that a command that waits for its output to be taken
//! does not keep its input from being read. When the client leaves, the command's input is closed
//! and a SIGHUP sent, as a terminal that goes away does.

use super::{BODY_BYTES_MAX, Service, answer::Refused};
use crate::protocol::{Down, EXEC_UPGRADE, Exec, Up, decode, encode, frames};
use axum::{
    body::Body,
    extract::{Path, Request, State},
    response::Response,
};
use control::MicrovmId;
use engine::{Attach, ExecInput, ExecOutput, ExecRequest, ExecSession};
use futures::{SinkExt, StreamExt};
use http::{HeaderValue, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};
use tokio_util::codec::{FramedRead, FramedWrite};

/// Linux' number of the signal.
const SIGHUP: i32 = 1;

pub(super) async fn exec(
    State(service): State<Arc<Service>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Refused> {
    let (mut parts, body) = service.admit(request, "warren:Exec", BODY_BYTES_MAX).await?;
    let id = MicrovmId::parse(&id).map_err(|e| Refused::bad_request(e.to_string()))?;
    let asked: Exec = serde_json::from_slice(&body)
        .map_err(|e| Refused::bad_request(format!("the command is not understood: {e}")))?;
    let upgrades = parts.headers.get(header::UPGRADE).is_some_and(|v| v == EXEC_UPGRADE);
    let Some(upgrade) = parts.extensions.remove::<OnUpgrade>().filter(|_| upgrades) else {
        return Err(Refused::bad_request(format!("an exec is an upgrade to {EXEC_UPGRADE}")));
    };
    let request = ExecRequest {
        argv: asked.argv,
        env: asked.env,
        working_dir: asked.working_dir,
        user: asked.user,
        terminal: asked.terminal,
        attach: Attach::Input,
    };
    let session = service.control.exec(&id, request).await.map_err(|e| Refused::control(&e))?;
    let stop = service.stop.clone();
    service.tasks.spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                let (read, write) = tokio::io::split(TokioIo::new(upgraded));
                stop.run_until_cancelled(pump(session, read, write)).await;
            }
            Err(error) => tracing::warn!(%id, %error, "the client left before its command began"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(EXEC_UPGRADE));
    Ok(response)
}

async fn pump(session: ExecSession, read: impl AsyncRead + Unpin, write: impl AsyncWrite + Unpin) {
    let ExecSession { input, output } = session;
    tokio::select! {
        () = send_output(output, write) => {}
        () = take_input(input.clone(), read) => {
            // The client is gone; a command that has ended takes neither, which is as well.
            let _ = input.send(ExecInput::Close).await;
            let _ = input.send(ExecInput::Signal(SIGHUP)).await;
        }
    }
}

/// Ends with the command's exit, or when the client takes no more.
async fn send_output(mut output: mpsc::Receiver<ExecOutput>, write: impl AsyncWrite + Unpin) {
    let mut frames = FramedWrite::new(write, frames());
    while let Some(piece) = output.recv().await {
        let message = match piece {
            ExecOutput::Stdout(data) => Down::Stdout(data),
            ExecOutput::Stderr(data) => Down::Stderr(data),
            ExecOutput::Exited(status) => Down::Exit(status),
        };
        let last = matches!(message, Down::Exit(_));
        let Ok(frame) = encode(&message) else { return };
        if frames.send(frame).await.is_err() {
            return;
        }
        if last {
            // Tells the client's end of the connection that nothing follows.
            let _ = frames.into_inner().shutdown().await;
            return;
        }
    }
}

/// Ends when the connection does, or on what is no message.
async fn take_input(input: mpsc::Sender<ExecInput>, read: impl AsyncRead + Unpin) {
    let mut frames = FramedRead::new(read, frames());
    while let Some(Ok(frame)) = frames.next().await {
        let message = match decode(&frame) {
            Ok(Up::Stdin(data)) => ExecInput::Data(data),
            Ok(Up::Close) => ExecInput::Close,
            Ok(Up::Resize(size)) => ExecInput::Resize(size),
            Ok(Up::Signal(signal)) => ExecInput::Signal(signal),
            Err(_) => return,
        };
        if input.send(message).await.is_err() {
            // The command has ended: its exit is on the way, and this connection is still needed.
            std::future::pending::<()>().await;
        }
    }
}
