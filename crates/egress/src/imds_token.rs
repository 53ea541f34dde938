//! Session tokens of the metadata service.
//!
//! A token carries its own expiry under a MAC whose key is made when the VM is attached. So there
//! is nothing to store and nothing that a guest could fill up, and a token is worth nothing in
//! another VM, in a fork, or after a restart; SDKs then simply fetch another one.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use control::Timestamp;
use ring::hmac;

/// Bytes of the expiry in front of the MAC.
const EXPIRY_BYTES: usize = 8;

pub(crate) struct TokenKey(hmac::Key);

impl TokenKey {
    pub(crate) fn random() -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>()))
    }

    /// A token that is good until `expires_at`.
    pub(crate) fn issue(&self, expires_at: Timestamp) -> String {
        let expiry = expires_at.ms().to_be_bytes();
        let mut token = expiry.to_vec();
        token.extend_from_slice(hmac::sign(&self.0, &expiry).as_ref());
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Whether the token is one of this key and has not expired.
    pub(crate) fn is_good(&self, token: &[u8], now: Timestamp) -> bool {
        let Ok(token) = URL_SAFE_NO_PAD.decode(token) else { return false };
        let Some((expiry, mac)) = token.split_first_chunk::<EXPIRY_BYTES>() else { return false };
        hmac::verify(&self.0, expiry, mac).is_ok()
            && Timestamp::from_ms(i64::from_be_bytes(*expiry)) > now
    }
}

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_in_its_vm_until_it_expires_and_nowhere_else() {
        let (key, other) = (TokenKey::random(), TokenKey::random());
        let at = Timestamp::from_ms;
        let token = key.issue(at(1000));
        assert!(key.is_good(token.as_bytes(), at(999)));
        assert!(!key.is_good(token.as_bytes(), at(1000)));
        assert!(!other.is_good(token.as_bytes(), at(0)));
        for bad in ["", "AAAA", "é", &token[1..]] {
            assert!(!key.is_good(bad.as_bytes(), at(0)), "{bad}");
        }
    }
}
