//! Credentials: the operator's long-lived key, and short-lived ones of a role.
//!
//! Short-lived credentials are stateless: the session token carries its own facts, sealed with the
//! key file, so that nothing has to be written for a VM that asks for credentials every hour, and
//! a restart forgets none.

use crate::{
    Clock, ControlError, RoleArn, Timestamp,
    seal::{KeyFile, Purpose, Sealer, read_private, write_private},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use std::{fmt, path::Path, sync::Arc, time::Duration};

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
pub struct Credentials {
    operator: OperatorKey,
    sealer: Sealer,
    clock: Arc<dyn Clock>,
}

/// `operator.json`; the command line reads it too.
#[derive(Serialize, Deserialize)]
struct OperatorFile {
    user: String,
    access_key_id: String,
    secret_access_key: String,
}

/// What is sealed in a session token. Names are short because every signed request carries it.
#[derive(Serialize, Deserialize)]
struct TokenFacts {
    #[serde(rename = "s")]
    secret: String,
    #[serde(rename = "r")]
    role: String,
    #[serde(rename = "n")]
    session_name: String,
    #[serde(rename = "e")]
    expiration_ms: i64,
    #[serde(rename = "p", skip_serializing_if = "Option::is_none", default)]
    policy: Option<String>,
}

impl Credentials {
    pub(crate) fn open(
        operator_file: &Path,
        key: &KeyFile,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ControlError> {
        let operator = match read_private(operator_file)? {
            Some(bytes) => read_operator(operator_file, &bytes)?,
            None => make_operator(operator_file)?,
        };
        Ok(Self { operator, sealer: key.sealer(Purpose::SessionToken), clock })
    }

    pub fn operator(&self) -> &OperatorKey {
        &self.operator
    }

    /// Nothing is written: the token is all there is of a session.
    pub fn issue(&self, request: IssueRequest) -> TempCredentials {
        let access_key_id = access_key_id("ASIA");
        let secret = secret_access_key();
        // Whole seconds, as credentials documents show it.
        let ms = self.clock.now().plus(request.duration).ms();
        let expiration = Timestamp::from_ms(ms - ms.rem_euclid(1000));
        let facts = TokenFacts {
            secret: secret.0.clone(),
            role: request.role.to_string(),
            session_name: request.session_name,
            expiration_ms: expiration.ms(),
            policy: request.session_policy,
        };
        let facts = serde_json::to_vec(&facts).expect("strings and a number are JSON");
        let session_token = self.sealer.seal(&access_key_id, &facts);
        TempCredentials { access_key_id, secret_access_key: secret, session_token, expiration }
    }

    /// # Errors
    /// [`ControlError::BadSessionToken`] where the token is not of this Warren or not of this key;
    /// [`ControlError::ExpiredSessionToken`].
    pub fn open_session_token(
        &self,
        access_key_id: &str,
        token: &str,
    ) -> Result<Session, ControlError> {
        let sealed = self.sealer.open(access_key_id, token).ok_or(ControlError::BadSessionToken)?;
        let facts: TokenFacts =
            serde_json::from_slice(&sealed).map_err(|_| ControlError::BadSessionToken)?;
        let expiration = Timestamp::from_ms(facts.expiration_ms);
        if expiration <= self.clock.now() {
            return Err(ControlError::ExpiredSessionToken);
        }
        Ok(Session {
            access_key_id: access_key_id.to_owned(),
            secret_access_key: SecretAccessKey(facts.secret),
            role: RoleArn::parse(&facts.role)?,
            session_name: facts.session_name,
            expiration,
            session_policy: facts.policy,
        })
    }
}

fn read_operator(path: &Path, bytes: &[u8]) -> Result<OperatorKey, ControlError> {
    let file: OperatorFile =
        serde_json::from_slice(bytes).map_err(|_| ControlError::BadKeyFile {
            path: path.to_owned(),
            expected: "user, access_key_id and secret_access_key",
        })?;
    Ok(OperatorKey {
        user: file.user,
        access_key_id: file.access_key_id,
        secret_access_key: SecretAccessKey(file.secret_access_key),
    })
}

fn make_operator(path: &Path) -> Result<OperatorKey, ControlError> {
    let key = OperatorKey {
        user: "operator".to_owned(),
        access_key_id: access_key_id("AKIA"),
        secret_access_key: secret_access_key(),
    };
    let file = OperatorFile {
        user: key.user.clone(),
        access_key_id: key.access_key_id.clone(),
        secret_access_key: key.secret_access_key.0.clone(),
    };
    let text = serde_json::to_vec_pretty(&file).expect("strings are JSON");
    write_private(path, &text)?;
    Ok(key)
}

/// `prefix` and 16 characters of base 32, as AWS's look.
fn access_key_id(prefix: &str) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let random: [u8; 16] = rand::random();
    let tail = random.iter().map(|b| char::from(ALPHABET[usize::from(b % 32)]));
    prefix.chars().chain(tail).collect()
}

/// 40 characters of base64, as AWS's look.
fn secret_access_key() -> SecretAccessKey {
    SecretAccessKey(STANDARD.encode(rand::random::<[u8; 30]>()))
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::ManualClock;

    fn open(dir: &Path, clock: &Arc<ManualClock>) -> Credentials {
        let key = KeyFile::open(&dir.join("secret.key")).unwrap();
        Credentials::open(&dir.join("operator.json"), &key, clock.clone()).unwrap()
    }

    fn request() -> IssueRequest {
        IssueRequest {
            role: RoleArn::parse("arn:aws:iam::000000000000:role/warren-execution").unwrap(),
            session_name: "one".to_owned(),
            duration: Duration::from_secs(900),
            session_policy: Some("{}".to_owned()),
        }
    }

    #[test]
    fn a_token_says_the_same_after_a_restart_until_it_expires() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new());
        let issued = open(dir.path(), &clock).issue(request());
        assert!(issued.access_key_id.starts_with("ASIA") && issued.access_key_id.len() == 20);

        let after = open(dir.path(), &clock);
        let session =
            after.open_session_token(&issued.access_key_id, &issued.session_token).unwrap();
        assert_eq!(session.secret_access_key, issued.secret_access_key);
        assert_eq!(session.role, request().role);
        assert_eq!(session.session_policy, request().session_policy);
        assert_eq!(session.expiration, issued.expiration);

        clock.advance(Duration::from_secs(900));
        let late = after.open_session_token(&issued.access_key_id, &issued.session_token);
        assert!(matches!(late, Err(ControlError::ExpiredSessionToken)));
    }

    #[test]
    fn a_token_of_another_key_id_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let credentials = open(dir.path(), &Arc::new(ManualClock::new()));
        let (one, two) = (credentials.issue(request()), credentials.issue(request()));
        let mixed = credentials.open_session_token(&one.access_key_id, &two.session_token);
        assert!(matches!(mixed, Err(ControlError::BadSessionToken)));
        let nonsense = credentials.open_session_token(&one.access_key_id, "é");
        assert!(matches!(nonsense, Err(ControlError::BadSessionToken)));
    }

    #[test]
    fn the_operators_key_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new());
        let first = open(dir.path(), &clock).operator().clone();
        assert!(first.access_key_id.starts_with("AKIA") && first.user == "operator");
        assert_eq!(*open(dir.path(), &clock).operator(), first);
        assert!(!format!("{first:?}").contains(first.secret_access_key.expose()));
    }
}
