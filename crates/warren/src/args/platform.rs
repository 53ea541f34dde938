//! `warren platform` and what can be asked of a running emulator.

use clap::{Args, Subcommand};
use std::{net::SocketAddr, path::PathBuf};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples, each line in a terminal of its own where the number changes:\n  \
        1$ warren platform\n  \
        2$ warren platform env create mine       # prints the environment's id and key\n  \
        2$ warren platform webhook add http://127.0.0.1:7420/webhooks/managed-agents\n  \
        2$ warren up --environment env_…\n  \
        3$ warren secret put warren/environment-key\n  \
        3$ warren secret put warren/webhook-signing-secret\n  \
        3$ warren verify\n\n\
        With a model behind the agents instead of scripts:\n  \
        WARREN_MODEL_KEY=sk-ant-… warren platform --model-url https://api.anthropic.com\n  \
        warren platform --model-url http://127.0.0.1:8080 --model my-local-model"
)]
pub(crate) struct Platform {
    #[command(flatten)]
    pub(crate) serve: Serve,
    #[command(subcommand)]
    pub(crate) command: Option<PlatformCommand>,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Address to serve on; else platform.listen of the configuration
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// The organisation's API key; else the one in <data-dir>/platform/api-key, made at the first
    /// start
    #[arg(long, value_name = "KEY")]
    pub(crate) api_key: Option<String>,
    /// Have agents played by a model: a server that speaks the Messages API. Its key is taken from
    /// --model-key-file or WARREN_MODEL_KEY
    #[arg(long, value_name = "URL")]
    pub(crate) model_url: Option<url::Url>,
    /// The model to ask, whatever the agents' own are
    #[arg(long, value_name = "NAME", requires = "model_url")]
    pub(crate) model: Option<String>,
    /// File that holds the key of the model's server
    #[arg(long, value_name = "FILE", requires = "model_url")]
    pub(crate) model_key_file: Option<PathBuf>,
    /// Tokens in one answer of the model, at most
    #[arg(long, value_name = "TOKENS", default_value_t = 16_384, requires = "model_url",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) model_max_tokens: u32,
    /// Let things go wrong on purpose, such as error_500=0.05; several times for several, see
    /// docs/platform.md
    #[arg(long = "fault", value_name = "NAME=NUMBER", value_parser = fault)]
    pub(crate) faults: Vec<Fault>,
    /// Seconds that a worker's heartbeat is good for
    #[arg(long, value_name = "SECONDS", default_value_t = 300,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) lease: u64,
    /// Queue an item again that was acknowledged and got no heartbeat for this long; else it stays,
    /// as on the platform
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) requeue_starting: Option<u64>,
}

/// A kind of mishap, and how often it happens.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fault {
    pub(crate) name: String,
    pub(crate) value: serde_json::Number,
}

fn fault(text: &str) -> Result<Fault, String> {
    let (name, value) = text.split_once('=').ok_or("give it as NAME=NUMBER")?;
    let value = value.parse().map_err(|_| format!("{value:?} is not a number"))?;
    Ok(Fault { name: name.to_owned(), value })
}

#[derive(Debug, Subcommand)]
pub(crate) enum PlatformCommand {
    /// Environments and their keys
    #[command(subcommand)]
    Env(PlatformEnv),
    /// Endpoints that are told of events
    #[command(subcommand)]
    Webhook(PlatformWebhook),
    /// Keys for clients of the platform
    #[command(subcommand)]
    ApiKey(PlatformApiKey),
    /// Show what goes wrong on purpose, or set it
    #[command(after_help = "Examples:\n  warren platform faults\n  \
            warren platform faults seed=7 error_500=0.05 cut_stream=0.1\n  \
            warren platform faults --none")]
    Faults(Faults),
}

#[derive(Debug, Args)]
pub(crate) struct Faults {
    /// What goes wrong, and how often; all others stop
    #[arg(value_name = "NAME=NUMBER", value_parser = fault)]
    pub(crate) faults: Vec<Fault>,
    /// Let nothing go wrong any more
    #[arg(long, conflicts_with = "faults")]
    pub(crate) none: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PlatformEnv {
    /// Create a self-hosted environment with a key; prints both and where they belong
    Create { name: String },
    /// Create another key of an environment; the one before is good no more
    Key { id: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PlatformWebhook {
    /// Tell this address of session events; prints the signing secret
    Add {
        url: url::Url,
        /// Type of event to tell of, several times for several; else what the launcher wants
        #[arg(long = "event", value_name = "TYPE")]
        events: Vec<String>,
    },
    /// List the endpoints
    Ls,
    /// Remove an endpoint
    Rm { id: String },
    /// Tell an endpoint again that was disabled; what it missed stays missed
    Enable { id: String },
    /// Sign with a fresh secret; prints it
    Rotate {
        id: String,
        /// Sign with the old one too, until the next rotation
        #[arg(long)]
        keep_old: bool,
    },
    /// List the latest deliveries and what became of them
    Deliveries {
        #[arg(long, value_name = "NUMBER", default_value_t = 50,
              value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
    },
    /// Deliver an event once more
    Redeliver { id: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PlatformApiKey {
    /// Create a key and print it
    Create,
}
