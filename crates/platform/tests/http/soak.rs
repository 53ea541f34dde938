//! Many sessions at once while everything goes wrong that can: every call is answered once, and
//! none is lost. The workers are the official ones, in processes of their own.
//!
//! `WARREN_SOAK_SESSIONS` says how many sessions (20 if it does not), `WARREN_SOAK_SEED` what goes
//! wrong where.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::StreamExt as _;
use platform::{DeliveryState, Mishaps, StartingRule};
use serde_json::{Value, json};

use crate::oracles::{Sdk, Worker};
use crate::support::{Answer, Bench, user_message};
use crate::webhooks::Receiver;

const TURNS: usize = 3;
const CALLS: usize = 3;
const WORKERS: usize = 4;
/// Sessions at the same time: enough that most of them wait for a worker.
const TOGETHER: usize = 20;
/// Longest time for all of it, for each session.
const PATIENCE_PER_SESSION: Duration = Duration::from_secs(15);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("must be a number"))
}

fn mishaps() -> Mishaps {
    Mishaps {
        seed: number("WARREN_SOAK_SEED", 1),
        error_500: 0.03,
        error_429: 0.03,
        lost_answer: 0.02,
        retry_after_ms: 20,
        cut_stream: 0.03,
        expire_lease: 0.1,
        drop_webhook: 0.1,
        delay_webhook: 0.2,
        webhook_delay_ms: 300,
        duplicate_webhook: 0.2,
        reorder_webhook: 0.2,
    }
}

/// Says it again until it was heard; for what may be done twice.
async fn insist<F: Future<Output = Answer>>(mut call: impl FnMut() -> F) -> Answer {
    loop {
        let answer = call().await;
        if answer.status != 429 && answer.status < 500 {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn events(bench: &Bench, session: &str) -> Vec<Value> {
    let operator = bench.operator();
    let path = format!("/v1/sessions/{session}/events");
    let page = insist(|| operator.get(&path)).await.ok();
    page["data"].as_array().unwrap().clone()
}

fn count(events: &[Value], kind: &str) -> usize {
    events.iter().filter(|event| event["type"] == kind).count()
}

fn script(session: usize, turn: usize) -> String {
    let call = |call| {
        let command = format!("echo s{session}-t{turn}-c{call}");
        json!({"tool": "bash", "input": {"command": command}})
    };
    let calls: Vec<Value> = (0..CALLS).map(call).collect();
    json!({"calls": calls, "parallel": turn % 2 == 1}).to_string()
}

/// Makes a session that knows its number, once, whatever is answered.
async fn create(bench: &Bench, number: usize) -> String {
    let operator = bench.operator();
    let title = format!("s{number}");
    let body = json!({"agent": bench.agent, "environment_id": bench.environment.id.as_str(),
                      "title": title});
    loop {
        let made = operator.post("/v1/sessions", body.clone()).await;
        if made.status == 200 {
            return made.body["id"].as_str().unwrap().to_owned();
        }
        if let Some(id) = find(bench, &title).await {
            return id;
        }
    }
}

/// The session of that title.
async fn find(bench: &Bench, title: &str) -> Option<String> {
    let operator = bench.operator();
    let mut path = "/v1/sessions?limit=100".to_owned();
    loop {
        let page = insist(|| operator.get(&path)).await.ok();
        let found = page["data"].as_array().unwrap().iter().find(|found| found["title"] == title);
        if let Some(found) = found {
            return Some(found["id"].as_str().unwrap().to_owned());
        }
        path = format!("/v1/sessions?limit=100&page={}", page["next_page"].as_str()?);
    }
}

/// Plays all turns of one session and archives it; returns its events.
async fn play(bench: &Bench, number: usize) -> Vec<Value> {
    let operator = bench.operator();
    let session = create(bench, number).await;
    for turn in 0..TURNS {
        while count(&events(bench, &session).await, "user.message") == turn {
            bench.send(&session, json!([user_message(&script(number, turn))])).await;
        }
        while count(&events(bench, &session).await, "agent.message") == turn {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    let history = events(bench, &session).await;
    let path = format!("/v1/sessions/{session}/archive");
    insist(|| operator.post(&path, json!({}))).await.ok();
    history
}

fn check(number: usize, events: &[Value]) {
    let mut answers: HashMap<&str, Vec<&str>> = HashMap::new();
    for event in events.iter().filter(|event| event["type"] == "user.tool_result") {
        let call = event["tool_use_id"].as_str().unwrap();
        answers.entry(call).or_default().push(event["content"][0]["text"].as_str().unwrap());
    }
    let calls = events.iter().filter(|event| event["type"] == "agent.tool_use");
    let mut made = 0;
    for call in calls {
        made += 1;
        let answers = answers.remove(call["id"].as_str().unwrap()).unwrap_or_default();
        let command = call["input"]["command"].as_str().unwrap();
        let expected = command.strip_prefix("echo ").unwrap();
        assert_eq!(answers, [expected], "session {number}: {command}");
    }
    assert_eq!(made, TURNS * CALLS, "session {number}");
    assert!(answers.is_empty(), "session {number}: answers without a call: {answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_is_answered_once_while_everything_goes_wrong() {
    let sessions = usize::try_from(number("WARREN_SOAK_SESSIONS", 20)).unwrap();
    let bench = Bench::start_with(|config| {
        config.lease_ttl = Duration::from_secs(4);
        config.starting = StartingRule::RequeueAfter(Duration::from_secs(3));
        config.deliveries.backoff_base = Duration::from_millis(100);
    })
    .await;
    let receiver = Receiver::start(&[]).await;
    let hooks = ["session.status_run_started", "session.status_idled"];
    bench.platform.add_webhook_endpoint(&receiver.url(), &hooks).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut workers = Vec::new();
    for number in 0..WORKERS {
        let workdir = dir.path().join(number.to_string());
        std::fs::create_dir(&workdir).unwrap();
        workers.push(Worker::start(Sdk::TypeScript, &bench, &workdir).await);
    }
    bench.platform.set_mishaps(mishaps());
    let bench_of_all = &bench;
    let played = futures::stream::iter(0..sessions)
        .map(|number| async move { check(number, &play(bench_of_all, number).await) })
        .buffer_unordered(TOGETHER)
        .collect::<Vec<()>>();
    let patience = PATIENCE_PER_SESSION * u32::try_from(sessions).unwrap() + PATIENCE_PER_SESSION;
    tokio::time::timeout(patience, played).await.expect("a session is stuck");
    bench.platform.set_mishaps(Mishaps::default());
    for worker in workers {
        worker.stop().await;
    }
    check_webhooks(&bench, &receiver).await;
}

/// All that was not dropped on purpose has arrived.
async fn check_webhooks(bench: &Bench, receiver: &Receiver) {
    let log = loop {
        let log = bench.platform.deliveries(10_000).await.unwrap();
        if log.iter().all(|delivery| delivery.state != DeliveryState::Pending) {
            break log;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let (sent, dropped): (Vec<_>, Vec<_>) =
        log.iter().partition(|delivery| delivery.state == DeliveryState::Delivered);
    let arrived: HashSet<String> = receiver.ids();
    assert!(!dropped.is_empty() && dropped.iter().all(|delivery| delivery.attempts.is_empty()));
    assert!(sent.len() > arrived.len(), "nothing was sent twice");
    for delivery in sent {
        assert!(arrived.contains(delivery.id.as_str()), "{delivery:?}");
    }
}
