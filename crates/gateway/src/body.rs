//! Bodies on their way through: counted, slowed down where the VM is over its bandwidth, never
//! collected. A frame is taken from one side when the other side asks for it, so that a slow reader
//! slows the writer.

use crate::exchange::{Direction, Exchange};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{Sleep, Timeout, sleep, timeout},
};

/// The body of an answer.
pub(crate) enum Download {
    /// The gateway's own.
    Text(Full<Bytes>),
    App(Relayed),
}

impl Download {
    pub(crate) fn text(text: impl Into<Bytes>) -> Self {
        Self::Text(Full::new(text.into()))
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Text(text) => {
                Pin::new(text).poll_frame(cx).map_err(|never: Infallible| match never {})
            }
            Self::App(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Text(text) => text.is_end_stream(),
            Self::App(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => text.size_hint(),
            Self::App(body) => body.size_hint(),
        }
    }
}

/// A body that goes through.
pub(crate) struct Relayed {
    body: Incoming,
    direction: Direction,
    exchange: Arc<Exchange>,
    /// Nothing is taken before this, where there is one.
    pause: Option<Pin<Box<Sleep>>>,
    gate: Option<Gate>,
}

/// Opens when the app says that it wants the body, or has had the time to.
pub(crate) type Gate = Pin<Box<Timeout<oneshot::Receiver<()>>>>;

/// A gate, and what opens it: its use or its drop.
pub(crate) fn gate(at_the_latest: Duration) -> (Gate, oneshot::Sender<()>) {
    let (open, opened) = oneshot::channel();
    (Box::pin(timeout(at_the_latest, opened)), open)
}

impl Relayed {
    pub(crate) fn new(body: Incoming, direction: Direction, exchange: Arc<Exchange>) -> Self {
        Self { body, direction, exchange, pause: None, gate: None }
    }

    /// Takes nothing from the client before the gate is open; hyper asks the client for the body by
    /// `100 Continue` when the first piece is taken.
    pub(crate) fn behind(mut self, gate: Gate) -> Self {
        self.gate = Some(gate);
        self
    }
}

impl Body for Relayed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        if let Some(gate) = &mut this.gate {
            // Opened, dropped or late: all mean that the body may go.
            let _ = ready!(gate.as_mut().poll(cx));
            this.gate = None;
        }
        if let Some(pause) = &mut this.pause {
            ready!(pause.as_mut().poll(cx));
            this.pause = None;
        }
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                let wait = this.exchange.carried(this.direction, bytes);
                this.pause = wait.map(|wait| Box::pin(sleep(wait)));
            }
            Some(Err(error)) => this.exchange.broke(error),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
