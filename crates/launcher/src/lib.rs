//! Webhook or poll in, RunMicrovm out: gives each Managed Agents session its own MicroVM.
//!
//! Ruling idea: a session has one VM, whatever is delivered twice, at once, late or after a crash.
//! The launcher is a plain client of the AWS API, so that it can as well drive the real service;
//! it knows nothing of how Warren makes a VM, and holds no secret longer than minutes.
//!
//! - [`Launcher`] starts, mounts ([`Launcher::router`]), tells ([`Launcher::events`]), shuts down.
//! - `poll` finds sessions where there is no webhook, `claim` and `handover` hold their items until a VM
//!   has them.
//! - `delivery` answers a delivery, `signing` verifies it, `sessions` finds or launches its VM.
//! - `microvms` and `aws` are the calls to AWS, `store` is what survives a crash, `rate` the pace.

#![forbid(unsafe_code)]

mod aws;
mod claim;
mod comeback;
mod config;
mod delivery;
mod event;
mod handover;
mod launcher;
mod microvms;
mod poll;
mod rate;
mod secret;
mod sessions;
mod signing;
mod store;

pub use aws::TlsError;
pub use aws_credential_types::provider::SharedCredentialsProvider;
pub use comeback::{Comeback, Return, Returned};
pub use config::{
    AtEnd, ENVIRONMENT_KEY_SECRET_ID_DEFAULT, IdlePolicy, LAUNCHES_PER_SECOND_DEFAULT,
    LauncherConfig, MAX_DURATION_SECONDS_DEFAULT, Mode, ResumeOn, SIGNING_SECRET_ID_DEFAULT,
    VmConfig,
};
pub use delivery::WEBHOOK_PATH;
pub use event::{LauncherEvent, LauncherEventKind};
pub use launcher::{Launcher, StartError};
pub use secret::SecretError;
pub use store::StoreError;
