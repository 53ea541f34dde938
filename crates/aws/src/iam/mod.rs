//! Who may do what: policies as the JSON documents that people already have.
//!
//! Identities (users, roles) come from configuration ([`IamConfig`]) and are parsed once into
//! [`Directory`]; a decision is a pure function of a principal's policies and one [`Request`].

mod arn;
mod condition;
mod decision;
mod defaults;
mod directory;
mod document;
mod glob;

pub use arn::Arn;
pub use condition::Context;
pub(crate) use decision::{Asker, Decision, Request, Trust, decide};
pub use directory::{AccessKey, IamConfig, IamError, RoleConfig, UserConfig};
pub(crate) use directory::{Directory, Identity};
pub(crate) use document::PolicyDocument;
pub use document::PolicyError;
