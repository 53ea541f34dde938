//! One session from its first message to the end of its VM, as its parts tell it.
//!
//! Everything arrives in one queue of [`Heard`]; what has been seen so far is [`Seen`], and what to
//! do next follows from it. The workspace must be in the VM before the first call: the script's
//! first call is therefore sent with the permission `ask`, and allowed once the files are there.

use super::{
    DemoError,
    script::{Call, Script, Turn},
    stage::Stage,
    timeline::{Event, Summary, Timeline},
    workspace::Workspace,
};
use crate::print::Closed;
use agents::{Event as SessionEvent, EventView, Permission, SessionId, StopReason};
use control::{Mark, MicrovmEvent, MicrovmId, PageRequest};
use hyper::Method;
use launcher::{LauncherEvent, LauncherEventKind};
use serde_json::{Map, Value, json};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use time::OffsetDateTime;
use tokio::sync::{broadcast, mpsc};
use tokio_util::task::AbortOnDropHandle;

/// Longest time in which nothing at all is heard. A tool call may take 120 s.
const SILENCE: Duration = Duration::from_secs(180);
/// How long the worker may take to end its VM after the session has ended.
const END: Duration = Duration::from_secs(60);
const CLAIM_EVERY: Duration = Duration::from_millis(5);
const CONSOLE_BYTES: usize = 2048;
/// Things heard and not yet looked at; each is small.
const HEARD_MAX: usize = 1024;

/// Whatever happens.
enum Heard {
    Launcher(LauncherEvent),
    Vm(MicrovmEvent),
    Claimed(OffsetDateTime),
    Session(SessionEvent),
    /// The event stream ended, as it does when the session has.
    StreamEnded,
    Broke(DemoError),
}

/// A call that has been made and not yet answered.
struct Pending {
    tool: String,
    input: Map<String, Value>,
    since: Instant,
}

#[derive(Default)]
struct Seen {
    vm: Option<MicrovmId>,
    /// What VMs did before it was known which is ours.
    early: Vec<MicrovmEvent>,
    running: bool,
    claimed: bool,
    launch_ms: Option<f64>,
    terminated: Option<String>,
    calls: HashMap<String, Pending>,
    /// The first call, while the workspace is not there.
    held: Option<String>,
    idle: bool,
    /// The session has been archived.
    over: bool,
}

pub(super) struct Show<'s> {
    stage: &'s Stage,
    timeline: Timeline<'s>,
    seen: Seen,
    began: (Instant, OffsetDateTime),
    session: Option<SessionId>,
    heard: Option<mpsc::Receiver<Heard>>,
    listeners: Vec<AbortOnDropHandle<()>>,
}

impl<'s> Show<'s> {
    pub(super) fn new(stage: &'s Stage, timeline: Timeline<'s>) -> Self {
        Self {
            stage,
            timeline,
            seen: Seen::default(),
            began: (Instant::now(), OffsetDateTime::now_utc()),
            session: None,
            heard: None,
            listeners: Vec::new(),
        }
    }

    pub(super) fn vm(&self) -> Option<&str> {
        self.seen.vm.as_ref().map(MicrovmId::as_str)
    }

    /// Tells something that happens now.
    pub(super) fn tell(&self, event: &Event) -> Result<(), Closed> {
        self.timeline.show(event, self.began.0.elapsed().as_secs_f64() * 1000.0)
    }

    /// Tells something that happened at a time that its part has noted.
    fn tell_at(&self, event: &Event, at: OffsetDateTime) -> Result<(), Closed> {
        self.timeline.show(event, (at - self.began.1).as_seconds_f64().max(0.0) * 1000.0)
    }

    pub(super) async fn play(
        &mut self,
        script: &Script,
        workspace: &Workspace,
        keep: bool,
    ) -> Result<Summary, DemoError> {
        let session = self.stage.create_session().await?;
        self.session = Some(session.clone());
        self.listen(&session).await?;
        self.began = (Instant::now(), OffsetDateTime::now_utc());
        for (number, turn) in script.turns.iter().enumerate() {
            let hold = number == 0 && *workspace != Workspace::Empty;
            self.send_turn(&session, turn, hold).await?;
            if hold {
                self.deliver(&session, workspace, turn).await?;
            }
            self.hear_until("the end of the turn", |seen| seen.idle).await?;
        }
        self.hear_until("the session to be claimed", |seen| seen.running && seen.claimed).await?;
        let summary = self.measure().await?;
        if !keep {
            self.archive(&session).await?;
        }
        Ok(summary)
    }

    /// Waits for the VM and for the call that is held, copies the files, lets the call go on.
    async fn deliver(
        &mut self,
        session: &SessionId,
        workspace: &Workspace,
        turn: &Turn,
    ) -> Result<(), DemoError> {
        let called = !turn.calls.is_empty();
        self.hear_until("the VM to run", |seen| seen.running && (!called || seen.held.is_some()))
            .await?;
        let Some(vm) = self.seen.vm.clone() else { return Ok(()) };
        workspace.copy(self.stage.node.control(), &vm).await?;
        let Some(call) = self.seen.held.take() else { return Ok(()) };
        if let Some(pending) = self.seen.calls.get_mut(&call) {
            // Before this it waited for us, not for the tool.
            pending.since = Instant::now();
        }
        let verdict = json!({"events": [
            {"type": "user.tool_confirmation", "tool_use_id": call, "result": "allow"},
        ]});
        let path = format!("/v1/sessions/{session}/events");
        self.stage.operator.raw(Method::POST, &path, Some(verdict)).await?;
        Ok(())
    }

    async fn send_turn(
        &mut self,
        session: &SessionId,
        turn: &Turn,
        hold: bool,
    ) -> Result<(), DemoError> {
        self.seen.idle = false;
        let call = |(number, call): (usize, &Call)| {
            let mut sent = json!({"tool": call.tool, "input": call.input});
            if hold && number == 0 {
                sent["permission"] = "ask".into();
            }
            sent
        };
        let calls: Vec<Value> = turn.calls.iter().enumerate().map(call).collect();
        let message = json!({"message": turn.message, "calls": calls}).to_string();
        let events = json!({"events": [
            {"type": "user.message", "content": [{"type": "text", "text": message}]},
        ]});
        let path = format!("/v1/sessions/{session}/events");
        self.stage.operator.raw(Method::POST, &path, Some(events)).await?;
        Ok(())
    }

    /// Ends the session, upon which the worker ends, and with it the VM.
    async fn archive(&mut self, session: &SessionId) -> Result<(), DemoError> {
        let path = format!("/v1/sessions/{session}/archive");
        self.seen.over = true;
        self.stage.operator.raw(Method::POST, &path, Some(json!({}))).await?;
        let ended = self.hear_until("the VM to end", |seen| seen.terminated.is_some());
        match tokio::time::timeout(END, ended).await {
            Ok(heard) => heard?,
            Err(_) => {
                let what = "the worker to end with its session".into();
                return Err(DemoError::Silent { seconds: END.as_secs(), what });
            }
        }
        Ok(())
    }

    async fn measure(&self) -> Result<Summary, DemoError> {
        let control = self.stage.node.control();
        let usage = match &self.seen.vm {
            Some(vm) => Some(control.usage(vm).await?),
            None => None,
        };
        let page = PageRequest { items_max: 1, token: None };
        let image = control.images().get(&self.stage.image).await?;
        let version = match image.latest_active_version {
            Some(version) => version,
            None => match control.images().versions(&self.stage.image, page).await?.items.pop() {
                Some(version) => version.version,
                None => return Err(DemoError::NoImage { image: self.stage.image.to_string() }),
            },
        };
        let builds = control.images().builds(&self.stage.image, version).await?;
        Ok(Summary {
            ok: true,
            launch_ms: self.seen.launch_ms,
            cold_boot_ms: builds.first().and_then(|build| build.cold_boot_ms),
            pss_kib: usage.map(|usage| usage.pss_kib),
        })
    }

    /// Whatever became of the session, its VM does not outlive the demo.
    pub(super) async fn end(&mut self) {
        self.listeners.clear();
        let Some(vm) = self.seen.vm.clone().filter(|_| self.seen.terminated.is_none()) else {
            return;
        };
        let control = self.stage.node.control();
        let mut events = control.events();
        if let Err(error) = control.terminate_microvm(&vm).await {
            tracing::warn!(%vm, %error, "the demo's VM could not be ended");
            return;
        }
        let gone = async {
            while let Ok(event) = events.recv().await {
                if event.id == vm && event.entry.mark == Mark::Terminated {
                    return;
                }
            }
        };
        if tokio::time::timeout(END, gone).await.is_err() {
            tracing::warn!(%vm, "the demo's VM is still ending");
        }
    }

    /// Opens all ears before anything is said.
    async fn listen(&mut self, session: &SessionId) -> Result<(), DemoError> {
        let (sender, heard) = mpsc::channel(HEARD_MAX);
        let service = &self.stage.node.service;
        let launcher = service.launcher.as_ref().map(launcher::Launcher::events);
        let vms = self.stage.node.control().events();
        let stream = self.stage.operator.stream(session).await?;
        self.heard = Some(heard);
        if let Some(launcher) = launcher {
            self.hear(forward(launcher, sender.clone(), Heard::Launcher));
        }
        self.hear(forward(vms, sender.clone(), Heard::Vm));
        self.hear(forward_stream(stream, sender.clone()));
        let claims = Claims {
            client: self.stage.worker.clone(),
            path: format!("/v1/environments/{}/work", self.stage.environment),
            session: session.clone(),
        };
        self.hear(claims.watch(sender));
        Ok(())
    }

    fn hear(&mut self, ear: impl Future<Output = ()> + Send + 'static) {
        self.listeners.push(AbortOnDropHandle::new(tokio::spawn(ear)));
    }

    async fn hear_until(
        &mut self,
        what: &str,
        enough: impl Fn(&Seen) -> bool,
    ) -> Result<(), DemoError> {
        while !enough(&self.seen) {
            let Some(heard) = &mut self.heard else { return Err(DemoError::Stream) };
            let silent = || DemoError::Silent { seconds: SILENCE.as_secs(), what: what.to_owned() };
            let next = tokio::time::timeout(SILENCE, heard.recv()).await.map_err(|_| silent())?;
            match next.ok_or(DemoError::Stream)? {
                Heard::Launcher(event) => self.on_launcher(event)?,
                Heard::Vm(event) => self.on_vm(event).await?,
                Heard::Session(event) => self.on_session(&event)?,
                Heard::Claimed(at) => {
                    self.seen.claimed = true;
                    self.tell_at(&Event::SessionClaimed, at)?;
                }
                Heard::StreamEnded if self.seen.over => {}
                Heard::StreamEnded => return Err(DemoError::Stream),
                Heard::Broke(error) => return Err(error),
            }
            self.on_early().await?;
        }
        Ok(())
    }

    fn on_launcher(&mut self, event: LauncherEvent) -> Result<(), DemoError> {
        let at = event.at;
        match event.kind {
            LauncherEventKind::WebhookReceived { .. } => {
                self.tell_at(&Event::WebhookReceived, at)?
            }
            LauncherEventKind::WebhookVerified { .. } => {
                self.tell_at(&Event::WebhookVerified, at)?
            }
            LauncherEventKind::RunMicrovmAccepted { session_id, microvm_id, .. } => {
                if self.session.as_ref() == Some(&session_id) {
                    self.seen.vm = MicrovmId::parse(&microvm_id).ok();
                }
            }
            LauncherEventKind::Refused { status, reason, .. } => {
                return Err(DemoError::Refused { status, reason });
            }
            LauncherEventKind::Ignored { .. }
            | LauncherEventKind::Replayed { .. }
            | LauncherEventKind::RunMicrovmRequested { .. }
            | LauncherEventKind::VmFound { .. }
            | LauncherEventKind::VmResumed { .. }
            | LauncherEventKind::VmGone { .. }
            | LauncherEventKind::ItemClaimed { .. }
            | LauncherEventKind::ItemTaken { .. } => {}
        }
        Ok(())
    }

    async fn on_vm(&mut self, event: MicrovmEvent) -> Result<(), DemoError> {
        match &self.seen.vm {
            None => self.seen.early.push(event),
            Some(vm) if *vm == event.id => self.on_own_vm(event).await?,
            Some(_) => {}
        }
        Ok(())
    }

    async fn on_early(&mut self) -> Result<(), DemoError> {
        if self.seen.vm.is_some() {
            for event in std::mem::take(&mut self.seen.early) {
                self.on_vm(event).await?;
            }
        }
        Ok(())
    }

    async fn on_own_vm(&mut self, event: MicrovmEvent) -> Result<(), DemoError> {
        let entry = event.entry;
        let at = entry.at.utc();
        match entry.mark {
            Mark::Accepted => {
                let microvm_id = event.id.to_string();
                self.tell_at(&Event::RunMicrovmAccepted { microvm_id }, at)?;
            }
            Mark::Restored => self.tell_at(&Event::VmRestored, at)?,
            Mark::RunHookAnswered => {
                self.seen.launch_ms = Some(entry.elapsed_ms);
                self.tell_at(&Event::RunHookAnswered, at)?;
            }
            Mark::Running => self.seen.running = true,
            Mark::Terminated => {
                let reason = entry.detail;
                let over = self.seen.over;
                self.seen.terminated = Some(reason.clone());
                self.tell_at(&Event::MicrovmTerminated { reason: reason.clone() }, at)?;
                if !over {
                    let console = self.stage.node.control().console(&event.id, CONSOLE_BYTES).await;
                    let console = console.unwrap_or_default();
                    return Err(DemoError::VmEnded { reason, console });
                }
            }
            Mark::Suspending
            | Mark::SuspendHookAnswered
            | Mark::Suspended
            | Mark::NotSuspended
            | Mark::Resuming
            | Mark::ResumeHookAnswered
            | Mark::Resumed
            | Mark::NotResumed
            | Mark::HookFailed
            | Mark::Terminating
            | Mark::TerminateHookEnded
            | Mark::Adopted
            | Mark::Checkpointed => {}
        }
        Ok(())
    }

    fn on_session(&mut self, event: &SessionEvent) -> Result<(), DemoError> {
        match event.view() {
            EventView::ToolUse { id, name, input, permission } => {
                let input = input.as_object().cloned().unwrap_or_default();
                let pending = Pending { tool: name.to_owned(), input, since: Instant::now() };
                self.seen.calls.insert(id.to_owned(), pending);
                if permission == Permission::Ask {
                    self.seen.held = Some(id.to_owned());
                }
            }
            EventView::ToolResult(id) => {
                if let Some(call) = self.seen.calls.remove(id) {
                    self.tell(&Event::ToolResult {
                        tool: call.tool,
                        input: call.input,
                        is_error: event.get("is_error").and_then(Value::as_bool).unwrap_or(false),
                        output: output(event.get("content")),
                        duration_ms: millis(call.since.elapsed()),
                    })?;
                }
            }
            EventView::Idle(StopReason::RequiresAction) => {}
            EventView::Idle(_) => {
                self.seen.idle = true;
                self.tell(&Event::SessionIdle)?;
            }
            EventView::Other if event.kind() == "session.error" => {
                let message = event.get("error").and_then(|e| e.get("message")?.as_str());
                return Err(DemoError::Session(message.unwrap_or("no reason given").to_owned()));
            }
            EventView::CustomToolUse(_)
            | EventView::Confirmation { .. }
            | EventView::SessionEnded
            | EventView::ThreadEnded(_)
            | EventView::Other => {}
        }
        Ok(())
    }
}

/// In milliseconds, to a thousandth.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

/// The text of a result: its blocks one after the other, those that are no text as JSON.
fn output(content: Option<&Value>) -> String {
    let blocks = content.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let texts: Vec<String> = blocks
        .iter()
        .map(|block| match block.get("text").and_then(Value::as_str) {
            Some(text) => text.to_owned(),
            None => block.to_string(),
        })
        .collect();
    texts.join("\n")
}

/// Passes on what a part tells. One that fell behind has lost something, and says so.
async fn forward<T: Clone>(
    mut from: broadcast::Receiver<T>,
    to: mpsc::Sender<Heard>,
    wrap: fn(T) -> Heard,
) {
    loop {
        let heard = match from.recv().await {
            Ok(event) => wrap(event),
            Err(broadcast::error::RecvError::Lagged(lost)) => {
                tracing::warn!(lost, "the timeline has a gap");
                continue;
            }
            Err(broadcast::error::RecvError::Closed) => return,
        };
        if to.send(heard).await.is_err() {
            return;
        }
    }
}

async fn forward_stream(mut from: agents::client::EventStream, to: mpsc::Sender<Heard>) {
    while let Ok(Some(event)) = from.next().await {
        if to.send(Heard::Session(event)).await.is_err() {
            return;
        }
    }
    // Fails where nobody listens any more.
    let _ = to.send(Heard::StreamEnded).await;
}

/// Looks at the environment's work until the session's item has been taken.
struct Claims {
    client: agents::client::Client,
    path: String,
    session: SessionId,
}

impl Claims {
    async fn watch(self, to: mpsc::Sender<Heard>) {
        loop {
            match self.client.raw(Method::GET, &self.path, None).await {
                Ok(list) => {
                    if let Some(at) = self.claimed_at(&list) {
                        let _ = to.send(Heard::Claimed(at)).await;
                        return;
                    }
                }
                Err(error) => {
                    let _ = to.send(Heard::Broke(error.into())).await;
                    return;
                }
            }
            tokio::time::sleep(CLAIM_EVERY).await;
        }
    }

    fn claimed_at(&self, list: &Value) -> Option<OffsetDateTime> {
        let items = list.get("data")?.as_array()?;
        let own = |item: &&Value| {
            item.pointer("/data/id").and_then(Value::as_str) == Some(self.session.as_str())
        };
        let at = items.iter().find(own)?.get("acknowledged_at")?.as_str()?;
        OffsetDateTime::parse(at, &time::format_description::well_known::Rfc3339).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_results_text_is_all_of_its_blocks() {
        let content = json!([{"type": "text", "text": "a"}, {"type": "image"}]);
        assert_eq!(output(Some(&content)), "a\n{\"type\":\"image\"}");
        assert_eq!(output(None), "");
    }
}
