//! A model behind the agent: any server that speaks the Messages API, asked with streaming.
//!
//! * `conversation`: a session's events as the messages of a request.
//! * `tools`: what the agent may call, as the model is told.
//! * `reply`: the stream that comes back, as an answer of the agent.
//! * `caller`: one request over HTTP, and what its failures mean.
//!
//! Nothing here knows a session's state: that is `machine`, and who drives both is `minds`.

mod caller;
mod conversation;
mod reply;
mod tools;

use agents::Secret;
use url::Url;

pub(crate) use caller::{Caller, Delta};
pub(crate) use conversation::{Note, Prompt, file_ids};

/// Which model plays the agents, and where it is.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// The server: `https://api.anthropic.com`, `http://127.0.0.1:8080`, …
    pub url: Url,
    /// Its key, sent as `x-api-key`.
    pub key: Option<Secret>,
    /// The model that is asked, whatever the agent's own is.
    pub name: Option<String>,
    /// Tokens in one answer, at most.
    pub max_tokens: u32,
}

impl ModelConfig {
    /// That server, asked for the agents' own models, with answers of up to 16384 tokens.
    pub fn new(url: Url) -> Self {
        Self { url, key: None, name: None, max_tokens: 16_384 }
    }
}
