//! In the VM: claims a session, runs its tools.
//!
//! The default image's app. It is started when the image is built, frozen into the snapshot
//! with its hooks server up, and told its session by the `/run` hook in each clone. From then
//! on it does what the official TypeScript worker does, in a tenth of the memory: see
//! `docs/worker.md` for the differences.
//!
//! Invariant: the environment key is in this process and nowhere else; no child process, log
//! line or argument holds it.

#![forbid(unsafe_code)]

mod aws;
mod config;
mod hooks;
mod payload;
mod run;
pub mod session;
pub mod tools;

pub use aws::{AwsError, ImdsError};
pub use config::{Config, ConfigError};
pub use payload::{CredentialSource, PayloadError, RunRequest};
pub use run::{WorkerError, run};
