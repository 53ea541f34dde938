//! A turn: what the agent still has to do, and the calls that it makes on the way.

use agents::{Event, EventId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::dialogue::{Ask, Dialogue};
use super::event;
use super::script::{Plan, PlannedCall};
use super::session::Effects;
use super::tools::{Judgement, Tools};

/// Who decides what an agent does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mind {
    /// Messages are scripts, and are played.
    Script,
    /// A model is asked.
    Model,
}

/// One `user.message` and all that follows from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Turn {
    pub(super) agenda: Agenda,
    pub(super) made: usize,
    pub(super) failed: usize,
}

/// What is to be done in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Agenda {
    Script(Plan),
    Model(Dialogue),
}

/// A call that waits for an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct OpenCall {
    pub(super) id: EventId,
    pub(super) runner: Runner,
    pub(super) gate: Gate,
}

/// Who runs a call, and so which event answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Runner {
    Worker,
    Client,
}

impl Runner {
    pub(super) fn answer(self) -> &'static str {
        match self {
            Self::Worker => "user.tool_result",
            Self::Client => "user.custom_tool_result",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Gate {
    Open,
    AwaitsConfirmation,
}

impl Turn {
    /// The turn that a message begins.
    pub(super) fn begin(text: &str, mind: Mind) -> Self {
        let agenda = match mind {
            Mind::Script => Agenda::Script(Plan::read(text)),
            Mind::Model => Agenda::Model(Dialogue::default()),
        };
        Self { agenda, made: 0, failed: 0 }
    }

    /// Where its model stands, if one plays it.
    pub(super) fn ask(&self) -> Option<&Ask> {
        match &self.agenda {
            Agenda::Script(_) => None,
            Agenda::Model(dialogue) => Some(&dialogue.ask),
        }
    }

    /// What a scripted agent says at the end.
    pub(super) fn closing_words(&self) -> String {
        let given = match &self.agenda {
            Agenda::Script(plan) => plan.answer.clone(),
            Agenda::Model(_) => None,
        };
        given.unwrap_or_else(|| count(self.made, self.failed))
    }
}

/// What came of calls that were made.
pub(super) struct Made {
    /// Those that somebody has to answer.
    pub(super) open: Vec<OpenCall>,
    /// The results of those that nobody runs.
    pub(super) rejected: Vec<Event>,
}

/// Makes calls.
pub(super) fn make_calls<'a>(
    turn: &mut Turn,
    calls: impl IntoIterator<Item = &'a PlannedCall>,
    tools: Tools<'_>,
    effects: &mut Effects,
) -> Made {
    let mut open = Vec::new();
    let mut rejected = Vec::new();
    for call in calls {
        turn.made += 1;
        let use_of = |permission, evaluation: Option<Value>| {
            event::tool_use(&call.tool, &call.input, permission, evaluation)
        };
        let (event, then) = match tools.judge(&call.tool, call.permission) {
            Judgement::Custom => {
                (event::custom_tool_use(&call.tool, &call.input), Ok((Runner::Client, Gate::Open)))
            }
            Judgement::Allow { evaluation } => {
                (use_of("allow", Some(evaluation)), Ok((Runner::Worker, Gate::Open)))
            }
            Judgement::Ask { evaluation } => {
                (use_of("ask", Some(evaluation)), Ok((Runner::Worker, Gate::AwaitsConfirmation)))
            }
            Judgement::Deny { evaluation, why } => (use_of("deny", evaluation), Err(why)),
        };
        let id = effects.store(event);
        match then {
            Ok((runner, gate)) => open.push(OpenCall { id, runner, gate }),
            Err(why) => {
                turn.failed += 1;
                rejected.push(event::rejected_call(&id, &why));
            }
        }
    }
    Made { open, rejected }
}

fn count(made: usize, failed: usize) -> String {
    let calls = if made == 1 { "1 call".to_owned() } else { format!("{made} calls") };
    match failed {
        0 => format!("Done: {calls} made, none failed."),
        failed => format!("Done: {calls} made, {failed} of them failed."),
    }
}
