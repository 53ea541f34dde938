//! Rows of builds: the beginning of each with its version, and its end.

use super::{
    Claim, ImageDocument, Store, at, corrupt, doing,
    images::{ImageContent, resource, stored_version},
    quota, signed, stored_id, to_json, unsigned, variant,
};
use crate::{
    Build, BuildId, BuildState, ControlError, ImageArn, ImageName, ImageSpec, ImageState,
    ImageVersion, Quotas, SnapshotSizes, Timestamp, VersionState, VersionStatus,
};
use engine::TemplateId;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use std::collections::BTreeMap;

/// A version that is to be built, of an image that is new or not.
#[derive(Clone, Debug)]
pub(crate) struct NewBuild<'a> {
    pub(crate) image: &'a ImageName,
    pub(crate) of: BuildOf<'a>,
    pub(crate) spec: &'a ImageSpec,
    pub(crate) build: &'a BuildId,
    pub(crate) claim: Option<&'a Claim>,
    pub(crate) quotas: &'a Quotas,
    pub(crate) now: Timestamp,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum BuildOf<'a> {
    NewImage { tags: &'a BTreeMap<String, String> },
    Existing,
}

/// What [`Store::begin_build`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Begun {
    Now(ImageVersion),
    /// An equal request began this version before.
    Earlier(ImageVersion),
}

/// How a build ended.
#[derive(Clone, Debug)]
pub(crate) enum BuildOutcome {
    Successful {
        template: TemplateId,
        content: ImageContent,
        sizes: SnapshotSizes,
        cold_boot_ms: u64,
    },
    Failed {
        reason: String,
        /// Known where the container was built.
        code_bytes: Option<u64>,
    },
}

impl Store {
    /// # Errors
    /// [`ControlError::ImageExists`], [`ControlError::ImageNotFound`], [`ControlError::ImageBusy`],
    /// [`ControlError::ClientTokenReused`].
    pub(crate) async fn begin_build(&self, new: &NewBuild<'_>) -> Result<Begun, ControlError> {
        let failed = doing("writing an image's version");
        let mut tx = self.state.writer.begin().await.map_err(&failed)?;
        if let Some(claim) = new.claim
            && let Some(earlier) = claim.earlier(&mut tx).await?
        {
            let major = earlier.rsplit(':').next().unwrap_or_default();
            let major = major.parse().map_err(|_| corrupt("a client token's version", &earlier))?;
            return Ok(Begun::Earlier(ImageVersion::from_major(major)));
        }
        let last: Option<(i64, String)> =
            sqlx::query_as("SELECT last_major, state FROM images WHERE name = $1")
                .bind(new.image.as_str())
                .fetch_optional(&mut *tx)
                .await
                .map_err(&failed)?;
        let version = match (new.of, last) {
            (BuildOf::NewImage { .. }, Some(_)) => {
                return Err(ControlError::ImageExists(new.image.clone()));
            }
            (BuildOf::NewImage { tags }, None) => {
                check_quotas(&mut tx, new).await?;
                insert_image(&mut tx, new, tags).await?;
                ImageVersion::FIRST
            }
            (BuildOf::Existing, None) => {
                return Err(ControlError::ImageNotFound(new.image.to_string()));
            }
            (BuildOf::Existing, Some((last, state))) => {
                refuse_busy(new.image, &state)?;
                check_quotas(&mut tx, new).await?;
                let version = stored_version(last)?.next();
                begin_update(&mut tx, new, version).await?;
                version
            }
        };
        insert_version(&mut tx, new, version).await?;
        if let Some(claim) = new.claim {
            claim.record(&mut tx, &resource(new.image, version)).await?;
        }
        tx.commit().await.map_err(&failed)?;
        Ok(Begun::Now(version))
    }

    /// A build and its version are no longer waiting.
    pub(crate) async fn start_build(&self, build: &BuildId) -> Result<(), ControlError> {
        let failed = doing("writing the start of a build");
        let mut tx = self.state.writer.begin().await.map_err(&failed)?;
        for statement in [
            "UPDATE image_versions SET state = $2 WHERE state = $3 AND (image, major) =
             (SELECT image, major FROM builds WHERE id = $1)",
            "UPDATE builds SET state = $2 WHERE state = $3 AND id = $1",
        ] {
            sqlx::query(statement)
                .bind(build.as_str())
                .bind(BuildState::InProgress.as_str())
                .bind(BuildState::Pending.as_str())
                .execute(&mut *tx)
                .await
                .map_err(&failed)?;
        }
        tx.commit().await.map_err(&failed)
    }

    pub(crate) async fn finish_build(
        &self,
        build: &BuildId,
        outcome: &BuildOutcome,
        now: Timestamp,
    ) -> Result<(), ControlError> {
        let failed = doing("writing the end of a build");
        let mut tx = self.state.writer.begin().await.map_err(&failed)?;
        let (image, major): (String, i64) =
            sqlx::query_as("SELECT image, major FROM builds WHERE id = $1")
                .bind(build.as_str())
                .fetch_one(&mut *tx)
                .await
                .map_err(&failed)?;
        let names = OutcomeNames::of(outcome);
        let (sizes, cold_boot_ms, reason) = match outcome {
            BuildOutcome::Successful { sizes, cold_boot_ms, .. } => {
                (Some(*sizes), Some(signed(*cold_boot_ms)), None)
            }
            BuildOutcome::Failed { reason, code_bytes } => {
                let sizes = code_bytes.map(|code_bytes| SnapshotSizes {
                    code_bytes,
                    memory_bytes: None,
                    disk_bytes: None,
                });
                (sizes, None, Some(reason.as_str()))
            }
        };
        let (template, content) = match outcome {
            BuildOutcome::Successful { template, content, .. } => {
                (Some(template.as_str()), Some(to_json(content)))
            }
            BuildOutcome::Failed { .. } => (None, None),
        };
        sqlx::query(
            "UPDATE builds SET state = $2, state_reason = $3, memory_bytes = $4, code_bytes = $5,
             disk_bytes = $6, cold_boot_ms = $7 WHERE id = $1",
        )
        .bind(build.as_str())
        .bind(names.build.as_str())
        .bind(reason)
        .bind(sizes.and_then(|s| s.memory_bytes).map(signed))
        .bind(sizes.map(|s| signed(s.code_bytes)))
        .bind(sizes.and_then(|s| s.disk_bytes).map(signed))
        .bind(cold_boot_ms)
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
        sqlx::query(
            "UPDATE image_versions SET state = $3, status = $4, state_reason = $5, template = $6,
             content = $7, updated_at = $8 WHERE image = $1 AND major = $2",
        )
        .bind(&image)
        .bind(major)
        .bind(names.version.as_str())
        .bind(names.status.as_str())
        .bind(reason)
        .bind(template)
        .bind(content)
        .bind(now.ms())
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
        sqlx::query(
            "UPDATE images SET state = CASE WHEN state = 'CREATING' THEN $2 ELSE $3 END,
             updated_at = $4 WHERE name = $1",
        )
        .bind(&image)
        .bind(names.created.as_str())
        .bind(names.updated.as_str())
        .bind(now.ms())
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
        tx.commit().await.map_err(&failed)
    }

    /// Builds whose process is no more: those under way when this process began.
    pub(crate) async fn unfinished_builds(&self) -> Result<Vec<BuildId>, ControlError> {
        let ids: Vec<String> =
            sqlx::query_scalar("SELECT id FROM builds WHERE state IN ('PENDING', 'IN_PROGRESS')")
                .fetch_all(&self.state.readers)
                .await
                .map_err(doing("looking for builds under way"))?;
        ids.iter().map(|id| stored_id("a build's id", BuildId::parse(id))).collect()
    }

    pub(crate) async fn builds(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
    ) -> Result<Vec<Build>, ControlError> {
        let rows = sqlx::query(
            "SELECT * FROM builds WHERE image = $1 AND major = $2 ORDER BY created_at, id",
        )
        .bind(arn.name.as_str())
        .bind(i64::from(version.major()))
        .fetch_all(&self.state.readers)
        .await
        .map_err(doing("listing builds"))?;
        rows.iter().map(|row| read_build(row, arn)).collect()
    }
}

struct OutcomeNames {
    build: BuildState,
    version: VersionState,
    status: VersionStatus,
    created: ImageState,
    updated: ImageState,
}

impl OutcomeNames {
    fn of(outcome: &BuildOutcome) -> Self {
        match outcome {
            BuildOutcome::Successful { .. } => Self {
                build: BuildState::Successful,
                version: VersionState::Successful,
                status: VersionStatus::Active,
                created: ImageState::Created,
                updated: ImageState::Updated,
            },
            BuildOutcome::Failed { .. } => Self {
                build: BuildState::Failed,
                version: VersionState::Failed,
                status: VersionStatus::Inactive,
                created: ImageState::CreateFailed,
                updated: ImageState::UpdateFailed,
            },
        }
    }
}

fn refuse_busy(image: &ImageName, state: &str) -> Result<(), ControlError> {
    let state = variant("an image's state", ImageState::ALL, ImageState::as_str, state)?;
    if state.is_changing() {
        return Err(ControlError::ImageBusy { image: image.clone(), state: state.as_str() });
    }
    Ok(())
}

async fn check_quotas(
    connection: &mut SqliteConnection,
    new: &NewBuild<'_>,
) -> Result<(), ControlError> {
    let (images, versions, builds): (i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM images),
                (SELECT count(*) FROM image_versions WHERE image = $1),
                (SELECT count(*) FROM builds WHERE state IN ('PENDING', 'IN_PROGRESS'))",
    )
    .bind(new.image.as_str())
    .fetch_one(connection)
    .await
    .map_err(doing("counting images"))?;
    match new.of {
        BuildOf::NewImage { .. } => quota("MicroVM images", images, new.quotas.images)?,
        BuildOf::Existing => {
            quota("versions of a MicroVM image", versions, new.quotas.image_versions)?;
        }
    }
    quota("concurrent MicroVM image builds", builds, new.quotas.concurrent_builds)
}

async fn insert_image(
    connection: &mut SqliteConnection,
    new: &NewBuild<'_>,
    tags: &BTreeMap<String, String>,
) -> Result<(), ControlError> {
    sqlx::query(
        "INSERT INTO images (name, state, tags, last_major, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $5)",
    )
    .bind(new.image.as_str())
    .bind(ImageState::Creating.as_str())
    .bind(to_json(tags))
    .bind(i64::from(ImageVersion::FIRST.major()))
    .bind(new.now.ms())
    .execute(connection)
    .await
    .map_err(doing("writing an image"))?;
    Ok(())
}

async fn begin_update(
    connection: &mut SqliteConnection,
    new: &NewBuild<'_>,
    version: ImageVersion,
) -> Result<(), ControlError> {
    sqlx::query("UPDATE images SET state = $2, last_major = $3, updated_at = $4 WHERE name = $1")
        .bind(new.image.as_str())
        .bind(ImageState::Updating.as_str())
        .bind(i64::from(version.major()))
        .bind(new.now.ms())
        .execute(connection)
        .await
        .map_err(doing("writing an image"))?;
    Ok(())
}

async fn insert_version(
    connection: &mut SqliteConnection,
    new: &NewBuild<'_>,
    version: ImageVersion,
) -> Result<(), ControlError> {
    let failed = doing("writing an image's version");
    sqlx::query(
        "INSERT INTO image_versions (image, major, state, status, spec, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $6)",
    )
    .bind(new.image.as_str())
    .bind(i64::from(version.major()))
    .bind(VersionState::Pending.as_str())
    .bind(VersionStatus::Inactive.as_str())
    .bind(to_json(&ImageDocument::of(new.spec)))
    .bind(new.now.ms())
    .execute(&mut *connection)
    .await
    .map_err(&failed)?;
    sqlx::query(
        "INSERT INTO builds (id, image, major, state, created_at) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(new.build.as_str())
    .bind(new.image.as_str())
    .bind(i64::from(version.major()))
    .bind(BuildState::Pending.as_str())
    .bind(new.now.ms())
    .execute(connection)
    .await
    .map_err(&failed)?;
    Ok(())
}

fn read_build(row: &SqliteRow, arn: &ImageArn) -> Result<Build, ControlError> {
    let failed = doing("reading a build");
    let size = |column: &'static str| -> Result<Option<u64>, ControlError> {
        let value: Option<i64> = row.try_get(column).map_err(&failed)?;
        value.map(|value| unsigned("a size", value)).transpose()
    };
    let (memory_bytes, disk_bytes) = (size("memory_bytes")?, size("disk_bytes")?);
    let snapshot = size("code_bytes")?.map(|code_bytes| SnapshotSizes {
        code_bytes,
        memory_bytes,
        disk_bytes,
    });
    let id: &str = row.try_get("id").map_err(&failed)?;
    let state: &str = row.try_get("state").map_err(&failed)?;
    Ok(Build {
        image: arn.clone(),
        version: stored_version(row.try_get("major").map_err(&failed)?)?,
        id: stored_id("a build's id", BuildId::parse(id))?,
        state: variant("a build's state", BuildState::ALL, BuildState::as_str, state)?,
        state_reason: row.try_get("state_reason").map_err(&failed)?,
        snapshot,
        cold_boot_ms: size("cold_boot_ms")?,
        created_at: at(row.try_get("created_at").map_err(&failed)?),
    })
}
