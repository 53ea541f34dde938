//! The API's manners: resources, credentials, errors, pages.

use crate::support::{Bench, Client, user_message};
use serde_json::{Value, json};

#[tokio::test]
async fn an_agent_is_resolved_versioned_and_archived() {
    let bench = Bench::start().await;
    let operator = bench.operator();
    let agent = operator
        .post(
            "/v1/agents?beta=true",
            json!({"name": "a", "model": "m", "metadata": {"k": "v"},
                   "skills": [{"type": "custom", "skill_id": "s"}],
                   "tools": [{"type": "agent_toolset_20260401", "configs": [
                       {"name": "bash", "permission_policy": {"type": "always_ask"}}]}]}),
        )
        .await
        .ok();
    assert_eq!(agent["model"], json!({"id": "m"}));
    assert_eq!(agent["version"], 1);
    let allow = json!({"type": "always_allow"});
    assert_eq!(
        agent["tools"][0],
        json!({"type": "agent_toolset_20260401",
               "default_config": {"enabled": true, "permission_policy": allow},
               "configs": [{"name": "bash", "type": "bash", "enabled": true,
                            "permission_policy": {"type": "always_ask"}}]})
    );
    assert_eq!(agent["skills"][0]["version"], "latest");
    let path = format!("/v1/agents/{}", agent["id"].as_str().unwrap());
    let update = json!({"version": 1, "system": "Be brief.", "metadata": {"k": null, "l": "w"}});
    let updated = operator.post(&path, update.clone()).await.ok();
    assert_eq!((&updated["version"], &updated["system"]), (&json!(2), &json!("Be brief.")));
    assert_eq!(updated["metadata"], json!({"l": "w"}));
    operator.post(&path, update).await.refused(409, "conflict_error");
    assert_eq!(operator.get(&format!("{path}?version=1")).await.ok()["system"], Value::Null);
    let versions = operator.get(&format!("{path}/versions")).await.ok();
    assert_eq!(versions["data"].as_array().unwrap().len(), 2);
    let archived = operator.post(&format!("{path}/archive"), json!({})).await.ok();
    assert!(archived["archived_at"].is_string());
    let listed = operator.get("/v1/agents").await.ok();
    assert!(listed["data"].as_array().unwrap().iter().all(|other| other["id"] != agent["id"]));
    let session = json!({"agent": agent["id"], "environment_id": bench.environment.id.as_str()});
    let message =
        operator.post("/v1/sessions", session).await.refused(400, "invalid_request_error");
    assert!(message.contains("archived"), "{message}");
}

#[tokio::test]
async fn an_environment_is_made_changed_archived_and_deleted() {
    let bench = Bench::start().await;
    let operator = bench.operator();
    let body = json!({"name": "two", "config": {"type": "self_hosted"}, "metadata": {"a": "1"}});
    let environment = operator.post("/v1/environments", body.clone()).await.ok();
    assert_eq!(environment["type"], "environment");
    assert_eq!(environment["scope"], "organization");
    operator.post("/v1/environments", body).await.refused(409, "conflict_error");
    let path = format!("/v1/environments/{}", environment["id"].as_str().unwrap());
    let change = json!({"name": "three", "description": "d", "metadata": {"a": ""}});
    let changed = operator.post(&path, change).await.ok();
    assert_eq!((&changed["name"], &changed["metadata"]), (&json!("three"), &json!({})));
    assert_eq!(operator.get(&path).await.ok(), changed);
    operator.post(&format!("{path}/archive"), json!({})).await.ok();
    let listed = operator.get("/v1/environments").await.ok();
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    let all = operator.get("/v1/environments?include_archived=true").await.ok();
    assert_eq!(all["data"].as_array().unwrap().len(), 2);
    let deleted = operator.delete(&path).await.ok();
    assert_eq!(deleted, json!({"id": environment["id"], "type": "environment_deleted"}));
    operator.get(&path).await.refused(404, "not_found_error");
}

#[tokio::test]
async fn an_environment_in_use_is_not_deleted() {
    let bench = Bench::start().await;
    let session = bench.session(None).await;
    let path = format!("/v1/environments/{}", bench.environment.id);
    bench.operator().delete(&path).await.refused(409, "conflict_error");
    bench.operator().delete(&format!("/v1/sessions/{session}")).await.ok();
    bench.operator().delete(&path).await.ok();
}

#[tokio::test]
async fn a_fault_is_named_by_its_field() {
    let bench = Bench::start().await;
    let operator = bench.operator();
    let environment = bench.environment.id.as_str();
    let sessions = "/v1/sessions";
    for (path, body, expected) in [
        ("/v1/agents", json!({"model": "m"}), "name: is required"),
        ("/v1/agents", json!({"name": "a"}), "model: is required"),
        ("/v1/agents", json!({"name": "a", "model": "m", "tool": []}), "tool: is not known here"),
        (
            "/v1/agents",
            json!({"name": "a", "model": "m", "tools": [{"type": "x"}]}),
            "tools.0.type: \"x\" is not one of agent_toolset_20260401, custom, mcp_toolset",
        ),
        (
            "/v1/agents",
            json!({"name": "a", "model": "m", "metadata": {"k": 1}}),
            "metadata.k: must be a string",
        ),
        (
            "/v1/environments",
            json!({"name": "c", "config": {"type": "cloud"}}),
            "config.type: this emulator has environments of type self_hosted only",
        ),
        (sessions, json!({"environment_id": environment}), "agent: is required"),
        (
            sessions,
            json!({"agent": bench.agent, "environment_id": environment,
                   "resources": [{"type": "file", "file_id": "f"}]}),
            "resources.0.type: file resources are not supported on self_hosted environments",
        ),
        (
            sessions,
            json!({"agent": bench.agent, "environment_id": environment,
                   "initial_events": [{"type": "user.interrupt"}]}),
            "initial_events.0.type: must be user.message or user.define_outcome",
        ),
    ] {
        let message = operator.post(path, body).await.refused(400, "invalid_request_error");
        assert_eq!(message, expected);
    }
    let bad = operator.call("POST", sessions, Some("{\"agent\": ".into())).await;
    assert!(bad.refused(400, "invalid_request_error").starts_with("body: not valid JSON"));
    let session = bench.session(None).await;
    for (event, expected) in [
        (json!({}), "events.0.type: is required"),
        (json!({"type": "user.message"}), "events.0.content: is required"),
        (
            json!({"type": "user.message", "content": [{"type": "audio"}]}),
            "events.0.content.0.type: must be one of text, image, document",
        ),
        (json!({"type": "user.tool_result"}), "events.0.tool_use_id: is required"),
        (
            json!({"type": "agent.message"}),
            "events.0.type: \"agent.message\" is no event that can be sent to a session",
        ),
    ] {
        let message = bench.send(&session, json!([event])).await;
        assert_eq!(message.refused(400, "invalid_request_error"), expected);
    }
}

#[tokio::test]
async fn one_bad_event_keeps_the_others_of_its_request_out() {
    let bench = Bench::start().await;
    let session = bench.session(None).await;
    let events = json!([user_message("hello"), crate::support::tool_result("sevt_unknown")]);
    bench.send(&session, events).await.refused(400, "invalid_request_error");
    let listed = bench.operator().get(&format!("/v1/sessions/{session}/events")).await.ok();
    assert_eq!(listed["data"], json!([]));
}

#[tokio::test]
async fn what_is_not_there_is_answered_in_the_platform_s_shape() {
    let bench = Bench::start().await;
    let operator = bench.operator();
    for path in ["/", "/v1/nothing", "/v1/sessions/sesn_none", "/v1/agents/agent_none", "/v1/x/%20"]
    {
        operator.get(path).await.refused(404, "not_found_error");
    }
    operator.call("PUT", "/v1/agents", None).await.refused(404, "not_found_error");
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused() {
    let bench = Bench::start().await;
    let long = " ".repeat(33 * 1024 * 1024);
    let answer = bench.operator().call("POST", "/v1/agents", Some(long)).await;
    answer.refused(413, "request_too_large");
}

/// The table of spec 3.6, as far as it is known.
#[tokio::test]
async fn each_credential_is_good_for_its_own_calls() {
    let bench = Bench::start().await;
    let session = bench.session(Some(&crate::support::bash(&["ls"]))).await;
    let item = bench.claim().await;
    let id = item["id"].as_str().unwrap();
    let base = bench.platform.base_url();
    let secret = agents::WorkSecret::decode(item["secret"].as_str().unwrap()).unwrap();
    let token = Client::new(&base, secret.sessions_token.expose());
    let (operator, worker) = (bench.operator(), bench.worker());
    let events = format!("/v1/sessions/{session}/events");
    for client in [&operator, &worker, &token] {
        client.get(&format!("/v1/sessions/{session}")).await.ok();
        client.get(&events).await.ok();
    }
    operator.get(&bench.work("/poll")).await.refused(403, "permission_error");
    token.get(&bench.work("/poll")).await.refused(403, "permission_error");
    for client in [&worker, &token] {
        client.get("/v1/sessions").await.refused(403, "permission_error");
        client.get(&bench.work(&format!("/{id}"))).await.refused(403, "permission_error");
        client.post("/v1/agents", json!({})).await.refused(403, "permission_error");
    }
    operator.get(&bench.work(&format!("/{id}"))).await.ok();
    operator.get(&bench.work("/stats")).await.ok();
    worker.get(&bench.work("/stats")).await.ok();
    worker.get(&bench.work("")).await.ok();
    let beat = bench.work(&format!("/{id}/heartbeat?expected_last_heartbeat=NO_HEARTBEAT"));
    operator.post(&beat, json!({})).await.refused(403, "permission_error");
    token.post(&beat, json!({})).await.ok();
    token.post(&bench.work(&format!("/{id}/stop")), json!({"force": true})).await.ok();
    Client::new(&base, "sk-ant-api03-wrong")
        .get("/v1/agents")
        .await
        .refused(401, "authentication_error");
    // The key of another environment opens nothing here, and its sessions are not seen.
    let other = bench.platform.create_environment("other").await.unwrap();
    let stranger = Client::new(&base, other.key.expose());
    stranger.get(&format!("/v1/sessions/{session}")).await.refused(404, "not_found_error");
    stranger.get(&bench.work("/poll")).await.refused(404, "not_found_error");
}

#[tokio::test]
async fn a_rotated_environment_key_is_good_no_more() {
    let bench = Bench::start().await;
    bench.worker().get(&bench.work("/poll")).await.ok();
    let key = bench.platform.rotate_environment_key(&bench.environment.id).await.unwrap();
    bench.worker().get(&bench.work("/poll")).await.refused(401, "authentication_error");
    let renewed = Client::new(&bench.platform.base_url(), key.expose());
    renewed.get(&bench.work("/poll")).await.ok();
}

#[tokio::test]
async fn a_key_may_come_in_either_header() {
    let bench = Bench::start().await;
    let operator = bench.operator();
    let request = http::Request::get(format!("{}/v1/agents", bench.platform.base_url()))
        .header("x-api-key", bench.platform.api_key().expose())
        .body(Default::default())
        .unwrap();
    operator.send(request).await.ok();
    let file = std::fs::read_to_string(bench.dir.path().join("api-key")).unwrap();
    assert_eq!(file.trim(), bench.platform.api_key().expose());
}

#[tokio::test]
async fn credentials_do_not_stand_in_the_database() {
    let bench = Bench::start().await;
    bench.session(Some(&crate::support::bash(&["ls"]))).await;
    let item = bench.claim().await;
    let secret = agents::WorkSecret::decode(item["secret"].as_str().unwrap()).unwrap();
    let keys = [bench.platform.api_key(), &bench.environment.key, &secret.sessions_token];
    for file in ["platform.db", "platform.db-wal"] {
        let bytes = std::fs::read(bench.dir.path().join(file)).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for key in keys {
            assert!(!text.contains(key.expose()), "{file} holds a credential");
        }
    }
}

#[tokio::test]
async fn events_are_listed_by_page_type_and_order() {
    let bench = Bench::start().await;
    let session = bench.session(Some("hello")).await;
    let all = bench.ended(&session).await;
    let operator = bench.operator();
    let base = format!("/v1/sessions/{session}/events");
    let mut walked = Vec::new();
    let mut page = String::new();
    loop {
        let found = operator.get(&format!("{base}?limit=2&page={page}")).await.ok();
        walked.extend(found["data"].as_array().unwrap().clone());
        match found["next_page"].as_str() {
            Some(next) => page = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(walked, all);
    let backwards = operator.get(&format!("{base}?order=desc")).await.ok();
    let mut reversed = all.clone();
    reversed.reverse();
    assert_eq!(backwards["data"], json!(reversed));
    let query = "types[]=user.message&types[]=agent.message";
    let chosen = operator.get(&format!("{base}?{query}")).await.ok();
    assert_eq!(
        crate::support::types(chosen["data"].as_array().unwrap()),
        ["user.message", "agent.message"]
    );
    for bad in ["limit=0", "limit=1001", "order=up", "page=x", "created_at[gt]=soon"] {
        operator.get(&format!("{base}?{bad}")).await.refused(400, "invalid_request_error");
    }
}

#[tokio::test]
async fn sessions_are_listed_by_status_and_agent_forwards_and_back() {
    let bench = Bench::start().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(bench.session(None).await);
    }
    let operator = bench.operator();
    operator.post(&format!("/v1/sessions/{}/archive", ids[0]), json!({})).await.ok();
    let listed = |answer: Value| -> Vec<String> {
        let data = answer["data"].as_array().unwrap();
        data.iter().map(|session| session["id"].as_str().unwrap().to_owned()).collect()
    };
    let first = operator.get("/v1/sessions?limit=1").await.ok();
    assert_eq!(first["prev_page"], Value::Null);
    let next = first["next_page"].as_str().unwrap().to_owned();
    let second = operator.get(&format!("/v1/sessions?limit=1&page={next}")).await.ok();
    let previous = second["prev_page"].as_str().unwrap().to_owned();
    assert_eq!(listed(second), [ids[1].clone()]);
    let back = operator.get(&format!("/v1/sessions?limit=1&page={previous}")).await.ok();
    assert_eq!(listed(back), [ids[2].clone()]);
    let ended = "/v1/sessions?include_archived=true&statuses[]=terminated";
    assert_eq!(listed(operator.get(ended).await.ok()), [ids[0].clone()]);
    let of_agent = operator.get(&format!("/v1/sessions?agent_id={}", bench.agent)).await.ok();
    assert_eq!(listed(of_agent).len(), 2);
    assert_eq!(listed(operator.get("/v1/sessions?agent_id=agent_x").await.ok()).len(), 0);
}
