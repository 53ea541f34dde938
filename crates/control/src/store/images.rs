//! Rows of images and their versions.

use super::{
    ImageDocument, Store, at, corrupt, cut_page, doing, from_json, page_start, stored_id, to_json,
    variant,
};
use crate::{
    ControlError, Image, ImageArn, ImageName, ImageState, ImageVersion, Page, PageRequest,
    Timestamp, Version, VersionState, VersionStatus,
};
use engine::TemplateId;
use serde::{Deserialize, Serialize};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use std::collections::HashSet;

/// A version with the template that its VMs are cloned from.
#[derive(Clone, Debug)]
pub(crate) struct VersionRow {
    pub(crate) version: Version,
    pub(crate) template: Option<TemplateId>,
    /// None where it is not built, or was built before this was written down.
    pub(crate) content: Option<ImageContent>,
}

/// What a version is made of; with it a snapshot can be made again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct ImageContent {
    /// Digest by which the builder knows the disk.
    pub(crate) disk: String,
    /// As the Dockerfile says it.
    pub(crate) app: engine::App,
    pub(crate) code_bytes: u64,
}

/// The images' query; sqlx takes literals only.
macro_rules! select_images {
    ($rest:literal) => {
        concat!(
            "SELECT i.name, i.state, i.tags, i.created_at, i.updated_at,
                    (SELECT max(v.major) FROM image_versions v WHERE v.image = i.name
                     AND v.state = 'SUCCESSFUL' AND v.status = 'ACTIVE') AS active,
                    (SELECT max(v.major) FROM image_versions v WHERE v.image = i.name
                     AND v.state = 'FAILED') AS failed
             FROM images i ",
            $rest
        )
    };
}
impl Store {
    pub(crate) async fn image(&self, arn: &ImageArn) -> Result<Option<Image>, ControlError> {
        let row = sqlx::query(select_images!("WHERE i.name = $1"))
            .bind(arn.name.as_str())
            .fetch_optional(&self.state.readers)
            .await
            .map_err(doing("reading an image"))?;
        row.map(|row| read_image(&row, |_| Ok(arn.clone()))).transpose()
    }

    /// By name; `arn` makes a name an ARN.
    pub(crate) async fn list_images(
        &self,
        name_part: &str,
        page: &PageRequest,
        arn: impl Fn(&ImageName) -> ImageArn,
    ) -> Result<Page<Image>, ControlError> {
        let (start, limit) = page_start::<String>(page)?;
        let rows = sqlx::query(select_images!(
            "WHERE i.name > $1 AND ($2 = '' OR replace(i.name, $2, '') <> i.name)
             ORDER BY i.name LIMIT $3"
        ))
        .bind(start.unwrap_or_default())
        // What it can be taken out of contains it: the one way that every SQL has.
        .bind(name_part)
        .bind(limit)
        .fetch_all(&self.state.readers)
        .await
        .map_err(doing("listing images"))?;
        let read = |row: &SqliteRow| {
            read_image(row, |name| Ok(arn(&stored_id("an image's name", ImageName::parse(name))?)))
        };
        let items = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(cut_page(items, page, |image| image.arn.name.to_string()))
    }

    pub(crate) async fn version(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
    ) -> Result<Option<VersionRow>, ControlError> {
        let row = sqlx::query("SELECT * FROM image_versions WHERE image = $1 AND major = $2")
            .bind(arn.name.as_str())
            .bind(i64::from(version.major()))
            .fetch_optional(&self.state.readers)
            .await
            .map_err(doing("reading an image's version"))?;
        row.map(|row| read_version(&row, arn)).transpose()
    }

    /// Newest first.
    pub(crate) async fn versions(
        &self,
        arn: &ImageArn,
        page: &PageRequest,
    ) -> Result<Page<Version>, ControlError> {
        let (start, limit) = page_start::<i64>(page)?;
        let rows = sqlx::query(
            "SELECT * FROM image_versions WHERE image = $1 AND major < $2
             ORDER BY major DESC LIMIT $3",
        )
        .bind(arn.name.as_str())
        .bind(start.unwrap_or(i64::MAX))
        .bind(limit)
        .fetch_all(&self.state.readers)
        .await
        .map_err(doing("listing an image's versions"))?;
        let read = |row: &SqliteRow| Ok(read_version(row, arn)?.version);
        let items = rows.iter().map(read).collect::<Result<Vec<_>, ControlError>>()?;
        Ok(cut_page(items, page, |version| i64::from(version.version.major())))
    }

    /// The version that may be run: this one, or the newest active one.
    pub(crate) async fn runnable(
        &self,
        arn: &ImageArn,
        version: Option<ImageVersion>,
    ) -> Result<Option<VersionRow>, ControlError> {
        let row = sqlx::query(
            "SELECT v.* FROM image_versions v JOIN images i ON i.name = v.image
             WHERE v.image = $1 AND ($2 = 0 OR v.major = $2)
             AND v.state = 'SUCCESSFUL' AND v.status = 'ACTIVE'
             AND i.state NOT IN ('DELETING', 'DELETED')
             ORDER BY v.major DESC LIMIT 1",
        )
        .bind(arn.name.as_str())
        .bind(version.map_or(0, |v| i64::from(v.major())))
        .fetch_optional(&self.state.readers)
        .await
        .map_err(doing("looking for an active version"))?;
        row.map(|row| read_version(&row, arn)).transpose()
    }

    pub(crate) async fn set_version_status(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
        status: VersionStatus,
        now: Timestamp,
    ) -> Result<(), ControlError> {
        sqlx::query(
            "UPDATE image_versions SET status = $3, updated_at = $4
             WHERE image = $1 AND major = $2",
        )
        .bind(arn.name.as_str())
        .bind(i64::from(version.major()))
        .bind(status.as_str())
        .bind(now.ms())
        .execute(&self.state.writer)
        .await
        .map_err(doing("writing a version's status"))?;
        Ok(())
    }

    /// Marks a version, or with none named all of the image, as being removed: nothing is run from it
    /// any more.
    pub(crate) async fn begin_removal(
        &self,
        image: &ImageName,
        version: Option<ImageVersion>,
        now: Timestamp,
    ) -> Result<(), ControlError> {
        let failed = doing("marking an image's version for removal");
        let state = match version {
            Some(_) => ImageState::Updating,
            None => ImageState::Deleting,
        };
        let mut tx = self.state.writer.begin().await.map_err(&failed)?;
        sqlx::query("UPDATE images SET state = $2, updated_at = $3 WHERE name = $1")
            .bind(image.as_str())
            .bind(state.as_str())
            .bind(now.ms())
            .execute(&mut *tx)
            .await
            .map_err(&failed)?;
        sqlx::query(
            "UPDATE image_versions SET state = $3, updated_at = $4
             WHERE image = $1 AND ($2 = 0 OR major = $2)",
        )
        .bind(image.as_str())
        .bind(version.map_or(0, |v| i64::from(v.major())))
        .bind(VersionState::Deleting.as_str())
        .bind(now.ms())
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
        tx.commit().await.map_err(&failed)
    }

    /// What a process before this one marked and did not remove.
    pub(crate) async fn marked_for_removal(
        &self,
    ) -> Result<Vec<(ImageName, Option<ImageVersion>)>, ControlError> {
        let rows: Vec<(String, i64, String)> = sqlx::query_as(
            "SELECT i.name, coalesce(v.major, 0), i.state
             FROM images i LEFT JOIN image_versions v
             ON v.image = i.name AND v.state = 'DELETING' AND i.state <> 'DELETING'
             WHERE i.state = 'DELETING' OR v.major IS NOT NULL",
        )
        .fetch_all(&self.state.readers)
        .await
        .map_err(doing("looking for what is to be removed"))?;
        let read = |(name, major, state): (String, i64, String)| {
            let name = stored_id("an image's name", ImageName::parse(&name))?;
            let whole = state == ImageState::Deleting.as_str();
            let version = if whole { None } else { Some(stored_version(major)?) };
            Ok((name, version))
        };
        rows.into_iter().map(read).collect()
    }

    /// Removes what [`Store::begin_removal`] marked, and what belongs to it.
    pub(crate) async fn remove_marked(
        &self,
        image: &ImageName,
        version: Option<ImageVersion>,
        now: Timestamp,
    ) -> Result<(), ControlError> {
        let failed = doing("removing an image's version");
        let major = version.map_or(0, |v| i64::from(v.major()));
        let mut tx = self.state.writer.begin().await.map_err(&failed)?;
        for statement in [
            "DELETE FROM builds WHERE image = $1 AND ($2 = 0 OR major = $2)",
            "DELETE FROM image_versions WHERE image = $1 AND ($2 = 0 OR major = $2)",
            "DELETE FROM images WHERE name = $1 AND $2 = 0",
        ] {
            let query = sqlx::query(statement).bind(image.as_str()).bind(major);
            query.execute(&mut *tx).await.map_err(&failed)?;
        }
        sqlx::query("UPDATE images SET state = $2, updated_at = $3 WHERE name = $1")
            .bind(image.as_str())
            .bind(ImageState::Updated.as_str())
            .bind(now.ms())
            .execute(&mut *tx)
            .await
            .map_err(&failed)?;
        remove_claims(&mut tx, image, version).await?;
        tx.commit().await.map_err(&failed)
    }

    /// Templates of versions, of MicroVMs that are not terminated, and of checkpoints.
    pub(crate) async fn templates_in_use(&self) -> Result<HashSet<TemplateId>, ControlError> {
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT template FROM image_versions WHERE template IS NOT NULL
             UNION SELECT template FROM microvms WHERE state <> 'TERMINATED'
             UNION SELECT template FROM checkpoints",
        )
        .fetch_all(&self.state.readers)
        .await
        .map_err(doing("looking for templates in use"))?;
        let read = |id: String| TemplateId::new(&*id).map_err(|_| corrupt("a template's id", &id));
        ids.into_iter().map(read).collect()
    }

    /// Every version that may be run now.
    pub(crate) async fn runnable_versions(
        &self,
    ) -> Result<Vec<(ImageName, ImageVersion)>, ControlError> {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT v.image, v.major FROM image_versions v JOIN images i ON i.name = v.image
             WHERE v.state = 'SUCCESSFUL' AND v.status = 'ACTIVE'
             AND i.state NOT IN ('DELETING', 'DELETED') ORDER BY v.image, v.major DESC",
        )
        .fetch_all(&self.state.readers)
        .await
        .map_err(doing("listing the versions that may be run"))?;
        let read = |(name, major): (String, i64)| {
            Ok((stored_id("an image's name", ImageName::parse(&name))?, stored_version(major)?))
        };
        rows.into_iter().map(read).collect()
    }

    /// A version's snapshot was made anew.
    pub(crate) async fn set_snapshot(
        &self,
        (image, version): (&ImageName, ImageVersion),
        template: &TemplateId,
        content: &ImageContent,
    ) -> Result<(), ControlError> {
        sqlx::query(
            "UPDATE image_versions SET template = $3, content = $4 WHERE image = $1 AND major = $2",
        )
        .bind(image.as_str())
        .bind(i64::from(version.major()))
        .bind(template.as_str())
        .bind(to_json(content))
        .execute(&self.state.writer)
        .await
        .map_err(doing("writing a version's snapshot"))?;
        Ok(())
    }
}

/// What a client token of a build points at.
pub(super) fn resource(image: &ImageName, version: ImageVersion) -> String {
    format!("image:{image}:{}", version.major())
}

async fn remove_claims(
    connection: &mut SqliteConnection,
    image: &ImageName,
    version: Option<ImageVersion>,
) -> Result<(), ControlError> {
    let (whole, beginning) = match version {
        Some(version) => (resource(image, version), String::new()),
        None => (String::new(), format!("image:{image}:")),
    };
    sqlx::query(
        "DELETE FROM client_tokens WHERE resource = $1
         OR ($2 <> '' AND substr(resource, 1, length($2)) = $2)",
    )
    .bind(whole)
    .bind(beginning)
    .execute(connection)
    .await
    .map_err(doing("removing client tokens"))?;
    Ok(())
}

pub(super) fn stored_version(major: i64) -> Result<ImageVersion, ControlError> {
    let number = u32::try_from(major).ok().filter(|number| *number > 0);
    number.map(ImageVersion::from_major).ok_or_else(|| corrupt("an image's version", major))
}

fn read_image(
    row: &SqliteRow,
    arn: impl Fn(&str) -> Result<ImageArn, ControlError>,
) -> Result<Image, ControlError> {
    let failed = doing("reading an image");
    let version = |column: &'static str| -> Result<Option<ImageVersion>, ControlError> {
        let major: Option<i64> = row.try_get(column).map_err(&failed)?;
        major.map(stored_version).transpose()
    };
    let state = row.try_get("state").map_err(&failed)?;
    Ok(Image {
        arn: arn(row.try_get("name").map_err(&failed)?)?,
        state: variant("an image's state", ImageState::ALL, ImageState::as_str, state)?,
        latest_active_version: version("active")?,
        latest_failed_version: version("failed")?,
        tags: from_json("tags", row.try_get("tags").map_err(&failed)?)?,
        created_at: at(row.try_get("created_at").map_err(&failed)?),
        updated_at: at(row.try_get("updated_at").map_err(&failed)?),
    })
}

fn read_version(row: &SqliteRow, arn: &ImageArn) -> Result<VersionRow, ControlError> {
    let failed = doing("reading an image's version");
    let text = |column: &'static str| row.try_get::<&str, _>(column).map_err(&failed);
    let state = text("state")?;
    let status = text("status")?;
    let document: ImageDocument = from_json("an image's configuration", text("spec")?)?;
    let template: Option<String> = row.try_get("template").map_err(&failed)?;
    let content: Option<String> = row.try_get("content").map_err(&failed)?;
    let template = template.map(|id| TemplateId::new(&*id).map_err(|_| corrupt("a template", id)));
    Ok(VersionRow {
        version: Version {
            image: arn.clone(),
            version: stored_version(row.try_get("major").map_err(&failed)?)?,
            state: variant("a version's state", VersionState::ALL, VersionState::as_str, state)?,
            status: variant("a status", VersionStatus::ALL, VersionStatus::as_str, status)?,
            state_reason: row.try_get("state_reason").map_err(&failed)?,
            spec: document.read()?,
            created_at: at(row.try_get("created_at").map_err(&failed)?),
            updated_at: at(row.try_get("updated_at").map_err(&failed)?),
        },
        template: template.transpose()?,
        content: content.map(|text| from_json("a version's content", &text)).transpose()?,
    })
}
