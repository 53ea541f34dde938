//! Ids of the platform's objects, parsed once where they come in.
//!
//! The platform promises no format beyond a prefix that has changed before, so an id is any
//! short printable word that can stand in a URL's path: what is checked is what could hurt us.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest id that is taken, in bytes. The platform's own have about 30.
const ID_LEN_MAX: usize = 256;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} {text:?} is not an id: ids have 1 to {ID_LEN_MAX} bytes of letters, digits, '-', '_', '.', ':'"
)]
pub struct InvalidId {
    what: &'static str,
    text: String,
}

fn check(what: &'static str, text: &str) -> Result<(), InvalidId> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':');
    let dots_only = text.bytes().all(|b| b == b'.');
    if text.len() <= ID_LEN_MAX && !dots_only && text.bytes().all(allowed) {
        return Ok(());
    }
    Err(InvalidId { what, text: text.chars().take(ID_LEN_MAX).collect() })
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text` and takes it as an id.
            ///
            /// # Errors
            /// [`InvalidId`] for a text that is empty, too long or holds other characters than
            /// letters, digits and `-_.:`.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                check($what, &text)?;
                Ok(Self(text))
            }

            /// The id as it stands on the wire.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    };
}

id!(
    /// A session, `sesn_…`.
    SessionId, "session id"
);
id!(
    /// An environment, `env_…`.
    EnvironmentId, "environment id"
);
id!(
    /// A work item, `work_…`.
    WorkId, "work id"
);
id!(
    /// A stored event, `sevt_…`.
    EventId, "event id"
);
id!(
    /// A thread of a session with several agents, `sthr_…`.
    ThreadId, "thread id"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_could_leave_its_place_in_a_path_is_refused() {
        for bad in ["", "a/b", "..", "a b", "a\n", "ä", &"x".repeat(257)] {
            assert!(SessionId::new(bad).is_err(), "{bad:?} was taken");
        }
        for good in ["sesn_01AbC", "env-1", "a.b:c"] {
            assert_eq!(SessionId::new(good).unwrap().as_str(), good);
        }
    }
}
