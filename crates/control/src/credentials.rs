//! Credentials: the operator's long-lived key, and short-lived ones of a role.
//!
//! Short-lived credentials are stateless: the session token carries its own facts, sealed with the
//! key file, so that nothing has to be written for a VM that asks for credentials every hour, and
//! a restart forgets none.

use crate::{ControlError, RoleArn, Timestamp};
use std::{fmt, time::Duration};

/// A secret access key; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretAccessKey(pub(crate) String);

impl SecretAccessKey {
    /// The key itself, for signing.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretAccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretAccessKey(…)")
    }
}

/// Who credentials are asked for.
#[derive(Clone, Debug)]
pub struct IssueRequest {
    pub role: RoleArn,
    /// 2 to 64 characters on AWS.
    pub session_name: String,
    pub duration: Duration,
    /// A policy document that narrows what the role may do.
    pub session_policy: Option<String>,
}

/// Credentials of a role's session.
#[derive(Clone)]
pub struct TempCredentials {
    /// `ASIA` and 16 more.
    pub access_key_id: String,
    pub secret_access_key: SecretAccessKey,
    pub session_token: String,
    pub expiration: Timestamp,
}

impl fmt::Debug for TempCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TempCredentials")
            .field("access_key_id", &self.access_key_id)
            .field("expiration", &self.expiration)
            .finish_non_exhaustive()
    }
}

/// What a session token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub access_key_id: String,
    pub secret_access_key: SecretAccessKey,
    pub role: RoleArn,
    pub session_name: String,
    pub expiration: Timestamp,
    pub session_policy: Option<String>,
}

/// The operator's key: made at the first start, kept in `<data_dir>/operator.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorKey {
    /// Name of the IAM user, `operator`.
    pub user: String,
    /// `AKIA` and 16 more.
    pub access_key_id: String,
    pub secret_access_key: SecretAccessKey,
}

/// Issues and opens credentials.
pub struct Credentials {}

impl Credentials {
    pub fn operator(&self) -> &OperatorKey {
        todo!()
    }

    pub fn issue(&self, request: IssueRequest) -> TempCredentials {
        let _ = request;
        todo!()
    }

    /// # Errors
    /// [`ControlError::BadSessionToken`] where the token is not of this Warren or not of this key;
    /// [`ControlError::ExpiredSessionToken`].
    pub fn open_session_token(
        &self,
        access_key_id: &str,
        token: &str,
    ) -> Result<Session, ControlError> {
        let _ = (access_key_id, token);
        todo!()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}
