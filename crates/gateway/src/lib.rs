//! Front door of a MicroVM: its endpoint, the tokens that open it, and the shell.
//!
//! One request is [`proxy::answer`], which reads top to bottom: what was asked ([`asked`]), by whom
//! ([`control::ProxyTokens`]), whether the VM may take it ([`backend`]), is it awake ([`Vms`]), and
//! then the exchange with the app ([`upstream`], [`body`]) or with a shell ([`shell`]). HTTP itself is
//! hyper's; bodies stream through, both ways at once, and nothing is kept of them here.
//!
//! It decides by the token alone: no store is read for a request.

#![forbid(unsafe_code)]

mod asked;
mod backend;
mod body;
mod config;
mod connection;
mod exchange;
mod headers;
mod limits;
mod metrics;
mod probe;
mod proxy;
mod refusal;
mod server;
mod shell;
mod tls;
mod tunnel;
mod upstream;
mod vms;

pub use config::{AnyHost, GatewayConfig, TlsMode};
pub use limits::{Limit, Limits};
pub use metrics::Metrics;
pub use server::Gateway;
pub use shell::{
    EXIT_STATUS_PROTOCOL, SHELL_PATH, SHELL_PORT, ShellControl, ShellNotice, ShellQuery,
};
pub use tls::{Certificate, TlsError, authority_path, connect_trusting};
pub use vms::{Traffic, Unreachable, Vms};
