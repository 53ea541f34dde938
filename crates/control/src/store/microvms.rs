//! Rows of MicroVMs, their timelines and client tokens.

use super::{
    HooksDocument, Store, at, corrupt, cut_page, doing, from_json, page_start, signed, stored_id,
    to_json, unsigned, variant,
};
use crate::{
    AutoResume, ClientToken, ControlError, Hooks, IdlePolicy, ImageName, ImageVersion, LogGroup,
    LogStream, LogTarget, Mark, MicrovmEvent, MicrovmFilter, MicrovmId, Page, PageRequest, RoleArn,
    TimelineEntry, Timestamp, clock::Steady, life::Life,
};
use engine::{CheckpointId, TemplateId};
use serde::{Deserialize, Serialize};
use sqlx::{Row, Sqlite, Transaction, sqlite::SqliteRow};
use std::time::Duration;

/// A MicroVM as it is stored: what it was run with, and its life.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MicrovmRow {
    pub(crate) id: MicrovmId,
    pub(crate) image: ImageName,
    pub(crate) version: ImageVersion,
    pub(crate) memory_mib: u32,
    pub(crate) template: TemplateId,
    /// What it was made of; none: of its image's template.
    pub(crate) checkpoint: Option<CheckpointId>,
    pub(crate) endpoint: String,
    pub(crate) execution_role: Option<RoleArn>,
    pub(crate) idle_policy: Option<IdlePolicy>,
    pub(crate) maximum_duration: Duration,
    pub(crate) ingress_connectors: Vec<String>,
    pub(crate) egress_connectors: Vec<String>,
    pub(crate) log: Option<LogTarget>,
    /// Those of the image's version; a copy, so that a VM's life needs no other row.
    pub(crate) hooks: Hooks,
    pub(crate) started_at: Timestamp,
    /// The same moment, for its maximum duration.
    pub(crate) counted_from: Steady,
    /// Gone from the store once `/run` has been called: it may hold what is nobody's business later.
    pub(crate) payload: Option<String>,
    pub(crate) life: Life,
}

/// The columns' JSON document: everything that is only ever read whole.
#[derive(Serialize, Deserialize)]
struct SpecDocument {
    endpoint: String,
    execution_role: Option<String>,
    idle: Option<IdleDocument>,
    maximum_duration_s: u64,
    ingress_connectors: Vec<String>,
    egress_connectors: Vec<String>,
    log: Option<(String, String)>,
    hooks: HooksDocument,
}

#[derive(Serialize, Deserialize)]
struct IdleDocument {
    max_idle_s: u64,
    suspended_s: u64,
    auto_resume: bool,
}

/// A timeline entry that is to be written with a row.
#[derive(Clone, Debug)]
pub(crate) struct NewMark {
    pub(crate) mark: Mark,
    pub(crate) at: Timestamp,
    pub(crate) elapsed: Duration,
    /// Of the work that ended so.
    pub(crate) took: Option<Duration>,
    pub(crate) detail: String,
}

/// A client token on the way to its resource.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) operation: &'static str,
    pub(crate) token: ClientToken,
    /// Digest of the request's parameters.
    pub(crate) fingerprint: String,
}

impl Claim {
    /// The resource that an equal request made before.
    pub(super) async fn earlier(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
    ) -> Result<Option<String>, ControlError> {
        let found = sqlx::query(
            "SELECT fingerprint, resource FROM client_tokens WHERE operation = $1 AND token = $2",
        )
        .bind(self.operation)
        .bind(self.token.as_str())
        .fetch_optional(&mut **tx)
        .await
        .map_err(doing("looking for a client token"))?;
        let Some(row) = found else { return Ok(None) };
        let failed = doing("reading a client token");
        if row.try_get::<&str, _>("fingerprint").map_err(&failed)? != self.fingerprint {
            return Err(ControlError::ClientTokenReused);
        }
        Ok(Some(row.try_get("resource").map_err(&failed)?))
    }

    pub(super) async fn record(
        &self,
        tx: &mut Transaction<'_, Sqlite>,
        resource: &str,
    ) -> Result<(), ControlError> {
        sqlx::query(
            "INSERT INTO client_tokens (operation, token, fingerprint, resource)
             VALUES ($1, $2, $3, $4)",
        )
        .bind(self.operation)
        .bind(self.token.as_str())
        .bind(&self.fingerprint)
        .bind(resource)
        .execute(&mut **tx)
        .await
        .map_err(doing("writing a client token"))?;
        Ok(())
    }
}

/// Joins the columns with the rest of a query at compile time: sqlx takes literals only.
macro_rules! select_microvms {
    ($rest:literal) => {
        concat!(
            "SELECT id, image, version, memory_mib, template, spec, payload, phase, phase_at, \
             state_reason, started_at, counted_from, checkpoint FROM microvms ",
            $rest
        )
    };
}

const ALLOCATED_MEMORY: &str = "SELECT sum(memory_mib) FROM microvms WHERE state <> 'TERMINATED'";

impl Store {
    /// Writes a new row with its first mark, or finds the id that an equal request was given.
    pub(crate) async fn insert_microvm(
        &self,
        row: &MicrovmRow,
        mark: &NewMark,
        claim: Option<&Claim>,
        quota_mib: Option<u64>,
    ) -> Result<Option<MicrovmId>, ControlError> {
        let failed = doing("writing a MicroVM");
        let mut tx = self.state.writer.begin().await.map_err(&failed)?;
        if let Some(claim) = claim {
            if let Some(earlier) = claim.earlier(&mut tx).await? {
                return stored_id("the MicroVM of a client token", MicrovmId::parse(&earlier))
                    .map(Some);
            }
            claim.record(&mut tx, row.id.as_str()).await?;
        }
        if let Some(limit_mib) = quota_mib {
            check_quota(&mut tx, u64::from(row.memory_mib), limit_mib).await?;
        }
        sqlx::query(
            "INSERT INTO microvms (id, image, version, memory_mib, template, spec, payload, state,
             phase, phase_at, state_reason, started_at, counted_from, checkpoint,
             terminated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, NULL, $11, $12, $13, NULL)",
        )
        .bind(row.id.as_str())
        .bind(row.image.as_str())
        .bind(i64::from(row.version.major()))
        .bind(i64::from(row.memory_mib))
        .bind(row.template.as_str())
        .bind(to_json(&SpecDocument::of(row)))
        .bind(row.payload.as_deref())
        .bind(row.life.state().as_str())
        .bind(row.life.phase().as_str())
        .bind(row.life.phase_at_ms())
        .bind(row.started_at.ms())
        .bind(row.counted_from.ms())
        .bind(row.checkpoint.as_ref().map(CheckpointId::as_str))
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
        insert_mark(&mut tx, &row.id, mark).await?;
        tx.commit().await.map_err(&failed)?;
        Ok(None)
    }

    /// The MicroVM that an equal request made before.
    pub(crate) async fn claimed_microvm(
        &self,
        claim: &Claim,
    ) -> Result<Option<MicrovmId>, ControlError> {
        let failed = doing("looking for a client token");
        let mut tx = self.state.readers.begin().await.map_err(failed)?;
        let earlier = claim.earlier(&mut tx).await?;
        earlier.map(|id| stored_id("a token's MicroVM", MicrovmId::parse(&id))).transpose()
    }

    /// Writes a life and what there is to say of it.
    pub(crate) async fn save_life(
        &self,
        id: &MicrovmId,
        life: &Life,
        marks: &[NewMark],
    ) -> Result<(), ControlError> {
        let failed = doing("writing the state of a MicroVM");
        let mut tx = self.state.writer.begin().await.map_err(&failed)?;
        sqlx::query(
            "UPDATE microvms SET state = $2, phase = $3, phase_at = $4, state_reason = $5,
             terminated_at = $6, payload = CASE WHEN $7 = 1 THEN payload ELSE NULL END
             WHERE id = $1",
        )
        .bind(id.as_str())
        .bind(life.state().as_str())
        .bind(life.phase().as_str())
        .bind(life.phase_at_ms())
        .bind(life.reason())
        .bind(life.terminated_at().map(Timestamp::ms))
        .bind(i64::from(life.needs_payload()))
        .execute(&mut *tx)
        .await
        .map_err(&failed)?;
        for mark in marks {
            insert_mark(&mut tx, id, mark).await?;
        }
        tx.commit().await.map_err(&failed)
    }

    pub(crate) async fn microvm(&self, id: &MicrovmId) -> Result<Option<MicrovmRow>, ControlError> {
        let row = sqlx::query(select_microvms!("WHERE id = $1"))
            .bind(id.as_str())
            .fetch_optional(&self.state.readers)
            .await
            .map_err(doing("reading a MicroVM"))?;
        row.as_ref().map(read_microvm).transpose()
    }

    /// Every MicroVM that is not terminated.
    pub(crate) async fn live(&self) -> Result<Vec<MicrovmRow>, ControlError> {
        let rows =
            sqlx::query(select_microvms!("WHERE state <> 'TERMINATED' ORDER BY started_at, id"))
                .fetch_all(&self.state.readers)
                .await
                .map_err(doing("reading the live MicroVMs"))?;
        rows.iter().map(read_microvm).collect()
    }

    /// Memory of all MicroVMs that are not terminated.
    pub(crate) async fn allocated_memory_mib(&self) -> Result<u64, ControlError> {
        let used: Option<i64> = sqlx::query_scalar(ALLOCATED_MEMORY)
            .fetch_one(&self.state.readers)
            .await
            .map_err(doing("adding up the memory of MicroVMs"))?;
        unsigned("a sum", used.unwrap_or(0))
    }

    /// How many MicroVMs of an image (of one version, where one is named) are not terminated.
    pub(crate) async fn count_live(
        &self,
        image: &ImageName,
        version: Option<ImageVersion>,
    ) -> Result<u64, ControlError> {
        let count: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM microvms WHERE image = $1 AND state <> 'TERMINATED'
             AND ($2 = 0 OR version = $2)",
        )
        .bind(image.as_str())
        .bind(version.map_or(0, |v| i64::from(v.major())))
        .fetch_one(&self.state.readers)
        .await
        .map_err(doing("counting MicroVMs"))?;
        unsigned("a count", count)
    }

    /// Newest first.
    pub(crate) async fn list_microvms(
        &self,
        filter: &MicrovmFilter,
        page: &PageRequest,
    ) -> Result<Page<MicrovmRow>, ControlError> {
        let (start, limit) = page_start::<(i64, String)>(page)?;
        let (from_at, from_id) = start.unwrap_or((i64::MAX, String::new()));
        let rows = sqlx::query(select_microvms!(
            "WHERE (started_at < $1 OR (started_at = $1 AND id < $2))
             AND ($3 = '' OR image = $3) AND ($4 = 0 OR version = $4)
             ORDER BY started_at DESC, id DESC LIMIT $5"
        ))
        .bind(from_at)
        .bind(from_id)
        .bind(filter.image.as_ref().map_or("", ImageName::as_str))
        .bind(filter.version.map_or(0, |v| i64::from(v.major())))
        .bind(limit)
        .fetch_all(&self.state.readers)
        .await
        .map_err(doing("listing MicroVMs"))?;
        let items = rows.iter().map(read_microvm).collect::<Result<Vec<_>, _>>()?;
        Ok(cut_page(items, page, |row| (row.started_at.ms(), row.id.to_string())))
    }

    pub(crate) async fn timeline(
        &self,
        id: &MicrovmId,
    ) -> Result<Vec<TimelineEntry>, ControlError> {
        let failed = doing("reading a timeline");
        let rows = sqlx::query(
            "SELECT mark, at, elapsed_us, took_us, detail FROM microvm_marks WHERE microvm = $1
             ORDER BY position",
        )
        .bind(id.as_str())
        .fetch_all(&self.state.readers)
        .await
        .map_err(&failed)?;
        rows.iter().map(read_mark).collect()
    }

    /// Entries of all timelines since then, oldest first.
    pub(crate) async fn history(
        &self,
        since: Timestamp,
    ) -> Result<Vec<MicrovmEvent>, ControlError> {
        let failed = doing("reading what happened");
        let rows = sqlx::query(
            "SELECT m.microvm, v.image, m.mark, m.at, m.elapsed_us, m.took_us, m.detail
             FROM microvm_marks m JOIN microvms v ON v.id = m.microvm
             WHERE m.at >= $1 ORDER BY m.at, m.microvm, m.position",
        )
        .bind(since.ms())
        .fetch_all(&self.state.readers)
        .await
        .map_err(&failed)?;
        let read = |row: &SqliteRow| {
            let id: &str = row.try_get("microvm").map_err(&failed)?;
            let image: &str = row.try_get("image").map_err(&failed)?;
            Ok(MicrovmEvent {
                id: stored_id("a MicroVM's id", MicrovmId::parse(id))?,
                image: stored_id("an image's name", ImageName::parse(image))?,
                entry: read_mark(row)?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Removes what ended before `before`, with its marks and client tokens.
    pub(crate) async fn forget_terminated(&self, before: Timestamp) -> Result<u64, ControlError> {
        let failed = doing("removing MicroVMs that ended long ago");
        let mut tx = self.state.writer.begin().await.map_err(&failed)?;
        for statement in [
            "DELETE FROM microvm_marks WHERE microvm IN
             (SELECT id FROM microvms WHERE terminated_at < $1)",
            "DELETE FROM client_tokens WHERE resource IN
             (SELECT id FROM microvms WHERE terminated_at < $1)",
        ] {
            sqlx::query(statement).bind(before.ms()).execute(&mut *tx).await.map_err(&failed)?;
        }
        let done = sqlx::query("DELETE FROM microvms WHERE terminated_at < $1")
            .bind(before.ms())
            .execute(&mut *tx)
            .await
            .map_err(&failed)?;
        tx.commit().await.map_err(&failed)?;
        Ok(done.rows_affected())
    }
}

async fn check_quota(
    tx: &mut Transaction<'_, Sqlite>,
    wanted_mib: u64,
    limit_mib: u64,
) -> Result<(), ControlError> {
    let used: Option<i64> = sqlx::query_scalar(ALLOCATED_MEMORY)
        .fetch_one(&mut **tx)
        .await
        .map_err(doing("adding up the memory of MicroVMs"))?;
    if unsigned("a sum", used.unwrap_or(0))? + wanted_mib > limit_mib {
        return Err(ControlError::MemoryQuota { limit_mib });
    }
    Ok(())
}

async fn insert_mark(
    tx: &mut Transaction<'_, Sqlite>,
    id: &MicrovmId,
    mark: &NewMark,
) -> Result<(), ControlError> {
    sqlx::query(
        "INSERT INTO microvm_marks (microvm, position, mark, at, elapsed_us, took_us, detail)
         SELECT $1, count(*), $2, $3, $4, $5, $6 FROM microvm_marks WHERE microvm = $1",
    )
    .bind(id.as_str())
    .bind(mark.mark.as_str())
    .bind(mark.at.ms())
    .bind(micros(mark.elapsed))
    .bind(mark.took.map(micros))
    .bind(&mark.detail)
    .execute(&mut **tx)
    .await
    .map_err(doing("writing a timeline"))?;
    Ok(())
}

fn read_mark(row: &SqliteRow) -> Result<TimelineEntry, ControlError> {
    let failed = doing("reading a timeline");
    let mark: &str = row.try_get("mark").map_err(&failed)?;
    let elapsed_us: i64 = row.try_get("elapsed_us").map_err(&failed)?;
    let took_us: Option<i64> = row.try_get("took_us").map_err(&failed)?;
    Ok(TimelineEntry {
        mark: variant("a mark", Mark::ALL, Mark::as_str, mark)?,
        at: at(row.try_get("at").map_err(&failed)?),
        elapsed_ms: elapsed_us as f64 / 1000.0,
        took_ms: took_us.map(|us| us as f64 / 1000.0),
        detail: row.try_get("detail").map_err(&failed)?,
    })
}

fn micros(duration: Duration) -> i64 {
    signed(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

impl MicrovmRow {
    /// Whether requests at its endpoint resume it.
    pub(crate) fn wakes_by_itself(&self) -> bool {
        self.idle_policy.is_some_and(IdlePolicy::wakes)
    }
}

impl SpecDocument {
    fn of(row: &MicrovmRow) -> Self {
        Self {
            endpoint: row.endpoint.clone(),
            execution_role: row.execution_role.as_ref().map(ToString::to_string),
            idle: row.idle_policy.map(|idle| IdleDocument {
                max_idle_s: idle.max_idle.as_secs(),
                suspended_s: idle.suspended.as_secs(),
                auto_resume: idle.auto_resume == AutoResume::Enabled,
            }),
            maximum_duration_s: row.maximum_duration.as_secs(),
            ingress_connectors: row.ingress_connectors.clone(),
            egress_connectors: row.egress_connectors.clone(),
            log: row.log.as_ref().map(|log| (log.group.to_string(), log.stream.to_string())),
            hooks: HooksDocument::of(&row.hooks),
        }
    }
}

pub(super) fn read_microvm(row: &SqliteRow) -> Result<MicrovmRow, ControlError> {
    let failed = doing("reading a MicroVM");
    let text = |column: &'static str| row.try_get::<&str, _>(column).map_err(&failed);
    let number = |column: &'static str| row.try_get::<i64, _>(column).map_err(&failed);
    let spec: SpecDocument = from_json("a MicroVM's spec", text("spec")?)?;
    let (version, memory) = (number("version")?, number("memory_mib")?);
    let log = spec.log.map(|(group, stream)| -> Result<LogTarget, ControlError> {
        Ok(LogTarget {
            group: stored_id("a log group", LogGroup::parse(&group))?,
            stream: stored_id("a log stream", LogStream::parse(&stream))?,
        })
    });
    let role = spec.execution_role.map(|role| stored_id("a role", RoleArn::parse(&role)));
    let template = text("template")?;
    let checkpoint: Option<&str> = row.try_get("checkpoint").map_err(&failed)?;
    let checkpoint =
        checkpoint.map(|id| CheckpointId::new(id).map_err(|_| corrupt("a checkpoint's id", id)));
    let phase = text("phase")?;
    let reason: Option<String> = row.try_get("state_reason").map_err(&failed)?;
    let life = Life::from_stored(phase, number("phase_at")?, reason)
        .ok_or_else(|| corrupt("a MicroVM's phase", phase))?;
    Ok(MicrovmRow {
        id: stored_id("a MicroVM's id", MicrovmId::parse(text("id")?))?,
        image: stored_id("an image's name", ImageName::parse(text("image")?))?,
        version: super::images::stored_version(version)?,
        memory_mib: u32::try_from(memory).map_err(|_| corrupt("a memory size", memory))?,
        template: TemplateId::new(template).map_err(|_| corrupt("a template's id", template))?,
        checkpoint: checkpoint.transpose()?,
        endpoint: spec.endpoint,
        execution_role: role.transpose()?,
        idle_policy: spec.idle.map(|idle| IdlePolicy {
            max_idle: Duration::from_secs(idle.max_idle_s),
            suspended: Duration::from_secs(idle.suspended_s),
            auto_resume: if idle.auto_resume { AutoResume::Enabled } else { AutoResume::Disabled },
        }),
        maximum_duration: Duration::from_secs(spec.maximum_duration_s),
        ingress_connectors: spec.ingress_connectors,
        egress_connectors: spec.egress_connectors,
        log: log.transpose()?,
        hooks: spec.hooks.read()?,
        started_at: at(number("started_at")?),
        counted_from: Steady::from_ms(number("counted_from")?),
        payload: row.try_get("payload").map_err(&failed)?,
        life,
    })
}
