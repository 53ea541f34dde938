//! The promises of a turn that a model plays, one test a promise.

use std::time::Duration;

use agents::{Event, EventId};
use serde_json::{Map, Value, json};

use super::dialogue::{Answer, AnswerStop, Failure, FailureKind, Usage};
use super::script::PlannedCall;
use super::session::{Effect, Hook, Session, Status, Surroundings, UserEvent};
use super::tools::{TOOLSET, Tools};
use super::turn::Mind;
use crate::clock::Timestamp;
use crate::ids::Mint as _;

struct Bench {
    session: Session,
    agent: Value,
    now: Timestamp,
}

impl Bench {
    fn new() -> Self {
        let agent = json!({"tools": [{"type": TOOLSET, "configs": [],
            "default_config": {"enabled": true, "permission_policy": {"type": "always_allow"}}}]});
        let session = Session::new("tester".into());
        Self { session, agent, now: Timestamp::from_micros(0) }
    }

    fn act<T>(&mut self, act: impl FnOnce(&mut Session, Surroundings<'_>) -> T) -> T {
        let tools = Tools::of(&self.agent);
        let around =
            Surroundings { now: self.now, think: Duration::ZERO, tools, mind: Mind::Model };
        act(&mut self.session, around)
    }

    fn send(&mut self, event: UserEvent) -> Vec<Effect> {
        self.act(|session, around| session.send(event, around)).unwrap()
    }

    fn message(&mut self) -> Vec<Effect> {
        let event = Event::new("user.message");
        self.send(UserEvent::Message { event, text: "hello".into() })
    }

    /// Steps until a request is under way; returns its span.
    fn asked(&mut self) -> EventId {
        self.act(Session::step);
        self.session.asking().expect("no request is under way").clone()
    }

    fn answer(&mut self, span: &EventId, answer: Answer) -> Vec<Effect> {
        self.act(|session, around| session.answered(span, answer, around))
    }

    fn fail(&mut self, span: &EventId, kind: FailureKind) -> Vec<Effect> {
        let failure = Failure { kind, message: "no".into(), retry_after: None };
        self.act(|session, around| session.failed(span, &failure, around))
    }
}

fn says(text: &str, calls: &[&str], stop: AnswerStop) -> Answer {
    let call =
        |name: &&str| PlannedCall { tool: (*name).to_owned(), input: Map::new(), permission: None };
    Answer {
        message: EventId::mint(),
        thought: false,
        texts: vec![text.to_owned()],
        calls: calls.iter().map(call).collect(),
        stop,
        usage: Usage { input_tokens: 10, output_tokens: 2, ..Usage::default() },
    }
}

fn kinds(effects: &[Effect]) -> Vec<String> {
    let events = effects.iter().filter_map(|effect| match effect {
        Effect::Store { event, .. } => Some(event.kind().to_owned()),
        Effect::Process { .. } => Some("processed".into()),
        Effect::Tell(_) | Effect::NeedWorker => None,
    });
    events.collect()
}

fn call_of(effects: &[Effect]) -> EventId {
    let call = effects.iter().find_map(|effect| match effect {
        Effect::Store { id, event, .. } if event.kind() == "agent.tool_use" => Some(id.clone()),
        _ => None,
    });
    call.expect("no call was made")
}

#[test]
fn a_model_is_asked_again_with_the_results_of_its_calls() {
    let mut bench = Bench::new();
    bench.message();
    let first = bench.asked();
    let effects = bench.answer(&first, says("let me see", &["bash"], AnswerStop::Done));
    assert_eq!(
        kinds(&effects),
        [
            "agent.message",
            "agent.tool_use",
            "span.model_request_end",
            "session.thread_status_idle",
            "session.status_idle",
        ]
    );
    let call = call_of(&effects);
    let event = Event::new("user.tool_result");
    bench.send(UserEvent::ToolResult { event, call, is_error: false });
    let second = bench.asked();
    assert_ne!(first, second);
    let effects = bench.answer(&second, says("done", &[], AnswerStop::Done));
    assert!(effects.contains(&Effect::Tell(Hook::Idled)));
    assert_eq!(bench.session.status(), Status::Idle);
    assert_eq!(bench.session.usage().input_tokens, 20);
}

#[test]
fn a_request_is_made_again_after_a_failure_that_may_pass_and_not_forever() {
    let mut bench = Bench::new();
    bench.message();
    let mut wait = Duration::from_secs(1);
    for _ in 1..5 {
        let span = bench.asked();
        let effects = bench.fail(&span, FailureKind::Overloaded);
        assert_eq!(bench.session.status(), Status::Rescheduling);
        assert!(effects.contains(&Effect::Tell(Hook::Rescheduled)));
        assert_eq!(bench.session.step_at(), Some(bench.now.plus(wait)));
        bench.now = bench.now.plus(wait);
        wait *= 2;
    }
    let span = bench.asked();
    assert_eq!(bench.session.status(), Status::Running);
    let effects = bench.fail(&span, FailureKind::Overloaded);
    assert_eq!(
        kinds(&effects),
        [
            "span.model_request_end",
            "session.error",
            "session.thread_status_idle",
            "session.status_idle"
        ]
    );
    assert_eq!(bench.session.status(), Status::Idle);
}

#[test]
fn a_failure_that_does_not_pass_ends_the_turn_and_takes_waiting_messages_along() {
    let mut bench = Bench::new();
    bench.message();
    let span = bench.asked();
    bench.message();
    let effects = bench.fail(&span, FailureKind::Refused);
    assert!(kinds(&effects).contains(&"processed".to_owned()));
    assert_eq!((bench.session.status(), bench.session.asking()), (Status::Idle, None));
}

#[test]
fn what_is_said_after_an_interrupt_is_dropped() {
    let mut bench = Bench::new();
    bench.message();
    let span = bench.asked();
    let effects = bench.send(UserEvent::Interrupt { event: Event::new("user.interrupt") });
    assert!(kinds(&effects).contains(&"span.model_request_end".to_owned()));
    assert_eq!(bench.session.status(), Status::Idle);
    assert_eq!(bench.answer(&span, says("late", &["bash"], AnswerStop::Done)), []);
    bench.message();
    assert_ne!(bench.asked(), span);
}

#[test]
fn half_a_call_is_never_made() {
    let mut bench = Bench::new();
    bench.message();
    let span = bench.asked();
    let effects = bench.answer(&span, says("I", &["bash"], AnswerStop::CutOff("cut".into())));
    assert!(!kinds(&effects).contains(&"agent.tool_use".to_owned()));
    assert!(kinds(&effects).contains(&"session.error".to_owned()));
    assert_eq!(bench.session.status(), Status::Idle);
}

#[test]
fn a_request_that_was_under_way_is_still_wanted_after_it_was_stored() {
    let mut bench = Bench::new();
    bench.message();
    let span = bench.asked();
    let stored = serde_json::to_string(&bench.session).unwrap();
    bench.session = serde_json::from_str(&stored).unwrap();
    assert_eq!(bench.session.asking(), Some(&span));
    bench.answer(&span, says("done", &[], AnswerStop::Done));
    assert_eq!(bench.session.status(), Status::Idle);
}
