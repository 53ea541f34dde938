//! Rows of checkpoints.

use super::{
    Store, at, corrupt, doing, microvms::read_microvm, signed, stored_id, unsigned, variant,
};
use crate::{
    CheckpointName, CheckpointState, ControlError, MicrovmId, Timestamp, store::MicrovmRow,
};
use engine::{CheckpointId, CheckpointInfo};
use sqlx::{Row, sqlite::SqliteRow};

/// A checkpoint as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct CheckpointRow {
    pub(crate) id: CheckpointId,
    pub(crate) name: Option<CheckpointName>,
    pub(crate) parent: Option<CheckpointId>,
    pub(crate) state: CheckpointState,
    /// The source as it was run; its id is that of the source, its life means nothing.
    pub(crate) like: MicrovmRow,
    pub(crate) memory_bytes: u64,
    pub(crate) disk_bytes: u64,
    pub(crate) pause_ms: f64,
    pub(crate) created_at: Timestamp,
}

/// Joins the columns with the rest of a query at compile time. What a MicroVM's row has is named as
/// there, so that it is read in the same way.
macro_rules! select_checkpoints {
    ($rest:literal) => {
        concat!(
            "SELECT id AS checkpoint_id, name, parent, state, memory_bytes, disk_bytes, pause_us, \
             created_at, source AS id, image, version, memory_mib, template, spec, \
             NULL AS payload, 'suspended' AS phase, 0 AS phase_at, NULL AS state_reason, \
             created_at AS started_at, 0 AS counted_from, parent AS checkpoint FROM checkpoints ",
            $rest
        )
    };
}

impl Store {
    /// Writes that a MicroVM is about to be saved.
    ///
    /// # Errors
    /// [`ControlError::CheckpointExists`].
    pub(crate) async fn begin_checkpoint(
        &self,
        id: &CheckpointId,
        name: Option<&CheckpointName>,
        source: &MicrovmId,
        now: Timestamp,
    ) -> Result<(), ControlError> {
        let written = sqlx::query(
            "INSERT INTO checkpoints (id, name, source, parent, image, version, memory_mib, template,
             spec, state, memory_bytes, disk_bytes, pause_us, created_at)
             SELECT $1, $2, id, checkpoint, image, version, memory_mib, template, spec, 'SAVING', 0, 0,
             0, $4 FROM microvms WHERE id = $3",
        )
        .bind(id.as_str())
        .bind(name.map(CheckpointName::as_str))
        .bind(source.as_str())
        .bind(now.ms())
        .execute(&self.state.writer)
        .await;
        match (written, name) {
            (Ok(_), _) => Ok(()),
            (Err(sqlx::Error::Database(error)), Some(name)) if error.is_unique_violation() => {
                Err(ControlError::CheckpointExists(name.clone()))
            }
            (Err(source), _) => Err(doing("writing a checkpoint")(source)),
        }
    }

    pub(crate) async fn finish_checkpoint(
        &self,
        info: &CheckpointInfo,
    ) -> Result<(), ControlError> {
        sqlx::query(
            "UPDATE checkpoints SET state = 'READY', memory_bytes = $2, disk_bytes = $3,
             pause_us = $4 WHERE id = $1",
        )
        .bind(info.id.as_str())
        .bind(signed(info.memory_bytes))
        .bind(signed(info.disk_bytes))
        .bind((info.pause_ms * 1000.0) as i64)
        .execute(&self.state.writer)
        .await
        .map_err(doing("writing a checkpoint"))?;
        Ok(())
    }

    /// Nothing is run from it any more, and its name is free.
    pub(crate) async fn delete_checkpoint(&self, id: &CheckpointId) -> Result<(), ControlError> {
        sqlx::query("UPDATE checkpoints SET state = 'DELETING', name = NULL WHERE id = $1")
            .bind(id.as_str())
            .execute(&self.state.writer)
            .await
            .map_err(doing("deleting a checkpoint"))?;
        Ok(())
    }

    pub(crate) async fn forget_checkpoint(&self, id: &CheckpointId) -> Result<(), ControlError> {
        sqlx::query("DELETE FROM checkpoints WHERE id = $1")
            .bind(id.as_str())
            .execute(&self.state.writer)
            .await
            .map_err(doing("removing a checkpoint's row"))?;
        Ok(())
    }

    pub(crate) async fn checkpoint_named(
        &self,
        name: &CheckpointName,
    ) -> Result<CheckpointRow, ControlError> {
        let row = sqlx::query(select_checkpoints!("WHERE name = $1"))
            .bind(name.as_str())
            .fetch_optional(&self.state.readers)
            .await
            .map_err(doing("reading a checkpoint"))?;
        let row = row.ok_or_else(|| ControlError::CheckpointNotFound(name.clone()))?;
        read_checkpoint(&row)
    }

    pub(crate) async fn checkpoint(
        &self,
        id: &CheckpointId,
    ) -> Result<Option<CheckpointRow>, ControlError> {
        let row = sqlx::query(select_checkpoints!("WHERE id = $1"))
            .bind(id.as_str())
            .fetch_optional(&self.state.readers)
            .await
            .map_err(doing("reading a checkpoint"))?;
        row.as_ref().map(read_checkpoint).transpose()
    }

    /// Oldest first.
    pub(crate) async fn checkpoints(&self) -> Result<Vec<CheckpointRow>, ControlError> {
        let rows = sqlx::query(select_checkpoints!("ORDER BY created_at, id"))
            .fetch_all(&self.state.readers)
            .await
            .map_err(doing("listing checkpoints"))?;
        rows.iter().map(read_checkpoint).collect()
    }

    /// Whether a MicroVM is still to be made of it.
    pub(crate) async fn is_awaited(&self, id: &CheckpointId) -> Result<bool, ControlError> {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM microvms WHERE checkpoint = $1 AND phase IN ('cloning', 'ending-clone')",
        )
        .bind(id.as_str())
        .fetch_one(&self.state.readers)
        .await
        .map_err(doing("counting a checkpoint's MicroVMs"))?;
        Ok(count > 0)
    }
}

fn read_checkpoint(row: &SqliteRow) -> Result<CheckpointRow, ControlError> {
    let failed = doing("reading a checkpoint");
    let text = |column: &'static str| row.try_get::<Option<&str>, _>(column).map_err(&failed);
    let number = |column: &'static str| row.try_get::<i64, _>(column).map_err(&failed);
    let like = read_microvm(row)?;
    let id = text("checkpoint_id")?.unwrap_or_default();
    let name = text("name")?.map(CheckpointName::parse);
    let state = text("state")?.unwrap_or_default();
    Ok(CheckpointRow {
        id: CheckpointId::new(id).map_err(|_| corrupt("a checkpoint's id", id))?,
        name: name.map(|name| stored_id("a checkpoint's name", name)).transpose()?,
        parent: like.checkpoint.clone(),
        state: variant(
            "a checkpoint's state",
            CheckpointState::ALL,
            CheckpointState::as_str,
            state,
        )?,
        memory_bytes: unsigned("a size", number("memory_bytes")?)?,
        disk_bytes: unsigned("a size", number("disk_bytes")?)?,
        pause_ms: number("pause_us")? as f64 / 1000.0,
        created_at: at(number("created_at")?),
        like,
    })
}
