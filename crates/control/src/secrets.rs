//! Secrets with versions and stages, as Secrets Manager has them; values are sealed at rest.

use crate::{ControlError, Page, PageRequest, SecretName, Timestamp};
use std::{collections::BTreeMap, fmt, time::Duration};

/// A secret's value; never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretValue {
    Text(String),
    Binary(Vec<u8>),
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "SecretValue::Text(…)",
            Self::Binary(_) => "SecretValue::Binary(…)",
        })
    }
}

/// Stage of the version that Get answers with when nothing is said.
pub const STAGE_CURRENT: &str = "AWSCURRENT";
/// Stage of the version that was current before.
pub const STAGE_PREVIOUS: &str = "AWSPREVIOUS";
/// Stage of a version that is being prepared.
pub const STAGE_PENDING: &str = "AWSPENDING";

/// Longest value in bytes.
pub const SECRET_BYTES_MAX: usize = 65_536;

/// A request for a new secret.
#[derive(Clone, Debug)]
pub struct CreateSecret {
    pub name: SecretName,
    pub description: Option<String>,
    /// None: a secret without a version yet.
    pub value: Option<SecretValue>,
    /// `ClientRequestToken`, which becomes the version's id; none: one is made.
    pub version_id: Option<String>,
    pub tags: BTreeMap<String, String>,
}

/// A request for a new version of a secret.
#[derive(Clone, Debug)]
pub struct PutSecret {
    /// Name or ARN.
    pub secret: String,
    pub value: SecretValue,
    /// `ClientRequestToken`, which becomes the version's id; none: one is made.
    pub version_id: Option<String>,
    /// Stages that move to this version; empty: [`STAGE_CURRENT`].
    pub stages: Vec<String>,
}

/// Which version is meant. Neither: [`STAGE_CURRENT`]. Both: they must agree.
#[derive(Clone, Debug, Default)]
pub struct SecretSelector {
    pub version_id: Option<String>,
    pub stage: Option<String>,
}

/// A version that was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SecretVersion {
    pub arn: String,
    pub name: SecretName,
    pub version_id: String,
    pub stages: Vec<String>,
}

/// A version with its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenedSecret {
    pub version: SecretVersion,
    pub value: SecretValue,
    pub created_at: Timestamp,
}

/// All of a secret but its values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Secret {
    pub arn: String,
    pub name: SecretName,
    pub description: Option<String>,
    pub tags: BTreeMap<String, String>,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
    /// When it is removed for good; none while it is not marked for deletion.
    pub deletion_at: Option<Timestamp>,
    /// Version ids with their stages; versions without a stage are not listed.
    pub versions: Vec<(String, Vec<String>)>,
}

/// How a secret is deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SecretDeletion {
    /// At once and for good.
    Force,
    /// After this long; 7 to 30 days on AWS.
    After(Duration),
}

/// The secrets of this Warren.
pub struct Secrets {}

impl Secrets {
    /// # Errors
    /// [`ControlError::SecretExists`], unless name, version id and value are those of before.
    pub async fn create(&self, request: CreateSecret) -> Result<SecretVersion, ControlError> {
        let _ = request;
        todo!()
    }

    /// # Errors
    /// [`ControlError::SecretNotFound`]; [`ControlError::SecretVersionTaken`] where the version id
    /// has another value.
    pub async fn put(&self, request: PutSecret) -> Result<SecretVersion, ControlError> {
        let _ = request;
        todo!()
    }

    /// `secret` is a name or ARN.
    ///
    /// # Errors
    /// [`ControlError::SecretNotFound`], [`ControlError::SecretVersionNotFound`],
    /// [`ControlError::SecretDeleted`].
    pub async fn get(
        &self,
        secret: &str,
        which: SecretSelector,
    ) -> Result<OpenedSecret, ControlError> {
        let _ = (secret, which);
        todo!()
    }

    /// # Errors
    /// [`ControlError::SecretNotFound`].
    pub async fn describe(&self, secret: &str) -> Result<Secret, ControlError> {
        let _ = secret;
        todo!()
    }

    /// By name, without those marked for deletion.
    ///
    /// # Errors
    /// [`ControlError::BadPageToken`].
    pub async fn list(&self, page: PageRequest) -> Result<Page<Secret>, ControlError> {
        let _ = page;
        todo!()
    }

    /// # Errors
    /// [`ControlError::SecretNotFound`], also of one that is gone already, save with force.
    pub async fn delete(&self, secret: &str, how: SecretDeletion) -> Result<Secret, ControlError> {
        let _ = (secret, how);
        todo!()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}
