//! Sealing: AES-256-GCM under keys that are derived from one key file, one key for each purpose.
//!
//! A sealed text is bound to its purpose and to a name (the associated data), so that no value can
//! be put in the place of another by whoever can write to the store.

use crate::ControlError;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
};
use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// Length of the key file in bytes.
const KEY_BYTES: usize = 32;

/// What must not be readable by anyone but its owner.
const OWNER_ONLY: u32 = 0o600;

/// The key file, read once.
pub(crate) struct KeyFile {
    path: PathBuf,
    key: [u8; KEY_BYTES],
}

/// What a derived key is for. Its text is part of the derivation and never changes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    SecretValue,
    ParameterValue,
    SessionToken,
    ProxyToken,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::SecretValue => b"warren secret value 1",
            Self::ParameterValue => b"warren parameter value 1",
            Self::SessionToken => b"warren session token 1",
            Self::ProxyToken => b"warren proxy token 1",
        }
    }
}

impl KeyFile {
    /// Reads the key file; makes it where there is none.
    pub(crate) fn open(path: &Path) -> Result<Self, ControlError> {
        if let Some(bytes) = read_private(path)? {
            let key = bytes.try_into().map_err(|_| ControlError::BadKeyFile {
                path: path.to_owned(),
                expected: "a key of 32 bytes",
            })?;
            return Ok(Self { path: path.to_owned(), key });
        }
        let key: [u8; KEY_BYTES] = rand::random();
        write_private(path, &key)?;
        Ok(Self { path: path.to_owned(), key })
    }

    pub(crate) fn sealer(&self, purpose: Purpose) -> Sealer {
        Sealer { path: self.path.clone(), key: self.key(purpose) }
    }

    /// The key that is derived for a purpose.
    pub(crate) fn key(&self, purpose: Purpose) -> LessSafeKey {
        let label = [purpose.label()];
        let derived = Salt::new(HKDF_SHA256, &[]).extract(&self.key);
        let key = derived.expand(&label, &AES_256_GCM).map(UnboundKey::from);
        LessSafeKey::new(
            key.expect("AES-256 takes a key of the length that its own algorithm names"),
        )
    }

    /// A name of this key file that tells nothing of its content.
    pub(crate) fn name(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.key);
        // Of the digest of a digest, since the first could be a derivation of somebody's.
        let digest = ring::digest::digest(&ring::digest::SHA256, digest.as_ref());
        hex::encode(digest.as_ref().get(..8).unwrap_or_default())
    }

    /// A key that is written nowhere.
    pub(crate) fn random() -> Self {
        Self { path: PathBuf::new(), key: rand::random() }
    }
}

/// Seals and opens for one purpose.
pub(crate) struct Sealer {
    path: PathBuf,
    key: LessSafeKey,
}

impl Sealer {
    /// URL-safe base64 of a random nonce, the ciphertext and its tag. Random nonces of 96 bits are
    /// safe for 2^32 values under one key, far beyond what one Warren seals.
    pub(crate) fn seal(&self, name: &str, plain: &[u8]) -> String {
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut body = plain.to_vec();
        let aad = Aad::from(name.as_bytes());
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut body)
            .expect("AES-256-GCM seals anything below 64 GiB");
        URL_SAFE_NO_PAD.encode([&nonce[..], &body].concat())
    }

    /// None where it was not sealed with this key for this purpose and name.
    pub(crate) fn open(&self, name: &str, sealed: &str) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, body) = bytes.split_first_chunk::<NONCE_LEN>()?;
        let mut body = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = self.key.open_in_place(nonce, Aad::from(name.as_bytes()), &mut body).ok()?;
        Some(plain.to_vec())
    }

    pub(crate) fn unsealable(&self) -> ControlError {
        ControlError::Unsealable { path: self.path.clone() }
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Content of a file that only its owner may read; none where there is no such file.
pub(crate) fn read_private(path: &Path) -> Result<Option<Vec<u8>>, ControlError> {
    let failed = |source| ControlError::File { action: "reading", path: path.to_owned(), source };
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    // The open file is asked, not the path, so that nobody can exchange it in between.
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & !OWNER_ONLY != 0 {
        return Err(ControlError::FileTooOpen { path: path.to_owned(), mode });
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed)?;
    Ok(Some(bytes))
}

/// Makes a file that only its owner may read, whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), ControlError> {
    let failed = |source| ControlError::File { action: "writing", path: path.to_owned(), source };
    let unfinished = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(OWNER_ONLY)
        .open(&unfinished)
        .map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&unfinished, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_under_its_own_name_and_purpose_only() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::open(&dir.path().join("secret.key")).unwrap();
        let secrets = file.sealer(Purpose::SecretValue);
        let sealed = secrets.seal("a", b"value");
        assert_eq!(secrets.open("a", &sealed).as_deref(), Some(&b"value"[..]));
        assert_eq!(secrets.open("b", &sealed), None);
        assert_eq!(file.sealer(Purpose::SessionToken).open("a", &sealed), None);
        assert_eq!(secrets.open("a", ""), None);
        assert_ne!(sealed, secrets.seal("a", b"value"));
        let again = KeyFile::open(&dir.path().join("secret.key")).unwrap();
        assert!(again.sealer(Purpose::SecretValue).open("a", &sealed).is_some());
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.key");
        KeyFile::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = KeyFile::open(&path).err().unwrap().to_string();
        assert!(error.contains("640") && error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_key_file_of_another_length_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret.key");
        write_private(&path, b"short").unwrap();
        assert!(matches!(KeyFile::open(&path), Err(ControlError::BadKeyFile { .. })));
    }
}
