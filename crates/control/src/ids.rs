//! Names of things, each a type of its own: parsed once where it comes in, trusted from then on.

use engine::VmId;
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// What was given is not a name of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not {expected}")]
pub struct BadId {
    pub given: String,
    /// What would be right, as a noun phrase.
    pub expected: &'static str,
}

impl BadId {
    fn new(given: &str, expected: &'static str) -> Self {
        // What comes from outside is quoted in messages and logs, so it is kept short.
        Self { given: given.chars().take(128).collect(), expected }
    }
}

/// A checked string with the traits that every name here has.
macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $expected:literal, $good:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $type(String);

        impl $type {
            /// # Errors
            /// [`BadId`] where the text is not of this form.
            pub fn parse(text: &str) -> Result<Self, BadId> {
                let good: fn(&str) -> bool = $good;
                if good(text) { Ok(Self(text.to_owned())) } else { Err(BadId::new(text, $expected)) }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $type {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                Self::parse(text)
            }
        }
    };
}

fn is_made_of(text: &str, length_max: usize, good: fn(u8) -> bool) -> bool {
    (1..=length_max).contains(&text.len()) && text.bytes().all(good)
}

name! {
    /// `microvm-<uuid>`, chosen by Warren.
    MicrovmId, "a MicroVM id (microvm-<uuid>)", |text| {
        text.strip_prefix("microvm-").is_some_and(|uuid| {
            Uuid::try_parse(uuid).is_ok_and(|parsed| parsed.hyphenated().to_string() == uuid)
        })
    }
}

name! {
    /// Name of an image within its account.
    ImageName, "an image name (1 to 64 letters, digits, '-' and '_')", |text| {
        is_made_of(text, 64, |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    }
}

name! {
    /// Name of a checkpoint; it never begins like an option or a path.
    CheckpointName, "a checkpoint name (1 to 64 letters, digits and any of ._-, the first a letter or digit)", |text| {
        is_made_of(text, 64, |b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
    }
}

name! {
    /// What a caller gives so that a repeated request does its work once.
    ClientToken, "a client token (1 to 128 characters)", |text| {
        (1..=128).contains(&text.chars().count())
    }
}

name! {
    /// Identifies one build of an image's version.
    BuildId, "a build id (a uuid)", |text| Uuid::try_parse(text).is_ok()
}

name! {
    /// `nc-<uuid>`, chosen by Warren.
    ConnectorId, "a network connector id (nc-<uuid>)", |text| {
        text.strip_prefix("nc-").is_some_and(|uuid| {
            Uuid::try_parse(uuid).is_ok_and(|parsed| parsed.hyphenated().to_string() == uuid)
        })
    }
}

name! {
    /// Name of a network connector within its account.
    ConnectorName, "a network connector name (1 to 64 letters, digits, '-' and '_')", |text| {
        is_made_of(text, 64, |b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    }
}

name! {
    /// Name of a secret, for example `warren/environment-key`.
    SecretName, "a secret name (1 to 512 letters, digits and any of /_+=.@-)", |text| {
        is_made_of(text, 512, |b| b.is_ascii_alphanumeric() || b"/_+=.@-".contains(&b))
    }
}

name! {
    /// Name of a log group, for example `/aws/lambda-microvms/claude-worker`.
    LogGroup, "a log group name (1 to 512 letters, digits and any of _-/.#)", |text| {
        is_made_of(text, 512, |b| b.is_ascii_alphanumeric() || b"_-/.#".contains(&b))
    }
}

name! {
    /// Name of a log stream within its group.
    LogStream, "a log stream name (1 to 512 characters without ':' and '*')", |text| {
        (1..=512).contains(&text.chars().count()) && !text.contains([':', '*'])
    }
}

name! {
    /// Full ARN of an IAM role.
    RoleArn, "a role ARN (arn:aws:iam::<12 digits>:role/<name>)", |text| {
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next().unwrap_or_default();
        let good = next() == "arn"
            && next().starts_with("aws")
            && next() == "iam"
            && next().is_empty()
            && is_account(next());
        good && text.len() <= 2048
            && next().strip_prefix("role/").is_some_and(|name| {
                !name.is_empty() && !name.ends_with('/') && !name.contains(char::is_whitespace)
            })
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

impl MicrovmId {
    /// A new id that nothing else has.
    pub fn random() -> Self {
        Self(format!("microvm-{}", Uuid::new_v4().hyphenated()))
    }

    /// Name of the session in which what runs in the VM has its role's credentials.
    pub fn executor_session(&self) -> String {
        let uuid = self.0.strip_prefix("microvm-").unwrap_or(&self.0);
        format!("Lambda-microvmsExecutor-{uuid}")
    }

    /// The VM's name on its host.
    pub fn vm_id(&self) -> VmId {
        VmId::new(self.0.clone()).expect("a MicroVM id has 44 letters, digits and '-'")
    }
}

impl ConnectorId {
    pub(crate) fn random() -> Self {
        Self(format!("nc-{}", Uuid::new_v4().hyphenated()))
    }
}

impl BuildId {
    pub(crate) fn random() -> Self {
        Self(Uuid::new_v4().hyphenated().to_string())
    }
}

impl RoleArn {
    /// Name without its path: `warren-execution` of `…:role/service/warren-execution`.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    pub fn account(&self) -> &str {
        self.0.split(':').nth(4).unwrap_or_default()
    }
}

/// ARN of an image: `arn:aws:lambda:<region>:<account>:microvm-image:<name>`. The account of a
/// managed base image is `aws`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ImageArn {
    pub region: String,
    pub account: String,
    pub name: ImageName,
}

impl ImageArn {
    /// # Errors
    /// [`BadId`] where the text is not such an ARN.
    pub fn parse(text: &str) -> Result<Self, BadId> {
        let bad =
            || BadId::new(text, "an image ARN (arn:aws:lambda:<region>:<account>:microvm-image:…)");
        let parts: Vec<&str> = text.split(':').collect();
        let ["arn", partition, "lambda", region, account, "microvm-image", name] = parts[..] else {
            return Err(bad());
        };
        let whole = partition.starts_with("aws")
            && !region.is_empty()
            && (account == "aws" || is_account(account));
        if !whole {
            return Err(bad());
        }
        let name = ImageName::parse(name).map_err(|_| bad())?;
        Ok(Self { region: region.to_owned(), account: account.to_owned(), name })
    }
}

impl fmt::Display for ImageArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { region, account, name } = self;
        write!(f, "arn:aws:lambda:{region}:{account}:microvm-image:{name}")
    }
}

/// Version of an image: each build adds a major, so the minor is always 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ImageVersion(u32);

impl ImageVersion {
    pub const FIRST: Self = Self(1);

    /// Takes the full form, `1.0`, as RunMicrovm does.
    ///
    /// # Errors
    /// [`BadId`] for any other text.
    pub fn parse(text: &str) -> Result<Self, BadId> {
        let bad = || BadId::new(text, "an image version such as 1.0");
        let major = text.strip_suffix(".0").ok_or_else(bad)?;
        let number: u32 = major.parse().map_err(|_| bad())?;
        if number == 0 || number.to_string() != major {
            return Err(bad());
        }
        Ok(Self(number))
    }

    pub fn major(self) -> u32 {
        self.0
    }

    pub(crate) fn from_major(major: u32) -> Self {
        Self(major)
    }

    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for ImageVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.0", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_microvm_id_is_one_and_names_a_vm() {
        let id = MicrovmId::random();
        assert_eq!(MicrovmId::parse(id.as_str()), Ok(id.clone()));
        assert_eq!(id.vm_id().as_str(), id.as_str());
    }

    #[test]
    fn what_is_not_a_name_is_refused() {
        for bad in ["microvm-", "microvm-1", "vm-6f6b1a52-1111-4111-8111-111111111111", "../x"] {
            assert!(MicrovmId::parse(bad).is_err(), "{bad}");
        }
        for bad in ["", "a b", "a/b", &"a".repeat(65)] {
            assert!(ImageName::parse(bad).is_err(), "{bad}");
        }
        for bad in ["1", "0.0", "01.0", "1.1", "1.0.0", "-1.0", "+1.0"] {
            assert!(ImageVersion::parse(bad).is_err(), "{bad}");
        }
        for bad in ["role", "arn:aws:iam::1:role/x", "arn:aws:iam::000000000000:role/"] {
            assert!(RoleArn::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn arns_come_back_as_they_were() {
        let text = "arn:aws:lambda:us-east-1:000000000000:microvm-image:claude-worker";
        assert_eq!(ImageArn::parse(text).unwrap().to_string(), text);
        assert!(ImageArn::parse(&text.replace("image:", "image/")).is_err());
        let role = RoleArn::parse("arn:aws:iam::000000000000:role/service/warren-build").unwrap();
        assert_eq!((role.name(), role.account()), ("warren-build", "000000000000"));
    }
}
