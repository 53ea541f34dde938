//! Credentials: their texts, their hashes, and the files that hold what must outlive a start.
//!
//! Only hashes are stored. A session token is not even kept that long: it is derived from the
//! work item's id with a key of this data directory, so every poll can hand it out again.

use std::io;
use std::path::Path;

use agents::{Secret, WorkId};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use rand::Rng as _;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;

/// Random bytes in a key: 64 letters.
const KEY_BYTES: usize = 48;

/// What a key's text begins with (spec 3.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyKind {
    /// The organisation's.
    Api,
    /// Of the workers of an environment.
    Environment,
}

/// A fresh key.
pub(crate) fn new_key(kind: KeyKind) -> Secret {
    let prefix = match kind {
        KeyKind::Api => "sk-ant-api03-",
        KeyKind::Environment => "sk-ant-oat01-",
    };
    let bytes: [u8; KEY_BYTES] = rand::rng().random();
    Secret::new(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// What is stored of a credential.
pub(crate) fn hash(credential: &str) -> [u8; 32] {
    Sha256::digest(credential.as_bytes()).into()
}

/// A fresh secret to sign webhooks with: 32 bytes, as the platform's.
pub(crate) fn new_webhook_secret() -> Secret {
    let bytes: [u8; 32] = rand::rng().random();
    Secret::new(format!("whsec_{}", STANDARD.encode(bytes)))
}

/// What session tokens are derived with.
pub(crate) struct TokenKey([u8; 32]);

impl TokenKey {
    /// The token that is good for that work item's session.
    pub(crate) fn session_token(&self, work: &WorkId) -> Secret {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes any key");
        mac.update(b"session-token:");
        mac.update(work.as_str().as_bytes());
        let token = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        Secret::new(format!("sk-ant-req-{token}"))
    }

    /// Reads the key from a file, which is made with a fresh one if it is not there.
    pub(crate) async fn load(path: &Path) -> io::Result<Self> {
        let bytes: [u8; 32] = rand::rng().random();
        let text = load_or_create(path, &hex::encode(bytes)).await?;
        let mut key = [0; 32];
        hex::decode_to_slice(text.trim(), &mut key).map_err(io::Error::other)?;
        Ok(Self(key))
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(…)")
    }
}

/// The organisation's key: the one that is given, and then the file's too, or the file's.
pub(crate) async fn api_key(path: &Path, given: Option<&Secret>) -> io::Result<Secret> {
    let fresh = given.cloned().unwrap_or_else(|| new_key(KeyKind::Api));
    let found = load_or_create(path, fresh.expose()).await?;
    match given {
        Some(given) if given.expose() != found => {
            tokio::fs::write(path, format!("{}\n", given.expose())).await?;
            Ok(given.clone())
        }
        Some(_) | None => Ok(Secret::new(found)),
    }
}

/// The text of a file that only we read; made with `fresh` in it if it is not there.
pub(crate) async fn load_or_create(path: &Path, fresh: &str) -> io::Result<String> {
    let mut options = tokio::fs::OpenOptions::new();
    match options.write(true).create_new(true).mode(0o600).open(path).await {
        Ok(mut file) => {
            file.write_all(fresh.as_bytes()).await?;
            file.write_all(b"\n").await?;
            file.sync_all().await?;
            Ok(fresh.to_owned())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Ok(tokio::fs::read_to_string(path).await?.trim().to_owned())
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_work_item_s_token_is_the_same_each_time_and_no_other_s() {
        let key = TokenKey([7; 32]);
        let (a, b) = (WorkId::new("work_a").unwrap(), WorkId::new("work_b").unwrap());
        assert_eq!(key.session_token(&a), key.session_token(&a));
        assert_ne!(key.session_token(&a), key.session_token(&b));
        assert!(key.session_token(&a).expose().starts_with("sk-ant-req-"));
    }

    #[tokio::test]
    async fn a_key_file_is_made_once_and_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        assert_eq!(load_or_create(&path, "one").await.unwrap(), "one");
        assert_eq!(load_or_create(&path, "two").await.unwrap(), "one");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
