//! Rows of images and their versions.

use super::{
    ImageDocument, Store, at, corrupt, cut_page, doing, from_json, page_start, stored_id, variant,
};
use crate::{
    ControlError, Image, ImageArn, ImageName, ImageState, ImageVersion, Page, PageRequest,
    Timestamp, Version, VersionState, VersionStatus,
};
use engine::TemplateId;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

/// A version with the template that its VMs are cloned from.
#[derive(Clone, Debug)]
pub(crate) struct VersionRow {
    pub(crate) version: Version,
    pub(crate) template: Option<TemplateId>,
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

    /// Removes a version, or with none named all of the image, and what belongs to it. Answers the
    /// templates that nothing uses any more.
    pub(crate) async fn remove_versions(
        &self,
        image: &ImageName,
        version: Option<ImageVersion>,
    ) -> Result<Vec<TemplateId>, ControlError> {
        let failed = doing("removing an image's version");
        let major = version.map_or(0, |v| i64::from(v.major()));
        let mut tx = self.state.writer.begin().await.map_err(&failed)?;
        let templates: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT template FROM image_versions WHERE image = $1
             AND ($2 = 0 OR major = $2) AND template IS NOT NULL",
        )
        .bind(image.as_str())
        .bind(major)
        .fetch_all(&mut *tx)
        .await
        .map_err(&failed)?;
        for statement in [
            "DELETE FROM builds WHERE image = $1 AND ($2 = 0 OR major = $2)",
            "DELETE FROM image_versions WHERE image = $1 AND ($2 = 0 OR major = $2)",
            "DELETE FROM images WHERE name = $1 AND $2 = 0",
        ] {
            let query = sqlx::query(statement).bind(image.as_str()).bind(major);
            query.execute(&mut *tx).await.map_err(&failed)?;
        }
        remove_claims(&mut tx, image, version).await?;
        let mut unused = Vec::new();
        for template in templates {
            let users: i64 =
                sqlx::query_scalar("SELECT count(*) FROM image_versions WHERE template = $1")
                    .bind(&template)
                    .fetch_one(&mut *tx)
                    .await
                    .map_err(&failed)?;
            if users == 0 {
                let id = TemplateId::new(&*template);
                unused.push(id.map_err(|_| corrupt("a template's id", &template))?);
            }
        }
        tx.commit().await.map_err(&failed)?;
        Ok(unused)
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
    })
}
