//! Rows of secrets, their versions and stages. Values come and go sealed.

use super::{Store, at, cut_page, doing, from_json, page_start, stored_id, to_json};
use crate::{
    ControlError, Page, PageRequest, STAGE_CURRENT, STAGE_PREVIOUS, Secret, SecretName, Timestamp,
};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

/// A secret without its versions.
#[derive(Clone, Debug)]
pub(crate) struct SecretRow {
    pub(crate) name: SecretName,
    pub(crate) arn: String,
    pub(crate) deletion_at: Option<Timestamp>,
}

/// A version; the value is sealed.
#[derive(Clone, Debug)]
pub(crate) struct SecretVersionRow {
    pub(crate) version_id: String,
    pub(crate) sealed: String,
    pub(crate) created_at: Timestamp,
}

impl Store {
    /// By name or ARN.
    pub(crate) async fn find_secret(&self, id: &str) -> Result<Option<SecretRow>, ControlError> {
        let failed = doing("looking for a secret");
        let row =
            sqlx::query("SELECT name, arn, deletion_at FROM secrets WHERE name = $1 OR arn = $1")
                .bind(id)
                .fetch_optional(&self.state.readers)
                .await
                .map_err(&failed)?;
        let Some(row) = row else { return Ok(None) };
        let name: &str = row.try_get("name").map_err(&failed)?;
        let deletion_at: Option<i64> = row.try_get("deletion_at").map_err(&failed)?;
        Ok(Some(SecretRow {
            name: stored_id("a secret's name", SecretName::parse(name))?,
            arn: row.try_get("arn").map_err(&failed)?,
            deletion_at: deletion_at.map(at),
        }))
    }

    /// Writes a new secret, with its first version where there is one.
    ///
    /// # Errors
    /// [`ControlError::SecretExists`].
    pub(crate) async fn insert_secret(
        &self,
        secret: &Secret,
        first: Option<&SecretVersionRow>,
    ) -> Result<(), ControlError> {
        let failed = doing("writing a secret");
        let mut tx = self.state.writer.begin().await.map_err(&failed)?;
        let done = sqlx::query(
            "INSERT INTO secrets (name, arn, description, tags, created_at, changed_at)
             VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (name) DO NOTHING",
        )
        .bind(secret.name.as_str())
        .bind(&secret.arn)
        .bind(secret.description.as_deref())
        .bind(to_json(&secret.tags))
        .bind(secret.created_at.ms())
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
        if done.rows_affected() == 0 {
            return Err(ControlError::SecretExists(secret.name.to_string()));
        }
        if let Some(version) = first {
            insert_version(&mut tx, &secret.name, version).await?;
            move_stage(&mut tx, &secret.name, STAGE_CURRENT, &version.version_id).await?;
        }
        tx.commit().await.map_err(&failed)
    }

    /// Writes a version and moves stages to it. What loses AWSCURRENT becomes AWSPREVIOUS, and
    /// versions that are left without a stage are removed. False: there is such a version already,
    /// and nothing was done.
    pub(crate) async fn put_secret_version(
        &self,
        name: &SecretName,
        version: &SecretVersionRow,
        stages: &[String],
    ) -> Result<bool, ControlError> {
        let failed = doing("writing a secret's version");
        let mut tx = self.state.writer.begin().await.map_err(&failed)?;
        if read_version(&mut tx, name, &version.version_id).await?.is_some() {
            return Ok(false);
        }
        insert_version(&mut tx, name, version).await?;
        for stage in stages {
            move_stage(&mut tx, name, stage, &version.version_id).await?;
        }
        sqlx::query("UPDATE secrets SET changed_at = $2 WHERE name = $1")
            .bind(name.as_str())
            .bind(version.created_at.ms())
            .execute(&mut *tx)
            .await
            .map_err(&failed)?;
        // Versions without a stage are deprecated: AWS keeps up to 100, Warren none.
        sqlx::query(
            "DELETE FROM secret_versions WHERE name = $1 AND version_id NOT IN
             (SELECT version_id FROM secret_stages WHERE name = $1)",
        )
        .bind(name.as_str())
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
        tx.commit().await.map_err(&failed)?;
        Ok(true)
    }

    pub(crate) async fn secret_version(
        &self,
        name: &SecretName,
        version_id: &str,
    ) -> Result<Option<SecretVersionRow>, ControlError> {
        let mut connection =
            self.state.readers.acquire().await.map_err(doing("reading a secret's version"))?;
        read_version(&mut connection, name, version_id).await
    }

    /// Stage and version id of each stage of a secret.
    pub(crate) async fn secret_stages(
        &self,
        name: &SecretName,
    ) -> Result<Vec<(String, String)>, ControlError> {
        let failed = doing("reading a secret's stages");
        let rows = sqlx::query(
            "SELECT stage, version_id FROM secret_stages WHERE name = $1 ORDER BY stage",
        )
        .bind(name.as_str())
        .fetch_all(&self.state.readers)
        .await
        .map_err(&failed)?;
        let read = |row: &SqliteRow| {
            Ok((
                row.try_get("stage").map_err(&failed)?,
                row.try_get("version_id").map_err(&failed)?,
            ))
        };
        rows.iter().map(read).collect()
    }

    pub(crate) async fn describe_secret(
        &self,
        name: &SecretName,
    ) -> Result<Option<Secret>, ControlError> {
        let row = sqlx::query("SELECT * FROM secrets WHERE name = $1")
            .bind(name.as_str())
            .fetch_optional(&self.state.readers)
            .await
            .map_err(doing("reading a secret"))?;
        match row {
            Some(row) => Ok(Some(self.read_secret(&row).await?)),
            None => Ok(None),
        }
    }

    /// By name, without those marked for deletion.
    pub(crate) async fn list_secrets(
        &self,
        page: &PageRequest,
    ) -> Result<Page<Secret>, ControlError> {
        let (start, limit) = page_start::<String>(page)?;
        let rows = sqlx::query(
            "SELECT * FROM secrets WHERE name > $1 AND deletion_at IS NULL
             ORDER BY name LIMIT $2",
        )
        .bind(start.unwrap_or_default())
        .bind(limit)
        .fetch_all(&self.state.readers)
        .await
        .map_err(doing("listing secrets"))?;
        let mut items = Vec::with_capacity(rows.len());
        for row in &rows {
            items.push(self.read_secret(row).await?);
        }
        Ok(cut_page(items, page, |secret| secret.name.to_string()))
    }

    /// Moves a stage; to none: takes it away.
    pub(crate) async fn set_secret_stage(
        &self,
        name: &SecretName,
        stage: &str,
        to: Option<&str>,
        now: Timestamp,
    ) -> Result<(), ControlError> {
        let failed = doing("moving a secret's stage");
        let mut tx = self.state.writer.begin().await.map_err(&failed)?;
        match to {
            Some(version_id) => move_stage(&mut tx, name, stage, version_id).await?,
            None => {
                sqlx::query("DELETE FROM secret_stages WHERE name = $1 AND stage = $2")
                    .bind(name.as_str())
                    .bind(stage)
                    .execute(&mut *tx)
                    .await
                    .map_err(&failed)?;
            }
        }
        sqlx::query("UPDATE secrets SET changed_at = $2 WHERE name = $1")
            .bind(name.as_str())
            .bind(now.ms())
            .execute(&mut *tx)
            .await
            .map_err(&failed)?;
        tx.commit().await.map_err(&failed)
    }

    /// Id and time of every version, newest first.
    pub(crate) async fn secret_versions(
        &self,
        name: &SecretName,
    ) -> Result<Vec<(String, Timestamp)>, ControlError> {
        let failed = doing("reading a secret's versions");
        let rows = sqlx::query(
            "SELECT version_id, created_at FROM secret_versions WHERE name = $1
             ORDER BY created_at DESC, version_id",
        )
        .bind(name.as_str())
        .fetch_all(&self.state.readers)
        .await
        .map_err(&failed)?;
        let read = |row: &SqliteRow| {
            let created_at = row.try_get("created_at").map_err(&failed)?;
            Ok((row.try_get("version_id").map_err(&failed)?, at(created_at)))
        };
        rows.iter().map(read).collect()
    }

    /// None: as it is.
    pub(crate) async fn describe_secret_anew(
        &self,
        name: &SecretName,
        description: Option<&str>,
        tags: Option<&std::collections::BTreeMap<String, String>>,
        now: Timestamp,
    ) -> Result<(), ControlError> {
        sqlx::query(
            "UPDATE secrets SET description = coalesce($2, description), tags = coalesce($3, tags),
             changed_at = $4 WHERE name = $1",
        )
        .bind(name.as_str())
        .bind(description)
        .bind(tags.map(to_json))
        .bind(now.ms())
        .execute(&self.state.writer)
        .await
        .map_err(doing("writing a secret"))?;
        Ok(())
    }

    /// None: marked for no deletion any more.
    pub(crate) async fn mark_secret(
        &self,
        name: &SecretName,
        deletion_at: Option<Timestamp>,
    ) -> Result<(), ControlError> {
        sqlx::query("UPDATE secrets SET deletion_at = $2 WHERE name = $1")
            .bind(name.as_str())
            .bind(deletion_at.map(Timestamp::ms))
            .execute(&self.state.writer)
            .await
            .map_err(doing("marking a secret for deletion"))?;
        Ok(())
    }

    pub(crate) async fn remove_secret(&self, name: &SecretName) -> Result<(), ControlError> {
        let failed = doing("removing a secret");
        let mut tx = self.state.writer.begin().await.map_err(&failed)?;
        for statement in [
            "DELETE FROM secret_stages WHERE name = $1",
            "DELETE FROM secret_versions WHERE name = $1",
            "DELETE FROM secrets WHERE name = $1",
        ] {
            sqlx::query(statement).bind(name.as_str()).execute(&mut *tx).await.map_err(&failed)?;
        }
        tx.commit().await.map_err(&failed)
    }

    async fn read_secret(&self, row: &SqliteRow) -> Result<Secret, ControlError> {
        let failed = doing("reading a secret");
        let name: &str = row.try_get("name").map_err(&failed)?;
        let name = stored_id("a secret's name", SecretName::parse(name))?;
        let mut versions: Vec<(String, Vec<String>)> = Vec::new();
        for (stage, version_id) in self.secret_stages(&name).await? {
            match versions.iter_mut().find(|(id, _)| *id == version_id) {
                Some((_, stages)) => stages.push(stage),
                None => versions.push((version_id, vec![stage])),
            }
        }
        let deletion_at: Option<i64> = row.try_get("deletion_at").map_err(&failed)?;
        Ok(Secret {
            arn: row.try_get("arn").map_err(&failed)?,
            name,
            description: row.try_get("description").map_err(&failed)?,
            tags: from_json("tags", row.try_get("tags").map_err(&failed)?)?,
            created_at: at(row.try_get("created_at").map_err(&failed)?),
            changed_at: at(row.try_get("changed_at").map_err(&failed)?),
            deletion_at: deletion_at.map(at),
            versions,
        })
    }
}

async fn read_version(
    connection: &mut SqliteConnection,
    name: &SecretName,
    version_id: &str,
) -> Result<Option<SecretVersionRow>, ControlError> {
    let failed = doing("reading a secret's version");
    let row = sqlx::query(
        "SELECT version_id, sealed, created_at FROM secret_versions
         WHERE name = $1 AND version_id = $2",
    )
    .bind(name.as_str())
    .bind(version_id)
    .fetch_optional(connection)
    .await
    .map_err(&failed)?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(SecretVersionRow {
        version_id: row.try_get("version_id").map_err(&failed)?,
        sealed: row.try_get("sealed").map_err(&failed)?,
        created_at: at(row.try_get("created_at").map_err(&failed)?),
    }))
}

async fn insert_version(
    connection: &mut SqliteConnection,
    name: &SecretName,
    version: &SecretVersionRow,
) -> Result<(), ControlError> {
    sqlx::query(
        "INSERT INTO secret_versions (name, version_id, sealed, created_at)
         VALUES ($1, $2, $3, $4)",
    )
    .bind(name.as_str())
    .bind(&version.version_id)
    .bind(&version.sealed)
    .bind(version.created_at.ms())
    .execute(connection)
    .await
    .map_err(doing("writing a secret's version"))?;
    Ok(())
}

/// Moves a stage to a version. The version that AWSCURRENT leaves becomes AWSPREVIOUS.
async fn move_stage(
    connection: &mut SqliteConnection,
    name: &SecretName,
    stage: &str,
    version_id: &str,
) -> Result<(), ControlError> {
    let failed = doing("moving a secret's stage");
    if stage == STAGE_CURRENT {
        sqlx::query("DELETE FROM secret_stages WHERE name = $1 AND stage = $2")
            .bind(name.as_str())
            .bind(STAGE_PREVIOUS)
            .execute(&mut *connection)
            .await
            .map_err(&failed)?;
        sqlx::query("UPDATE secret_stages SET stage = $2 WHERE name = $1 AND stage = $3")
            .bind(name.as_str())
            .bind(STAGE_PREVIOUS)
            .bind(STAGE_CURRENT)
            .execute(&mut *connection)
            .await
            .map_err(&failed)?;
    }
    sqlx::query(
        "INSERT INTO secret_stages (name, stage, version_id) VALUES ($1, $2, $3)
         ON CONFLICT (name, stage) DO UPDATE SET version_id = excluded.version_id",
    )
    .bind(name.as_str())
    .bind(stage)
    .bind(version_id)
    .execute(connection)
    .await
    .map_err(&failed)?;
    Ok(())
}
