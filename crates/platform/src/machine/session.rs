//! A session: what its agent is doing, and what may be said to it (spec 6.1 to 6.7).
//!
//! ```text
//!            message                 step: calls made
//!   Idle ─────────────▶ Running ──────────────────────▶ RequiresAction
//!    ▲                   │   ▲                             │    │
//!    │ step: plan done   │   └──── all calls resolved ─────┘    │
//!    ├───────────────────┘                                      │
//!    └────────────────────────── interrupt ─────────────────────┘
//!   Idle, RequiresAction ── archive ──▶ Terminated
//! ```
//!
//! The agent acts in steps: [`Session::step`] is called when the time that
//! [`Session::step_at`] names has come, so a session that is `running` when the emulator stops
//! goes on when it starts again. A turn is one `user.message` and all that follows from it; its
//! rules are in [`super::turn`], those of a turn that a model plays in [`super::dialogue`].

use std::collections::VecDeque;
use std::time::Duration;

use agents::{Event, EventId, ThreadId};
use serde::{Deserialize, Serialize};

use super::dialogue::{Ask, Usage};
use super::event::{self, Stop};
use super::script::Pace;
use super::tools::Tools;
use super::turn::{Agenda, Gate, Made, Mind, OpenCall, Runner, Turn, make_calls};
use crate::clock::Timestamp;
use crate::ids::Mint as _;

/// Messages that wait for their turn, at most.
const QUEUE_MAX: usize = 1000;
/// Calls of interrupted turns whose late results are still taken; older ones are forgotten.
const ABANDONED_MAX: usize = 500;

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// No turn is open.
    Idle,
    /// The agent is at work.
    Running,
    /// The agent is at work, and waits until its model can be asked again.
    Rescheduling,
    /// A turn is open and waits for results or confirmations. On the wire: `idle`.
    RequiresAction,
    /// Over for good.
    Terminated,
}

/// Why something is not done. The session is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Nothing more happens in it.
    #[error("the session is terminated")]
    Terminated,
    /// Archive and delete have to wait.
    #[error("the session is running: send user.interrupt first")]
    Running,
    /// No call of that id waits for an answer.
    #[error("{0} is no call of this session that waits for a result: unknown or already answered")]
    NoOpenCall(EventId),
    /// The call waits for a confirmation, not for a result.
    #[error("the call {0} waits for a user.tool_confirmation first")]
    NotConfirmed(EventId),
    /// The call waits for no confirmation.
    #[error("the call {0} was not evaluated as ask, or is already confirmed")]
    NotAsked(EventId),
    /// The result of a custom tool for a toolset's call, or the other way round.
    #[error("the call {call} is answered with {expected}")]
    WrongResult {
        /// The call.
        call: EventId,
        /// The event type that answers it.
        expected: &'static str,
    },
    /// Too many messages wait.
    #[error("{QUEUE_MAX} messages wait already")]
    QueueFull,
}

/// What the world should see of a change, in this order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    /// Store a new event; it is told to listeners once it is processed.
    Store { id: EventId, processed_at: Option<Timestamp>, event: Event },
    /// A stored event that waited is processed now: it moves to the end, and is told.
    Process { id: EventId, at: Timestamp },
    /// Tell the webhook endpoints.
    Tell(Hook),
    /// See to it that a work item of the session is alive.
    NeedWorker,
}

/// What webhook endpoints hear of a session (spec 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    Created,
    RunStarted,
    Idled,
    Rescheduled,
    RequiresAction,
    Terminated,
    Updated,
    Archived,
    Deleted,
}

impl Hook {
    /// The name of the event.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Created => "session.created",
            Self::RunStarted => "session.status_run_started",
            Self::Idled => "session.status_idled",
            Self::Rescheduled => "session.status_rescheduled",
            Self::RequiresAction => "session.requires_action",
            Self::Updated => "session.updated",
            Self::Terminated => "session.status_terminated",
            Self::Archived => "session.archived",
            Self::Deleted => "session.deleted",
        }
    }
}

/// What can be said to a session, checked for its shape already. `event` is its wire form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum UserEvent {
    /// Something to do.
    Message { event: Event, text: String },
    /// Stop what you do.
    Interrupt { event: Event },
    /// May this call run?
    Confirmation { event: Event, call: EventId, allow: bool, deny_message: Option<String> },
    /// A worker ran the call.
    ToolResult { event: Event, call: EventId, is_error: bool },
    /// A client ran the call.
    CustomToolResult { event: Event, call: EventId, is_error: bool },
    /// Kept, and of no consequence to a scripted agent.
    SystemMessage { event: Event },
}

/// What a session needs to know about the world to move on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    /// Now.
    pub(crate) now: Timestamp,
    /// How long the agent thinks before each step.
    pub(crate) think: Duration,
    /// What its agent may call.
    pub(crate) tools: Tools<'a>,
    /// Who decides what its agent does.
    pub(crate) mind: Mind,
}

/// A session's whole state, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Session {
    thread: ThreadId,
    agent_name: String,
    pub(super) phase: Phase,
    queue: VecDeque<Queued>,
    abandoned: VecDeque<OpenCall>,
    /// Time spent running before the current run, in microseconds.
    active_before: u64,
    running_since: Option<Timestamp>,
    /// Tokens of all model requests.
    #[serde(default)]
    pub(super) usage: Usage,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
pub(super) enum Phase {
    Idle,
    Running { turn: Turn, step_at: Timestamp },
    RequiresAction { turn: Turn, open: Vec<OpenCall> },
    Terminated,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Queued {
    id: EventId,
    text: String,
}

/// Collects what a change shows to the world.
pub(super) struct Effects {
    pub(super) now: Timestamp,
    pub(super) list: Vec<Effect>,
}

impl Effects {
    pub(super) fn at(now: Timestamp) -> Self {
        Self { now, list: Vec::new() }
    }

    pub(super) fn store(&mut self, event: Event) -> EventId {
        let id = EventId::mint();
        self.store_as(id.clone(), event);
        id
    }

    /// Stores an event whose id was announced before.
    pub(super) fn store_as(&mut self, id: EventId, event: Event) {
        self.list.push(Effect::Store { id, processed_at: Some(self.now), event });
    }

    fn store_waiting(&mut self, event: Event) -> EventId {
        let id = EventId::mint();
        self.list.push(Effect::Store { id: id.clone(), processed_at: None, event });
        id
    }
}

impl Session {
    /// A new, idle session of the agent of that name.
    pub(crate) fn new(agent_name: String) -> Self {
        Self {
            thread: ThreadId::mint(),
            agent_name,
            phase: Phase::Idle,
            queue: VecDeque::new(),
            abandoned: VecDeque::new(),
            active_before: 0,
            running_since: None,
            usage: Usage::default(),
        }
    }

    /// Its only thread.
    pub(crate) fn thread(&self) -> &ThreadId {
        &self.thread
    }

    /// Where it stands.
    pub(crate) fn status(&self) -> Status {
        match &self.phase {
            Phase::Idle => Status::Idle,
            Phase::Running { turn, .. } if turn.ask() == Some(&Ask::Paused) => Status::Rescheduling,
            Phase::Running { .. } => Status::Running,
            Phase::RequiresAction { .. } => Status::RequiresAction,
            Phase::Terminated => Status::Terminated,
        }
    }

    /// When [`Session::step`] is due; `None` while the agent has nothing to do.
    pub(crate) fn step_at(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::Running { step_at, .. } if self.asking().is_none() => Some(*step_at),
            Phase::Running { .. }
            | Phase::Idle
            | Phase::RequiresAction { .. }
            | Phase::Terminated => None,
        }
    }

    /// The model request that is under way, by its span; whoever drives the session makes it.
    pub(crate) fn asking(&self) -> Option<&EventId> {
        match &self.phase {
            Phase::Running { turn, .. } => turn.ask().and_then(Ask::span),
            Phase::Idle | Phase::RequiresAction { .. } | Phase::Terminated => None,
        }
    }

    /// Tokens of all its model requests.
    pub(crate) fn usage(&self) -> Usage {
        self.usage
    }

    /// How long it has been running, all in all.
    pub(crate) fn active(&self, now: Timestamp) -> Duration {
        let current = self.running_since.map_or(Duration::ZERO, |since| now.since(since));
        Duration::from_micros(self.active_before) + current
    }

    /// Takes what a client or a worker says. The first effect stores that event.
    pub(crate) fn send(
        &mut self,
        said: UserEvent,
        around: Surroundings<'_>,
    ) -> Result<Vec<Effect>, Refusal> {
        if self.status() == Status::Terminated {
            return Err(Refusal::Terminated);
        }
        let mut effects = Effects::at(around.now);
        match said {
            UserEvent::Message { event, text } => {
                self.message(event, text, around, &mut effects)?;
            }
            UserEvent::Interrupt { event } => {
                effects.store(event);
                self.interrupt(around, &mut effects);
            }
            UserEvent::SystemMessage { event } => {
                effects.store(event);
            }
            UserEvent::ToolResult { event, call, is_error } => {
                self.check_result(&call, Runner::Worker)?;
                effects.store(event);
                self.result(&call, is_error, around, &mut effects);
            }
            UserEvent::CustomToolResult { event, call, is_error } => {
                self.check_result(&call, Runner::Client)?;
                effects.store(event);
                self.result(&call, is_error, around, &mut effects);
            }
            UserEvent::Confirmation { event, call, allow, deny_message } => {
                self.check_confirmation(&call)?;
                effects.store(event);
                if allow {
                    self.allow(&call);
                } else {
                    self.deny(&call, deny_message, around, &mut effects);
                }
            }
        }
        Ok(effects.list)
    }

    /// The agent's next step. Does nothing unless it is due.
    pub(crate) fn step(&mut self, around: Surroundings<'_>) -> Vec<Effect> {
        let mut effects = Effects::at(around.now);
        if self.step_at().is_none_or(|due| due > around.now) {
            return effects.list;
        }
        let Phase::Running { mut turn, .. } = std::mem::replace(&mut self.phase, Phase::Idle)
        else {
            return effects.list;
        };
        let plan = match &mut turn.agenda {
            Agenda::Script(plan) => plan,
            Agenda::Model(_) => {
                self.ask(turn, around, &mut effects);
                return effects.list;
            }
        };
        let calls: VecDeque<_> = match plan.pace {
            Pace::OneByOne => plan.calls.pop_front().into_iter().collect(),
            Pace::AllAtOnce => std::mem::take(&mut plan.calls),
        };
        if calls.is_empty() {
            let span = effects.store(event::span_start());
            effects.store(event::agent_message(&[turn.closing_words()]));
            effects.store(event::span_end(&span, Usage::default(), false));
            self.end_turn(&Stop::EndTurn, around, &mut effects);
            return effects.list;
        }
        let span = effects.store(event::span_start());
        let made = make_calls(&mut turn, &calls, around.tools, &mut effects);
        effects.store(event::span_end(&span, Usage::default(), false));
        self.called(turn, made, around, &mut effects);
        effects.list
    }

    /// The agent has made calls: it waits for those that somebody has to answer, and goes on at
    /// once where there is none.
    pub(super) fn called(
        &mut self,
        turn: Turn,
        made: Made,
        around: Surroundings<'_>,
        effects: &mut Effects,
    ) {
        for result in made.rejected {
            effects.store(result);
        }
        if made.open.is_empty() {
            let step_at = around.now.plus(around.think);
            self.phase = Phase::Running { turn, step_at };
        } else {
            self.await_results(turn, made.open, effects);
            effects.list.push(Effect::Tell(Hook::RequiresAction));
            effects.list.push(Effect::NeedWorker);
        }
    }

    /// Ends the session for good; archiving twice changes nothing.
    pub(crate) fn archive(&mut self, now: Timestamp) -> Result<Vec<Effect>, Refusal> {
        let mut effects = Effects::at(now);
        match self.status() {
            Status::Running | Status::Rescheduling => return Err(Refusal::Running),
            Status::Terminated => {}
            Status::Idle | Status::RequiresAction => {
                self.phase = Phase::Terminated;
                self.queue.clear();
                self.tell_status(event::terminated(), &mut effects);
                effects.list.push(Effect::Tell(Hook::Terminated));
                effects.list.push(Effect::Tell(Hook::Archived));
            }
        }
        Ok(effects.list)
    }

    /// The last event of a session that is about to be removed.
    pub(crate) fn delete(&mut self, now: Timestamp) -> Result<Vec<Effect>, Refusal> {
        if self.is_at_work() {
            return Err(Refusal::Running);
        }
        self.phase = Phase::Terminated;
        let mut effects = Effects::at(now);
        effects.store(event::deleted());
        effects.list.push(Effect::Tell(Hook::Deleted));
        Ok(effects.list)
    }

    /// Whether its agent is doing something.
    pub(crate) fn is_at_work(&self) -> bool {
        match self.status() {
            Status::Running | Status::Rescheduling => true,
            Status::Idle | Status::RequiresAction | Status::Terminated => false,
        }
    }

    fn message(
        &mut self,
        event: Event,
        text: String,
        around: Surroundings<'_>,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        if self.status() == Status::Idle {
            effects.store(event);
            self.begin(&text, around, effects);
            return Ok(());
        }
        if self.queue.len() >= QUEUE_MAX {
            return Err(Refusal::QueueFull);
        }
        let id = effects.store_waiting(event);
        self.queue.push_back(Queued { id, text });
        Ok(())
    }

    /// Begins a turn.
    fn begin(&mut self, text: &str, around: Surroundings<'_>, effects: &mut Effects) {
        self.run(Turn::begin(text, around.mind), around, effects);
        effects.list.push(Effect::Tell(Hook::RunStarted));
    }

    /// Goes running, at the beginning of a turn or in its middle.
    fn run(&mut self, turn: Turn, around: Surroundings<'_>, effects: &mut Effects) {
        self.running_since.get_or_insert(around.now);
        self.phase = Phase::Running { turn, step_at: around.now.plus(around.think) };
        self.tell_status(event::running(), effects);
        effects.list.push(Effect::NeedWorker);
    }

    /// Runs again after a pause; it has its worker, and nobody is told of a new run.
    pub(super) fn resume_running(&mut self, now: Timestamp, effects: &mut Effects) {
        self.running_since.get_or_insert(now);
        self.tell_status(event::running(), effects);
    }

    /// Idle, until the next message that waits. A turn that failed takes those along: the client
    /// has to say what it wants again.
    pub(super) fn end_turn(
        &mut self,
        stop: &Stop<'_>,
        around: Surroundings<'_>,
        effects: &mut Effects,
    ) {
        self.phase = Phase::Idle;
        if matches!(stop, Stop::RetriesExhausted) {
            for flushed in self.queue.drain(..) {
                effects.list.push(Effect::Process { id: flushed.id, at: around.now });
            }
        }
        self.tell_status(event::idle(stop), effects);
        effects.list.push(Effect::Tell(Hook::Idled));
        if let Some(next) = self.queue.pop_front() {
            effects.list.push(Effect::Process { id: next.id, at: around.now });
            self.begin(&next.text, around, effects);
        }
    }

    fn interrupt(&mut self, around: Surroundings<'_>, effects: &mut Effects) {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Running { turn, .. } => {
                if let Some(span) = turn.ask().and_then(Ask::span) {
                    effects.store(event::span_end(span, Usage::default(), true));
                }
                self.end_turn(&Stop::EndTurn, around, effects);
            }
            Phase::RequiresAction { open, .. } => {
                self.abandoned.extend(open);
                let surplus = self.abandoned.len().saturating_sub(ABANDONED_MAX);
                self.abandoned.drain(..surplus);
                self.end_turn(&Stop::EndTurn, around, effects);
                // A session that lost its worker gets a new one this way (spec 6.2).
                effects.list.push(Effect::NeedWorker);
            }
            same @ (Phase::Idle | Phase::Terminated) => self.phase = same,
        }
    }

    fn open_calls(&mut self) -> &mut [OpenCall] {
        match &mut self.phase {
            Phase::RequiresAction { open, .. } => open,
            Phase::Idle | Phase::Running { .. } | Phase::Terminated => &mut [],
        }
    }

    fn check_result(&mut self, call: &EventId, from: Runner) -> Result<(), Refusal> {
        let open = self.open_calls().iter().find(|open| open.id == *call).cloned();
        let late = || self.abandoned.iter().find(|open| open.id == *call).cloned();
        let Some(open) = open.or_else(late) else {
            return Err(Refusal::NoOpenCall(call.clone()));
        };
        if open.runner != from {
            let expected = open.runner.answer();
            return Err(Refusal::WrongResult { call: call.clone(), expected });
        }
        match open.gate {
            Gate::Open => Ok(()),
            Gate::AwaitsConfirmation => Err(Refusal::NotConfirmed(call.clone())),
        }
    }

    /// Takes a result that [`Session::check_result`] found good. The late result of an
    /// interrupted call is kept, and nothing follows from it.
    fn result(
        &mut self,
        call: &EventId,
        is_error: bool,
        around: Surroundings<'_>,
        effects: &mut Effects,
    ) {
        if let Some(at) = self.abandoned.iter().position(|open| open.id == *call) {
            self.abandoned.remove(at);
            return;
        }
        if let Phase::RequiresAction { turn, .. } = &mut self.phase {
            turn.failed += usize::from(is_error);
        }
        self.resolve(call, around, effects);
    }

    fn check_confirmation(&mut self, call: &EventId) -> Result<(), Refusal> {
        match self.open_calls().iter().find(|open| open.id == *call).map(|open| open.gate) {
            Some(Gate::AwaitsConfirmation) => Ok(()),
            Some(Gate::Open) => Err(Refusal::NotAsked(call.clone())),
            None => Err(Refusal::NoOpenCall(call.clone())),
        }
    }

    /// The call may run; the session goes on waiting for its result.
    fn allow(&mut self, call: &EventId) {
        for open in self.open_calls().iter_mut().filter(|open| open.id == *call) {
            open.gate = Gate::Open;
        }
    }

    /// The agent hears that the call was refused; that resolves it.
    fn deny(
        &mut self,
        call: &EventId,
        message: Option<String>,
        around: Surroundings<'_>,
        effects: &mut Effects,
    ) {
        let text = message.unwrap_or_else(|| "the user denied this call".to_owned());
        effects.store(event::rejected_call(call, &text));
        if let Phase::RequiresAction { turn, .. } = &mut self.phase {
            turn.failed += 1;
        }
        self.resolve(call, around, effects);
    }

    /// Takes a call off the open ones: either others are left, or the agent goes on.
    fn resolve(&mut self, call: &EventId, around: Surroundings<'_>, effects: &mut Effects) {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::RequiresAction { turn, mut open } => {
                open.retain(|open| open.id != *call);
                if open.is_empty() {
                    self.run(turn, around, effects);
                } else {
                    self.await_results(turn, open, effects);
                }
            }
            same @ (Phase::Idle | Phase::Running { .. } | Phase::Terminated) => self.phase = same,
        }
    }

    fn await_results(&mut self, turn: Turn, open: Vec<OpenCall>, effects: &mut Effects) {
        let ids = open.iter().map(|open| &open.id).collect();
        let idle = event::idle(&Stop::RequiresAction(ids));
        self.phase = Phase::RequiresAction { turn, open };
        self.tell_status(idle, effects);
    }

    /// Tells a status for the session and for its thread, and keeps the running time.
    pub(super) fn tell_status(&mut self, status: Event, effects: &mut Effects) {
        if self.status() != Status::Running
            && let Some(since) = self.running_since.take()
        {
            let run = effects.now.since(since).as_micros();
            let run = u64::try_from(run).unwrap_or(u64::MAX);
            self.active_before = self.active_before.saturating_add(run);
        }
        let thread = event::of_thread(&status, &self.agent_name, &self.thread);
        // A worker's idle clock starts at the session's idle and is stopped by any event after
        // it (spec 2.4 no. 7), and streams end with the session: there it comes last.
        let (first, last) = match self.status() {
            Status::Running => (Some(status), thread),
            Status::Idle | Status::Rescheduling | Status::RequiresAction | Status::Terminated => {
                (thread, Some(status))
            }
        };
        for event in first.into_iter().chain(last) {
            effects.store(event);
        }
    }
}
