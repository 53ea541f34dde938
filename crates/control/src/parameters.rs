//! Parameters as SSM has them: names in a hierarchy, versions, labels. Every value is sealed at
//! rest, whatever its type.

use crate::{
    Clock, ControlConfig, ControlError, Page, PageRequest, Timestamp,
    image::wire_names,
    seal::{KeyFile, Purpose, Sealer},
    store::{ParameterRow, Store},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// Versions that are kept of a parameter; beyond it the oldest goes, unless it has a label.
pub(crate) const VERSIONS_MAX: u64 = 100;
/// Most labels of a version.
const LABELS_MAX: usize = 10;
/// Most levels of a hierarchy.
const LEVELS_MAX: usize = 15;
/// Longest name in characters.
const NAME_CHARS_MAX: usize = 1011;

/// What a parameter holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ParameterType {
    String,
    /// Values between commas.
    StringList,
    /// Given out only to who asks for decryption.
    SecureString,
}

wire_names!(pub ParameterType {
    String => "String",
    StringList => "StringList",
    SecureString => "SecureString",
});

/// Size class: 4 KiB, or 8 KiB with what else AWS charges for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ParameterTier {
    Standard,
    Advanced,
}

wire_names!(pub ParameterTier { Standard => "Standard", Advanced => "Advanced" });

impl ParameterTier {
    /// Longest value in bytes.
    #[must_use]
    pub const fn bytes_max(self) -> usize {
        match self {
            Self::Standard => 4096,
            Self::Advanced => 8192,
        }
    }
}

/// Name of a parameter: `name` or `/path/of/a/name`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ParameterName(String);

impl ParameterName {
    /// # Errors
    /// [`ControlError::BadParameter`].
    pub fn parse(text: &str) -> Result<Self, ControlError> {
        let bad = |why: &str| Err(ControlError::BadParameter(format!("Parameter name: {why}")));
        let good = |c: char| c.is_ascii_alphanumeric() || "_.-/".contains(c);
        if text.is_empty() || !text.chars().all(good) || text.ends_with('/') {
            return bad(
                "can't be prefixed with \"ssm\" or \"aws\" (case-insensitive), and may hold a-z, \
                 A-Z, 0-9, '_', '.', '-' and '/' between levels.",
            );
        }
        if text.contains('/') && !text.starts_with('/') {
            return bad("must be a fully qualified name: begin it with '/'.");
        }
        let first = text.trim_start_matches('/').to_ascii_lowercase();
        if first.starts_with("aws") || first.starts_with("ssm") {
            return bad("can't be prefixed with \"ssm\" or \"aws\" (case-insensitive).");
        }
        if text.len() > NAME_CHARS_MAX || text.matches('/').count() > LEVELS_MAX {
            return bad("may have 1011 characters and 15 levels.");
        }
        Ok(Self(text.to_owned()))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ParameterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is said of a version besides its value.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ParameterAbout {
    pub kind: ParameterType,
    pub tier: ParameterTier,
    pub description: Option<String>,
    /// A regular expression that every value must fit; checked by the caller.
    pub allowed_pattern: Option<String>,
    /// ARN of who wrote it.
    pub modified_by: String,
}

/// A request for a parameter, or a new version of one.
#[derive(Clone)]
pub struct PutParameter {
    pub name: ParameterName,
    pub value: String,
    pub about: ParameterAbout,
    /// What is to be done where there is such a parameter.
    pub existing: Existing,
    pub tags: BTreeMap<String, String>,
}

/// What is to be done about a parameter that is there already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Existing {
    Refuse,
    Overwrite,
}

/// A version of a parameter, opened.
#[derive(Clone, PartialEq, Eq)]
pub struct Parameter {
    pub name: ParameterName,
    pub version: u64,
    pub value: String,
    /// The value as it is at rest; what is given out of a SecureString without decryption.
    pub sealed: String,
    pub about: ParameterAbout,
    pub labels: Vec<String>,
    pub modified_at: Timestamp,
}

impl fmt::Debug for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parameter").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Which version is meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum VersionSelector {
    Newest,
    Number(u64),
    Label(String),
}

/// The parameters of this Warren.
pub struct Parameters {
    store: Arc<Store>,
    sealer: Sealer,
    clock: Arc<dyn Clock>,
    arn_prefix: String,
}

impl Parameters {
    pub(crate) fn new(
        store: Arc<Store>,
        key: &KeyFile,
        clock: Arc<dyn Clock>,
        config: &ControlConfig,
    ) -> Self {
        let ControlConfig { region, account, .. } = config;
        let arn_prefix = format!("arn:aws:ssm:{region}:{account}:parameter");
        Self { store, sealer: key.sealer(Purpose::ParameterValue), clock, arn_prefix }
    }

    /// `arn:aws:ssm:<region>:<account>:parameter/<name>`; a name's own `/` is not repeated.
    #[must_use]
    pub fn arn(&self, name: &str) -> String {
        format!("{}/{}", self.arn_prefix, name.strip_prefix('/').unwrap_or(name))
    }

    /// Answers the version.
    ///
    /// # Errors
    /// [`ControlError::ParameterExists`], [`ControlError::BadParameter`],
    /// [`ControlError::ParameterVersionsFull`].
    pub async fn put(&self, request: PutParameter) -> Result<u64, ControlError> {
        let PutParameter { name, value, about, existing, tags } = request;
        let max = about.tier.bytes_max();
        if value.is_empty() || value.len() > max {
            return Err(ControlError::BadParameter(format!(
                "{} tier parameters support a maximum parameter value of {max} characters.",
                about.tier.as_str()
            )));
        }
        // The version is not known before the row is written: the name alone binds the value.
        let row = ParameterRow {
            name,
            version: 0,
            sealed: String::new(),
            about,
            labels: Vec::new(),
            modified_at: self.clock.now(),
        };
        let seal = |version: u64| self.sealer.seal(&place(&row.name, version), value.as_bytes());
        self.store.put_parameter(&row, existing, &tags, &seal).await
    }

    /// # Errors
    /// [`ControlError::ParameterNotFound`], [`ControlError::ParameterVersionNotFound`].
    pub async fn get(
        &self,
        name: &ParameterName,
        which: &VersionSelector,
    ) -> Result<Parameter, ControlError> {
        let row = match which {
            VersionSelector::Newest => self.store.newest_parameter(name).await?,
            VersionSelector::Number(_) | VersionSelector::Label(_) => {
                let versions = self.store.parameter_versions(name).await?;
                if versions.is_empty() {
                    return Err(ControlError::ParameterNotFound(name.to_string()));
                }
                let found = versions.into_iter().find(|row| match which {
                    VersionSelector::Newest => true,
                    VersionSelector::Number(version) => row.version == *version,
                    VersionSelector::Label(label) => row.labels.contains(label),
                });
                let missing = || ControlError::ParameterVersionNotFound(name.to_string());
                return self.opened(found.ok_or_else(missing)?);
            }
        };
        self.opened(row.ok_or_else(|| ControlError::ParameterNotFound(name.to_string()))?)
    }

    /// The newest versions of parameters by name, those that begin with `prefix`.
    ///
    /// # Errors
    /// [`ControlError::BadPageToken`].
    pub async fn list(
        &self,
        prefix: &str,
        page: PageRequest,
    ) -> Result<Page<Parameter>, ControlError> {
        let Page { items, next_token } = self.store.list_parameters(prefix, &page).await?;
        let items = items.into_iter().map(|row| self.opened(row)).collect::<Result<_, _>>()?;
        Ok(Page { items, next_token })
    }

    /// Every version that is kept, oldest first.
    ///
    /// # Errors
    /// [`ControlError::ParameterNotFound`].
    pub async fn history(&self, name: &ParameterName) -> Result<Vec<Parameter>, ControlError> {
        let rows = self.store.parameter_versions(name).await?;
        if rows.is_empty() {
            return Err(ControlError::ParameterNotFound(name.to_string()));
        }
        rows.into_iter().map(|row| self.opened(row)).collect()
    }

    /// Moves labels to a version (none: the newest). Answers the version.
    ///
    /// # Errors
    /// [`ControlError::ParameterNotFound`], [`ControlError::ParameterVersionNotFound`],
    /// [`ControlError::BadParameter`] beyond ten labels.
    pub async fn label(
        &self,
        name: &ParameterName,
        version: Option<u64>,
        labels: &[String],
    ) -> Result<u64, ControlError> {
        let mut versions = self.store.parameter_versions(name).await?;
        let newest = versions.last().map(|row| row.version);
        let newest = newest.ok_or_else(|| ControlError::ParameterNotFound(name.to_string()))?;
        let wanted = version.unwrap_or(newest);
        if !versions.iter().any(|row| row.version == wanted) {
            return Err(ControlError::ParameterVersionNotFound(name.to_string()));
        }
        for row in &mut versions {
            row.labels.retain(|label| !labels.contains(label));
            if row.version == wanted {
                row.labels.extend(labels.iter().cloned());
            }
            if row.labels.len() > LABELS_MAX {
                return Err(ControlError::BadParameter(format!(
                    "A parameter version can have maximum {LABELS_MAX} labels."
                )));
            }
        }
        self.store.set_parameter_labels(&versions).await?;
        Ok(wanted)
    }

    /// Takes labels from a version; answers those that it had not.
    ///
    /// # Errors
    /// [`ControlError::ParameterNotFound`], [`ControlError::ParameterVersionNotFound`].
    pub async fn unlabel(
        &self,
        name: &ParameterName,
        version: u64,
        labels: &[String],
    ) -> Result<Vec<String>, ControlError> {
        let mut versions = self.store.parameter_versions(name).await?;
        if versions.is_empty() {
            return Err(ControlError::ParameterNotFound(name.to_string()));
        }
        let row = versions.iter_mut().find(|row| row.version == version);
        let row = row.ok_or_else(|| ControlError::ParameterVersionNotFound(name.to_string()))?;
        let missing = labels.iter().filter(|label| !row.labels.contains(label)).cloned().collect();
        row.labels.retain(|label| !labels.contains(label));
        self.store.set_parameter_labels(&versions).await?;
        Ok(missing)
    }

    /// Whether there was one.
    ///
    /// # Errors
    /// [`ControlError::Store`].
    pub async fn delete(&self, name: &ParameterName) -> Result<bool, ControlError> {
        self.store.delete_parameter(name).await
    }

    /// # Errors
    /// [`ControlError::ParameterNotFound`].
    pub async fn tags(
        &self,
        name: &ParameterName,
    ) -> Result<BTreeMap<String, String>, ControlError> {
        self.store.parameter_tags(name).await
    }

    /// # Errors
    /// [`ControlError::ParameterNotFound`].
    pub async fn set_tags(
        &self,
        name: &ParameterName,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), ControlError> {
        self.store.set_parameter_tags(name, tags).await
    }

    fn opened(&self, row: ParameterRow) -> Result<Parameter, ControlError> {
        let plain = self.sealer.open(&place(&row.name, row.version), &row.sealed);
        let value = plain.and_then(|plain| String::from_utf8(plain).ok());
        let value = value.ok_or_else(|| self.sealer.unsealable())?;
        let ParameterRow { name, version, sealed, about, labels, modified_at } = row;
        Ok(Parameter { name, version, value, sealed, about, labels, modified_at })
    }
}

/// What a sealed value is bound to: it opens in no other parameter and no other version.
fn place(name: &ParameterName, version: u64) -> String {
    format!("{name} {version}")
}

impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parameters").finish_non_exhaustive()
    }
}
