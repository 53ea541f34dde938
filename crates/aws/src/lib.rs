//! The AWS surface: authentication, authorisation, one module per service.
//!
//! [`router`] answers what the stock clients send; [`Authenticator`] is also for Warren's own
//! service. It knows HTTP and AWS's words; what happens is `control`'s.

#![forbid(unsafe_code)]

mod auth;
#[cfg(test)]
mod conformance;
mod connectors;
mod error;
mod iam;
mod logs;
mod microvms;
mod object_reader;
mod protocol;
mod route;
mod s3;
mod secrets;
mod server;
mod service;
mod shape;
mod sigv4;
mod ssm;
mod sts;
mod tags;
mod throttle;

pub use auth::{Access, AuthError, AuthSettings, Authenticator, CLOCK_SKEW, Denied, Principal};
pub use iam::{AccessKey, Arn, Context, IamConfig, IamError, PolicyError, RoleConfig, UserConfig};
pub use object_reader::{ObjectFault, ObjectReader, ObjectReason, RoleObject};
pub use server::{REQUEST_BODY_BYTES_MAX, REQUEST_BODY_TIME_MAX, router};
pub use throttle::{Rates, Throttles};

use control::Control;
use objects::Objects;
use std::sync::Arc;
use tokio_util::task::TaskTracker;

/// What the services work with.
#[derive(Clone, Debug)]
pub struct AwsState {
    pub control: Arc<Control>,
    pub authenticator: Arc<Authenticator>,
    pub throttles: Arc<Throttles>,
    pub objects: Arc<Objects>,
    /// Hosts whose subdomains are buckets of S3, in lower case and without a port.
    pub s3_domains: Vec<String>,
    /// Takes every call, which outlives its client, so that what was begun is ended. Its owner waits
    /// for it after the server has stopped.
    pub calls: TaskTracker,
}

/// Every service here; adding one is a module and a line.
static SERVICES: &[&service::Service] = &[
    &microvms::SERVICE,
    &tags::SERVICE,
    &connectors::SERVICE,
    &secrets::SERVICE,
    &sts::SERVICE,
    &logs::SERVICE,
    &ssm::SERVICE,
];
