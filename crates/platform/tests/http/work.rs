//! The work queue over the wire: who gets an item, who keeps it, who loses it.

use std::time::Duration;

use crate::support::{Bench, bash};
use platform::{QueueRule, StartingRule};
use serde_json::{Value, json};

#[tokio::test]
async fn an_empty_poll_is_null() {
    let bench = Bench::start().await;
    assert_eq!(bench.worker().get(&bench.work("/poll")).await.ok(), Value::Null);
    assert_eq!(bench.worker().get(&bench.work("/poll?block_ms=1")).await.ok(), Value::Null);
    for bad in ["block_ms=0", "block_ms=1000", "block_ms=x", "reclaim_older_than_ms=-1"] {
        let answer = bench.worker().get(&bench.work(&format!("/poll?{bad}"))).await;
        answer.refused(400, "invalid_request_error");
    }
}

#[tokio::test]
async fn a_poll_that_waits_gets_an_item_as_soon_as_there_is_one() {
    let bench = Bench::start().await;
    let (worker, path) = (bench.worker(), bench.work("/poll?block_ms=999"));
    let mut found = Value::Null;
    let poll = async {
        while found.is_null() {
            found = worker.get(&path).await.ok();
        }
        found
    };
    let message = bash(&["ls"]);
    let (item, session) = tokio::join!(poll, bench.session(Some(&message)));
    assert_eq!(item["data"], json!({"type": "session", "id": session}));
    assert_eq!((&item["type"], &item["state"]), (&json!("work"), &json!("queued")));
    let secret = agents::WorkSecret::decode(item["secret"].as_str().unwrap()).unwrap();
    assert!(secret.sessions_token.expose().starts_with("sk-ant-req-"));
}

#[tokio::test]
async fn two_pollers_never_own_one_item() {
    const SESSIONS: usize = 10;
    let bench = Bench::start().await;
    let poller = || async {
        let (worker, path) = (bench.worker(), bench.work("/poll?reclaim_older_than_ms=0"));
        let mut owned = Vec::new();
        for _ in 0..4 * SESSIONS {
            // Reclaiming at once makes both hold the same items; only one ack goes through.
            let item = worker.get(&path).await.ok();
            let Some(id) = item["id"].as_str() else { continue };
            let ack = worker.post(&bench.work(&format!("/{id}/ack")), json!({})).await;
            match ack.status {
                200 => owned.push(id.to_owned()),
                409 => {}
                other => panic!("ack answered {other}"),
            }
        }
        owned
    };
    for _ in 0..SESSIONS {
        bench.session(Some(&bash(&["ls"]))).await;
    }
    let (mut owned, others) = tokio::join!(poller(), poller());
    owned.extend(others);
    owned.sort();
    owned.dedup();
    assert_eq!(owned.len(), SESSIONS);
}

#[tokio::test]
async fn an_item_that_nobody_acknowledges_is_handed_out_again() {
    let bench = Bench::start_on_manual_clock(|_| {}).await;
    bench.session(Some(&bash(&["ls"]))).await;
    let (worker, poll) = (bench.worker(), bench.work("/poll"));
    let first = worker.get(&poll).await.ok();
    assert_eq!(worker.get(&poll).await.ok(), Value::Null);
    bench.clock.as_ref().unwrap().advance(Duration::from_secs(5));
    let again = worker.get(&poll).await.ok();
    assert_eq!(again["id"], first["id"]);
    assert_eq!(again["secret"], first["secret"]);
}

#[tokio::test]
async fn a_lost_lease_is_taken_over_and_its_old_holder_told() {
    let bench = Bench::start_on_manual_clock(|_| {}).await;
    let session = bench.session(Some(&bash(&["ls"]))).await;
    let item = bench.claim().await;
    let id = item["id"].as_str().unwrap();
    let first = bench.beat(id, "NO_HEARTBEAT").await.ok();
    assert_eq!(first["type"], "work_heartbeat");
    assert_eq!((&first["state"], &first["ttl_seconds"]), (&json!("active"), &json!(300)));
    let value = first["last_heartbeat"].as_str().unwrap();
    bench.clock.as_ref().unwrap().advance(Duration::from_secs(301));
    // The old holder comes late: the lease is gone, with the body that SDKs read.
    let lost = bench.beat(id, value).await;
    let details = lost.body["error"]["details"].clone();
    lost.refused(412, "precondition_failed_error");
    assert_eq!(details["error_code"], "heartbeat_precondition_failed");
    let state = &details["current_state"];
    assert_eq!((&state["state"], &state["lease_extended"]), (&json!("queued"), &json!(false)));
    assert_eq!((&state["last_heartbeat"], &state["ttl_seconds"]), (&json!(value), &json!(300)));
    // Another takes it over and finishes the turn.
    let taken = bench.claim().await;
    assert_eq!(taken["id"], item["id"]);
    bench.beat(id, "NO_HEARTBEAT").await.ok();
    bench.beat(id, value).await.refused(412, "precondition_failed_error");
    let call = bench.awaited(&session).await.remove(0);
    bench.answer(&session, &call).await.ok();
    bench.ended(&session).await;
}

#[tokio::test]
async fn a_worker_that_is_asked_to_stop_hears_it_at_its_next_heartbeat() {
    let bench = Bench::start().await;
    bench.session(Some(&bash(&["ls"]))).await;
    let item = bench.claim().await;
    let id = item["id"].as_str().unwrap();
    let beat = bench.beat(id, "NO_HEARTBEAT").await.ok();
    let stop = bench.work(&format!("/{id}/stop"));
    assert_eq!(bench.operator().post(&stop, json!({})).await.ok()["state"], "stopping");
    let value = beat["last_heartbeat"].as_str().unwrap();
    assert_eq!(bench.beat(id, value).await.ok()["state"], "stopping");
    let stopped = bench.worker().post(&stop, json!({"force": true})).await.ok();
    assert_eq!(stopped["state"], "stopped");
    assert!(stopped["stopped_at"].is_string());
    bench.worker().post(&stop, json!({"force": true})).await.refused(409, "conflict_error");
    let last = bench.beat(id, value).await.ok();
    assert_eq!((&last["state"], &last["lease_extended"]), (&json!("stopped"), &json!(false)));
}

#[tokio::test]
async fn a_session_that_lost_its_worker_gets_one_by_an_interrupt() {
    let bench = Bench::start().await;
    let session = bench.session(Some(&bash(&["ls"]))).await;
    let item = bench.claim().await;
    bench.awaited(&session).await;
    let stop = bench.work(&format!("/{}/stop", item["id"].as_str().unwrap()));
    bench.worker().post(&stop, json!({"force": true})).await.ok();
    assert_eq!(bench.worker().get(&bench.work("/poll")).await.ok(), Value::Null);
    bench.send(&session, json!([{"type": "user.interrupt"}])).await.ok();
    let next = bench.claim().await;
    assert_ne!(next["id"], item["id"]);
    assert_eq!(next["data"], item["data"]);
}

#[tokio::test]
async fn an_item_without_a_heartbeat_is_stuck_as_on_the_platform() {
    let bench = Bench::start_on_manual_clock(|_| {}).await;
    let session = bench.session(Some(&bash(&["ls"]))).await;
    let item = bench.claim().await;
    bench.clock.as_ref().unwrap().advance(Duration::from_secs(24 * 3600));
    let path = bench.work(&format!("/{}", item["id"].as_str().unwrap()));
    assert_eq!(bench.operator().get(&path).await.ok()["state"], "starting");
    // Not even a new turn brings another: a session has one live item.
    bench.send(&session, json!([{"type": "user.interrupt"}])).await.ok();
    assert_eq!(bench.worker().get(&bench.work("/poll")).await.ok(), Value::Null);
}

#[tokio::test]
async fn an_item_without_a_heartbeat_goes_back_where_the_rule_says_so() {
    let bench = Bench::start_on_manual_clock(|config| {
        config.starting = StartingRule::RequeueAfter(Duration::from_secs(60));
    })
    .await;
    bench.session(Some(&bash(&["ls"]))).await;
    let item = bench.claim().await;
    bench.clock.as_ref().unwrap().advance(Duration::from_secs(60));
    assert_eq!(bench.claim().await["id"], item["id"]);
}

#[tokio::test]
async fn the_queue_s_figures_tell_waiting_from_handed_out() {
    let bench = Bench::start().await;
    for _ in 0..3 {
        bench.session(Some(&bash(&["ls"]))).await;
    }
    let first = bench.worker().send(bench.poll_as("host-1", "")).await.ok();
    let stats = bench.operator().get(&bench.work("/stats")).await.ok();
    assert_eq!(
        stats,
        json!({"type": "work_queue_stats", "depth": 2, "pending": 1, "workers_polling": 1,
               "oldest_queued_at": first["created_at"]})
    );
    let listed = bench.worker().get(&bench.work("?limit=2")).await.ok();
    assert_eq!(listed["data"].as_array().unwrap().len(), 2);
    assert_eq!(listed["data"][0]["secret"], Value::Null);
    let path = bench.work(&format!("/{}", first["id"].as_str().unwrap()));
    let tagged = bench.operator().post(&path, json!({"metadata": {"host": "h1"}})).await.ok();
    assert_eq!(tagged["metadata"], json!({"host": "h1"}));
}

#[tokio::test]
async fn a_session_without_anything_to_do_is_queued_only_where_the_rule_says_so() {
    let bench = Bench::start().await;
    bench.session(None).await;
    assert_eq!(bench.worker().get(&bench.work("/poll")).await.ok(), Value::Null);
    let bench = Bench::start_with(|config| config.queue = QueueRule::OnCreation).await;
    let session = bench.session(None).await;
    assert_eq!(bench.claim().await["data"]["id"], session);
}

#[tokio::test]
async fn one_item_serves_all_turns_until_it_is_given_back() {
    let bench = Bench::start().await;
    let session = bench.session(Some("one")).await;
    let item = bench.claim().await;
    bench.ended(&session).await;
    bench.send(&session, json!([crate::support::user_message("two")])).await.ok();
    assert_eq!(bench.worker().get(&bench.work("/poll")).await.ok(), Value::Null);
    let stop = bench.work(&format!("/{}/stop", item["id"].as_str().unwrap()));
    bench.worker().post(&stop, json!({"force": true})).await.ok();
    bench.ended(&session).await;
    bench.send(&session, json!([crate::support::user_message("three")])).await.ok();
    assert_ne!(bench.claim().await["id"], item["id"]);
}

#[tokio::test]
async fn nobody_is_sent_to_a_session_that_was_archived_before_it_was_claimed() {
    let bench = Bench::start().await;
    let session = bench.session(Some("hello")).await;
    bench.ended(&session).await;
    let path = format!("/v1/sessions/{session}/archive");
    bench.operator().post(&path, json!({})).await.ok();
    assert_eq!(bench.worker().get(&bench.work("/poll")).await.ok(), Value::Null);
}

#[tokio::test]
async fn workers_that_want_one_session_each_do_not_starve_each_other() {
    const WORKERS: usize = 8;
    let bench = Bench::start().await;
    let mut sessions = Vec::new();
    for _ in 0..WORKERS {
        sessions.push(bench.session(Some(&bash(&["true"]))).await);
    }
    // Each leaves what is not its own to be handed out again, as workers in VMs do.
    let claim = |session: String| {
        let (worker, bench) = (bench.worker(), &bench);
        async move {
            let poll = bench.work("/poll?block_ms=50&reclaim_older_than_ms=20");
            for _ in 0..50 * WORKERS {
                let item = worker.get(&poll).await.ok();
                if item["data"]["id"] == session {
                    let ack = bench.work(&format!("/{}/ack", item["id"].as_str().unwrap()));
                    if worker.post(&ack, json!({})).await.status == 200 {
                        return true;
                    }
                }
            }
            false
        }
    };
    let claimed = futures::future::join_all(sessions.into_iter().map(claim)).await;
    assert_eq!(claimed, [true; WORKERS]);
}

#[tokio::test]
async fn a_lease_is_taken_away_on_demand() {
    let bench = Bench::start().await;
    let session = bench.session(Some(&bash(&["true"]))).await;
    let item = bench.claim().await;
    let id = item["id"].as_str().unwrap();
    let beat = bench.beat(id, "NO_HEARTBEAT").await.ok();
    let path = format!("/_warren/v1/environments/{}/work/{id}/expire", bench.environment.id);
    assert_eq!(bench.operator().post(&path, json!({})).await.ok()["state"], "queued");
    let last = beat["last_heartbeat"].as_str().unwrap();
    bench.beat(id, last).await.refused(412, "precondition_failed_error");
    assert_eq!(bench.claim().await["data"]["id"], *session);
}

#[tokio::test]
async fn what_goes_wrong_on_purpose_is_set_and_seen() {
    let bench = Bench::start().await;
    let operator = bench.operator();
    let set = |body: Value| {
        let operator = operator.clone();
        async move { operator.call("PUT", "/_warren/v1/faults", Some(body.to_string())).await }
    };
    set(json!({"error_429": 1.0, "retry_after_ms": 5})).await.ok();
    operator.get("/v1/sessions").await.refused(429, "rate_limit_error");
    set(json!({"lost_answer": 1.0})).await.ok();
    operator.get("/v1/sessions").await.refused(500, "api_error");
    let refused = set(json!({"lost_answer": 2})).await.refused(400, "invalid_request_error");
    assert_eq!(refused, "lost_answer: must be from 0 to 1, it is 2");
    set(json!({"sed": 2})).await.refused(400, "invalid_request_error");
    set(json!({})).await.ok();
    operator.get("/v1/sessions").await.ok();
    bench.worker().get("/_warren/v1/faults").await.refused(403, "permission_error");
}
