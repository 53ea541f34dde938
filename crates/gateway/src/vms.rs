//! What the gateway needs of whoever keeps the VMs. Tests pass in others.

use async_trait::async_trait;
use control::{Control, ControlError, EngineError, ExecRequest, ExecSession, Hold, MicrovmId};
use std::sync::{Mutex, PoisonError};
use tokio::net::TcpStream;

/// The VMs behind the endpoints.
#[async_trait]
pub trait Vms: Send + Sync + 'static {
    /// Returns when the VM runs: one that is starting is awaited, one that sleeps is woken where its
    /// idle policy says so. However many ask at once, it is woken once.
    ///
    /// # Errors
    /// [`Unreachable::Vm`] for one that ended, may not be woken, or whose waking failed.
    async fn ensure_running(&self, id: &MicrovmId) -> Result<(), Unreachable>;

    /// Says of something that it is open at the endpoint, until it is dropped.
    fn traffic(&self, id: &MicrovmId) -> Box<dyn Traffic>;

    /// Returns when the VM does not run, or no more: connections that it had are void.
    async fn stops_running(&self, id: &MicrovmId);

    /// A connection to a port of the guest.
    ///
    /// # Errors
    /// [`Unreachable::App`] where nothing listens there, [`Unreachable::Vm`] where there is no guest.
    async fn dial(&self, id: &MicrovmId, port: u16) -> Result<TcpStream, Unreachable>;

    /// A command in the guest.
    ///
    /// # Errors
    /// [`Unreachable::Vm`] where there is no guest.
    async fn exec(&self, id: &MicrovmId, request: ExecRequest) -> Result<ExecSession, Unreachable>;
}

/// Something open at an endpoint, which has a say in whether the VM is idle.
pub trait Traffic: Send + Sync + 'static {
    /// A piece went through, either way.
    fn bytes_crossed(&self);

    /// The head of the answer is there: from now on only bytes count, not that it is open.
    fn becomes_stream(&self);
}

/// Why a request does not reach an app.
#[derive(Debug, thiserror::Error)]
pub enum Unreachable {
    #[error("{0}")]
    Vm(String),
    #[error("{0}")]
    App(String),
}

impl Unreachable {
    fn of(error: &ControlError) -> Self {
        let text = with_causes(error);
        match error {
            ControlError::Engine(EngineError::Refused { .. } | EngineError::TimedOut { .. }) => {
                Self::App(text)
            }
            _ => Self::Vm(text),
        }
    }
}

#[async_trait]
impl Vms for Control {
    async fn ensure_running(&self, id: &MicrovmId) -> Result<(), Unreachable> {
        let running = Self::ensure_running(self, id).await;
        running.map_err(|error| Unreachable::Vm(with_causes(&error)))
    }

    fn traffic(&self, id: &MicrovmId) -> Box<dyn Traffic> {
        Box::new(Held(Mutex::new(Self::traffic(self, id, Hold::WhileOpen))))
    }

    async fn stops_running(&self, id: &MicrovmId) {
        Self::stops_running(self, id).await;
    }

    async fn dial(&self, id: &MicrovmId, port: u16) -> Result<TcpStream, Unreachable> {
        Self::dial(self, id, port).await.map_err(|error| Unreachable::of(&error))
    }

    async fn exec(&self, id: &MicrovmId, request: ExecRequest) -> Result<ExecSession, Unreachable> {
        Self::exec(self, id, request).await.map_err(|error| Unreachable::of(&error))
    }
}

struct Held(Mutex<control::Traffic>);

impl Traffic for Held {
    fn bytes_crossed(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).bytes_crossed();
    }

    fn becomes_stream(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).hold(Hold::BytesOnly);
    }
}

/// An error and its causes in one line, for the log.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
