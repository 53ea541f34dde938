//! Where artifacts come from: Warren's S3, read with the rights of the role that builds; and the
//! bucket in which Warren keeps its own.

use async_trait::async_trait;
use aws::{ObjectFault, ObjectReader, RoleObject};
use control::{ArtifactSource, BuildFailure, RoleArn};
use futures::TryStreamExt;
use objects::{BadName, BucketName, Condition, ObjectKey, Objects, ObjectsError, Traits};
use std::{io, path::Path};
use tokio::{io::AsyncWriteExt, sync::SetOnce};
use tokio_util::io::StreamReader;

/// The bucket of what `warren image build` and Warren itself upload.
pub(crate) const BUCKET: &str = "warren-artifacts";

/// Artifacts in S3. Who reads as a role is known after the control plane has begun; who fetches
/// before waits.
pub(crate) struct Artifacts {
    pub(super) reader: SetOnce<ObjectReader>,
}

#[async_trait]
impl ArtifactSource for Artifacts {
    async fn fetch(&self, role: &RoleArn, uri: &str, file: &Path) -> Result<(), BuildFailure> {
        let opened = self.reader.wait().await.open(uri, role).await;
        let object = opened.map_err(|ObjectFault { reason, message }| BuildFailure {
            code: reason.as_str(),
            message,
        })?;
        write(object, file).await.map_err(|error| {
            let full = error.kind() == io::ErrorKind::StorageFull;
            let code = if full { "DISK_STORAGE_FULL" } else { "INTERNAL_PLATFORM_ERROR" };
            BuildFailure { code, message: format!("{uri} cannot be fetched: {error}.") }
        })
    }
}

async fn write(object: RoleObject, path: &Path) -> io::Result<()> {
    let mut content = StreamReader::new(object.content.map_err(io::Error::other));
    let mut file = tokio::fs::File::create_new(path).await?;
    tokio::io::copy(&mut content, &mut file).await?;
    file.flush().await
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("the artifact cannot be kept in S3")]
    Objects(#[from] ObjectsError),
    #[error("the artifact cannot be named in S3")]
    Name(#[from] BadName),
}

/// Puts an artifact into Warren's own bucket, which is made where it is missing; returns its address.
pub(crate) async fn store(objects: &Objects, key: &str, zip: &[u8]) -> Result<String, StoreError> {
    let (bucket, name) = (BucketName::parse(BUCKET)?, ObjectKey::parse(key)?);
    match objects.require_bucket(&bucket).await {
        Err(ObjectsError::NoSuchBucket(_)) => objects.create_bucket(&bucket).await?,
        there => there?,
    }
    let mut incoming = objects.begin(None, u64::MAX)?;
    incoming.write(zip).await?;
    let written = incoming.finish().await?;
    objects.put((&bucket, &name), Traits::default(), written, &Condition::None).await?;
    Ok(format!("s3://{BUCKET}/{key}"))
}
