//! How steady time is reckoned, over restarts of this process and of the host.

use super::{Store, doing};
use crate::{ControlError, clock::Reckoning};
use sqlx::Row;

impl Store {
    pub(crate) async fn reckoning(&self) -> Result<Option<Reckoning>, ControlError> {
        let failed = doing("reading how time is reckoned");
        let row = sqlx::query("SELECT boot, at_boot_ms, ahead_of_wall_ms FROM reckoning")
            .fetch_optional(&self.state.readers)
            .await
            .map_err(&failed)?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Reckoning {
            boot: row.try_get("boot").map_err(&failed)?,
            at_boot_ms: row.try_get("at_boot_ms").map_err(&failed)?,
            ahead_of_wall_ms: row.try_get("ahead_of_wall_ms").map_err(&failed)?,
        }))
    }

    pub(crate) async fn save_reckoning(&self, new: &Reckoning) -> Result<(), ControlError> {
        sqlx::query(
            "INSERT INTO reckoning (id, boot, at_boot_ms, ahead_of_wall_ms) VALUES (1, $1, $2, $3)
             ON CONFLICT (id) DO UPDATE SET boot = $1, at_boot_ms = $2, ahead_of_wall_ms = $3",
        )
        .bind(&new.boot)
        .bind(new.at_boot_ms)
        .bind(new.ahead_of_wall_ms)
        .execute(&self.state.writer)
        .await
        .map_err(doing("writing how time is reckoned"))?;
        Ok(())
    }
}
