//! The agent's skills, laid out as `skills/<name>/` in the working directory for as long as an item lasts.
//!
//! A skill that cannot be had is left out with a warning: the session goes on without it, as with the
//! official worker.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agents::SkillRef;
use agents::client::{Client, ClientError, TransportError};
use tokio::fs;
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use super::archive::{self, ArchiveError};
use crate::tools::{ToolsetOptions, trusted_program};

/// Longest archive, in bytes.
const ARCHIVE_LEN_MAX: u64 = 512 << 20;
const DIR_MODE: u32 = 0o700;

/// Why a skill is left out.
#[derive(Debug, thiserror::Error)]
enum SkillError {
    #[error(transparent)]
    Platform(#[from] ClientError),
    #[error("its archive broke off")]
    Download(#[from] TransportError),
    #[error("its archive is longer than {ARCHIVE_LEN_MAX} bytes")]
    TooLong,
    #[error("{path} cannot be made")]
    Disk {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("its name is no name of a directory")]
    Name,
    #[error("it was not unpacked to its end")]
    BrokeOff,
}

/// The directories that were made.
#[derive(Debug, Default)]
pub(super) struct Skills(Vec<PathBuf>);

impl Skills {
    /// Installs what can be had of `wanted`.
    pub(super) async fn install(
        client: &Client,
        tools: &ToolsetOptions,
        wanted: &[SkillRef],
    ) -> Self {
        let mut made = Vec::new();
        for skill in wanted {
            match install(client, tools, skill).await {
                Ok(dir) => {
                    tracing::info!(skill = skill.skill_id, dir = %dir.display(), "a skill is installed");
                    made.push(dir);
                }
                Err(error) => tracing::warn!(
                    skill = skill.skill_id,
                    error = &error as &dyn std::error::Error,
                    "a skill is left out"
                ),
            }
        }
        Self(made)
    }

    /// Removes them: the next item brings its own.
    pub(super) async fn remove(self) {
        for dir in self.0 {
            if let Err(error) = remove(&dir).await {
                tracing::warn!(dir = %dir.display(), %error, "a skill stays");
            }
        }
    }
}

async fn install(
    client: &Client,
    tools: &ToolsetOptions,
    skill: &SkillRef,
) -> Result<PathBuf, SkillError> {
    let version = client.skill_version(&skill.skill_id, &skill.version).await?;
    let root = tools.workdir.join("skills");
    let dest = root.join(dir_name(&version.name, &skill.skill_id).ok_or(SkillError::Name)?);
    // Beside the skill, so that what is unpacked can be renamed into its place.
    let stage = root.join(format!(".skill-stage-{}", Uuid::new_v4()));
    let unpacked = stage.join("skill");
    make_dir(&unpacked).await?;
    let result = async {
        let file = stage.join("archive");
        download(client, &skill.skill_id, &version.id, &file).await?;
        let (into, tools) = (unpacked.clone(), Arc::new(tools.clone()));
        tokio::task::spawn_blocking(move || {
            archive::unpack(&file, &into, |name| trusted_program(name, &tools))
        })
        .await
        .map_err(|_| SkillError::BrokeOff)??;
        let disk = |source| SkillError::Disk { path: dest.clone(), source };
        remove(&dest).await.map_err(disk)?;
        fs::rename(&unpacked, &dest).await.map_err(disk)
    };
    let result = result.await;
    // Its leftovers only take room.
    let _ = remove(&stage).await;
    result.map(|()| dest)
}

async fn download(
    client: &Client,
    skill: &str,
    version: &str,
    file: &Path,
) -> Result<(), SkillError> {
    let disk = |source| SkillError::Disk { path: file.to_owned(), source };
    let mut content = client.skill_content(skill, version).await?;
    let mut out = fs::File::create_new(file).await.map_err(disk)?;
    let mut len = 0;
    while let Some(piece) = content.next().await? {
        len += piece.len() as u64;
        if len > ARCHIVE_LEN_MAX {
            return Err(SkillError::TooLong);
        }
        out.write_all(&piece).await.map_err(disk)?;
    }
    out.flush().await.map_err(disk)
}

async fn make_dir(path: &Path) -> Result<(), SkillError> {
    let made = fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(path).await;
    made.map_err(|source| SkillError::Disk { path: path.to_owned(), source })
}

/// Whatever is there is gone afterwards.
async fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path).await {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path).await,
        Ok(_) => fs::remove_file(path).await,
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The last part of a skill's name, else its id, if that is the name of a directory.
fn dir_name<'a>(name: &'a str, id: &'a str) -> Option<&'a str> {
    let last = |text: &'a str| text.trim().trim_end_matches('/').rsplit('/').next();
    let is_name = |text: &&str| !matches!(*text, "" | "." | "..") && !text.contains(['/', '\0']);
    last(name).filter(is_name).or_else(|| Some(id).filter(is_name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_skill_leads_out_of_its_directory() {
        assert_eq!(dir_name("pdf", "skill_1"), Some("pdf"));
        assert_eq!(dir_name(" ../../etc/cron.d/ ", "skill_1"), Some("cron.d"));
        assert_eq!(dir_name("..", "skill_1"), Some("skill_1"));
        assert_eq!(dir_name("", "a/b"), None);
    }
}
