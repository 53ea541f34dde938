//! A command in a VM, from the client's side: the upgraded connection as two halves of frames.

use super::{Call, Client, ClientError};
use crate::protocol::{Down, EXEC_UPGRADE, Exec, SERVICE, Up, VMS, decode, encode, frames};
use futures::{SinkExt, StreamExt};
use hyper::{
    Method,
    header::{CONNECTION, CONTENT_TYPE, UPGRADE},
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use std::io;
use tokio::io::{ReadHalf, WriteHalf};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

type Connection = TokioIo<Upgraded>;

/// What comes from the command.
pub(crate) struct ExecStream(FramedRead<ReadHalf<Connection>, LengthDelimitedCodec>);

/// What goes to the command.
pub(crate) struct Sender(FramedWrite<WriteHalf<Connection>, LengthDelimitedCodec>);

impl Client {
    /// Starts a command in the VM with this full id.
    pub(crate) async fn exec(
        &self,
        microvm_id: &str,
        exec: &Exec,
    ) -> Result<(Sender, ExecStream), ClientError> {
        let path = format!("{VMS}/{microvm_id}/exec");
        let body = serde_json::to_vec(exec).map_err(|e| ClientError::Stream(e.into()))?;
        let answer = self
            .send(Call {
                service: SERVICE,
                method: Method::POST,
                path: &path,
                headers: &[
                    (CONNECTION.as_str(), "upgrade"),
                    (UPGRADE.as_str(), EXEC_UPGRADE),
                    (CONTENT_TYPE.as_str(), "application/json"),
                ],
                body: body.into(),
            })
            .await?;
        let upgraded = hyper::upgrade::on(answer)
            .await
            .map_err(|source| ClientError::Broken { path, source })?;
        let (read, write) = tokio::io::split(TokioIo::new(upgraded));
        Ok((Sender(FramedWrite::new(write, frames())), ExecStream(FramedRead::new(read, frames()))))
    }
}

impl Sender {
    pub(crate) async fn send(&mut self, message: &Up) -> Result<(), ClientError> {
        let frame = encode(message).map_err(ClientError::Stream)?;
        self.0.send(frame).await.map_err(ClientError::Stream)
    }
}

impl ExecStream {
    /// The next piece of output, or the end; may be dropped and called again.
    ///
    /// # Errors
    /// A connection that ends before the command's exit is broken.
    pub(crate) async fn next(&mut self) -> Result<Down, ClientError> {
        let frame = match self.0.next().await {
            Some(frame) => frame.map_err(ClientError::Stream)?,
            None => return Err(ClientError::Stream(io::ErrorKind::UnexpectedEof.into())),
        };
        decode(&frame).map_err(ClientError::Stream)
    }
}
