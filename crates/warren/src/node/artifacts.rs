//! Where artifacts come from: uploads on this host, under the name of a bucket that is Warren's own.

use async_trait::async_trait;
use control::{ArtifactSource, BuildFailure, RoleArn};
use std::path::{Path, PathBuf};

/// The bucket of what Warren itself uploads.
pub(crate) const BUCKET: &str = "warren-artifacts";

pub(crate) struct Uploads(pub(crate) PathBuf);

#[async_trait]
impl ArtifactSource for Uploads {
    async fn fetch(&self, _: &RoleArn, uri: &str, file: &Path) -> Result<(), BuildFailure> {
        let key = uri.strip_prefix("s3://").and_then(|path| path.strip_prefix(BUCKET));
        let key = key.and_then(|key| key.strip_prefix('/')).filter(|key| !key.contains('/'));
        let Some(key) = key else {
            let message = format!("There is no bucket for {uri}.");
            return Err(BuildFailure { code: "S3_NO_SUCH_BUCKET", message });
        };
        let copied = tokio::fs::copy(self.0.join(key), file).await;
        copied.map(drop).map_err(|e| BuildFailure {
            code: "S3_NO_SUCH_KEY",
            message: format!("{uri} cannot be read: {e}."),
        })
    }
}
