//! The official SDKs against the emulator: their clients, and their workers.
//!
//! The scripts in `oracles/` are ours; the packages stand in `$WARREN_ORACLES`, or in
//! `target/oracles` of the workspace. A test whose packages are missing fails and says how to
//! install them.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::support::{Bench, types};
use crate::webhooks::Receiver;

/// Longest run of a script.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(90);

/// An SDK, and how a script is run with it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sdk {
    TypeScript,
    Python,
}

impl Sdk {
    /// A script of ours, ready to run.
    fn script(self, name: &str) -> Command {
        let packages = packages();
        let (program, extension) = match self {
            Self::TypeScript => (packages.join("node_modules/.bin/node"), "mjs"),
            Self::Python => (packages.join("venv/bin/python"), "py"),
        };
        assert!(
            program.exists(),
            "{} is missing; install it with\n{}",
            program.display(),
            install()
        );
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http/oracles");
        let mut command = Command::new(program);
        command
            .arg(scripts.join(format!("{name}.{extension}")))
            .env("WARREN_ORACLES", packages)
            .env_remove("ANTHROPIC_API_KEY")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

fn packages() -> PathBuf {
    match std::env::var_os("WARREN_ORACLES") {
        Some(path) => path.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/oracles"),
    }
}

fn install() -> &'static str {
    "  scripts/setup --tests"
}

/// Runs a script to its end; returns the JSON object that it prints last.
async fn run(mut command: Command) -> Value {
    let output = command.stderr(Stdio::inherit()).output();
    let output = tokio::time::timeout(SCRIPT_TIMEOUT, output).await.expect("the script hangs");
    let output = output.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}: {text}", output.status);
    let last = text.lines().last().expect("the script says nothing");
    serde_json::from_str(last).unwrap_or_else(|_| panic!("not JSON: {text}"))
}

/// A client makes an agent and a session, says something, and hears the turn on the stream.
async fn check_client(sdk: Sdk) {
    let bench = Bench::start().await;
    let mut command = sdk.script("client");
    command
        .env("BASE_URL", bench.platform.base_url())
        .env("API_KEY", bench.platform.api_key().expose());
    let seen = run(command).await;
    assert_eq!(
        seen["streamed"],
        json!([
            "user.message",
            "session.status_running",
            "session.thread_status_running",
            "span.model_request_start",
            "agent.tool_use",
            "span.model_request_end",
            "session.thread_status_idle",
            "session.status_idle",
            "user.tool_result",
            "session.status_running",
            "session.thread_status_running",
            "span.model_request_start",
            "agent.message",
            "span.model_request_end",
            "session.thread_status_idle",
            "session.status_idle",
        ])
    );
    assert_eq!(seen["listed"], seen["streamed"]);
    assert_eq!(seen["not_found"], "not_found_error");
    assert_eq!(seen["conflict_request_id"], true);
    assert_eq!(seen["agents"], 2);
    assert_eq!(seen["archived"], "terminated");
}

#[tokio::test]
async fn the_typescript_client_drives_a_session() {
    check_client(Sdk::TypeScript).await;
}

#[tokio::test]
async fn the_python_client_drives_a_session() {
    check_client(Sdk::Python).await;
}

/// Every method that the SDK has for managed agents is called; the Python one checks each answer
/// against its types.
async fn check_methods(sdk: Sdk) {
    let bench = Bench::start().await;
    let mut command = sdk.script("methods");
    command
        .env("BASE_URL", bench.platform.base_url())
        .env("API_KEY", bench.platform.api_key().expose())
        .env("ENVIRONMENT_ID", bench.environment.id.as_str())
        .env("ENVIRONMENT_KEY", bench.environment.key.expose());
    let seen = run(command).await;
    assert_eq!(seen["missed"], json!([]), "methods that nothing calls");
    assert!(seen["called"].as_u64().unwrap() >= 90, "{seen}");
}

#[tokio::test]
async fn every_method_of_the_typescript_sdk_is_answered() {
    check_methods(Sdk::TypeScript).await;
}

#[tokio::test]
async fn every_method_of_the_python_sdk_is_answered_as_its_types_say() {
    check_methods(Sdk::Python).await;
}

/// A worker of an SDK at work.
pub(crate) struct Worker(Child);

impl Worker {
    pub(crate) async fn start(sdk: Sdk, bench: &Bench, workdir: &Path) -> Self {
        let mut command = sdk.script("worker");
        command
            .env("BASE_URL", bench.platform.base_url())
            .env("ENVIRONMENT_ID", bench.environment.id.as_str())
            .env("ENVIRONMENT_KEY", bench.environment.key.expose())
            .env("WORKDIR", workdir);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = tokio::time::timeout(SCRIPT_TIMEOUT, lines.next_line()).await;
        assert_eq!(ready.expect("the worker hangs").unwrap().as_deref(), Some("ready"));
        Self(child)
    }

    pub(crate) async fn stop(mut self) {
        self.0.kill().await.unwrap();
    }
}

/// A worker serves two turns of a scripted session, and gives its item back when the session
/// stays idle.
async fn check_worker(sdk: Sdk) {
    let bench = Bench::start().await;
    let workdir = tempfile::tempdir().unwrap();
    let worker = Worker::start(sdk, &bench, workdir.path()).await;
    let script = json!({"calls": [
        {"tool": "write", "input": {"file_path": "a.txt", "content": "alpha\n"}},
        {"tool": "bash", "input": {"command": "cat a.txt && echo beta"}},
        {"tool": "bash", "input": {"command": "exit 3"}, "permission": "deny"},
        {"tool": "read", "input": {"file_path": "missing.txt"}}]});
    let session = bench.session(Some(&script.to_string())).await;
    let events = bench.ended(&session).await;
    let results: Vec<&Value> =
        events.iter().filter(|event| event["type"] == "user.tool_result").collect();
    assert_eq!(results.len(), 3, "{:?}", types(&events));
    assert_eq!(results[1]["content"][0]["text"], "alpha\nbeta");
    assert_eq!(results[2]["is_error"], true);
    let answer = events.iter().find(|event| event["type"] == "agent.message").unwrap();
    assert_eq!(answer["content"][0]["text"], "Done: 4 calls made, 2 of them failed.");

    let parallel = json!({"parallel": true, "calls": [
        {"tool": "bash", "input": {"command": "echo one"}},
        {"tool": "bash", "input": {"command": "echo two"}},
        {"tool": "bash", "input": {"command": "echo three"}, "permission": "ask"}]});
    let turn = json!([crate::support::user_message(&parallel.to_string())]);
    bench.send(&session, turn).await.ok();
    let asked = bench
        .until(&session, |events| {
            let last = events.last()?;
            let ids = last["stop_reason"]["event_ids"].as_array()?;
            let asked = events.iter().find(|event| event["evaluated_permission"] == "ask")?;
            (ids.len() == 1 && ids[0] == asked["id"]).then(|| asked["id"].clone())
        })
        .await;
    let confirm =
        json!([{"type": "user.tool_confirmation", "tool_use_id": asked, "result": "allow"}]);
    bench.send(&session, confirm).await.ok();
    bench
        .until(&session, |events| {
            let answers = events.iter().filter(|event| event["type"] == "agent.message");
            (answers.count() == 2).then_some(())
        })
        .await;

    // The worker's own idle clock ends the item, by force.
    let given_back = async {
        loop {
            let items = bench.operator().get(&bench.work("")).await.ok();
            let items = items["data"].as_array().unwrap();
            assert_eq!(items.len(), 1, "one item serves both turns");
            if items[0]["state"] == "stopped" {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SCRIPT_TIMEOUT, given_back).await.expect("the item is never given back");
    worker.stop().await;
}

#[tokio::test]
async fn the_typescript_worker_serves_a_session_to_its_end() {
    check_worker(Sdk::TypeScript).await;
}

#[tokio::test]
async fn the_python_worker_serves_a_session_to_its_end() {
    check_worker(Sdk::Python).await;
}

/// The SDK's own check of a delivery takes what the emulator sends, and not what is altered.
async fn check_unwrap(sdk: Sdk) {
    let bench = Bench::start().await;
    let receiver = Receiver::start(&[]).await;
    let endpoint =
        bench.platform.add_webhook_endpoint(&receiver.url(), &["session.created"]).await.unwrap();
    let session = bench.session(None).await;
    let arrived = receiver.arrived(1).await.remove(0);
    let headers: serde_json::Map<String, Value> = arrived
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()))
        .collect();
    let mut command = sdk.script("unwrap");
    command
        .env("SECRET", endpoint.secret.expose())
        .env("BODY", std::str::from_utf8(&arrived.body).unwrap())
        .env("HEADERS", Value::Object(headers).to_string());
    let seen = run(command).await;
    assert_eq!(seen, json!({"type": "session.created", "id": session, "altered_refused": true}));
}

#[tokio::test]
async fn the_typescript_sdk_unwraps_a_webhook() {
    check_unwrap(Sdk::TypeScript).await;
}

#[tokio::test]
async fn the_python_sdk_unwraps_a_webhook() {
    check_unwrap(Sdk::Python).await;
}
