//! Names that clients give, parsed once at the edge.

use std::fmt;

/// Longest key in bytes of UTF-8.
const KEY_BYTES_MAX: usize = 1024;

/// A name that S3 does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error("{0:?} is not a bucket's name: 3 to 63 of a-z, 0-9, '-' and '.', not an IP address")]
    Bucket(String),
    #[error("a key has 1 to {KEY_BYTES_MAX} bytes, not {0}")]
    KeyLength(usize),
}

/// Name of a bucket, by S3's rules for general purpose buckets.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct BucketName(String);

impl BucketName {
    /// # Errors
    /// [`BadName::Bucket`].
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let outer = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let good = (3..=63).contains(&text.len())
            && text.chars().all(|c| outer(c) || c == '-' || c == '.')
            && text.starts_with(outer)
            && text.ends_with(outer)
            && !text.contains("..")
            && text.parse::<std::net::Ipv4Addr>().is_err();
        if good { Ok(Self(text.to_owned())) } else { Err(BadName::Bucket(text.to_owned())) }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Key of an object: any text of 1 to 1,024 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ObjectKey(String);

impl ObjectKey {
    /// # Errors
    /// [`BadName::KeyLength`].
    pub fn parse(text: &str) -> Result<Self, BadName> {
        if text.is_empty() || text.len() > KEY_BYTES_MAX {
            return Err(BadName::KeyLength(text.len()));
        }
        Ok(Self(text.to_owned()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_s3_refuses_are_refused() {
        for good in ["abc", "my-bucket.2", "0a0", &"a".repeat(63)] {
            assert!(BucketName::parse(good).is_ok(), "{good}");
        }
        for bad in
            ["ab", "Abc", "a_b", "-ab", "ab.", "a..b", "10.0.0.1", "", "../etc", &"a".repeat(64)]
        {
            assert!(BucketName::parse(bad).is_err(), "{bad}");
        }
        assert!(ObjectKey::parse(&"k".repeat(1024)).is_ok());
        assert!(ObjectKey::parse("").is_err() && ObjectKey::parse(&"k".repeat(1025)).is_err());
    }
}
