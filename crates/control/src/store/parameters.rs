//! Rows of parameters and their versions. Values come and go sealed.

use super::{Store, at, cut_page, doing, from_json, page_start, signed, to_json, unsigned};
use crate::{
    ControlError, Existing, Page, PageRequest, ParameterAbout, ParameterName, Timestamp,
    parameters::VERSIONS_MAX,
};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use std::collections::BTreeMap;

/// A version; the value is sealed.
#[derive(Clone, Debug)]
pub(crate) struct ParameterRow {
    pub(crate) name: ParameterName,
    pub(crate) version: u64,
    pub(crate) sealed: String,
    pub(crate) about: ParameterAbout,
    pub(crate) labels: Vec<String>,
    pub(crate) modified_at: Timestamp,
}

impl Store {
    /// Writes the next version, with the value that `seal` makes for it.
    ///
    /// # Errors
    /// [`ControlError::ParameterExists`], [`ControlError::ParameterVersionsFull`].
    pub(crate) async fn put_parameter(
        &self,
        row: &ParameterRow,
        existing: Existing,
        tags: &BTreeMap<String, String>,
        seal: &(dyn Fn(u64) -> String + Sync),
    ) -> Result<u64, ControlError> {
        let failed = doing("writing a parameter");
        let name = row.name.as_str();
        let mut tx = self.state.writer.begin().await.map_err(&failed)?;
        let versions = versions(&mut tx, name).await?;
        if !versions.is_empty() && existing == Existing::Refuse {
            return Err(ControlError::ParameterExists(name.to_owned()));
        }
        if versions.len() as u64 >= VERSIONS_MAX
            && let Some(oldest) = versions.first()
        {
            if !oldest.labels.is_empty() {
                return Err(ControlError::ParameterVersionsFull(name.to_owned()));
            }
            sqlx::query("DELETE FROM parameter_versions WHERE name = $1 AND version = $2")
                .bind(name)
                .bind(signed(oldest.version))
                .execute(&mut *tx)
                .await
                .map_err(&failed)?;
        }
        if versions.is_empty() {
            sqlx::query("INSERT INTO parameters (name, tags) VALUES ($1, $2)")
                .bind(name)
                .bind(to_json(tags))
                .execute(&mut *tx)
                .await
                .map_err(&failed)?;
        }
        let version = versions.last().map_or(1, |newest| newest.version + 1);
        sqlx::query(
            "INSERT INTO parameter_versions (name, version, value, about, labels, modified_at)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(name)
        .bind(signed(version))
        .bind(seal(version))
        .bind(to_json(&row.about))
        .bind(to_json(&row.labels))
        .bind(row.modified_at.ms())
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
        tx.commit().await.map_err(&failed)?;
        Ok(version)
    }

    pub(crate) async fn newest_parameter(
        &self,
        name: &ParameterName,
    ) -> Result<Option<ParameterRow>, ControlError> {
        let row = sqlx::query(
            "SELECT * FROM parameter_versions WHERE name = $1 ORDER BY version DESC LIMIT 1",
        )
        .bind(name.as_str())
        .fetch_optional(&self.state.readers)
        .await
        .map_err(doing("reading a parameter"))?;
        row.as_ref().map(read).transpose()
    }

    /// Oldest first; empty where there is no such parameter.
    pub(crate) async fn parameter_versions(
        &self,
        name: &ParameterName,
    ) -> Result<Vec<ParameterRow>, ControlError> {
        let failed = doing("reading a parameter");
        let mut connection = self.state.readers.acquire().await.map_err(&failed)?;
        versions(&mut connection, name.as_str()).await
    }

    /// The newest version of each, by name.
    pub(crate) async fn list_parameters(
        &self,
        prefix: &str,
        page: &PageRequest,
    ) -> Result<Page<ParameterRow>, ControlError> {
        let (start, limit) = page_start::<String>(page)?;
        let rows = sqlx::query(
            "SELECT v.* FROM parameters p JOIN parameter_versions v ON v.name = p.name
             AND v.version = (SELECT max(version) FROM parameter_versions WHERE name = p.name)
             WHERE p.name > $1 AND substr(p.name, 1, length($2)) = $2 ORDER BY p.name LIMIT $3",
        )
        .bind(start.unwrap_or_default())
        .bind(prefix)
        .bind(limit)
        .fetch_all(&self.state.readers)
        .await
        .map_err(doing("listing parameters"))?;
        let items = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(cut_page(items, page, |row| row.name.to_string()))
    }

    pub(crate) async fn set_parameter_labels(
        &self,
        rows: &[ParameterRow],
    ) -> Result<(), ControlError> {
        let failed = doing("writing a parameter's labels");
        let mut tx = self.state.writer.begin().await.map_err(&failed)?;
        for row in rows {
            sqlx::query(
                "UPDATE parameter_versions SET labels = $3 WHERE name = $1 AND version = $2",
            )
            .bind(row.name.as_str())
            .bind(signed(row.version))
            .bind(to_json(&row.labels))
            .execute(&mut *tx)
            .await
            .map_err(&failed)?;
        }
        tx.commit().await.map_err(&failed)
    }

    pub(crate) async fn delete_parameter(
        &self,
        name: &ParameterName,
    ) -> Result<bool, ControlError> {
        let failed = doing("removing a parameter");
        let mut tx = self.state.writer.begin().await.map_err(&failed)?;
        sqlx::query("DELETE FROM parameter_versions WHERE name = $1")
            .bind(name.as_str())
            .execute(&mut *tx)
            .await
            .map_err(&failed)?;
        let done = sqlx::query("DELETE FROM parameters WHERE name = $1")
            .bind(name.as_str())
            .execute(&mut *tx)
            .await
            .map_err(&failed)?;
        tx.commit().await.map_err(&failed)?;
        Ok(done.rows_affected() > 0)
    }

    /// # Errors
    /// [`ControlError::ParameterNotFound`].
    pub(crate) async fn parameter_tags(
        &self,
        name: &ParameterName,
    ) -> Result<BTreeMap<String, String>, ControlError> {
        let tags: Option<String> =
            sqlx::query_scalar("SELECT tags FROM parameters WHERE name = $1")
                .bind(name.as_str())
                .fetch_optional(&self.state.readers)
                .await
                .map_err(doing("reading a parameter's tags"))?;
        let tags = tags.ok_or_else(|| ControlError::ParameterNotFound(name.to_string()))?;
        from_json("tags", &tags)
    }

    /// # Errors
    /// [`ControlError::ParameterNotFound`].
    pub(crate) async fn set_parameter_tags(
        &self,
        name: &ParameterName,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), ControlError> {
        let done = sqlx::query("UPDATE parameters SET tags = $2 WHERE name = $1")
            .bind(name.as_str())
            .bind(to_json(tags))
            .execute(&self.state.writer)
            .await
            .map_err(doing("writing a parameter's tags"))?;
        if done.rows_affected() == 0 {
            return Err(ControlError::ParameterNotFound(name.to_string()));
        }
        Ok(())
    }
}

async fn versions(
    connection: &mut SqliteConnection,
    name: &str,
) -> Result<Vec<ParameterRow>, ControlError> {
    let rows = sqlx::query("SELECT * FROM parameter_versions WHERE name = $1 ORDER BY version")
        .bind(name)
        .fetch_all(connection)
        .await
        .map_err(doing("reading a parameter"))?;
    rows.iter().map(read).collect()
}

fn read(row: &SqliteRow) -> Result<ParameterRow, ControlError> {
    let failed = doing("reading a parameter");
    let text = |column: &'static str| -> Result<String, ControlError> {
        row.try_get(column).map_err(&failed)
    };
    Ok(ParameterRow {
        name: ParameterName::parse(&text("name")?)?,
        version: unsigned("a version", row.try_get("version").map_err(&failed)?)?,
        sealed: text("value")?,
        about: from_json("a parameter", &text("about")?)?,
        labels: from_json("labels", &text("labels")?)?,
        modified_at: at(row.try_get("modified_at").map_err(&failed)?),
    })
}
