//! The promises of a session's state machine, one test a promise.

use std::time::Duration;

use agents::{Event, EventId};
use serde_json::{Value, json};

use super::session::{Effect, Hook, Refusal, Session, Status, Surroundings, UserEvent};
use super::tools::{TOOLSET, Tools};
use super::turn::Mind;
use crate::clock::Timestamp;
use crate::ids::Mint as _;

/// A session, its agent, and the time.
struct Bench {
    session: Session,
    agent: Value,
    now: Timestamp,
    think: Duration,
}

impl Bench {
    fn new() -> Self {
        let agent = json!({"tools": [
            {"type": TOOLSET, "configs": [],
             "default_config": {"enabled": true, "permission_policy": {"type": "always_allow"}}},
            {"type": "custom", "name": "lookup"}]});
        let now = Timestamp::from_micros(0);
        Self { session: Session::new("tester".into()), agent, now, think: Duration::ZERO }
    }

    fn send(&mut self, event: UserEvent) -> Result<Vec<Effect>, Refusal> {
        let tools = Tools::of(&self.agent);
        self.session.send(
            event,
            Surroundings { now: self.now, think: self.think, tools, mind: Mind::Script },
        )
    }

    fn message(&mut self, text: &str) -> Vec<Effect> {
        let event = Event::new("user.message");
        self.send(UserEvent::Message { event, text: text.to_owned() }).unwrap()
    }

    fn calls(&mut self, calls: &Value) -> Vec<Effect> {
        self.message(&json!({"calls": calls}).to_string())
    }

    fn answer(&mut self, call: &EventId) -> Result<Vec<Effect>, Refusal> {
        let event = Event::new("user.tool_result");
        self.send(UserEvent::ToolResult { event, call: call.clone(), is_error: false })
    }

    fn confirm(&mut self, call: &EventId, allow: bool) -> Result<Vec<Effect>, Refusal> {
        let event = Event::new("user.tool_confirmation");
        let deny_message = (!allow).then(|| "not today".to_owned());
        self.send(UserEvent::Confirmation { event, call: call.clone(), allow, deny_message })
    }

    fn interrupt(&mut self) -> Vec<Effect> {
        self.send(UserEvent::Interrupt { event: Event::new("user.interrupt") }).unwrap()
    }

    fn step(&mut self) -> Vec<Effect> {
        let tools = Tools::of(&self.agent);
        self.session.step(Surroundings {
            now: self.now,
            think: self.think,
            tools,
            mind: Mind::Script,
        })
    }
}

/// What the effects are, in short.
fn kinds(effects: &[Effect]) -> Vec<&str> {
    effects
        .iter()
        .map(|effect| match effect {
            Effect::Store { event, processed_at: Some(_), .. } => event.kind(),
            Effect::Store { processed_at: None, .. } => "waits",
            Effect::Process { .. } => "processed",
            Effect::Tell(hook) => hook.name(),
            Effect::NeedWorker => "need worker",
        })
        .collect()
}

/// Ids of the calls among the effects.
fn calls(effects: &[Effect]) -> Vec<EventId> {
    let calls = effects.iter().filter_map(|effect| match effect {
        Effect::Store { id, event, .. } if event.kind().ends_with("tool_use") => Some(id.clone()),
        _ => None,
    });
    calls.collect()
}

/// What the last `session.status_idle` waits for; `None`: for nothing.
fn awaited(effects: &[Effect]) -> Option<Vec<String>> {
    let idle = effects.iter().rev().find_map(|effect| match effect {
        Effect::Store { event, .. } if event.kind() == "session.status_idle" => Some(event),
        _ => None,
    });
    let ids = idle.expect("no idle event").get("stop_reason")?.get("event_ids")?;
    serde_json::from_value(ids.clone()).ok()
}

#[test]
fn a_turn_tells_its_events_in_the_platform_s_order() {
    let mut bench = Bench::new();
    let begun = bench.calls(&json!([{"tool": "bash"}]));
    assert_eq!(
        kinds(&begun),
        [
            "user.message",
            "session.status_running",
            "session.thread_status_running",
            "need worker",
            "session.status_run_started",
        ]
    );
    let called = bench.step();
    assert_eq!(
        kinds(&called),
        [
            "span.model_request_start",
            "agent.tool_use",
            "span.model_request_end",
            "session.thread_status_idle",
            "session.status_idle",
            "session.requires_action",
            "need worker",
        ]
    );
    assert_eq!(bench.session.status(), Status::RequiresAction);
    let call = calls(&called).remove(0);
    assert_eq!(awaited(&called), Some(vec![call.to_string()]));
    // A round of tools is no new turn: it tells no webhook.
    let answered = bench.answer(&call).unwrap();
    assert_eq!(
        kinds(&answered),
        [
            "user.tool_result",
            "session.status_running",
            "session.thread_status_running",
            "need worker",
        ]
    );
    assert_eq!(
        kinds(&bench.step()),
        [
            "span.model_request_start",
            "agent.message",
            "span.model_request_end",
            "session.thread_status_idle",
            "session.status_idle",
            "session.status_idled",
        ]
    );
    assert_eq!(bench.session.status(), Status::Idle);
}

#[test]
fn calls_are_made_one_after_the_other() {
    let mut bench = Bench::new();
    bench.calls(&json!([{"tool": "bash"}, {"tool": "read"}]));
    let first = calls(&bench.step());
    assert_eq!(first.len(), 1);
    bench.answer(&first[0]).unwrap();
    let second = calls(&bench.step());
    assert_eq!(second.len(), 1);
    assert_ne!(first, second);
}

#[test]
fn a_partial_answer_goes_idle_again_with_the_rest() {
    let mut bench = Bench::new();
    bench.message(
        &json!({"parallel": true, "calls": [{"tool": "bash"}, {"tool": "bash"}, {"tool": "bash"}]})
            .to_string(),
    );
    let open = calls(&bench.step());
    assert_eq!(open.len(), 3);
    let partial = bench.answer(&open[1]).unwrap();
    assert_eq!(awaited(&partial), Some(vec![open[0].to_string(), open[2].to_string()]));
    bench.answer(&open[0]).unwrap();
    bench.answer(&open[2]).unwrap();
    assert_eq!(bench.session.status(), Status::Running);
}

#[test]
fn a_result_is_taken_once_and_only_for_a_call_that_was_made() {
    let mut bench = Bench::new();
    bench.message(r#"{"parallel": true, "calls": [{"tool": "bash"}, {"tool": "bash"}]}"#);
    let open = calls(&bench.step());
    bench.answer(&open[0]).unwrap();
    assert_eq!(bench.answer(&open[0]), Err(Refusal::NoOpenCall(open[0].clone())));
    let unknown = EventId::mint();
    assert_eq!(bench.answer(&unknown), Err(Refusal::NoOpenCall(unknown)));
    assert_eq!(bench.session.status(), Status::RequiresAction);
}

#[test]
fn a_custom_tool_is_answered_with_its_own_event() {
    let mut bench = Bench::new();
    bench.calls(&json!([{"tool": "lookup"}]));
    let call = calls(&bench.step()).remove(0);
    assert!(matches!(bench.answer(&call), Err(Refusal::WrongResult { .. })));
    let event = Event::new("user.custom_tool_result");
    bench.send(UserEvent::CustomToolResult { event, call, is_error: true }).unwrap();
    assert_eq!(bench.session.status(), Status::Running);
}

#[test]
fn a_call_that_asks_waits_for_its_confirmation() {
    let mut bench = Bench::new();
    bench.calls(&json!([{"tool": "bash", "permission": "ask"}]));
    let call = calls(&bench.step()).remove(0);
    assert_eq!(bench.answer(&call), Err(Refusal::NotConfirmed(call.clone())));
    assert_eq!(kinds(&bench.confirm(&call, true).unwrap()), ["user.tool_confirmation"]);
    assert_eq!(bench.confirm(&call, true), Err(Refusal::NotAsked(call.clone())));
    bench.answer(&call).unwrap();
    assert_eq!(bench.session.status(), Status::Running);
}

#[test]
fn a_call_that_nobody_asked_about_cannot_be_confirmed() {
    let mut bench = Bench::new();
    bench.calls(&json!([{"tool": "bash"}]));
    let call = calls(&bench.step()).remove(0);
    assert_eq!(bench.confirm(&call, true), Err(Refusal::NotAsked(call)));
}

#[test]
fn a_denied_call_is_told_to_the_agent_and_resolved() {
    let mut bench = Bench::new();
    bench.calls(&json!([{"tool": "bash", "permission": "ask"}]));
    let call = calls(&bench.step()).remove(0);
    let denied = bench.confirm(&call, false).unwrap();
    assert_eq!(kinds(&denied)[..2], ["user.tool_confirmation", "agent.tool_result"]);
    assert_eq!(bench.session.status(), Status::Running);
}

#[test]
fn a_call_that_the_server_denies_needs_no_worker() {
    let mut bench = Bench::new();
    bench.calls(&json!([{"tool": "bash", "permission": "deny"}, {"tool": "unheard_of"}]));
    for _ in 0..2 {
        let kinds_of_step = bench.step();
        assert_eq!(
            kinds(&kinds_of_step),
            [
                "span.model_request_start",
                "agent.tool_use",
                "span.model_request_end",
                "agent.tool_result",
            ]
        );
    }
    let end = bench.step();
    let Effect::Store { event, .. } = &end[1] else { panic!("{end:?}") };
    let text = &event.get("content").unwrap()[0]["text"];
    assert_eq!(text, "Done: 2 calls made, 2 of them failed.");
}

#[test]
fn a_message_to_a_busy_session_waits_for_its_turn() {
    let mut bench = Bench::new();
    bench.message("one");
    assert_eq!(kinds(&bench.message("two")), ["waits"]);
    let ended = bench.step();
    assert_eq!(
        kinds(&ended)[3..],
        [
            "session.thread_status_idle",
            "session.status_idle",
            "session.status_idled",
            "processed",
            "session.status_running",
            "session.thread_status_running",
            "need worker",
            "session.status_run_started",
        ]
    );
    bench.step();
    assert_eq!(bench.session.status(), Status::Idle);
}

#[test]
fn an_interrupt_ends_the_turn_and_lets_waiting_messages_follow() {
    let mut bench = Bench::new();
    bench.calls(&json!([{"tool": "bash"}, {"tool": "bash"}]));
    let call = calls(&bench.step()).remove(0);
    let event = Event::new("user.message");
    bench.send(UserEvent::Message { event, text: "next".into() }).unwrap();
    let interrupted = bench.interrupt();
    assert_eq!(kinds(&interrupted)[..2], ["user.interrupt", "session.thread_status_idle"]);
    assert!(kinds(&interrupted).contains(&"processed"));
    assert_eq!(bench.session.status(), Status::Running);
    // The worker goes on with the call and posts late: kept, once, and nothing follows.
    assert_eq!(kinds(&bench.answer(&call).unwrap()), ["user.tool_result"]);
    assert_eq!(bench.answer(&call), Err(Refusal::NoOpenCall(call)));
}

#[test]
fn an_interrupt_brings_a_stuck_session_a_new_worker() {
    let mut bench = Bench::new();
    bench.calls(&json!([{"tool": "bash"}]));
    bench.step();
    assert!(bench.interrupt().contains(&Effect::NeedWorker));
}

#[test]
fn an_interrupt_of_an_idle_session_changes_nothing() {
    let mut bench = Bench::new();
    assert_eq!(kinds(&bench.interrupt()), ["user.interrupt"]);
    assert_eq!(bench.session.status(), Status::Idle);
}

#[test]
fn an_agent_that_thinks_is_not_stepped_on_before_its_time() {
    let mut bench = Bench::new();
    bench.think = Duration::from_secs(5);
    bench.message("hello");
    assert_eq!(bench.step(), []);
    assert_eq!(bench.session.status(), Status::Running);
    bench.now = bench.session.step_at().unwrap();
    assert!(!bench.step().is_empty());
    assert_eq!(bench.session.active(bench.now), Duration::from_secs(5));
}

#[test]
fn a_running_session_can_be_neither_archived_nor_deleted() {
    let mut bench = Bench::new();
    bench.message("hello");
    assert_eq!(bench.session.archive(bench.now), Err(Refusal::Running));
    assert_eq!(bench.session.delete(bench.now), Err(Refusal::Running));
    bench.interrupt();
    let archived = bench.session.archive(bench.now).unwrap();
    assert_eq!(
        kinds(&archived),
        [
            "session.thread_status_terminated",
            "session.status_terminated",
            "session.status_terminated",
            "session.archived",
        ]
    );
    assert!(archived.contains(&Effect::Tell(Hook::Terminated)));
}

#[test]
fn nothing_can_be_said_to_a_terminated_session() {
    let mut bench = Bench::new();
    bench.session.archive(bench.now).unwrap();
    let event = Event::new("user.message");
    let said = bench.send(UserEvent::Message { event, text: "hello".into() });
    assert_eq!(said, Err(Refusal::Terminated));
    assert_eq!(bench.session.archive(bench.now), Ok(vec![]));
}

#[test]
fn a_session_survives_being_stored_at_any_point() {
    let mut bench = Bench::new();
    bench.message(r#"{"parallel": true, "calls": [{"tool": "bash"}, {"tool": "bash"}]}"#);
    bench.message("waits");
    for _ in 0..3 {
        let stored = serde_json::to_string(&bench.session).unwrap();
        assert_eq!(serde_json::from_str::<Session>(&stored).unwrap(), bench.session);
        for call in calls(&bench.step()) {
            bench.answer(&call).unwrap();
        }
    }
}
