//! A turn that a model plays: asked, answered, asked again with the results of its calls.
//!
//! ```text
//!   Due ──step──▶ Under way ──answer with calls──▶ (results) ──▶ Due
//!    ▲              │  │ answer without ──▶ the turn is over
//!    │ step         │ failure that may pass
//!    └── Paused ◀───┘          any other failure, or too many ──▶ the turn is over
//! ```
//!
//! The request itself is made outside: while one is under way, [`Session::asking`] names it, and
//! what comes of it is told to [`Session::answered`] or [`Session::failed`]. What comes of a
//! request that nobody waits for any more is dropped.

use std::time::Duration;

use agents::EventId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::{self, Stop};
use super::script::PlannedCall;
use super::session::{Effect, Effects, Hook, Phase, Session, Surroundings};
use super::turn::{Agenda, Turn, make_calls};
use crate::ids::Mint as _;

/// Requests in one turn, at most: a model that never comes to an end is stopped.
const REQUESTS_MAX: u32 = 250;
/// Requests in a row that fail and are made again.
const FAILURES_MAX: u32 = 5;
/// First wait after a failure; doubles with each further one.
const BACKOFF_BASE: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// The state of a turn that a model plays.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Dialogue {
    requests: u32,
    failures: u32,
    pub(super) ask: Ask,
}

/// Where its model stands.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ask {
    /// It is to be asked.
    #[default]
    Due,
    /// It is being asked, under this span.
    UnderWay(EventId),
    /// It is to be asked again after a while.
    Paused,
}

impl Ask {
    pub(super) fn span(&self) -> Option<&EventId> {
        match self {
            Self::UnderWay(span) => Some(span),
            Self::Due | Self::Paused => None,
        }
    }
}

/// Tokens, as a model request counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Usage {
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) cache_creation_input_tokens: u64,
    pub(crate) cache_read_input_tokens: u64,
}

impl Usage {
    fn add(&mut self, other: Self) {
        let add = |sum: &mut u64, more| *sum = sum.saturating_add(more);
        add(&mut self.input_tokens, other.input_tokens);
        add(&mut self.output_tokens, other.output_tokens);
        add(&mut self.cache_creation_input_tokens, other.cache_creation_input_tokens);
        add(&mut self.cache_read_input_tokens, other.cache_read_input_tokens);
    }
}

/// What a model said.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    /// The id of the message that its texts make: it was announced while they came.
    pub(crate) message: EventId,
    /// Whether it thought before it spoke.
    pub(crate) thought: bool,
    pub(crate) texts: Vec<String>,
    pub(crate) calls: Vec<PlannedCall>,
    pub(crate) stop: AnswerStop,
    pub(crate) usage: Usage,
}

/// Why a model stopped.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AnswerStop {
    /// It is done, or waits for the results of its calls.
    Done,
    /// It wants to go on at once.
    Pause,
    /// It was cut off, for this reason.
    CutOff(String),
    /// It did not want to; what it says about that.
    Refusal(Value),
}

/// Why a model did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// For people.
    pub(crate) message: String,
    /// How long the other side wants to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// It may pass: too many requests.
    RateLimited,
    /// It may pass: too much to do.
    Overloaded,
    /// It may pass: broken connections and servers.
    Broken,
    /// Asking again would not help.
    Refused,
    /// Somebody has to pay.
    Billing,
}

impl FailureKind {
    /// The platform's name for it.
    fn name(self) -> &'static str {
        match self {
            Self::RateLimited => "model_rate_limited_error",
            Self::Overloaded => "model_overloaded_error",
            Self::Broken | Self::Refused => "model_request_failed_error",
            Self::Billing => "billing_error",
        }
    }

    fn may_pass(self) -> bool {
        match self {
            Self::RateLimited | Self::Overloaded | Self::Broken => true,
            Self::Refused | Self::Billing => false,
        }
    }
}

impl Session {
    /// Begins a request of the model.
    pub(super) fn ask(&mut self, mut turn: Turn, around: Surroundings<'_>, effects: &mut Effects) {
        let Agenda::Model(dialogue) = &mut turn.agenda else { return };
        if dialogue.requests >= REQUESTS_MAX {
            let message = format!("the model was asked {REQUESTS_MAX} times in one turn");
            let kind = "tool_use_limit_reached_error";
            effects.store(event::error(kind, &message, "exhausted"));
            self.end_turn(&Stop::RetriesExhausted, around, effects);
            return;
        }
        dialogue.requests += 1;
        let paused = dialogue.ask == Ask::Paused;
        let span = EventId::mint();
        dialogue.ask = Ask::UnderWay(span.clone());
        self.phase = Phase::Running { turn, step_at: around.now };
        if paused {
            self.resume_running(around.now, effects);
        }
        effects.store_as(span, event::span_start());
    }

    /// What the model said to the request under `span`.
    pub(crate) fn answered(
        &mut self,
        span: &EventId,
        answer: Answer,
        around: Surroundings<'_>,
    ) -> Vec<Effect> {
        let mut effects = Effects::at(around.now);
        let Some(mut turn) = self.end_request(span) else { return effects.list };
        self.usage.add(answer.usage);
        if answer.thought {
            effects.store(event::agent_thinking());
        }
        if !answer.texts.is_empty() {
            effects.store_as(answer.message, event::agent_message(&answer.texts));
        }
        let calls = match answer.stop {
            AnswerStop::Done | AnswerStop::Pause => answer.calls,
            // Its last call may be half a call, and none of them is to be believed.
            AnswerStop::CutOff(_) | AnswerStop::Refusal(_) => Vec::new(),
        };
        let made = make_calls(&mut turn, &calls, around.tools, &mut effects);
        effects.store(event::span_end(span, answer.usage, false));
        if let Agenda::Model(dialogue) = &mut turn.agenda {
            dialogue.failures = 0;
        }
        match answer.stop {
            AnswerStop::Done if calls.is_empty() => {
                self.end_turn(&Stop::EndTurn, around, &mut effects);
            }
            AnswerStop::Done | AnswerStop::Pause => {
                self.called(turn, made, around, &mut effects);
            }
            AnswerStop::CutOff(why) => {
                effects.store(event::error("model_request_failed_error", &why, "exhausted"));
                self.end_turn(&Stop::RetriesExhausted, around, &mut effects);
            }
            AnswerStop::Refusal(details) => {
                self.end_turn(&Stop::Refusal(&details), around, &mut effects);
            }
        }
        effects.list
    }

    /// The request under `span` failed: it is made again later, or the turn ends.
    pub(crate) fn failed(
        &mut self,
        span: &EventId,
        failure: &Failure,
        around: Surroundings<'_>,
    ) -> Vec<Effect> {
        let mut effects = Effects::at(around.now);
        let Some(mut turn) = self.end_request(span) else { return effects.list };
        effects.store(event::span_end(span, Usage::default(), true));
        let Agenda::Model(dialogue) = &mut turn.agenda else { return effects.list };
        dialogue.failures += 1;
        let error = |retry| event::error(failure.kind.name(), &failure.message, retry);
        if !failure.kind.may_pass() || dialogue.failures >= FAILURES_MAX {
            effects.store(error("exhausted"));
            self.end_turn(&Stop::RetriesExhausted, around, &mut effects);
            return effects.list;
        }
        let doublings = dialogue.failures.saturating_sub(1).min(16);
        let backoff = BACKOFF_BASE.saturating_mul(1 << doublings);
        let wait = failure.retry_after.unwrap_or(backoff).min(BACKOFF_MAX);
        dialogue.ask = Ask::Paused;
        effects.store(error("retrying"));
        self.phase = Phase::Running { turn, step_at: around.now.plus(wait) };
        self.tell_status(event::rescheduled(), &mut effects);
        effects.list.push(Effect::Tell(Hook::Rescheduled));
        effects.list
    }

    /// The turn whose request under `span` is over; none, if nobody waits for that one.
    fn end_request(&mut self, span: &EventId) -> Option<Turn> {
        if self.asking() != Some(span) {
            return None;
        }
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Running { mut turn, .. } => {
                if let Agenda::Model(dialogue) = &mut turn.agenda {
                    dialogue.ask = Ask::Due;
                }
                Some(turn)
            }
            Phase::Idle | Phase::RequiresAction { .. } | Phase::Terminated => None,
        }
    }
}
