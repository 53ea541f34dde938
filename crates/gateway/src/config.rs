//! What the gateway needs to know, and every bound that it keeps.

use crate::{Limits, tls::Certificate};
use std::time::Duration;

/// Settings of a [`crate::Gateway`].
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// What endpoints end in, for example `lambda-microvm.us-east-1.localhost`; in lower case.
    pub domain: String,
    pub tls: TlsMode,
    /// A request whose host is no endpoint may name its VM by path or header.
    pub any_host: AnyHost,
    pub limits: Limits,
    /// Connections of clients at once; more wait to be accepted.
    pub connections_max: usize,
    /// A connection over which a request or a tunnel is open, and no byte goes either way, is closed
    /// after this time.
    pub idle_max: Duration,
    /// From a connection's first byte to its first whole request head, the TLS handshake included:
    /// what is slower is an attack or no use.
    pub first_request_max: Duration,
    /// How long a connection may stay without a request after its last; also the time for the head
    /// of a further request.
    pub keep_alive_max: Duration,
}

/// Whether connections are encrypted.
#[derive(Clone, Debug)]
pub enum TlsMode {
    Off,
    /// A connection that begins with a TLS handshake is, another is not, on the same port.
    Optional(Certificate),
    Required(Certificate),
}

/// Whether a VM may be named without its host name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AnyHost {
    Allowed,
    Refused,
}

impl GatewayConfig {
    /// Without TLS and without limits on VMs.
    pub fn new(domain: impl Into<String>) -> Self {
        Self {
            domain: domain.into().to_ascii_lowercase(),
            tls: TlsMode::Off,
            any_host: AnyHost::Allowed,
            limits: Limits::OFF,
            connections_max: 4096,
            idle_max: Duration::from_secs(900),
            first_request_max: Duration::from_secs(10),
            keep_alive_max: Duration::from_secs(75),
        }
    }
}

/// How long a connection that is asked to end may take over what it has under way.
pub(crate) const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Size of a request's or response's head in bytes; AWS's own front ends take about as much.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Header lines of a request or response.
pub(crate) const HEAD_LINES_MAX: usize = 128;

/// Requests at once on one HTTP/2 connection of a client.
pub(crate) const STREAMS_MAX: u32 = 256;

/// Streams that a client may open and reset before it is taken for a rapid-reset attack.
pub(crate) const RESETS_PENDING_MAX: usize = 20;

/// Bytes of a stream that may be under way on HTTP/2, on either side. With 64 KiB, the protocol's
/// default, a long line carries only a fraction of what it could.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 512 * 1024;

/// Bytes of all streams of an HTTP/2 connection that may be under way: what a client that sends and
/// an app that does not read can make the gateway hold.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;

/// What HTTP/2 holds of a response that its client does not read.
pub(crate) const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// Time between two pings on HTTP/2, and for the answer to one.
pub(crate) const PING_EVERY: Duration = Duration::from_secs(30);
pub(crate) const PONG_MAX: Duration = Duration::from_secs(20);

/// Time to connect to a port in a VM, and for each handshake after that.
pub(crate) const DIAL_MAX: Duration = Duration::from_secs(10);

/// How long an app's first answer to a TLS greeting is awaited, when it is found out whether it
/// speaks TLS.
pub(crate) const PROBE_MAX: Duration = Duration::from_millis(1000);

/// Idle connections that are kept for each port of a VM.
pub(crate) const IDLE_CONNECTIONS_MAX: usize = 64;

/// How long an idle connection to an app is kept. Shorter than what servers commonly allow (5 s of
/// Node.js is the shortest of note), so that it is rarely closed in the moment of its use.
pub(crate) const IDLE_CONNECTION_LIFE: Duration = Duration::from_secs(4);

/// How long a body waits for the app's `100 Continue` before it is sent all the same (RFC 9110
/// 10.1.1: a proxy that hears nothing must not wait forever).
pub(crate) const CONTINUE_MAX: Duration = Duration::from_secs(1);
