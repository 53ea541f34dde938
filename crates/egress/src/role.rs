//! The credentials that a VM's app has: those of its execution role, renewed in time.

use control::{Clock, Credentials, IssueRequest, RoleArn, Timestamp};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How long issued credentials live.
const LIFETIME: Duration = Duration::from_secs(3600);
/// Credentials with less than this left are replaced. SDKs begin to ask for new ones 15 minutes
/// before the end, and must then get some.
const RENEWED_BEFORE: Duration = Duration::from_secs(1800);

/// Credentials as the metadata service shows them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RoleCredentials {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
    pub(crate) token: String,
    pub(crate) issued_at: Timestamp,
    pub(crate) expires_at: Timestamp,
}

impl fmt::Debug for RoleCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoleCredentials")
            .field("access_key_id", &self.access_key_id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Issues credentials for one VM; given how long they should live.
pub(crate) type Issue = Box<dyn Fn(Duration) -> RoleCredentials + Send + Sync>;

/// A VM's role, with the credentials that it has at present.
pub(crate) struct Role {
    issue: Issue,
    clock: Arc<dyn Clock>,
    current: Mutex<Option<RoleCredentials>>,
}

impl Role {
    pub(crate) fn new(issue: Issue, clock: Arc<dyn Clock>) -> Self {
        Self { issue, clock, current: Mutex::new(None) }
    }

    pub(crate) fn credentials(&self) -> RoleCredentials {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some(known) if known.expires_at.since(self.clock.now()) > RENEWED_BEFORE => {
                known.clone()
            }
            Some(_) | None => current.insert((self.issue)(LIFETIME)).clone(),
        }
    }
}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Role").finish_non_exhaustive()
    }
}

/// Credentials from control's own issuer, under one session name for the VM's whole life.
pub(crate) fn issue_from(
    credentials: Arc<Credentials>,
    (role, session_name): (RoleArn, String),
    clock: Arc<dyn Clock>,
) -> Issue {
    Box::new(move |duration| {
        let issued = credentials.issue(IssueRequest {
            role: role.clone(),
            session_name: session_name.clone(),
            duration,
            session_policy: None,
        });
        RoleCredentials {
            access_key_id: issued.access_key_id,
            secret_access_key: issued.secret_access_key.expose().to_owned(),
            token: issued.session_token,
            issued_at: clock.now(),
            expires_at: issued.expiration,
        }
    })
}
