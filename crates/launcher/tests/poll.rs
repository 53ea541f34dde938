//! What holds where the launcher polls the queue itself, against the platform's emulator.

mod stand_in;

use agents::client::{Client, Transport};
use agents::{
    EnvironmentId, Event, NO_HEARTBEAT, Secret, SessionId, StopWork, TextBlock, WorkId, WorkSecret,
};
use launcher::{Launcher, LauncherConfig, LauncherEventKind, Mode, SharedCredentialsProvider};
use platform::{Platform, PlatformConfig};
use serde_json::{Value, json};
use stand_in::{RunMode, StandIn};
use std::{collections::BTreeSet, path::Path, time::Duration};
use tokio::sync::broadcast;

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

struct Bench {
    aws: StandIn,
    aws_url: String,
    platform: Platform,
    environment: EnvironmentId,
    key: Secret,
    operator: Client,
    dir: tempfile::TempDir,
}

/// What a VM was told.
#[derive(Debug)]
struct Told {
    session: SessionId,
    work: WorkId,
    client: Client,
}

impl Bench {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listen = "127.0.0.1:0".parse().unwrap();
        let config = PlatformConfig::new(listen, dir.path().join("platform"));
        let platform = Platform::start(config).await.unwrap();
        let made = platform.create_environment("poll").await.unwrap();
        let aws = StandIn::default();
        aws.world().environment_key = Some(made.key.expose().to_owned());
        let aws_url = aws.serve().await;
        let base = platform.base_url().parse().unwrap();
        let operator = Client::new(Transport::new(), base, platform.api_key().clone());
        Self { aws, aws_url, platform, environment: made.id, key: made.key, operator, dir }
    }

    async fn launcher(&self) -> Launcher {
        let dir: &Path = self.dir.path();
        let mut config =
            LauncherConfig::new(self.environment.clone(), "claude-worker", dir.join("launcher"));
        config.endpoint_url = Some(self.aws_url.clone());
        config.launches_per_second = 1000;
        config.mode = Mode::Poll { platform_url: self.platform.base_url().parse().unwrap() };
        let credentials =
            aws_credential_types::Credentials::new("AKIATEST", "secret", None, None, "test");
        Launcher::start(config, SharedCredentialsProvider::new(credentials)).await.unwrap()
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        self.operator.raw(http::Method::POST, path, Some(body)).await.unwrap()
    }

    /// A session whose agent wants one call.
    async fn session(&self) -> SessionId {
        let tools = json!([{ "type": "agent_toolset_20260401" }]);
        let agent = json!({ "name": "poll", "model": "scripted", "tools": tools });
        let agent = self.post("/v1/agents", agent).await;
        let session = json!({ "agent": agent["id"], "environment_id": self.environment });
        let session = self.post("/v1/sessions", session).await;
        let session = SessionId::new(session["id"].as_str().unwrap()).unwrap();
        self.message(&session).await;
        session
    }

    async fn message(&self, session: &SessionId) {
        let calls = json!({ "calls": [{ "tool": "bash", "input": { "command": "true" } }] });
        let text = json!([{ "type": "text", "text": calls.to_string() }]);
        let events = json!({ "events": [{ "type": "user.message", "content": text }] });
        self.post(&format!("/v1/sessions/{session}/events"), events).await;
    }

    /// What the `n`-th VM was told, once it is launched.
    async fn told(&self, n: usize) -> Told {
        let search = async {
            loop {
                if let Some(run) = self.aws.world().runs.get(n) {
                    return run["runHookPayload"].as_str().unwrap().to_owned();
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let payload = tokio::time::timeout(PATIENCE, search).await.expect("a VM is launched");
        assert!(!payload.contains(self.key.expose()), "the environment key stays on the host");
        let told: Value = serde_json::from_str(&payload).unwrap();
        let text = |name: &str| told["session"][name].as_str().unwrap().to_owned();
        assert_eq!(told["session"].get("ENVIRONMENT_KEY_SECRET_ID"), None);
        let secret = WorkSecret::decode(&text("ANTHROPIC_WORK_SECRET")).unwrap();
        Told {
            session: SessionId::new(text("ANTHROPIC_SESSION_ID")).unwrap(),
            work: WorkId::new(text("ANTHROPIC_WORK_ID")).unwrap(),
            client: self.operator.with_credential(secret.sessions_token),
        }
    }

    /// Does what a worker begins with.
    async fn take(&self, told: &Told) {
        told.client.heartbeat(&self.environment, &told.work, NO_HEARTBEAT).await.unwrap();
    }

    /// Answers the one call, so that its turn ends.
    async fn answer(&self, told: &Told) {
        let history = told.client.events(&told.session, 100, None).await.unwrap();
        let call = history.data.iter().find(|event| event.kind() == "agent.tool_use").unwrap();
        let result = Event::tool_result(call.id().unwrap(), false, &[TextBlock("done".into())]);
        told.client.send_events(&told.session, &[result]).await.unwrap();
    }

    async fn stop(&self, told: &Told) {
        told.client.stop(&self.environment, &told.work, StopWork::Force).await.unwrap();
    }
}

async fn wait_for(
    events: &mut broadcast::Receiver<launcher::LauncherEvent>,
    wanted: impl Fn(&LauncherEventKind) -> bool,
) {
    let search = async { while !wanted(&events.recv().await.unwrap().kind) {} };
    tokio::time::timeout(PATIENCE, search).await.expect("it happens");
}

#[tokio::test]
async fn fifty_sessions_that_wait_get_a_vm_and_their_own_item_each() {
    let bench = Bench::new().await;
    let mut waiting = BTreeSet::new();
    for _ in 0..50 {
        waiting.insert(bench.session().await);
    }
    let launcher = bench.launcher().await;
    let mut events = launcher.events();
    let mut served = BTreeSet::new();
    for n in 0..50 {
        let told = bench.told(n).await;
        bench.take(&told).await;
        assert!(served.insert(told.session.clone()), "{} has two VMs", told.session);
    }
    assert_eq!(served, waiting);
    let mut taken = 0;
    while taken < 50 {
        wait_for(&mut events, |kind| matches!(kind, LauncherEventKind::ItemTaken { .. })).await;
        taken += 1;
    }
    assert_eq!(bench.aws.world().vms.len(), 50);
    launcher.shut_down().await;
}

#[tokio::test]
async fn an_item_whose_vm_ended_too_early_is_given_to_another_one() {
    let bench = Bench::new().await;
    bench.session().await;
    let launcher = bench.launcher().await;
    let first = bench.told(0).await;
    bench.aws.set_state("microvm-1", "TERMINATED");
    let second = bench.told(1).await;
    assert_eq!((&first.session, &first.work), (&second.session, &second.work));
    bench.take(&second).await;
    launcher.shut_down().await;
}

#[tokio::test]
async fn an_item_that_no_vm_could_be_had_for_survives_the_launcher() {
    let bench = Bench::new().await;
    let session = bench.session().await;
    bench.aws.world().run_mode = RunMode::Deny;
    let launcher = bench.launcher().await;
    let refused = bench.told(0).await;
    launcher.shut_down().await;
    assert!(bench.aws.world().vms.is_empty());
    bench.aws.world().run_mode = RunMode::Launch;
    let refusals = bench.aws.world().runs.len();
    let launcher = bench.launcher().await;
    let told = bench.told(refusals).await;
    assert_eq!((&told.session, &told.work), (&session, &refused.work));
    bench.take(&told).await;
    launcher.shut_down().await;
}

#[tokio::test]
async fn a_later_item_of_a_session_comes_with_a_vm_of_its_own_and_ends_the_one_before() {
    let bench = Bench::new().await;
    let session = bench.session().await;
    let launcher = bench.launcher().await;
    let mut events = launcher.events();
    let first = bench.told(0).await;
    bench.take(&first).await;
    wait_for(&mut events, |kind| matches!(kind, LauncherEventKind::ItemTaken { .. })).await;
    bench.answer(&first).await;
    bench.stop(&first).await;
    bench.message(&session).await;
    let second = bench.told(1).await;
    assert_eq!(second.session, session);
    assert_ne!(second.work, first.work);
    bench.take(&second).await;
    let states: Vec<&str> = bench.aws.world().vms.iter().map(|(_, state)| *state).collect();
    assert_eq!(states, ["TERMINATED", "RUNNING"]);
    launcher.shut_down().await;
}

#[tokio::test]
async fn a_key_that_comes_late_is_waited_for() {
    let bench = Bench::new().await;
    bench.session().await;
    let key = bench.aws.world().environment_key.take();
    let launcher = bench.launcher().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(bench.aws.world().runs.is_empty());
    bench.aws.world().environment_key = key;
    let told = bench.told(0).await;
    bench.take(&told).await;
    launcher.shut_down().await;
}
