//! One request and its answer, or a tunnel or shell, as the rest of Warren sees it: what it carried,
//! whom it kept awake, what the access log says of it. It ends when the last piece of it is dropped.

use crate::{backend::Backend, metrics::Metrics, vms::Traffic};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Which way bytes go, seen from the VM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    In,
    Out,
}

/// What the log says of an exchange before it is answered.
#[derive(Debug)]
pub(crate) struct Heading {
    pub(crate) request_id: String,
    pub(crate) peer: SocketAddr,
    pub(crate) method: http::Method,
    /// Without its query, which may hold what nobody should read.
    pub(crate) path: String,
    pub(crate) version: http::Version,
}

/// An exchange with a VM that has been let in.
pub(crate) struct Exchange {
    pub(crate) heading: Heading,
    pub(crate) backend: Arc<Backend>,
    pub(crate) port: u16,
    metrics: Arc<Metrics>,
    traffic: Box<dyn Traffic>,
    started: Instant,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    status: AtomicU16,
    error: Mutex<Option<String>>,
}

/// What an [`Exchange`] is made of.
pub(crate) struct Opening {
    pub(crate) heading: Heading,
    pub(crate) backend: Arc<Backend>,
    pub(crate) port: u16,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) traffic: Box<dyn Traffic>,
    pub(crate) started: Instant,
}

impl Exchange {
    /// The backend has admitted it ([`Backend::admit`]).
    pub(crate) fn open(opening: Opening) -> Arc<Self> {
        let Opening { heading, backend, port, metrics, traffic, started } = opening;
        Arc::new(Self {
            heading,
            backend,
            port,
            metrics,
            traffic,
            started,
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            status: AtomicU16::new(0),
            error: Mutex::default(),
        })
    }

    /// Counts bytes that went through. Some: the VM is over its bandwidth; nothing more is to be
    /// taken for so long.
    pub(crate) fn carried(&self, direction: Direction, bytes: usize) -> Option<Duration> {
        if bytes == 0 {
            return None;
        }
        self.traffic.bytes_crossed();
        let count = bytes as u64;
        let (own, all, bucket) = match direction {
            Direction::In => {
                (&self.bytes_in, &self.metrics.bytes_in, &self.backend.budget.incoming)
            }
            Direction::Out => {
                (&self.bytes_out, &self.metrics.bytes_out, &self.backend.budget.outgoing)
            }
        };
        Metrics::add(own, count);
        Metrics::add(all, count);
        bucket.as_ref()?.draw(bytes, Instant::now())
    }

    /// The head of the answer is there.
    pub(crate) fn answered(&self, status: http::StatusCode) {
        self.status.store(status.as_u16(), Ordering::Relaxed);
    }

    /// From here on it keeps the VM awake by what it carries, not by being open.
    pub(crate) fn becomes_stream(&self) {
        self.traffic.becomes_stream();
    }

    /// Something broke after the answer's head, where no client can be told any more.
    pub(crate) fn broke(&self, error: impl ToString) {
        let mut first = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert_with(|| error.to_string());
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.backend.leave();
        let error = self.error.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Heading { request_id, peer, method, path, version } = &self.heading;
        tracing::info!(
            target: "warren::access",
            microvm = %self.backend.id,
            port = self.port,
            %peer,
            %method,
            path,
            ?version,
            status = self.status.load(Ordering::Relaxed),
            bytes_in = self.bytes_in.load(Ordering::Relaxed),
            bytes_out = self.bytes_out.load(Ordering::Relaxed),
            ms = self.started.elapsed().as_secs_f64() * 1000.0,
            request_id,
            error,
            "endpoint"
        );
    }
}

/// What the log says of a request that the gateway answered itself.
pub(crate) fn log_refused(
    heading: &Heading,
    microvm: Option<&control::MicrovmId>,
    refusal: &crate::refusal::Refusal,
    started: Instant,
) {
    let Heading { request_id, peer, method, path, version } = heading;
    tracing::info!(
        target: "warren::access",
        microvm = microvm.map(tracing::field::display),
        %peer,
        %method,
        path,
        ?version,
        refused = refusal.code(),
        error = %refusal,
        ms = started.elapsed().as_secs_f64() * 1000.0,
        request_id,
        "endpoint"
    );
}
