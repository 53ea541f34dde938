//! What the service logs, and how: text for people, JSON lines for collectors; to standard error.

use crate::config::Settings;
use tracing_subscriber::{EnvFilter, fmt};

/// How much is logged where `RUST_LOG` says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// The demo shows its own timeline, and says itself what broke it.
    Errors,
    Warnings,
    Information,
    Everything,
}

impl Level {
    fn filter(self) -> &'static str {
        match self {
            Self::Errors => "error",
            Self::Warnings => "warn",
            // sqlx logs each slow statement, hyper each connection.
            Self::Information => "info,sqlx=warn",
            Self::Everything => "debug,hyper=info,hyper_util=info,h2=info,sqlx=info",
        }
    }
}

/// Begins to log. A second call in one process changes nothing.
pub(crate) fn start(settings: &Settings, level: Level) {
    let filter = match &settings.log_filter {
        Some(filter) => EnvFilter::new(filter),
        None => EnvFilter::new(level.filter()),
    };
    let log = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Err: there is a logger already, as in tests.
    let _ = if settings.log_json.is_on() {
        log.json().try_init()
    } else {
        let colored = std::io::IsTerminal::is_terminal(&std::io::stderr());
        log.with_target(false).with_ansi(colored).compact().try_init()
    };
}
