//! The client's side: transport, retries, the calls, the event stream.

mod api;
mod error;
mod json;
mod resources;
mod retry;
mod sse;
mod transport;

pub use api::{API_VERSION, BaseUrl, Client, InvalidBaseUrl, PollOptions};
pub use error::{ClientError, StatusError};
pub use resources::{Download, MemoryView};
pub use retry::backoff;
pub use sse::{EventStream, SseMessage, SseParser, StreamError};
pub use transport::{Answer, BODY_LEN_MAX, Transport, TransportError};
