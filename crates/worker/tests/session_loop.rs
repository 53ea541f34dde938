//! A worker's whole life against a platform that does as the test says.

mod scripted_platform;

use std::time::Duration;

use scripted_platform::{KEY, Platform, Running};
use serde_json::{Value, json};
use worker::WorkerError;

const SOON: Duration = Duration::from_millis(400);
const NEVER: Duration = Duration::from_secs(3600);
const STOP: &str = "POST /v1/environments/env_1/work/work_1/stop";
const POLL: &str = "GET /v1/environments/env_1/work/poll";
const SEND: &str = "POST /v1/sessions/sesn_1/events";

fn bash(id: &str, command: &str, permission: &str) -> Value {
    json!({"type": "agent.tool_use", "id": id, "name": "bash", "input": {"command": command},
        "evaluated_permission": permission})
}

fn idle(reason: &str) -> Value {
    json!({"type": "session.status_idle", "stop_reason": {"type": reason}})
}

fn workdir() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[tokio::test]
async fn a_session_is_claimed_held_confirmed_interrupted_and_given_back() {
    let (platform, _server) = Platform::start().await;
    let dir = workdir();
    let worker = Running::start(&platform, dir.path(), SOON).await;
    let token = agents::WorkSecret {
        sessions_token: agents::Secret::new("sk-ant-req-test"),
        api_base_url: None,
    };
    platform.queue("work_0", "sesn_of_another_vm", None);
    platform.queue("work_1", "sesn_1", Some(&token.encode()));
    platform.emit(json!({"type": "user.message", "id": "sevt_0"}));
    platform.emit(bash("sevt_old", "echo answered long ago", "allow"));
    platform.emit(json!({"type": "user.tool_result", "id": "x", "tool_use_id": "sevt_old"}));
    platform.emit(bash("sevt_allow", "pwd; echo $ANTHROPIC_API_KEY", "allow"));
    platform.emit(bash("sevt_ask", "echo confirmed", "ask"));
    platform.emit(bash("sevt_deny", "touch denied", "deny"));
    platform.emit(idle("requires_action"));
    worker.run_session(&platform).await;

    let root = dir.path().canonicalize().unwrap();
    let first = platform.wait_for_result("sevt_allow").await;
    assert_eq!(first, (root.display().to_string(), false));
    let poll = platform.wait_for(POLL, 1).await;
    assert_eq!(poll.bearer, KEY);
    assert_eq!(platform.wait_for("GET /v1/sessions/sesn_1", 1).await.bearer, "sk-ant-req-test");
    assert_eq!(platform.count("POST /v1/environments/env_1/work/work_0"), 0, "left to its own VM");

    // Held calls outlast the idle clock.
    platform.emit(idle("end_turn"));
    tokio::time::sleep(SOON * 2).await;
    assert_eq!(platform.count(STOP), 0);
    platform.emit(
        json!({"type": "user.tool_confirmation", "tool_use_id": "sevt_ask", "result": "allow"}),
    );
    assert_eq!(platform.wait_for_result("sevt_ask").await, ("confirmed".to_owned(), false));

    platform.emit(json!({"type": "agent.custom_tool_use", "id": "sevt_custom", "name": "ask_hr"}));
    platform.emit(json!({"type": "moon.phase", "id": "sevt_moon", "phase": "full"}));
    platform.emit(bash("sevt_slow", "sleep 1; echo late", "allow"));
    platform.emit(json!({"type": "user.interrupt", "id": "sevt_stop"}));
    platform.emit(idle("end_turn"));
    assert_eq!(platform.wait_for_result("sevt_slow").await, ("late".to_owned(), false));
    let stop = platform.wait_for(STOP, 1).await;
    assert_eq!(stop.body, json!({"force": true}));
    assert_eq!(platform.count(SEND), 3, "three calls, three results");
    assert!(!root.join("denied").exists());

    // The next item finds the session at its end, and the VM goes with it.
    platform.queue("work_2", "sesn_1", None);
    platform.wait_for("GET /v1/sessions/sesn_1/events/stream", 2).await;
    platform.emit(json!({"type": "session.status_terminated", "id": "sevt_end"}));
    let ended = platform.wait_for("DELETE /2025-09-09/microvms/microvm-1", 1).await;
    assert!(ended.bearer.starts_with("AWS4-HMAC-SHA256 Credential=ASIATEST/"), "{}", ended.bearer);
    assert!(ended.bearer.contains("/us-east-1/lambda/aws4_request"), "{}", ended.bearer);
    worker.end().await.unwrap();
}

#[tokio::test]
async fn a_result_that_was_refused_is_posted_again_and_its_call_is_not_run_twice() {
    let (platform, _server) = Platform::start().await;
    let dir = workdir();
    let worker = Running::start(&platform, dir.path(), NEVER).await;
    platform.queue("work_1", "sesn_1", None);
    platform.emit(bash("sevt_1", "echo run >> runs; cat runs", "allow"));
    platform.answer_once(SEND, 400, json!({}));
    worker.run_session(&platform).await;
    platform.wait_for(SEND, 1).await;
    platform.emit(json!({"type": "session.status_running"}));
    platform.hang_up();
    assert_eq!(platform.wait_for_result("sevt_1").await, ("run".to_owned(), false));
    let lines = std::fs::read_to_string(dir.path().join("runs")).unwrap();
    assert_eq!(lines, "run\n");
}

#[tokio::test]
async fn a_lost_lease_ends_the_run_and_leaves_the_item_alone() {
    let (platform, _server) = Platform::start().await;
    let dir = workdir();
    let worker = Running::start(&platform, dir.path(), NEVER).await;
    platform.queue("work_1", "sesn_1", None);
    platform.answer_once("POST /v1/environments/env_1/work/work_1/heartbeat", 412, json!({}));
    worker.run_session(&platform).await;
    let beat = platform.wait_for("POST /v1/environments/env_1/work/work_1/heartbeat", 1).await;
    assert!(beat.call.ends_with("?expected_last_heartbeat=NO_HEARTBEAT"), "{}", beat.call);
    platform.wait_for(POLL, 2).await;
    assert_eq!(platform.count(STOP), 0);
}

#[tokio::test]
async fn a_drain_tells_the_agent_that_its_call_was_cut_off_and_gives_the_item_back() {
    let (platform, _server) = Platform::start().await;
    let dir = workdir();
    let worker = Running::start(&platform, dir.path(), NEVER).await;
    platform.queue("work_1", "sesn_1", None);
    platform.emit(bash("sevt_1", "touch begun; sleep 600", "allow"));
    worker.run_session(&platform).await;
    while !dir.path().join("begun").exists() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let answer = worker.call("terminate", "").await.unwrap();
    assert_eq!(answer.0, 200);
    let (text, is_error) = platform.wait_for_result("sevt_1").await;
    assert_eq!((text.as_str(), is_error), ("bash: This operation was aborted", true));
    let stop = platform.place(|seen| seen.call.starts_with(STOP));
    let result = platform.place(|seen| seen.call.starts_with(SEND));
    assert!(result < stop && stop.is_some(), "the item is given back after the result");
    assert_eq!(platform.count("DELETE /2025"), 0, "it is being terminated already");
    worker.end().await.unwrap();
}

#[tokio::test]
async fn a_worker_without_work_suspends_its_vm_if_told_to_and_works_again_when_resumed() {
    let (platform, _server) = Platform::start().await;
    let dir = workdir();
    let worker = Running::start_impatient(&platform, dir.path(), NEVER, SOON).await;
    assert_eq!(worker.run_as(&platform, "microvm-1", "suspend").await.0, 200);
    platform.wait_for("POST /2025-09-09/microvms/microvm-1/suspend", 1).await;
    let polls = platform.count(POLL);
    tokio::time::sleep(SOON * 2).await;
    assert_eq!(platform.count(POLL), polls, "it rests");
    platform.queue("work_1", "sesn_1", None);
    platform.emit(bash("sevt_1", "echo again", "allow"));
    assert_eq!(worker.call("resume", "").await.unwrap().0, 200);
    assert_eq!(platform.wait_for_result("sevt_1").await, ("again".to_owned(), false));
    assert_eq!(platform.count("DELETE /2025"), 0);
}

#[tokio::test]
async fn a_worker_whose_vm_was_copied_is_for_the_run_of_the_copy() {
    let (platform, _server) = Platform::start().await;
    let dir = workdir();
    let worker = Running::start_impatient(&platform, dir.path(), NEVER, NEVER).await;
    worker.run_session(&platform).await;
    platform.wait_for(POLL, 1).await;
    let refused = worker.run_as(&platform, "microvm-1", "suspend").await;
    assert_eq!(refused.0, 409, "the same VM runs nothing else: {}", refused.1);
    assert_eq!(worker.run_as(&platform, "microvm-2", "terminate").await.0, 200);
    platform.queue("work_1", "sesn_1", None);
    platform.wait_for("GET /v1/sessions/sesn_1/events/stream", 1).await;
    platform.emit(json!({"type": "session.status_terminated", "id": "sevt_end"}));
    platform.wait_for("DELETE /2025-09-09/microvms/microvm-2", 1).await;
    assert_eq!(platform.count("DELETE /2025-09-09/microvms/microvm-1"), 0, "it goes on");
}

#[tokio::test]
async fn hostile_calls_do_not_take_the_worker_down() {
    let (platform, _server) = Platform::start().await;
    let dir = workdir();
    let worker = Running::start(&platform, dir.path(), NEVER).await;
    platform.queue("work_1", "sesn_1", None);
    let timed = |id: &str, command: &str| {
        json!({"type": "agent.tool_use", "id": id, "name": "bash",
            "input": {"command": command, "timeout_ms": 700}})
    };
    platform.emit(timed("sevt_endless", "yes a very long line of nothing at all"));
    platform.emit(timed("sevt_deaf", "trap '' TERM INT HUP QUIT; while :; do sleep 1; done"));
    platform.emit(timed("sevt_closed", "exec 0<&- 1>&- 2>&-; sleep 60"));
    platform.emit(timed("sevt_dead", "kill -9 $$"));
    platform.emit(timed("sevt_parent", "kill -9 $PPID; echo survived"));
    platform.emit(timed("sevt_everybody", "kill -9 -1 2>/dev/null; echo survived"));
    platform.emit(timed("sevt_daemon", "setsid sh -c 'trap \"\" TERM; sleep 600' & sleep 60"));
    platform.emit(timed("sevt_left", "pgrep -c sleep"));
    platform.emit(bash(
        "sevt_flood",
        "head -c 300000000 /dev/zero | tr '\\0' x; echo; echo end",
        "allow",
    ));
    platform.emit(timed("sevt_pipe", "mkfifo p; cat p"));
    platform.emit(timed("sevt_syntax", "echo 'never closed"));
    platform
        .emit(json!({"type": "agent.tool_use", "id": "sevt_odd", "name": "read", "input": [1]}));
    platform.emit(timed("sevt_last", "echo alive"));
    worker.run_session(&platform).await;
    for (id, expected) in [
        ("sevt_endless", "bash: bash command timed out after 700ms"),
        ("sevt_deaf", "bash: bash command timed out after 700ms"),
        ("sevt_closed", "bash: bash command timed out after 700ms"),
        ("sevt_dead", "bash: bash session terminated"),
        ("sevt_parent", "survived"),
        ("sevt_everybody", "survived"),
        ("sevt_daemon", "bash: bash command timed out after 700ms"),
        ("sevt_left", "0"),
        ("sevt_pipe", "bash: bash command timed out after 700ms"),
        ("sevt_syntax", "bash: bash command timed out after 700ms"),
        ("sevt_odd", "read: file_path is required"),
        ("sevt_last", "alive"),
    ] {
        assert_eq!(platform.wait_for_result(id).await.0, expected, "{id}");
    }
    let flood = platform.wait_for_result("sevt_flood").await.0;
    assert!(flood.starts_with("[output truncated]\nxxx") && flood.ends_with("x\nend"));
    assert!(flood.len() < 110_000);
}

#[tokio::test]
async fn what_keeps_a_worker_from_its_session_is_named() {
    for (call, status, body, named) in [
        (
            POLL,
            401,
            json!({"type": "error", "error": {"type": "authentication_error",
            "message": "invalid key"}}),
            "KeyRefused",
        ),
        (
            "POST /",
            400,
            json!({"__type": "ResourceNotFoundException", "message": "no such secret"}),
            "ResourceNotFoundException",
        ),
        ("PUT /latest/api/token", 404, json!({}), "Credentials"),
    ] {
        let (platform, _server) = Platform::start().await;
        let dir = workdir();
        let worker = Running::start(&platform, dir.path(), NEVER).await;
        platform.answer_once(call, status, body);
        worker.run_session(&platform).await;
        let error: WorkerError = worker.end().await.unwrap_err();
        let shown = format!("{error:?}");
        assert!(shown.contains(named), "{shown}");
        assert!(!shown.contains(KEY), "no key in an error");
    }
}

#[tokio::test]
async fn a_bad_run_is_refused_with_a_reason_and_a_second_one_too() {
    let (platform, _server) = Platform::start().await;
    let dir = workdir();
    let worker = Running::start(&platform, dir.path(), NEVER).await;
    let (status, reason) = worker.call("run", "{}").await.unwrap();
    assert_eq!(status, 400);
    assert!(reason.contains("runHookPayload"), "{reason}");
    worker.run_session(&platform).await;
    worker.run_session(&platform).await;
    let other = json!({"session": {"ANTHROPIC_SESSION_ID": "sesn_2", "ANTHROPIC_ENVIRONMENT_ID": "e",
        "ENVIRONMENT_KEY_SECRET_ID": "x"}});
    let body = json!({"microvmId": "microvm-1", "runHookPayload": other.to_string()}).to_string();
    assert_eq!(worker.call("run", &body).await.unwrap().0, 409);
    assert_eq!(worker.call("dance", "").await.unwrap().0, 404);
    for hook in ["validate", "suspend", "resume"] {
        assert_eq!(worker.call(hook, "").await.unwrap().0, 200);
    }
    worker.stop.cancel();
    worker.end().await.unwrap();
}
