//! Secrets with versions and stages, as Secrets Manager has them; values are sealed at rest.

use crate::{
    Clock, ControlConfig, ControlError, Page, PageRequest, SecretName, Timestamp,
    seal::{KeyFile, Purpose, Sealer},
    store::{SecretRow, SecretVersionRow, Store},
};
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};
use uuid::Uuid;

/// A secret's value; never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretValue {
    Text(String),
    Binary(Vec<u8>),
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text(_) => "SecretValue::Text(…)",
            Self::Binary(_) => "SecretValue::Binary(…)",
        })
    }
}

/// Stage of the version that Get answers with when nothing is said.
pub const STAGE_CURRENT: &str = "AWSCURRENT";
/// Stage of the version that was current before.
pub const STAGE_PREVIOUS: &str = "AWSPREVIOUS";
/// Stage of a version that is being prepared.
pub const STAGE_PENDING: &str = "AWSPENDING";

/// Most tags of a secret, as on AWS.
const SECRET_TAGS_MAX: usize = 50;

/// Longest value in bytes.
pub const SECRET_BYTES_MAX: usize = 65_536;

/// A request for a new secret.
#[derive(Clone, Debug)]
pub struct CreateSecret {
    pub name: SecretName,
    pub description: Option<String>,
    /// None: a secret without a version yet.
    pub value: Option<SecretValue>,
    /// `ClientRequestToken`, which becomes the version's id; none: one is made.
    pub version_id: Option<String>,
    pub tags: BTreeMap<String, String>,
}

/// A request for a new version of a secret.
#[derive(Clone, Debug)]
pub struct PutSecret {
    /// Name or ARN.
    pub secret: String,
    pub value: SecretValue,
    /// `ClientRequestToken`, which becomes the version's id; none: one is made.
    pub version_id: Option<String>,
    /// Stages that move to this version; empty: [`STAGE_CURRENT`].
    pub stages: Vec<String>,
}

/// Which version is meant. Neither: [`STAGE_CURRENT`]. Both: they must agree.
#[derive(Clone, Debug, Default)]
pub struct SecretSelector {
    pub version_id: Option<String>,
    pub stage: Option<String>,
}

/// A version that was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SecretVersion {
    pub arn: String,
    pub name: SecretName,
    pub version_id: String,
    pub stages: Vec<String>,
}

/// A version with its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenedSecret {
    pub version: SecretVersion,
    pub value: SecretValue,
    pub created_at: Timestamp,
}

/// All of a secret but its values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Secret {
    pub arn: String,
    pub name: SecretName,
    pub description: Option<String>,
    pub tags: BTreeMap<String, String>,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
    /// When it is removed for good; none while it is not marked for deletion.
    pub deletion_at: Option<Timestamp>,
    /// Version ids with their stages; versions without a stage are not listed.
    pub versions: Vec<(String, Vec<String>)>,
}

/// How a secret is deleted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SecretDeletion {
    /// At once and for good.
    Force,
    /// After this long; 7 to 30 days on AWS.
    After(Duration),
}

/// The secrets of this Warren.
pub struct Secrets {
    store: Arc<Store>,
    sealer: Sealer,
    clock: Arc<dyn Clock>,
    /// `arn:aws:secretsmanager:<region>:<account>:secret:`.
    arn_prefix: String,
}

impl Secrets {
    pub(crate) fn new(
        store: Arc<Store>,
        key: &KeyFile,
        clock: Arc<dyn Clock>,
        config: &ControlConfig,
    ) -> Self {
        let ControlConfig { region, account, .. } = config;
        let arn_prefix = format!("arn:aws:secretsmanager:{region}:{account}:secret:");
        Self { store, sealer: key.sealer(Purpose::SecretValue), clock, arn_prefix }
    }

    /// # Errors
    /// [`ControlError::SecretExists`], unless version id and value are those of before (a repeated
    /// request); [`ControlError::BadSecretRequest`] for a value that is too long.
    pub async fn create(&self, request: CreateSecret) -> Result<SecretVersion, ControlError> {
        let CreateSecret { name, description, value, version_id, tags } = request;
        // One that is past its time makes room for a new one of its name.
        match self.find(name.as_str()).await {
            Ok(_) | Err(ControlError::SecretNotFound(_)) => {}
            Err(error) => return Err(error),
        }
        let now = self.clock.now();
        let secret = Secret {
            // The random tail is AWS's: a secret that is made anew has another ARN.
            arn: format!("{}{name}-{}", self.arn_prefix, random_tail()),
            name: name.clone(),
            description,
            tags,
            created_at: now,
            changed_at: now,
            deletion_at: None,
            versions: Vec::new(),
        };
        let version_id = version_id.unwrap_or_else(new_version_id);
        let first = match &value {
            Some(value) => Some(self.sealed(&name, &version_id, value)?),
            None => None,
        };
        match (self.store.insert_secret(&secret, first.as_ref()).await, value) {
            (Ok(()), value) => {
                let stages = value.map(|_| STAGE_CURRENT.to_owned()).into_iter().collect();
                Ok(SecretVersion { arn: secret.arn, name, version_id, stages })
            }
            (Err(ControlError::SecretExists(exists)), Some(value)) => {
                let found = self.find(name.as_str()).await?;
                if found.deletion_at.is_some() {
                    return Err(ControlError::SecretDeleted(exists));
                }
                if !self.has_value(&found.name, &version_id, &value).await? {
                    return Err(ControlError::SecretExists(exists));
                }
                self.version(found, version_id).await
            }
            (Err(error), _) => Err(error),
        }
    }

    /// # Errors
    /// [`ControlError::SecretNotFound`]; [`ControlError::SecretVersionTaken`] where the version id
    /// has another value; [`ControlError::SecretDeleted`]; [`ControlError::BadSecretRequest`].
    pub async fn put(&self, request: PutSecret) -> Result<SecretVersion, ControlError> {
        let found = self.find_usable(&request.secret).await?;
        let version_id = request.version_id.unwrap_or_else(new_version_id);
        let stages = match request.stages {
            none if none.is_empty() => vec![STAGE_CURRENT.to_owned()],
            stages => stages,
        };
        let row = self.sealed(&found.name, &version_id, &request.value)?;
        let written = self.store.put_secret_version(&found.name, &row, &stages).await?;
        if !written && !self.has_value(&found.name, &version_id, &request.value).await? {
            return Err(ControlError::SecretVersionTaken);
        }
        self.version(found, version_id).await
    }

    /// `secret` is a name or ARN.
    ///
    /// # Errors
    /// [`ControlError::SecretNotFound`], [`ControlError::SecretVersionNotFound`],
    /// [`ControlError::SecretDeleted`].
    pub async fn get(
        &self,
        secret: &str,
        which: SecretSelector,
    ) -> Result<OpenedSecret, ControlError> {
        let found = self.find_usable(secret).await?;
        let stages = self.store.secret_stages(&found.name).await?;
        let SecretSelector { version_id, stage } = which;
        let staged = match (&version_id, stage.as_deref()) {
            (Some(_), None) => None,
            (None, None) => Some(STAGE_CURRENT),
            (_, Some(stage)) => Some(stage),
        };
        let of_stage = |stage: &str| {
            stages.iter().find(|(name, _)| name == stage).map(|(_, version_id)| version_id.clone())
        };
        let absent = || ControlError::SecretVersionNotFound {
            name: found.name.to_string(),
            what: match (&version_id, staged) {
                (Some(id), Some(stage)) => format!("VersionId {id} and staging label {stage}"),
                (Some(id), None) => format!("VersionId {id}"),
                (None, stage) => format!("staging label {}", stage.unwrap_or(STAGE_CURRENT)),
            },
        };
        let wanted = match (version_id.clone(), staged.map(of_stage)) {
            (Some(id), None) => id,
            (Some(id), Some(Some(of_stage))) if id == of_stage => id,
            (None, Some(Some(of_stage))) => of_stage,
            (Some(_), Some(_)) | (None, Some(None) | None) => return Err(absent()),
        };
        let row = self.store.secret_version(&found.name, &wanted).await?.ok_or_else(absent)?;
        let value = self.opened(&found.name, &row)?;
        let version = self.version(found, wanted).await?;
        Ok(OpenedSecret { version, value, created_at: row.created_at })
    }

    /// # Errors
    /// [`ControlError::SecretNotFound`].
    pub async fn describe(&self, secret: &str) -> Result<Secret, ControlError> {
        let found = self.find(secret).await?;
        let described = self.store.describe_secret(&found.name).await?;
        described.ok_or_else(|| ControlError::SecretNotFound(secret.to_owned()))
    }

    /// By name, without those marked for deletion.
    ///
    /// # Errors
    /// [`ControlError::BadPageToken`].
    pub async fn list(&self, page: PageRequest) -> Result<Page<Secret>, ControlError> {
        self.store.list_secrets(&page).await
    }

    /// Answers the secret as it was, with the time of its removal.
    ///
    /// # Errors
    /// [`ControlError::SecretNotFound`].
    pub async fn delete(&self, secret: &str, how: SecretDeletion) -> Result<Secret, ControlError> {
        let mut described = self.describe(secret).await?;
        let now = self.clock.now();
        match how {
            SecretDeletion::Force => {
                self.store.remove_secret(&described.name).await?;
                described.deletion_at = Some(now);
            }
            SecretDeletion::After(wait) => {
                let deletion_at = Some(now.plus(wait));
                self.store.mark_secret(&described.name, deletion_at).await?;
                described.deletion_at = deletion_at;
            }
        }
        Ok(described)
    }

    /// Takes a mark for deletion back.
    ///
    /// # Errors
    /// [`ControlError::SecretNotFound`].
    pub async fn restore(&self, secret: &str) -> Result<Secret, ControlError> {
        let found = self.find(secret).await?;
        self.store.mark_secret(&found.name, None).await?;
        self.describe(secret).await
    }

    /// Moves a stage to a version, or takes it away. Who moves it says where it is now.
    ///
    /// # Errors
    /// [`ControlError::SecretNotFound`], [`ControlError::SecretDeleted`],
    /// [`ControlError::SecretVersionNotFound`], [`ControlError::BadSecretRequest`].
    pub async fn move_stage(
        &self,
        secret: &str,
        stage: &str,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<(), ControlError> {
        let found = self.find_usable(secret).await?;
        let stages = self.store.secret_stages(&found.name).await?;
        let holder = stages.iter().find(|(name, _)| name == stage).map(|(_, id)| id.as_str());
        let refused = |why: String| Err(ControlError::BadSecretRequest(why));
        match (holder, from, to) {
            (_, None, None) => {
                return refused("Name a version to move the staging label to or from.".to_owned());
            }
            (Some(holder), from, _) if from != Some(holder) && to != Some(holder) => {
                return refused(format!(
                    "The parameter RemoveFromVersionId can't be empty or another. Staging label \
                     {stage} is currently attached to version {holder}, so you must explicitly \
                     reference that version in RemoveFromVersionId."
                ));
            }
            (None, Some(from), _) => {
                return refused(format!(
                    "The staging label {stage} isn't attached to version {from}."
                ));
            }
            (_, _, None) if stage == STAGE_CURRENT => {
                return refused(format!(
                    "You can only move staging label {STAGE_CURRENT} to a different secret \
                     version. It can't be completely removed."
                ));
            }
            (_, _, _) => {}
        }
        if let Some(to) = to
            && self.store.secret_version(&found.name, to).await?.is_none()
        {
            let (name, what) = (found.name.to_string(), format!("VersionId {to}"));
            return Err(ControlError::SecretVersionNotFound { name, what });
        }
        self.store.set_secret_stage(&found.name, stage, to, self.clock.now()).await
    }

    /// Every version that is kept: id, time of its making, stages.
    ///
    /// # Errors
    /// [`ControlError::SecretNotFound`].
    pub async fn versions(
        &self,
        secret: &str,
    ) -> Result<Vec<(String, Timestamp, Vec<String>)>, ControlError> {
        let found = self.find(secret).await?;
        let stages = self.store.secret_stages(&found.name).await?;
        let versions = self.store.secret_versions(&found.name).await?.into_iter();
        let with_stages = versions.map(|(id, created_at)| {
            let stages = stages.iter().filter(|(_, of)| *of == id);
            let stages = stages.map(|(stage, _)| stage.clone()).collect();
            (id, created_at, stages)
        });
        Ok(with_stages.collect())
    }

    /// Replaces description and tags, where they are given.
    ///
    /// # Errors
    /// [`ControlError::SecretNotFound`], [`ControlError::SecretDeleted`],
    /// [`ControlError::TooManyTags`].
    pub async fn describe_anew(
        &self,
        secret: &str,
        description: Option<&str>,
        tags: Option<&BTreeMap<String, String>>,
    ) -> Result<(), ControlError> {
        let found = self.find_usable(secret).await?;
        if tags.is_some_and(|tags| tags.len() > SECRET_TAGS_MAX) {
            return Err(ControlError::TooManyTags { max: SECRET_TAGS_MAX });
        }
        self.store.describe_secret_anew(&found.name, description, tags, self.clock.now()).await
    }

    async fn find(&self, secret: &str) -> Result<SecretRow, ControlError> {
        let absent = || ControlError::SecretNotFound(secret.to_owned());
        let found = self.store.find_secret(secret).await?.ok_or_else(absent)?;
        // What is past its time is gone, whether or not it has been swept up.
        if found.deletion_at.is_some_and(|at| at <= self.clock.now()) {
            self.store.remove_secret(&found.name).await?;
            return Err(absent());
        }
        Ok(found)
    }

    async fn find_usable(&self, secret: &str) -> Result<SecretRow, ControlError> {
        let found = self.find(secret).await?;
        match found.deletion_at {
            Some(_) => Err(ControlError::SecretDeleted(found.name.to_string())),
            None => Ok(found),
        }
    }

    async fn version(
        &self,
        SecretRow { name, arn, .. }: SecretRow,
        version_id: String,
    ) -> Result<SecretVersion, ControlError> {
        let stages = self.store.secret_stages(&name).await?.into_iter();
        let stages = stages.filter(|(_, id)| *id == version_id).map(|(stage, _)| stage).collect();
        Ok(SecretVersion { arn, name, version_id, stages })
    }

    async fn has_value(
        &self,
        name: &SecretName,
        version_id: &str,
        value: &SecretValue,
    ) -> Result<bool, ControlError> {
        match self.store.secret_version(name, version_id).await? {
            Some(row) => Ok(self.opened(name, &row)? == *value),
            None => Ok(false),
        }
    }

    fn sealed(
        &self,
        name: &SecretName,
        version_id: &str,
        value: &SecretValue,
    ) -> Result<SecretVersionRow, ControlError> {
        let (kind, bytes) = match value {
            SecretValue::Text(text) => (KIND_TEXT, text.as_bytes()),
            SecretValue::Binary(bytes) => (KIND_BINARY, bytes.as_slice()),
        };
        if bytes.is_empty() || bytes.len() > SECRET_BYTES_MAX {
            return Err(ControlError::BadSecretRequest(format!(
                "the value of secret {name} has {} bytes; it must have 1 to {SECRET_BYTES_MAX}",
                bytes.len()
            )));
        }
        let plain = [&[kind], bytes].concat();
        Ok(SecretVersionRow {
            version_id: version_id.to_owned(),
            sealed: self.sealer.seal(&place(name, version_id), &plain),
            created_at: self.clock.now(),
        })
    }

    fn opened(
        &self,
        name: &SecretName,
        row: &SecretVersionRow,
    ) -> Result<SecretValue, ControlError> {
        let plain = self.sealer.open(&place(name, &row.version_id), &row.sealed);
        let value = plain.and_then(|plain| match plain.split_first() {
            Some((&KIND_TEXT, text)) => {
                String::from_utf8(text.to_vec()).ok().map(SecretValue::Text)
            }
            Some((&KIND_BINARY, bytes)) => Some(SecretValue::Binary(bytes.to_vec())),
            Some(_) | None => None,
        });
        value.ok_or_else(|| self.sealer.unsealable())
    }
}

/// First byte of a sealed value.
const KIND_TEXT: u8 = b't';
const KIND_BINARY: u8 = b'b';

/// What a sealed value is bound to: it opens in no other secret and no other version.
fn place(name: &SecretName, version_id: &str) -> String {
    format!("{name} {version_id}")
}

fn new_version_id() -> String {
    Uuid::new_v4().hyphenated().to_string()
}

fn random_tail() -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    (0..6).map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())])).collect()
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}
