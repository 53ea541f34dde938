//! Deployments: sessions that are made of a plan, by hand or when a schedule says so.
//!
//! A run is the record of one attempt to make a session; what becomes of the session is the
//! session's own business. A scheduled run that fails pauses its deployment.

use serde_json::{Map, Value, json};

use super::resources::{find, usable};
use super::sessions::Attachment;
use super::{Emulator, NewSession, News, Place, patch_metadata};
use crate::clock::Timestamp;
use crate::cron::Cron;
use crate::fault::Fault;
use crate::ids::AgentId;
use crate::machine::UserEvent;
use crate::store::{AgentRow, EnvironmentRow, Kind, ResourceRow, SessionBody};

/// Times that are shown ahead.
const UPCOMING: usize = 5;

/// What a client says of a deployment, checked for its shape. What is not said is `None`.
#[derive(Debug, Default)]
pub(crate) struct DeploymentDraft {
    pub(crate) agent: Option<(AgentId, Option<i64>)>,
    /// With their wire form, which is shown.
    pub(crate) events: Option<(Vec<Value>, Vec<UserEvent>)>,
    pub(crate) attachments: Option<(Vec<Value>, Vec<Attachment>)>,
    pub(crate) schedule: Option<Option<Cron>>,
    pub(crate) metadata: Map<String, Value>,
    /// All other members, as they are shown.
    pub(crate) members: Map<String, Value>,
}

/// Why a run is made.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trigger {
    Manual,
    Scheduled(Timestamp),
}

impl Emulator {
    /// Makes a deployment.
    pub(crate) async fn create_deployment(
        &self,
        draft: DeploymentDraft,
    ) -> Result<ResourceRow, Fault> {
        let mut row = ResourceRow::new(Kind::Deployment, Map::new(), self.now());
        for (member, value) in [
            ("description", Value::Null),
            ("metadata", json!({})),
            ("resources", json!([])),
            ("vault_ids", json!([])),
            ("schedule", Value::Null),
            ("budget", Value::Null),
            ("paused_reason", Value::Null),
        ] {
            row.body.insert(member.into(), value);
        }
        row.hidden = json!({"events": [], "attachments": []});
        self.fill(&mut row, draft).await?;
        self.create(row).await
    }

    /// Changes a deployment.
    pub(crate) async fn update_deployment(
        &self,
        id: &str,
        draft: DeploymentDraft,
    ) -> Result<ResourceRow, Fault> {
        let before = self.resource(Place::of(Kind::Deployment, id)).await?;
        let mut row = usable(before)?;
        self.fill(&mut row, draft).await?;
        self.alter(Place::of(Kind::Deployment, id), |stored| {
            *stored = row;
            Ok(())
        })
        .await
    }

    /// Stops the schedule, or lets it go on.
    pub(crate) async fn pause_deployment(
        &self,
        id: &str,
        reason: Option<Value>,
    ) -> Result<ResourceRow, Fault> {
        let what = if reason.is_some() { "deployment.paused" } else { "deployment.unpaused" };
        let mut change = self.store.change().await?;
        let mut row = usable(find(&mut change, Place::of(Kind::Deployment, id)).await?)?;
        let reason = reason.unwrap_or_default();
        if row.body.get("paused_reason").is_none_or(Value::is_null) != reason.is_null() {
            row.body.insert("paused_reason".into(), reason);
            row.updated_at = self.now();
            row.due_at = next_run(&row, self.now());
            row.save(change.rows()).await?;
            self.tell(&mut change, News::of(what, id)).await?;
            self.finish(change).await?;
            self.due.notify_one();
        }
        Ok(row)
    }

    /// Makes a session of a deployment, and the record of it.
    pub(crate) async fn run_deployment(
        &self,
        id: &str,
        trigger: Trigger,
    ) -> Result<ResourceRow, Fault> {
        let row = usable(self.resource(Place::of(Kind::Deployment, id)).await?)?;
        let made = match self.session_of(&row) {
            Ok(new) => self.create_session(new).await,
            Err(fault) => Err(fault),
        };
        let context = match trigger {
            Trigger::Manual => json!({"type": "manual"}),
            Trigger::Scheduled(at) => {
                json!({"type": "schedule", "scheduled_at": at.to_string()})
            }
        };
        let (session, error) = match made {
            Ok(session) => (json!(session.id.as_str()), Value::Null),
            Err(Fault::Store(error)) => return Err(Fault::Store(error)),
            Err(fault) => {
                let message = fault.to_string();
                (Value::Null, json!({"type": error_type(&fault), "message": message}))
            }
        };
        let body = Map::from_iter([
            ("agent".to_owned(), row.body.get("agent").cloned().unwrap_or_default()),
            ("session_id".to_owned(), session),
            ("error".to_owned(), error.clone()),
            ("trigger_context".to_owned(), context),
        ]);
        let run =
            self.create(ResourceRow::new(Kind::DeploymentRun, body, self.now()).of(id)).await?;
        self.tell_run(&run).await?;
        if let (Trigger::Scheduled(_), false) = (trigger, error.is_null()) {
            let reason = json!({"type": "error", "error": {"type": error["type"]}});
            self.pause_deployment(id, Some(reason)).await?;
        }
        Ok(run)
    }

    async fn tell_run(&self, run: &ResourceRow) -> Result<(), Fault> {
        let failed = run.body.get("session_id").is_none_or(Value::is_null);
        let outcome = if failed { "deployment_run.failed" } else { "deployment_run.succeeded" };
        let mut change = self.store.change().await?;
        for kind in ["deployment_run.started", outcome] {
            self.tell(&mut change, News::of(kind, &run.id)).await?;
        }
        self.finish(change).await
    }

    /// Does what is due: scheduled runs, files that expire. Returns when the next is.
    pub(crate) async fn do_due(&self) -> Result<Option<Timestamp>, Fault> {
        loop {
            let now = self.now();
            let mut change = self.store.change().await?;
            let Some(mut row) = ResourceRow::next_due(change.rows()).await? else {
                return Ok(None);
            };
            let Some(due) = row.due_at.filter(|due| *due <= now) else { return Ok(row.due_at) };
            if row.kind != Kind::Deployment {
                row.delete(change.rows()).await?;
                change.commit().await?;
                continue;
            }
            // What was missed while nobody was here is made up for once.
            row.due_at = next_run(&row, now);
            if let Some(Value::Object(schedule)) = row.body.get_mut("schedule") {
                schedule.insert("last_run_at".into(), json!(now.to_string()));
            }
            row.save(change.rows()).await?;
            change.commit().await?;
            self.run_deployment(&row.id, Trigger::Scheduled(due)).await?;
        }
    }

    /// Puts what a client says into a row.
    async fn fill(&self, row: &mut ResourceRow, draft: DeploymentDraft) -> Result<(), Fault> {
        row.body.extend(draft.members);
        let environment = row.text("environment_id").to_owned();
        let mut rows = self.store.read().await?;
        let id = agents::EnvironmentId::new(environment.clone());
        let found = match id {
            Ok(id) => EnvironmentRow::find(&mut rows, &id).await?,
            Err(_) => None,
        };
        found.ok_or_else(|| Fault::not_found("environment", &environment))?;
        if let Some((id, version)) = draft.agent {
            let found = AgentRow::find(&mut rows, &id, version).await?;
            let agent = found.ok_or_else(|| Fault::not_found("agent", &id))?;
            if agent.archived_at.is_some() {
                return Err(Fault::field("agent", format_args!("{id} is archived")));
            }
            let reference =
                json!({"type": "agent", "id": agent.id.as_str(), "version": agent.version});
            row.body.insert("agent".into(), reference);
            row.key = Some(agent.id.as_str().to_owned());
        }
        if let Some((shown, events)) = draft.events {
            row.body.insert("initial_events".into(), json!(shown));
            row.hidden["events"] = json!(events);
        }
        if let Some((shown, attachments)) = draft.attachments {
            row.body.insert("resources".into(), json!(shown));
            row.hidden["attachments"] = json!(attachments);
        }
        if let Some(Value::Object(metadata)) = row.body.get_mut("metadata") {
            patch_metadata(metadata, draft.metadata)?;
        }
        row.due_at = match draft.schedule {
            Some(cron) if row.body["paused_reason"].is_null() => {
                cron.and_then(|cron| cron.after(self.now()))
            }
            Some(_) => None,
            None => row.due_at,
        };
        self.due.notify_one();
        Ok(())
    }

    /// The session that a deployment makes.
    fn session_of(&self, row: &ResourceRow) -> Result<NewSession, Fault> {
        let broken = |what| Fault::field(what, "cannot be read");
        let part = |name: &str| row.body.get(name).cloned().unwrap_or_default();
        let agent = part("agent");
        let environment = agents::EnvironmentId::new(row.text("environment_id"))
            .map_err(|_| broken("environment_id"))?;
        Ok(NewSession {
            agent: AgentId::from_text(agent["id"].as_str().unwrap_or_default()),
            agent_version: agent["version"].as_i64(),
            overrides: Map::new(),
            environment,
            body: SessionBody {
                title: Some(row.text("name").to_owned()),
                vault_ids: serde_json::from_value(part("vault_ids"))
                    .map_err(|_| broken("vault_ids"))?,
                budget: Some(part("budget")).filter(|budget| !budget.is_null()),
                ..SessionBody::default()
            },
            attachments: serde_json::from_value(row.hidden["attachments"].clone())
                .map_err(|_| broken("resources"))?,
            initial_events: serde_json::from_value(row.hidden["events"].clone())
                .map_err(|_| broken("initial_events"))?,
            deployment: Some(row.id.clone()),
        })
    }
}

/// A deployment as it is shown: with its status, and the times of its next runs.
pub(crate) fn show(row: &ResourceRow, now: Timestamp) -> Value {
    let mut shown = row.show();
    let paused = !shown["paused_reason"].is_null();
    shown["status"] = json!(if paused { "paused" } else { "active" });
    if let Some(schedule) = schedule(row) {
        let upcoming = match row.archived_at {
            Some(_) => Vec::new(),
            None => schedule.upcoming(now, UPCOMING),
        };
        let upcoming: Vec<String> = upcoming.iter().map(Timestamp::to_string).collect();
        shown["schedule"]["upcoming_runs_at"] = json!(upcoming);
    }
    shown
}

fn schedule(row: &ResourceRow) -> Option<Cron> {
    let schedule = row.body.get("schedule")?;
    Cron::parse(schedule["expression"].as_str()?, schedule["timezone"].as_str()?).ok()
}

/// When it runs by itself; never while it is paused.
fn next_run(row: &ResourceRow, now: Timestamp) -> Option<Timestamp> {
    let paused = row.body.get("paused_reason").is_some_and(|reason| !reason.is_null());
    if paused { None } else { schedule(row)?.after(now) }
}

/// The platform's name for what kept a session from being made.
fn error_type(fault: &Fault) -> &'static str {
    match fault {
        Fault::Invalid { code: Some("environment_archived"), .. } => "environment_archived_error",
        Fault::Invalid { code: Some("agent_archived"), .. } => "agent_archived_error",
        Fault::Invalid { code: Some("memory_store_archived"), .. } => "memory_store_archived_error",
        Fault::Invalid { code: Some("vault_archived"), .. } => "vault_archived_error",
        Fault::NotFound { what: "environment", .. } => "environment_not_found_error",
        Fault::NotFound { what: "vault", .. } => "vault_not_found_error",
        Fault::NotFound { .. } => "session_resource_not_found_error",
        Fault::Invalid { .. }
        | Fault::Unauthenticated(_)
        | Fault::Forbidden(_)
        | Fault::NoRoute { .. }
        | Fault::Conflict(_)
        | Fault::Stale(_)
        | Fault::PathTaken { .. }
        | Fault::Injected { .. }
        | Fault::LeaseLost { .. }
        | Fault::TooLarge { .. }
        | Fault::Store(_) => "session_creation_rejected_error",
    }
}
