//! Which calls of a session are to be run, held, or left alone.
//!
//! Pure. Events come in, from the history first and then from the stream, perhaps twice; each
//! call comes out of [`Ledger::next`] at most once, in order, and only if it may run. A call
//! that must be confirmed is held until it is, without a limit of time; what is not an
//! explicit yes is a no.

use std::collections::{HashMap, HashSet, VecDeque};

use agents::{Event, EventView, Permission, Verdict};
use serde_json::Value;

use super::idle::IdleEffect;
use crate::tools::Tool;

/// A call that is one of ours.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) tool: Tool,
    pub(super) input: Value,
    thread: Option<String>,
    permission: Permission,
}

/// What the session's events amount to.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Calls that were taken up, in whatever way.
    seen: HashSet<String>,
    /// Calls that have a result, or need none.
    answered: HashSet<String>,
    /// Decisions on calls, also on those that are not known yet.
    verdicts: HashMap<String, Verdict>,
    ended_threads: HashSet<String>,
    held: Vec<Call>,
    ready: VecDeque<Call>,
    reading: Option<History>,
}

/// A history that is being read.
#[derive(Debug, Default)]
struct History {
    calls: Vec<Call>,
    /// Calls of other clients' tools without a result yet.
    foreign: HashSet<String>,
    turn_ended: bool,
}

impl Ledger {
    /// A history follows, from its first event on.
    pub(super) fn begin_history(&mut self) {
        self.reading = Some(History::default());
    }

    /// One event of the history.
    pub(super) fn note_history(&mut self, event: &Event) {
        let Some(history) = &mut self.reading else { return };
        match IdleEffect::of(event) {
            IdleEffect::Arm => history.turn_ended = true,
            IdleEffect::Disarm => history.turn_ended = false,
            IdleEffect::Neutral => {}
        }
        match event.view() {
            EventView::ToolUse { .. } | EventView::CustomToolUse(_) => match own_call(event) {
                Some(call) => history.calls.push(call),
                None => history.foreign.extend(event.id().map(str::to_owned)),
            },
            EventView::ToolResult(id) => {
                history.calls.retain(|call| call.id != id);
                history.foreign.remove(id);
                self.answered.insert(id.to_owned());
            }
            EventView::Confirmation { call, verdict } => {
                self.verdicts.insert(call.to_owned(), verdict);
            }
            EventView::ThreadEnded(thread) => {
                self.ended_threads.insert(thread.to_owned());
            }
            EventView::Idle(_) | EventView::SessionEnded | EventView::Other => {}
        }
    }

    /// The history was read to its end. A call in it that has no result is taken up again,
    /// unless it is waiting here already. Says what the history means for the idle countdown.
    ///
    /// `running` is the call that is being run.
    pub(super) fn end_history(&mut self, running: Option<&str>) -> IdleEffect {
        let Some(history) = self.reading.take() else { return IdleEffect::Neutral };
        for call in history.calls {
            let waits = running == Some(call.id.as_str())
                || self.ready.iter().chain(&self.held).any(|known| known.id == call.id);
            self.seen.insert(call.id.clone());
            if !waits {
                self.route(call);
            }
        }
        self.apply_verdicts();
        self.drop_ended();
        if history.turn_ended && history.foreign.is_empty() {
            IdleEffect::Arm
        } else {
            IdleEffect::Disarm
        }
    }

    /// The history could not be read to its end: nothing of it counts but what is certain.
    pub(super) fn abandon_history(&mut self) {
        self.reading = None;
        self.drop_ended();
    }

    /// One event of the stream.
    pub(super) fn note(&mut self, event: &Event) {
        match event.view() {
            EventView::ToolUse { .. } => {
                if let Some(call) = own_call(event)
                    && self.seen.insert(call.id.clone())
                {
                    self.route(call);
                }
            }
            EventView::ToolResult(id) => {
                self.answered.insert(id.to_owned());
                self.ready.retain(|call| call.id != id);
                self.held.retain(|call| call.id != id);
            }
            EventView::Confirmation { call, verdict } => {
                self.verdicts.insert(call.to_owned(), verdict);
                self.apply_verdicts();
            }
            EventView::ThreadEnded(thread) => {
                self.ended_threads.insert(thread.to_owned());
                self.drop_ended();
            }
            EventView::CustomToolUse(_)
            | EventView::Idle(_)
            | EventView::SessionEnded
            | EventView::Other => {}
        }
    }

    /// The next call to run.
    pub(super) fn next(&mut self) -> Option<Call> {
        self.ready.pop_front()
    }

    /// A call's result is with the platform.
    pub(super) fn note_posted(&mut self, id: &str) {
        self.answered.insert(id.to_owned());
    }

    /// Whether calls wait to be run or confirmed: the session is not idle then.
    pub(super) fn has_open_calls(&self) -> bool {
        !self.ready.is_empty() || !self.held.is_empty()
    }

    /// Calls that wait to be run.
    pub(super) fn ready_len(&self) -> usize {
        self.ready.len()
    }

    fn route(&mut self, call: Call) {
        if self.answered.contains(&call.id) || self.is_in_ended_thread(&call) {
            return;
        }
        match (call.permission, self.verdicts.get(&call.id)) {
            // The platform's own no stands above anybody's yes.
            (Permission::Deny, _) | (_, Some(Verdict::Deny)) => {
                tracing::info!(call = call.id, "denied; not run");
                self.answered.insert(call.id);
            }
            (Permission::Allow, _) | (Permission::Ask, Some(Verdict::Allow)) => {
                self.ready.push_back(call);
            }
            (Permission::Ask, None) => {
                tracing::info!(call = call.id, "held until it is confirmed");
                self.held.push(call);
            }
        }
    }

    fn apply_verdicts(&mut self) {
        for call in std::mem::take(&mut self.held) {
            if self.verdicts.contains_key(&call.id) {
                self.route(call);
            } else {
                self.held.push(call);
            }
        }
    }

    fn is_in_ended_thread(&self, call: &Call) -> bool {
        call.thread.as_ref().is_some_and(|thread| self.ended_threads.contains(thread))
    }

    fn drop_ended(&mut self) {
        let ended = &self.ended_threads;
        let lives = |call: &Call| call.thread.as_ref().is_none_or(|thread| !ended.contains(thread));
        self.ready.retain(lives);
        self.held.retain(lives);
    }
}

/// The call that an event makes, if it is of one of our tools.
fn own_call(event: &Event) -> Option<Call> {
    let EventView::ToolUse { id, name, input, permission } = event.view() else { return None };
    let tool = match name.parse() {
        Ok(tool) => tool,
        Err(error) => {
            tracing::info!(call = id, %error, "left to its owner");
            return None;
        }
    };
    Some(Call {
        id: id.to_owned(),
        tool,
        input: input.clone(),
        thread: event.thread().map(str::to_owned),
        permission,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(value: Value) -> Event {
        Event::from_value(value).unwrap()
    }

    fn call(id: &str, permission: &str) -> Event {
        event(json!({"type": "agent.tool_use", "id": id, "name": "bash", "input": {},
            "evaluated_permission": permission}))
    }

    fn verdict(id: &str, result: &str) -> Event {
        event(json!({"type": "user.tool_confirmation", "tool_use_id": id, "result": result}))
    }

    fn result(id: &str) -> Event {
        event(json!({"type": "user.tool_result", "tool_use_id": id}))
    }

    fn end_turn() -> Event {
        event(json!({"type": "session.status_idle", "stop_reason": {"type": "end_turn"}}))
    }

    fn read(ledger: &mut Ledger, history: &[Event]) -> IdleEffect {
        ledger.begin_history();
        history.iter().for_each(|event| ledger.note_history(event));
        ledger.end_history(None)
    }

    fn ids(ledger: &mut Ledger) -> Vec<String> {
        std::iter::from_fn(|| ledger.next()).map(|call| call.id).collect()
    }

    #[test]
    fn a_call_in_history_and_stream_is_run_once() {
        let mut ledger = Ledger::default();
        read(&mut ledger, &[call("a", "allow"), call("b", "allow"), result("a")]);
        ledger.note(&call("b", "allow"));
        ledger.note(&call("c", "allow"));
        assert_eq!(ids(&mut ledger), ["b", "c"]);
    }

    #[test]
    fn a_call_whose_result_was_not_taken_comes_again_with_the_next_history() {
        let mut ledger = Ledger::default();
        ledger.note(&call("a", "allow"));
        assert_eq!(ids(&mut ledger), ["a"]);
        read(&mut ledger, &[call("a", "allow")]);
        assert_eq!(ids(&mut ledger), ["a"]);
        ledger.note_posted("a");
        read(&mut ledger, &[call("a", "allow")]);
        assert!(ids(&mut ledger).is_empty());
    }

    #[test]
    fn a_call_that_is_running_is_not_taken_up_by_a_history() {
        let mut ledger = Ledger::default();
        ledger.begin_history();
        ledger.note_history(&call("a", "allow"));
        ledger.end_history(Some("a"));
        assert!(ids(&mut ledger).is_empty());
    }

    #[test]
    fn only_a_yes_releases_a_held_call() {
        let mut ledger = Ledger::default();
        for id in ["a", "b", "c"] {
            ledger.note(&call(id, "ask"));
        }
        assert!(ledger.has_open_calls());
        ledger.note(&verdict("a", "allow"));
        ledger.note(&verdict("b", "deny"));
        ledger.note(&verdict("c", "perhaps"));
        assert_eq!(ids(&mut ledger), ["a"]);
        assert!(!ledger.has_open_calls());
    }

    #[test]
    fn the_platforms_no_stands_above_a_yes() {
        let mut ledger = Ledger::default();
        ledger.note(&verdict("a", "allow"));
        ledger.note(&call("a", "deny"));
        assert!(ids(&mut ledger).is_empty());
    }

    #[test]
    fn a_verdict_may_come_before_its_call() {
        let mut ledger = Ledger::default();
        ledger.note(&verdict("a", "allow"));
        ledger.note(&call("a", "ask"));
        assert_eq!(ids(&mut ledger), ["a"]);
    }

    #[test]
    fn calls_of_an_ended_thread_are_dropped() {
        let mut ledger = Ledger::default();
        for (id, permission) in [("a", "allow"), ("b", "ask")] {
            ledger.note(&call(id, permission).with("session_thread_id", "sthr_1"));
        }
        ledger.note(&event(
            json!({"type": "session.thread_status_terminated", "session_thread_id": "sthr_1"}),
        ));
        assert!(!ledger.has_open_calls());
    }

    #[test]
    fn a_history_that_ends_with_the_turn_arms_unless_somebody_elses_call_is_open() {
        let custom = event(json!({"type": "agent.custom_tool_use", "id": "x", "name": "ask_hr"}));
        let mut ledger = Ledger::default();
        assert_eq!(read(&mut ledger, &[end_turn()]), IdleEffect::Arm);
        assert_eq!(read(&mut ledger, &[custom.clone(), end_turn()]), IdleEffect::Disarm);
        let answer = event(json!({"type": "user.custom_tool_result", "custom_tool_use_id": "x"}));
        assert_eq!(read(&mut ledger, &[custom, answer, end_turn()]), IdleEffect::Arm);
        assert_eq!(
            read(&mut ledger, &[end_turn(), event(json!({"type": "x"}))]),
            IdleEffect::Disarm
        );
    }
}
