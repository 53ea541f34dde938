//! Claims that must outlive this process: an item that was acknowledged and is forgotten hangs for ever,
//! and its session with it.

use super::{Store, StoreError, now};
use crate::claim::Claim;
use agents::{EnvironmentId, SessionId, WorkId};

impl Store {
    /// Writes a claim down; to be called before the item is acknowledged.
    pub(crate) async fn open_claim(&self, claim: &Claim) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO claims (work_id, session_id, environment_id, secret, claimed_at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (work_id) DO UPDATE SET secret = $4, claimed_at = $5",
        )
        .bind(claim.work.as_str())
        .bind(claim.session.as_str())
        .bind(claim.environment.as_str())
        .bind(&claim.secret)
        .bind(now())
        .execute(&self.pool)
        .await
        .map(|_| ())
        .map_err(|source| StoreError::Query { action: "write a claim", source })
    }

    /// Forgets a claim, and its secret with it.
    pub(crate) async fn close_claim(&self, work: &WorkId) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM claims WHERE work_id = $1")
            .bind(work.as_str())
            .execute(&self.pool)
            .await
            .map(|_| ())
            .map_err(|source| StoreError::Query { action: "forget a claim", source })
    }

    /// The claims that an earlier process left, oldest first.
    pub(crate) async fn open_claims(&self) -> Result<Vec<Claim>, StoreError> {
        let rows: Vec<(String, String, String, String)> = sqlx::query_as(
            "SELECT work_id, session_id, environment_id, secret FROM claims ORDER BY claimed_at",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(|source| StoreError::Query { action: "read the claims", source })?;
        // An id that does not parse was not written by us.
        let read = |(work, session, environment, secret): (String, String, String, String)| {
            Some(Claim {
                work: WorkId::new(work).ok()?,
                session: SessionId::new(session).ok()?,
                environment: EnvironmentId::new(environment).ok()?,
                secret,
            })
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }
}
