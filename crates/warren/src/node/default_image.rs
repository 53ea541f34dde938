//! The image `claude-worker`: a Dockerfile that is in this binary, and the worker beside it.
//!
//! It is built when it is missing, and again when either of the two has changed (their digest
//! stands in the version's description) or the engine does not take its template any more.

use super::artifacts::{StoreError, store};
use crate::{
    failure::Remedy,
    image_file::{self, ImageFile, ImageFileError, Overrides},
    service::{Upload, start_build},
};
use control::{Control, ControlError, ImageName, StartedBuild};
use objects::Objects;
use sha2::{Digest, Sha256};
use std::{
    io::{self, Cursor, Write},
    path::{Path, PathBuf},
};
use zip::{ZipWriter, result::ZipError, write::SimpleFileOptions};

pub(crate) const NAME: &str = "claude-worker";
const IMAGE_TOML: &str = include_str!("../../../../images/claude-worker/image.toml");
const DOCKERFILE: &str = include_str!("../../../../images/claude-worker/Dockerfile");
const WORKER: &str = "warren-worker";

#[derive(Debug, thiserror::Error)]
pub(crate) enum DefaultImageError {
    #[error("{path} cannot be used")]
    File {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the image {NAME} cannot be built")]
    Control(#[from] ControlError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    ImageToml(#[from] ImageFileError),
}

impl Remedy for DefaultImageError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::File { .. } | Self::Store(_) => {
                Some("`make build` makes the worker; is the disk full?".into())
            }
            Self::Control(e) => e.hint(),
            Self::ImageToml(e) => e.hint(),
        }
    }
}

/// Begins to build the image unless what there is was made from this very worker and can
/// be launched.
pub(crate) async fn ensure(
    control: &Control,
    objects: &Objects,
    libexec_dir: &Path,
) -> Result<Option<StartedBuild>, DefaultImageError> {
    let worker = libexec_dir.join(WORKER);
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| DefaultImageError::File { path, source }
    };
    let program = tokio::fs::read(&worker).await.map_err(file(&worker))?;
    let mark = mark(&program);
    if is_current(control, &mark).await? {
        return Ok(None);
    }
    let zip = pack(&program).map_err(|e| file(&worker)(e.into()))?;
    let artifact_uri = store(objects, &format!("{NAME}.zip"), &zip).await?;
    let file = ImageFile::parse(PathBuf::from(image_file::FILE), IMAGE_TOML)?;
    let upload = Upload {
        asked: file.resolve(Overrides::default(), NAME.into()),
        artifact_uri,
        description: Some(mark),
    };
    Ok(Some(start_build(control, upload).await?))
}

fn pack(program: &[u8]) -> Result<Vec<u8>, ZipError> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("Dockerfile", SimpleFileOptions::default())?;
    zip.write_all(DOCKERFILE.as_bytes())?;
    zip.start_file(WORKER, SimpleFileOptions::default().unix_permissions(0o755))?;
    zip.write_all(program)?;
    Ok(zip.finish()?.into_inner())
}

fn mark(program: &[u8]) -> String {
    let mut digest = Sha256::new();
    digest.update(DOCKERFILE);
    digest.update(IMAGE_TOML);
    digest.update(program);
    format!("made by Warren from {}", hex::encode(digest.finalize()))
}

async fn is_current(control: &Control, mark: &str) -> Result<bool, DefaultImageError> {
    let name = ImageName::parse(NAME).map_err(ControlError::from)?;
    let image = match control.images().get(&name).await {
        Ok(image) => image,
        Err(ControlError::ImageNotFound(_)) => return Ok(false),
        Err(e) => return Err(e.into()),
    };
    let Some(latest) = image.latest_active_version else { return Ok(false) };
    let version = control.images().version(&name, latest).await?;
    // An image of this name that a user has built is left alone.
    Ok(match version.spec.description.as_deref() {
        Some(description) if description.starts_with("made by Warren from ") => {
            description == mark && control.is_launchable(&name).await?
        }
        Some(_) | None => true,
    })
}
