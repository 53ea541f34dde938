//! Ids that this platform hands out: a prefix that says what it is, and 24 random letters.
//!
//! What is read from outside is parsed by the id types of `agents`; here are the ids that only
//! the platform itself has, and the minting of all of them.

use std::fmt;

use agents::{EnvironmentId, EventId, SessionId, ThreadId, WorkId};
use rand::Rng as _;
use serde::{Deserialize, Serialize};

/// Letters after the prefix. 58^22 possibilities: two never meet.
const RANDOM_LEN: usize = 22;

/// Base 58, as the platform's own ids: nothing that a person mistakes for something else.
const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// A fresh id with `prefix`, such as `sesn_01…`.
pub(crate) fn random_id(prefix: &str) -> String {
    let mut rng = rand::rng();
    let letters = (0..RANDOM_LEN).map(|_| char::from(ALPHABET[rng.random_range(0..58)]));
    format!("{prefix}01{}", letters.collect::<String>())
}

/// An id type that can be made afresh.
pub(crate) trait Mint: Sized {
    /// A fresh one.
    fn mint() -> Self;
}

macro_rules! mint {
    ($name:ident, $prefix:literal) => {
        impl Mint for $name {
            fn mint() -> Self {
                Self::new(random_id($prefix)).expect("a minted id is well-formed")
            }
        }
    };
}

mint!(SessionId, "sesn_");
mint!(EnvironmentId, "env_");
mint!(WorkId, "work_");
mint!(EventId, "sevt_");
mint!(ThreadId, "sthr_");

macro_rules! own_id {
    ($(#[$doc:meta])* $vis:vis $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        $vis struct $name(String);

        impl $name {
            /// The id as it stands on the wire.
            $vis fn as_str(&self) -> &str {
                &self.0
            }

            /// Takes a text of a row, a path or a person; what fits no row is simply not found.
            $vis fn from_text(text: impl Into<String>) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Mint for $name {
            fn mint() -> Self {
                Self(random_id($prefix))
            }
        }
    };
}

own_id!(
    /// An agent, `agent_…`.
    pub(crate) AgentId, "agent_"
);
own_id!(
    /// A webhook endpoint, `whep_…`.
    pub EndpointId, "whep_"
);
own_id!(
    /// An event told to webhook endpoints, `whe_…`: the `webhook-id` of its deliveries.
    pub HookId, "whe_"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_id_says_what_it_is_and_is_never_minted_twice() {
        let (a, b) = (SessionId::mint(), SessionId::mint());
        assert!(a.as_str().starts_with("sesn_01") && a.as_str().len() == 29, "{a}");
        assert_ne!(a, b);
    }
}
