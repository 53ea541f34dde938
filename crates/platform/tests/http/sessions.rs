//! Sessions over the wire: turns, streams, interrupts, ends. The rules have their own tests
//! beside them; here is what a client and a worker see of them.

use std::time::Duration;

use crate::support::{Bench, bash, types, user_message};
use serde_json::json;

#[tokio::test]
async fn a_scripted_turn_is_played_call_by_call() {
    let bench = Bench::start().await;
    let session = bench.session(None).await;
    bench.send(&session, json!([user_message(&bash(&["echo one", "echo two"]))])).await.ok();
    for command in ["echo one", "echo two"] {
        let calls = bench.awaited(&session).await;
        let find = |events: &[serde_json::Value]| {
            events.iter().find(|event| event["id"] == calls[0]).cloned()
        };
        let call = bench.until(&session, find).await;
        assert_eq!(call["name"], "bash");
        assert_eq!(call["input"], json!({"command": command}));
        assert_eq!(call["evaluated_permission"], "allow");
        assert_eq!(call["evaluation"], json!({"type": "always_allow"}));
        let stored = bench.answer(&session, &calls[0]).await.ok();
        assert_eq!(stored["data"][0]["tool_use_id"], calls[0]);
        assert!(stored["data"][0]["processed_at"].is_string());
    }
    let events = bench.ended(&session).await;
    let answer = events.iter().find(|event| event["type"] == "agent.message").unwrap();
    assert_eq!(answer["content"][0]["text"], "Done: 2 calls made, none failed.");
    let seen = bench.operator().get(&format!("/v1/sessions/{session}")).await.ok();
    assert_eq!(seen["status"], "idle");
}

#[tokio::test]
async fn a_stream_tells_what_happens_after_it_is_open_under_its_own_name() {
    let bench = Bench::start().await;
    let session = bench.session(Some("before")).await;
    bench.ended(&session).await;
    let mut stream = bench.operator().stream(&session).await;
    bench.send(&session, json!([user_message("after")])).await.ok();
    let mut told = Vec::new();
    loop {
        let (name, event) = stream.next().await.unwrap();
        assert_eq!(event["type"], name);
        told.push(event);
        if name == "session.status_idle" {
            break;
        }
    }
    assert_eq!(
        types(&told),
        [
            "user.message",
            "session.status_running",
            "session.thread_status_running",
            "span.model_request_start",
            "agent.message",
            "span.model_request_end",
            "session.thread_status_idle",
            "session.status_idle",
        ]
    );
    assert_eq!(told[0]["content"][0]["text"], "after");
}

#[tokio::test]
async fn a_silent_stream_says_that_it_is_alive() {
    let bench = Bench::start_with(|config| config.ping = Duration::from_millis(20)).await;
    let session = bench.session(None).await;
    let mut stream = bench.operator().stream(&session).await;
    assert_eq!(stream.next().await.unwrap().0, "ping");
}

#[tokio::test]
async fn a_queued_message_has_no_time_until_its_turn_and_stands_after_what_came_before_it() {
    let bench = Bench::start().await;
    let session = bench.session(Some(&bash(&["sleep 1"]))).await;
    let calls = bench.awaited(&session).await;
    let queued = bench.send(&session, json!([user_message("later")])).await.ok();
    assert_eq!(queued["data"][0]["processed_at"], json!(null));
    bench.answer(&session, &calls[0]).await.ok();
    let events = bench
        .until(&session, |events| {
            let ends = events.iter().filter(|event| event["stop_reason"]["type"] == "end_turn");
            (ends.count() == 4).then(|| events.to_vec())
        })
        .await;
    let at = |id: &serde_json::Value| events.iter().position(|event| event["id"] == *id).unwrap();
    let later = at(&queued["data"][0]["id"]);
    let result = events.iter().position(|event| event["type"] == "user.tool_result").unwrap();
    assert!(later > result && events[later]["processed_at"].is_string());
}

#[tokio::test]
async fn a_confirmed_call_runs_and_a_denied_one_does_not() {
    let bench = Bench::start().await;
    let script = json!({"calls": [
        {"tool": "bash", "input": {"command": "a"}, "permission": "ask"},
        {"tool": "bash", "input": {"command": "b"}, "permission": "ask"}]});
    let session = bench.session(Some(&script.to_string())).await;
    let first = bench.awaited(&session).await.remove(0);
    bench.answer(&session, &first).await.refused(400, "invalid_request_error");
    let confirm = |call: &str, result: &str| json!([{"type": "user.tool_confirmation", "tool_use_id": call, "result": result}]);
    bench.send(&session, confirm(&first, "allow")).await.ok();
    bench.send(&session, confirm(&first, "allow")).await.refused(400, "invalid_request_error");
    bench.answer(&session, &first).await.ok();
    let second = bench
        .until(&session, |events| {
            let id = events.last()?["stop_reason"]["event_ids"][0].as_str()?.to_owned();
            (id != first).then_some(id)
        })
        .await;
    bench.send(&session, confirm(&second, "deny")).await.ok();
    let events = bench.ended(&session).await;
    let rejected = events.iter().find(|event| event["type"] == "agent.tool_result").unwrap();
    assert_eq!((&rejected["tool_use_id"], &rejected["is_error"]), (&json!(second), &json!(true)));
}

#[tokio::test]
async fn a_custom_tool_is_called_without_a_policy_and_answered_by_the_client() {
    let bench = Bench::start().await;
    let session = bench.session(Some(r#"{"calls": [{"tool": "lookup"}]}"#)).await;
    let call = bench.awaited(&session).await.remove(0);
    bench.answer(&session, &call).await.refused(400, "invalid_request_error");
    let answer = json!([{"type": "user.custom_tool_result", "custom_tool_use_id": call,
                         "content": [{"type": "text", "text": "found"}]}]);
    bench.send(&session, answer).await.ok();
    let events = bench.ended(&session).await;
    let made = events.iter().find(|event| event["type"] == "agent.custom_tool_use").unwrap();
    assert!(made.get("evaluated_permission").is_none());
}

#[tokio::test]
async fn a_running_session_is_neither_archived_nor_deleted_until_it_is_interrupted() {
    let bench =
        Bench::start_on_manual_clock(|config| config.think = Duration::from_secs(3600)).await;
    let session = bench.session(Some("hello")).await;
    let path = format!("/v1/sessions/{session}");
    let operator = bench.operator();
    assert_eq!(operator.get(&path).await.ok()["status"], "running");
    operator.post(&format!("{path}/archive"), json!({})).await.refused(409, "conflict_error");
    operator.delete(&path).await.refused(409, "conflict_error");
    bench.send(&session, json!([{"type": "user.interrupt"}])).await.ok();
    let archived = operator.post(&format!("{path}/archive"), json!({})).await.ok();
    assert_eq!(archived["status"], "terminated");
    assert!(archived["archived_at"].is_string());
    let more = bench.send(&session, json!([user_message("more")])).await;
    more.refused(400, "invalid_request_error");
}

#[tokio::test]
async fn an_agent_that_thinks_goes_on_when_its_time_has_come() {
    let bench = Bench::start_on_manual_clock(|config| config.think = Duration::from_secs(60)).await;
    let session = bench.session(Some("hello")).await;
    bench.clock.as_ref().unwrap().advance(Duration::from_secs(60));
    bench.ended(&session).await;
    let seen = bench.operator().get(&format!("/v1/sessions/{session}")).await.ok();
    assert_eq!(seen["stats"]["active_seconds"], 60.0);
}

#[tokio::test]
async fn the_streams_of_an_ended_session_end() {
    let bench = Bench::start().await;
    let operator = bench.operator();
    let (archived, deleted) = (bench.session(None).await, bench.session(None).await);
    let mut stream = operator.stream(&archived).await;
    operator.post(&format!("/v1/sessions/{archived}/archive"), json!({})).await.ok();
    assert_eq!(stream.next().await.unwrap().0, "session.thread_status_terminated");
    assert_eq!(stream.next().await.unwrap().0, "session.status_terminated");
    assert!(stream.next().await.is_none());
    let mut stream = operator.stream(&deleted).await;
    let gone = operator.delete(&format!("/v1/sessions/{deleted}")).await.ok();
    assert_eq!(gone, json!({"id": deleted, "type": "session_deleted"}));
    assert_eq!(stream.next().await.unwrap().0, "session.deleted");
    assert!(stream.next().await.is_none());
    operator.get(&format!("/v1/sessions/{deleted}")).await.refused(404, "not_found_error");
}

#[tokio::test]
async fn an_update_tells_what_changed() {
    let bench = Bench::start().await;
    let session = bench.session(None).await;
    let path = format!("/v1/sessions/{session}");
    let operator = bench.operator();
    let change = json!({"title": "new", "metadata": {"k": "v"}, "agent": {"tools": []}});
    let updated = operator.post(&path, change.clone()).await.ok();
    assert_eq!((&updated["title"], &updated["agent"]["tools"]), (&json!("new"), &json!([])));
    operator.post(&path, json!({"title": "new"})).await.ok();
    let events = operator.get(&format!("{path}/events")).await.ok();
    let events = events["data"].as_array().unwrap();
    assert_eq!(types(events), ["session.updated"]);
    assert_eq!((&events[0]["title"], &events[0]["metadata"]), (&json!("new"), &json!({"k": "v"})));
}

#[tokio::test]
async fn an_agent_without_the_toolset_cannot_call_its_tools() {
    let bench = Bench::start().await;
    let agent = json!({"type": "agent_with_overrides", "id": bench.agent, "tools": []});
    let session = bench
        .operator()
        .post(
            "/v1/sessions",
            json!({"agent": agent, "environment_id": bench.environment.id.as_str(),
                   "initial_events": [user_message(&bash(&["ls"]))]}),
        )
        .await
        .ok();
    let events = bench.ended(session["id"].as_str().unwrap()).await;
    let call = events.iter().find(|event| event["type"] == "agent.tool_use").unwrap();
    assert_eq!(call["evaluated_permission"], "deny");
    assert!(call.get("evaluation").is_none());
}
