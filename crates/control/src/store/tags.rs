//! The `tags` column of images and of network connectors.

use super::{Store, doing, from_json, to_json};
use crate::{ControlError, Tagged};
use std::collections::BTreeMap;

type TagMap = BTreeMap<String, String>;

impl Tagged {
    fn key(&self) -> &str {
        match self {
            Self::Image(name) => name.as_str(),
            Self::Connector(id) => id.as_str(),
        }
    }

    /// Of `tags` by its key. sqlx takes literals only.
    const fn select(&self) -> &'static str {
        match self {
            Self::Image(_) => "SELECT tags FROM images WHERE name = $1",
            Self::Connector(_) => "SELECT tags FROM connectors WHERE id = $1",
        }
    }

    const fn update(&self) -> &'static str {
        match self {
            Self::Image(_) => "UPDATE images SET tags = $2 WHERE name = $1",
            Self::Connector(_) => "UPDATE connectors SET tags = $2 WHERE id = $1",
        }
    }
}

impl Store {
    /// None: there is no such resource.
    pub(crate) async fn tags(&self, what: &Tagged) -> Result<Option<TagMap>, ControlError> {
        let found: Option<String> = sqlx::query_scalar(what.select())
            .bind(what.key())
            .fetch_optional(&self.state.readers)
            .await
            .map_err(doing("reading tags"))?;
        found.map(|text| from_json("tags", &text)).transpose()
    }

    /// Whether there is such a resource; its tags are what `change` makes of them.
    pub(crate) async fn change_tags(
        &self,
        what: &Tagged,
        change: impl FnOnce(&mut TagMap) -> Result<(), ControlError>,
    ) -> Result<bool, ControlError> {
        let failed = doing("writing tags");
        let mut tx = self.state.writer.begin().await.map_err(&failed)?;
        let found: Option<String> = sqlx::query_scalar(what.select())
            .bind(what.key())
            .fetch_optional(&mut *tx)
            .await
            .map_err(&failed)?;
        let Some(text) = found else { return Ok(false) };
        let mut tags: TagMap = from_json("tags", &text)?;
        change(&mut tags)?;
        sqlx::query(what.update())
            .bind(what.key())
            .bind(to_json(&tags))
            .execute(&mut *tx)
            .await
            .map_err(&failed)?;
        tx.commit().await.map_err(&failed)?;
        Ok(true)
    }
}
