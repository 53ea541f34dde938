//! One session, three workers: what the official TypeScript and Python workers do with it, this one does too.
//!
//! The session lives at the platform's emulator. It brings a skill and a memory store, wants several calls at
//! once, one to be confirmed and one denied, has a call of another client's tool, and is interrupted in the
//! middle of a call. What the platform has in the end must not depend on who served.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use agents::client::{Client, Transport};
use agents::{EnvironmentId, Secret, SessionId};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use platform::{NewEnvironment, Platform, PlatformConfig};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use worker::session::{SessionContext, serve_queue};
use worker::tools::{Room, ToolsetOptions};

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// As in the scripts that start the official workers.
const MAX_IDLE: Duration = Duration::from_secs(2);
const SKILL: &str = "---\nname: counting\ndescription: Counts\n---\n";

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Ours,
    TypeScript,
    Python,
}

struct Bench {
    platform: Platform,
    environment: NewEnvironment,
    operator: Client,
    dir: tempfile::TempDir,
}

/// A worker that serves until it is dropped.
enum Worker {
    Ours(
        #[expect(dead_code, reason = "its end is what counts")]
        tokio_util::task::AbortOnDropHandle<()>,
    ),
    Official(#[expect(dead_code, reason = "its end is what counts")] tokio::process::Child),
}

impl Bench {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listen = "127.0.0.1:0".parse().unwrap();
        let config = PlatformConfig::new(listen, dir.path().join("platform"));
        let platform = Platform::start(config).await.unwrap();
        let environment = platform.create_environment("conformance").await.unwrap();
        let base = platform.base_url().parse().unwrap();
        let operator = Client::new(Transport::new(), base, platform.api_key().clone());
        std::fs::create_dir(dir.path().join("work")).unwrap();
        Self { platform, environment, operator, dir }
    }

    fn workdir(&self) -> PathBuf {
        self.dir.path().join("work").canonicalize().unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        self.operator.raw(Method::GET, path, None).await.unwrap()
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.operator.raw(Method::POST, path, Some(body)).await.unwrap()
    }

    /// Uploads a skill of one file and a program.
    async fn skill(&self) -> String {
        let part = |name: &str, content: &str| {
            format!(
                "--limit\r\ncontent-disposition: form-data; name=\"files[]\"; filename=\"{name}\"\r\n\
                 content-type: application/octet-stream\r\n\r\n{content}\r\n"
            )
        };
        let body = part("counting/SKILL.md", SKILL)
            + &part("counting/lib/count.txt", "1 2 3\n")
            + "--limit--\r\n";
        let key = self.platform.api_key().expose();
        let request = Request::post(format!("{}/v1/skills", self.platform.base_url()))
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "multipart/form-data; boundary=limit")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let answer = Transport::new().send(request).await.unwrap();
        let skill: Value = serde_json::from_slice(&answer.body).unwrap();
        skill["id"].as_str().unwrap_or_else(|| panic!("{skill}")).to_owned()
    }

    /// A session with a skill and a store; the ids of session and store, and where that is mounted.
    async fn session(&self, kind: Kind) -> (String, String, String) {
        let skill = self.skill().await;
        // Mounted at a place of the whole machine, so named for this one test.
        let name = format!("warren-conformance-{kind:?}-{}", uuid::Uuid::new_v4());
        let store = self.post("/v1/memory_stores", json!({ "name": name })).await;
        let store = store["id"].as_str().unwrap().to_owned();
        let note = json!({ "path": "/notes/a.md", "content": "one\n" });
        self.post(&format!("/v1/memory_stores/{store}/memories"), note).await;
        let lookup = json!({ "type": "custom", "name": "lookup", "description": "looks up",
            "input_schema": { "type": "object" } });
        let agent = json!({ "name": "conformance", "model": "scripted",
            "tools": [{ "type": "agent_toolset_20260401" }, lookup],
            "skills": [{ "type": "custom", "skill_id": skill, "version": "latest" }] });
        let agent = self.post("/v1/agents", agent).await;
        let session = json!({ "agent": agent["id"], "environment_id": self.environment.id,
            "resources": [{ "type": "memory_store", "memory_store_id": store }] });
        let session = self.post("/v1/sessions", session).await;
        let mount = session["resources"][0]["mount_path"].as_str().unwrap().to_owned();
        (session["id"].as_str().unwrap().to_owned(), store, mount)
    }

    async fn send(&self, session: &str, event: Value) {
        self.post(&format!("/v1/sessions/{session}/events"), json!({ "events": [event] })).await;
    }

    async fn say(&self, session: &str, script: Value) {
        let content = json!([{ "type": "text", "text": script.to_string() }]);
        self.send(session, json!({ "type": "user.message", "content": content })).await;
    }

    /// Waits until the session's events satisfy `found`.
    async fn until<T>(
        &self,
        session: &str,
        what: &str,
        found: impl Fn(&[Value]) -> Option<T>,
    ) -> T {
        let path = format!("/v1/sessions/{session}/events?limit=1000");
        let search = async {
            loop {
                let page = self.get(&path).await;
                if let Some(found) = found(page["data"].as_array().unwrap()) {
                    return found;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        match tokio::time::timeout(PATIENCE, search).await {
            Ok(found) => found,
            Err(_) => panic!("no {what}: {:#}", self.get(&path).await),
        }
    }

    fn start_worker(&self, kind: Kind, session: &str) -> Worker {
        let oracles = std::env::var_os("WARREN_ORACLES").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/oracles"),
            PathBuf::from,
        );
        let (program, script) = match kind {
            Kind::Ours => {
                let context = self.context(session);
                let task = tokio::spawn(async move {
                    serve_queue(&context, "ours", PATIENCE).await.unwrap();
                });
                return Worker::Ours(tokio_util::task::AbortOnDropHandle::new(task));
            }
            Kind::TypeScript => ("node_modules/.bin/node", "worker.mjs"),
            Kind::Python => ("venv/bin/python", "worker.py"),
        };
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../platform/tests/http/oracles");
        let child = tokio::process::Command::new(oracles.join(program))
            .arg(scripts.join(script))
            .env("WARREN_ORACLES", oracles)
            .env("BASE_URL", self.platform.base_url())
            .env("ENVIRONMENT_ID", self.environment.id.as_str())
            .env("ENVIRONMENT_KEY", self.environment.key.expose())
            .env("WORKDIR", self.workdir())
            .env_remove("ANTHROPIC_API_KEY")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the official worker starts; scripts/setup --tests brings it");
        Worker::Official(child)
    }

    fn context(&self, session: &str) -> SessionContext {
        let key = Secret::new(self.environment.key.expose());
        SessionContext {
            client: self.operator.with_credential(key),
            session: SessionId::new(session).unwrap(),
            environment: EnvironmentId::new(self.environment.id.as_str()).unwrap(),
            tools: ToolsetOptions {
                workdir: self.workdir(),
                roots: Vec::new(),
                search_path: None,
                room: Some(Room::made_by(env!("CARGO_BIN_EXE_warren-worker").into())),
            },
            max_idle: MAX_IDLE,
            resumed: Arc::new(watch::Sender::new(0)),
            drain: CancellationToken::new(),
        }
    }

    async fn item_is_given_back(&self) {
        let path = format!("/v1/environments/{}/work", self.environment.id);
        let search = async {
            loop {
                let items = self.get(&path).await;
                let items = items["data"].as_array().unwrap().clone();
                assert_eq!(items.len(), 1, "one item serves all turns");
                if items[0]["state"] == "stopped" {
                    return;
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(PATIENCE, search).await.expect("the item is given back");
    }
}

fn result_of<'a>(events: &'a [Value], command: &str) -> Option<&'a Value> {
    let is_call =
        |event: &&Value| event["type"] == "agent.tool_use" && event["input"]["command"] == command;
    let call = events.iter().find(is_call)?;
    events
        .iter()
        .find(|event| event["tool_use_id"] == call["id"] && event["type"] == "user.tool_result")
}

fn text_of(result: &Value) -> String {
    result["content"][0]["text"].as_str().unwrap().to_owned()
}

async fn check(kind: Kind) {
    let bench = Bench::start().await;
    let (session, store, mount) = bench.session(kind).await;
    let look = format!(
        "cd skills/counting && find . -printf '%y %m %P\\n' | sort; cat SKILL.md; cd {mount} && \
         find . -type f -printf '%m %P\\n' | sort; cat .anthropic-memory-store notes/a.md; \
         echo two >> notes/a.md; mkdir more; echo new > more/b.md"
    );
    let bash = |command: &str, permission: &str| json!({ "tool": "bash", "input": { "command": command }, "permission": permission });
    bench
        .say(
            &session,
            json!({ "parallel": true, "calls": [
                bash(&look, "allow"), bash("echo confirmed", "ask"), bash("touch denied", "deny"),
                { "tool": "lookup", "input": { "key": "x" } },
            ]}),
        )
        .await;
    let worker = bench.start_worker(kind, &session);

    let first =
        bench.until(&session, "first result", |events| result_of(events, &look).map(text_of)).await;
    // The Python worker leaves directories within a skill to the umask.
    let inner = if kind == Kind::Python { 755 } else { 700 };
    let expected = format!(
        "d 700 \nd {inner} lib\nf 644 SKILL.md\nf 644 lib/count.txt\n{SKILL}600 .anthropic-memory-store\n\
         600 notes/a.md\nversion 1\n{store}one"
    );
    assert_eq!(first, expected);
    // Held for longer than the idle clock.
    tokio::time::sleep(MAX_IDLE + Duration::from_millis(500)).await;
    let held = bench
        .until(&session, "held call", |events| {
            assert!(result_of(events, "echo confirmed").is_none());
            let ask = events.iter().find(|event| event["evaluated_permission"] == "ask")?;
            Some(ask["id"].clone())
        })
        .await;
    bench
        .send(
            &session,
            json!({ "type": "user.tool_confirmation", "tool_use_id": held, "result": "allow" }),
        )
        .await;
    bench
        .until(&session, "confirmed result", |events| result_of(events, "echo confirmed").cloned())
        .await;
    let custom = bench
        .until(&session, "custom call", |events| {
            let call = events.iter().find(|event| event["type"] == "agent.custom_tool_use")?;
            Some(call["id"].clone())
        })
        .await;
    bench
        .send(
            &session,
            json!({ "type": "user.custom_tool_result", "custom_tool_use_id": custom,
        "content": [{ "type": "text", "text": "y" }] }),
        )
        .await;
    let turns = |events: &[Value]| {
        events.iter().filter(|event| event["stop_reason"]["type"] == "end_turn").count()
    };
    bench
        .until(&session, "end of the first turn", |events| (turns(events) >= 1).then_some(()))
        .await;
    assert!(!bench.workdir().join("denied").exists());

    // An interrupt ends the turn, and the worker outlives it.
    bench.say(&session, json!({ "calls": [bash("sleep 1; echo late", "allow")] })).await;
    bench
        .until(&session, "second turn's call", |events| {
            events
                .iter()
                .any(|event| event["input"]["command"] == "sleep 1; echo late")
                .then_some(())
        })
        .await;
    bench.send(&session, json!({ "type": "user.interrupt" })).await;
    bench
        .until(&session, "end of the second turn", |events| (turns(events) >= 2).then_some(()))
        .await;

    // What came late took the countdown back; the next turn's end begins it again.
    bench.say(&session, json!({ "calls": [bash("echo third", "allow")] })).await;
    bench
        .until(&session, "end of the third turn", |events| {
            result_of(events, "echo third")?;
            (turns(events) >= 3).then_some(())
        })
        .await;
    bench.item_is_given_back().await;
    let memories = bench.get(&format!("/v1/memory_stores/{store}/memories?view=full")).await;
    let mut memories: Vec<(&str, &str)> = memories["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|memory| (memory["path"].as_str().unwrap(), memory["content"].as_str().unwrap()))
        .collect();
    memories.sort_unstable();
    assert_eq!(memories, [("/more/b.md", "new\n"), ("/notes/a.md", "one\ntwo\n")]);
    assert!(!Path::new(&mount).exists(), "the store's directory is removed");
    assert!(!bench.workdir().join("skills/counting").exists(), "the skill is removed");
    drop(worker);
}

#[tokio::test]
async fn our_worker_serves_the_session() {
    check(Kind::Ours).await;
}

#[tokio::test]
async fn the_typescript_worker_serves_the_same_session_with_the_same_result() {
    check(Kind::TypeScript).await;
}

#[tokio::test]
async fn the_python_worker_serves_the_same_session_with_the_same_result() {
    check(Kind::Python).await;
}
