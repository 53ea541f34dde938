//! Checksums of content: the five algorithms of S3, of whole objects or composed of their parts'.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use crc_fast::CrcAlgorithm;
use md5::{Digest as _, Md5};
use ring::digest;
use serde::{Deserialize, Serialize};

/// What a checksum is computed with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ChecksumAlgorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

impl ChecksumAlgorithm {
    pub const ALL: [Self; 5] =
        [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// As S3 writes it: `CRC64NVME`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// None: S3 knows none of this name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str().eq_ignore_ascii_case(text))
    }

    /// Its kind in a multipart upload where the client names none.
    #[must_use]
    pub const fn usual_kind(self) -> ChecksumKind {
        match self {
            Self::Crc64Nvme => ChecksumKind::FullObject,
            Self::Crc32 | Self::Crc32c | Self::Sha1 | Self::Sha256 => ChecksumKind::Composite,
        }
    }

    /// Length of a value in bytes.
    const fn length(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    const fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Self::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Self::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Self::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Self::Sha1 | Self::Sha256 => None,
        }
    }

    /// Whether the checksum of a whole can be made from those of its parts.
    #[must_use]
    pub const fn can_be_combined(self) -> bool {
        self.crc().is_some()
    }

    /// Whether `value` is base64 of the right length.
    #[must_use]
    pub fn is_value(self, value: &str) -> bool {
        BASE64_STANDARD.decode(value).is_ok_and(|bytes| bytes.len() == self.length())
    }
}

/// What a multipart object's checksum is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ChecksumKind {
    FullObject,
    /// Of the checksums of the parts; its value ends in `-<number of parts>`.
    Composite,
}

impl ChecksumKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FullObject => "FULL_OBJECT",
            Self::Composite => "COMPOSITE",
        }
    }
}

/// A checksum that was computed here.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Checksum {
    pub algorithm: ChecksumAlgorithm,
    pub kind: ChecksumKind,
    /// Base64.
    pub value: String,
}

/// The checksum that a multipart upload is to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ChecksumPlan {
    pub algorithm: ChecksumAlgorithm,
    pub kind: ChecksumKind,
}

/// Computes one checksum.
pub(crate) enum Summing {
    Crc(CrcAlgorithm, Box<crc_fast::Digest>),
    Ring(Box<digest::Context>),
}

impl Summing {
    pub(crate) fn new(algorithm: ChecksumAlgorithm) -> Self {
        match (algorithm.crc(), algorithm) {
            (Some(crc), _) => Self::Crc(crc, Box::new(crc_fast::Digest::new(crc))),
            (None, ChecksumAlgorithm::Sha1) => {
                Self::Ring(Box::new(digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY)))
            }
            (None, _) => Self::Ring(Box::new(digest::Context::new(&digest::SHA256))),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc(_, crc) => crc.update(bytes),
            Self::Ring(context) => context.update(bytes),
        }
    }

    /// Base64.
    pub(crate) fn finish(self) -> String {
        match self {
            Self::Crc(algorithm, crc) => crc_text(algorithm, crc.finalize()),
            Self::Ring(context) => BASE64_STANDARD.encode(context.finish()),
        }
    }
}

/// MD5 and, where one is wanted, another checksum of the same bytes.
pub struct Sums {
    md5: Md5,
    checksum: Option<(ChecksumAlgorithm, Summing)>,
}

impl Sums {
    #[must_use]
    pub fn new(checksum: Option<ChecksumAlgorithm>) -> Self {
        let checksum = checksum.map(|algorithm| (algorithm, Summing::new(algorithm)));
        Self { md5: Md5::new(), checksum }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        if let Some((_, summing)) = &mut self.checksum {
            summing.update(bytes);
        }
    }

    /// The MD5 in hex, and the other.
    #[must_use]
    pub fn finish(self) -> (String, Option<Checksum>) {
        let checksum = self.checksum.map(|(algorithm, summing)| Checksum {
            algorithm,
            kind: ChecksumKind::FullObject,
            value: summing.finish(),
        });
        (hex::encode(self.md5.finalize()), checksum)
    }
}

impl std::fmt::Debug for Sums {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sums").finish_non_exhaustive()
    }
}

fn crc_text(algorithm: CrcAlgorithm, value: u64) -> String {
    let bytes = value.to_be_bytes();
    let from = if algorithm == CrcAlgorithm::Crc64Nvme { 0 } else { 4 };
    BASE64_STANDARD.encode(bytes.get(from..).unwrap_or_default())
}

fn crc_value(text: &str) -> Option<u64> {
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    (bytes.len() <= 8).then(|| bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

/// The checksum of a whole from those of its parts (base64, with their lengths in bytes). None where
/// a part has none, or the algorithm cannot be combined.
pub(crate) fn of_parts<'a>(
    plan: ChecksumPlan,
    parts: impl ExactSizeIterator<Item = (Option<&'a str>, u64)>,
) -> Option<Checksum> {
    let count = parts.len();
    let value = match plan.kind {
        ChecksumKind::FullObject => {
            let crc = plan.algorithm.crc()?;
            let mut whole = None;
            for (value, length) in parts {
                let value = crc_value(value?)?;
                whole = Some(match whole {
                    None => value,
                    Some(before) => crc_fast::checksum_combine(crc, before, value, length),
                });
            }
            crc_text(crc, whole?)
        }
        ChecksumKind::Composite => {
            let mut summing = Summing::new(plan.algorithm);
            for (value, _) in parts {
                summing.update(&BASE64_STANDARD.decode(value?).ok()?);
            }
            format!("{}-{count}", summing.finish())
        }
    };
    Some(Checksum { algorithm: plan.algorithm, kind: plan.kind, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> String {
        let mut summing = Summing::new(algorithm);
        summing.update(bytes);
        summing.finish()
    }

    #[test]
    fn values_are_those_that_are_published() {
        use ChecksumAlgorithm as A;
        let of = |algorithm| sum(algorithm, b"123456789");
        assert_eq!(of(A::Crc32), BASE64_STANDARD.encode(0xcbf4_3926_u32.to_be_bytes()));
        assert_eq!(of(A::Crc32c), BASE64_STANDARD.encode(0xe306_9283_u32.to_be_bytes()));
        assert_eq!(
            of(A::Crc64Nvme),
            BASE64_STANDARD.encode(0xae8b_1486_0a79_9888_u64.to_be_bytes())
        );
        assert_eq!(of(A::Sha1), "98O8HYCOBHMq32eZZczDTKeuNEE=");
        for algorithm in A::ALL {
            assert!(algorithm.is_value(&of(algorithm)) && !algorithm.is_value("AA=="));
            assert_eq!(A::parse(algorithm.as_str()), Some(algorithm));
        }
    }

    #[test]
    fn a_whole_is_made_of_its_parts() {
        let (left, right) = (&b"1234"[..], &b"56789"[..]);
        for algorithm in ChecksumAlgorithm::ALL {
            let sums = [sum(algorithm, left), sum(algorithm, right)];
            let parts = || {
                let parts = [(Some(sums[0].as_str()), 4), (Some(sums[1].as_str()), 5)];
                parts.into_iter()
            };
            let plan = ChecksumPlan { algorithm, kind: ChecksumKind::FullObject };
            let whole = of_parts(plan, parts()).map(|checksum| checksum.value);
            let expected = algorithm.can_be_combined().then(|| sum(algorithm, b"123456789"));
            assert_eq!(whole, expected, "{algorithm:?}");
            let plan = ChecksumPlan { algorithm, kind: ChecksumKind::Composite };
            assert!(of_parts(plan, parts()).unwrap().value.ends_with("-2"));
        }
    }
}
