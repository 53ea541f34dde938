//! What the platform and the operator may rely on when a webhook is delivered.

mod stand_in;

use agents::{EnvironmentId, webhook::Keys};
use axum::{Router, body::Body, http::Request};
use http_body_util::BodyExt;
use launcher::{
    Launcher, LauncherConfig, LauncherEventKind, SharedCredentialsProvider, WEBHOOK_PATH,
};
use serde_json::{Value, json};
use stand_in::{RunMode, StandIn};
use std::path::Path;
use time::OffsetDateTime;
use tower::ServiceExt;

const NEW: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLD: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

struct Bench {
    aws: StandIn,
    url: String,
    launcher: Launcher,
    data_dir: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let aws = StandIn::default();
        aws.world().secret = Some(NEW.into());
        let url = aws.serve().await;
        let data_dir = tempfile::tempdir().unwrap();
        let launcher = start(&url, data_dir.path()).await;
        Self { aws, url, launcher, data_dir }
    }

    async fn deliver(&self, event: &str, session: &str) -> (u16, Value) {
        post(self.launcher.router(), started(event, session, NEW, now())).await
    }

    fn tokens(&self) -> Vec<String> {
        let world = self.aws.world();
        world.runs.iter().map(|run| run["clientToken"].as_str().unwrap().to_owned()).collect()
    }
}

async fn start(url: &str, data_dir: &Path) -> Launcher {
    let environment = EnvironmentId::new("env_1").unwrap();
    let mut config = LauncherConfig::new(environment, "claude-worker", data_dir);
    config.endpoint_url = Some(url.to_owned());
    config.guest_platform_url = Some("http://10.0.0.1:7430".into());
    config.vm.execution_role_arn = Some("arn:aws:iam::000000000000:role/warren-execution".into());
    let credentials =
        aws_credential_types::Credentials::new("AKIATEST", "secret", None, None, "test");
    Launcher::start(config, SharedCredentialsProvider::new(credentials)).await.unwrap()
}

fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

fn started(event: &str, session: &str, secret: &str, at: OffsetDateTime) -> Request<Body> {
    signed(event, "session.status_run_started", session, secret, at)
}

fn signed(event: &str, kind: &str, id: &str, secret: &str, at: OffsetDateTime) -> Request<Body> {
    let body = json!({
        "type": "event", "id": event, "created_at": "2026-11-23T00:00:00Z",
        "data": { "type": kind, "id": id, "organization_id": "org_1", "workspace_id": "wrkspc_1" },
    });
    sealed(event, body.to_string(), secret, at)
}

fn sealed(id: &str, body: String, secret: &str, at: OffsetDateTime) -> Request<Body> {
    let signature = Keys::parse(secret).unwrap().sign(id, at, body.as_bytes());
    Request::post(WEBHOOK_PATH)
        .header("webhook-id", id)
        .header("webhook-timestamp", at.unix_timestamp())
        .header("webhook-signature", signature)
        .body(Body::from(body))
        .unwrap()
}

async fn post(router: Router, request: Request<Body>) -> (u16, Value) {
    let response = router.oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

#[tokio::test]
async fn a_started_run_launches_one_vm_with_the_sessions_payload() {
    let bench = Bench::new().await;
    let (status, body) = bench.deliver("whe_1", "sesn_1").await;
    assert_eq!(status, 200);
    assert_eq!(
        body,
        json!({"status": "launched", "session_id": "sesn_1", "microvm_id": "microvm-1"})
    );
    let run = bench.aws.world().runs[0].clone();
    assert_eq!(run["imageIdentifier"], "claude-worker");
    assert_eq!(run["maximumDurationInSeconds"], 28800);
    assert_eq!(run["executionRoleArn"], "arn:aws:iam::000000000000:role/warren-execution");
    assert_eq!(run.get("idlePolicy"), None, "an idle clock would freeze a worker in mid-turn");
    let payload: Value = serde_json::from_str(run["runHookPayload"].as_str().unwrap()).unwrap();
    assert_eq!(payload["session"]["ANTHROPIC_SESSION_ID"], "sesn_1");
    assert_eq!(payload["session"]["ANTHROPIC_BASE_URL"], "http://10.0.0.1:7430");
}

#[tokio::test]
async fn a_forged_or_changed_delivery_is_401_and_launches_nothing() {
    let bench = Bench::new().await;
    let (status, body) =
        post(bench.launcher.router(), started("whe_1", "sesn_1", OLD, now())).await;
    assert_eq!((status, &body["error"]), (401, &json!("signature_invalid")));
    assert_eq!(body["reason"], "no signature matches a known secret");
    let (parts, _) = started("whe_1", "sesn_1", NEW, now()).into_parts();
    let changed = Request::from_parts(parts, Body::from("{}"));
    assert_eq!(post(bench.launcher.router(), changed).await.0, 401);
    assert!(bench.aws.world().runs.is_empty());
}

#[tokio::test]
async fn a_stale_delivery_is_401_and_says_how_stale() {
    let bench = Bench::new().await;
    let at = now() - time::Duration::seconds(400);
    let (status, body) = post(bench.launcher.router(), started("whe_1", "sesn_1", NEW, at)).await;
    assert_eq!(status, 401);
    assert!(body["reason"].as_str().unwrap().starts_with("signed 40"), "{body}");
    assert!(bench.aws.world().runs.is_empty());
}

#[tokio::test]
async fn a_rotated_secret_is_good_at_once_and_the_old_one_as_long_as_it_is_stored() {
    let bench = Bench::new().await;
    assert_eq!(bench.deliver("whe_1", "sesn_1").await.0, 200);
    bench.aws.world().secret = Some(format!("{OLD}\n{NEW}"));
    let with_other = started("whe_2", "sesn_1", OLD, now());
    assert_eq!(post(bench.launcher.router(), with_other).await.0, 200);
    assert_eq!(bench.deliver("whe_3", "sesn_1").await.0, 200);
    assert_eq!(bench.aws.world().secret_reads, 2);
}

#[tokio::test]
async fn forgeries_do_not_drive_secrets_manager() {
    let bench = Bench::new().await;
    for _ in 0..20 {
        let forged = started("whe_1", "sesn_1", OLD, now());
        assert_eq!(post(bench.launcher.router(), forged).await.0, 401);
    }
    assert!(bench.aws.world().secret_reads <= 3, "{}", bench.aws.world().secret_reads);
}

#[tokio::test]
async fn a_missing_signing_secret_is_our_fault_and_not_the_senders() {
    let bench = Bench::new().await;
    bench.aws.world().secret = None;
    let (status, body) = bench.deliver("whe_1", "sesn_1").await;
    assert_eq!((status, &body["error"]), (500, &json!("signing_secret_unreadable")));
    let error = bench.launcher.check_signing_secret().await.unwrap_err();
    assert_eq!(
        error.hint(),
        "store the platform's secret: warren secret put warren/webhook-signing-secret"
    );
}

#[tokio::test]
async fn other_events_and_events_without_ids_are_ignored_with_200() {
    let bench = Bench::new().await;
    let others = [
        signed("whe_1", "session.status_idled", "sesn_1", NEW, now()),
        signed("whe_2", "session.status_run_started", "", NEW, now()),
        sealed("whe_3", r#"{"type":"event"}"#.into(), NEW, now()),
        sealed("whe_4", "no JSON".into(), NEW, now()),
    ];
    for request in others {
        let (status, body) = post(bench.launcher.router(), request).await;
        assert_eq!((status, &body["status"]), (200, &json!("ignored")), "{body}");
    }
    assert!(bench.aws.world().runs.is_empty());
}

#[tokio::test]
async fn fifty_deliveries_at_once_launch_one_vm() {
    let bench = Bench::new().await;
    let mut deliveries = tokio::task::JoinSet::new();
    for n in 0..50 {
        // Half of them the same event again, half events of their own.
        let event = if n % 2 == 0 { "whe_0".to_owned() } else { format!("whe_{n}") };
        let router = bench.launcher.router();
        deliveries.spawn(async move { post(router, started(&event, "sesn_1", NEW, now())).await });
    }
    for (status, body) in deliveries.join_all().await {
        assert_eq!((status, &body["microvm_id"]), (200, &json!("microvm-1")), "{body}");
    }
    assert_eq!(bench.aws.world().runs.len(), 1);
}

#[tokio::test]
async fn a_replayed_event_gets_its_answer_again_even_after_the_vm_ended() {
    let bench = Bench::new().await;
    bench.deliver("whe_1", "sesn_1").await;
    bench.aws.set_state("microvm-1", "TERMINATED");
    let (status, body) = bench.deliver("whe_1", "sesn_1").await;
    assert_eq!((status, &body["status"]), (200, &json!("replayed")));
    assert_eq!(body["microvm_id"], "microvm-1");
    assert_eq!(bench.aws.world().runs.len(), 1);
}

#[tokio::test]
async fn a_later_turn_finds_the_same_vm_and_wakes_it_if_it_sleeps() {
    let bench = Bench::new().await;
    bench.deliver("whe_1", "sesn_1").await;
    let (_, body) = bench.deliver("whe_2", "sesn_1").await;
    assert_eq!((&body["status"], &body["microvm_id"]), (&json!("found"), &json!("microvm-1")));
    bench.aws.set_state("microvm-1", "SUSPENDED");
    let (_, body) = bench.deliver("whe_3", "sesn_1").await;
    assert_eq!((&body["status"], &body["microvm_id"]), (&json!("found"), &json!("microvm-1")));
    let world = bench.aws.world();
    assert_eq!((world.resumes, world.runs.len()), (1, 1));
}

#[tokio::test]
async fn a_later_turn_after_the_vms_end_launches_another_one() {
    let bench = Bench::new().await;
    bench.deliver("whe_1", "sesn_1").await;
    bench.aws.set_state("microvm-1", "TERMINATED");
    let (_, body) = bench.deliver("whe_2", "sesn_1").await;
    assert_eq!((&body["status"], &body["microvm_id"]), (&json!("launched"), &json!("microvm-2")));
    bench.aws.world().vms.clear();
    let (_, body) = bench.deliver("whe_3", "sesn_1").await;
    assert_eq!(body["status"], "launched", "a VM that nobody remembers is gone too");
    let tokens = bench.tokens();
    assert_eq!(tokens.len(), 3);
    assert!(tokens[0] != tokens[1] && tokens[1] != tokens[2], "{tokens:?}");
}

#[tokio::test]
async fn an_iam_refusal_is_a_502_that_names_it_and_is_tried_anew() {
    let bench = Bench::new().await;
    let mut events = bench.launcher.events();
    bench.aws.world().run_mode = RunMode::Deny;
    let (status, body) = bench.deliver("whe_1", "sesn_1").await;
    assert_eq!(status, 502);
    assert_eq!(
        body,
        json!({"error": "run_microvm_failed", "session_id": "sesn_1", "reason": "AccessDeniedException"})
    );
    let refused = loop {
        match events.recv().await.unwrap().kind {
            LauncherEventKind::Refused { reason, .. } => break reason,
            _ => continue,
        }
    };
    assert!(refused.contains("is not authorized to perform: lambda:RunMicrovm"), "{refused}");
    bench.aws.world().run_mode = RunMode::Launch;
    assert_eq!(bench.deliver("whe_1", "sesn_1").await.0, 200, "the platform's next attempt");
    let tokens = bench.tokens();
    assert_ne!(tokens.first(), tokens.last(), "a refused token may be remembered with its request");
}

#[tokio::test]
async fn a_lost_answer_is_settled_by_the_same_request() {
    let bench = Bench::new().await;
    bench.aws.world().run_mode = RunMode::LaunchAndLoseTheAnswer;
    let (status, body) = bench.deliver("whe_1", "sesn_1").await;
    assert_eq!((status, &body["reason"]), (502, &json!("InternalServerException")));
    bench.aws.world().run_mode = RunMode::Launch;
    assert_eq!(bench.deliver("whe_1", "sesn_1").await.1["microvm_id"], "microvm-1");
    let runs = bench.aws.world().runs.clone();
    assert!(runs.iter().all(|run| *run == runs[0]), "{runs:?}");
    assert_eq!(bench.aws.world().vms.len(), 1);
}

#[tokio::test]
async fn a_crash_between_runmicrovm_and_its_row_does_not_double_the_vm() {
    let mut bench = Bench::new().await;
    bench.aws.world().run_mode = RunMode::LaunchAndHang;
    let (url, dir) = (bench.url.clone(), bench.data_dir.path().to_owned());
    // A process of its own, as far as one can have that here: its runtime is dropped in mid-call.
    let doomed = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.spawn(async move {
            let launcher = start(&url, &dir).await;
            post(launcher.router(), started("whe_1", "sesn_1", NEW, now())).await
        });
        runtime
    });
    let doomed = doomed.join().unwrap();
    bench.aws.hanging.notified().await;
    doomed.shutdown_background();

    bench.aws.world().run_mode = RunMode::Launch;
    bench.launcher = start(&bench.url, bench.data_dir.path()).await;
    assert_eq!(bench.deliver("whe_1", "sesn_1").await.1["microvm_id"], "microvm-1");
    assert_eq!(bench.aws.world().vms.len(), 1);
}

#[tokio::test]
async fn an_old_answer_to_a_token_is_not_taken_for_a_live_vm() {
    let bench = Bench::new().await;
    bench.deliver("whe_1", "sesn_1").await;
    bench.aws.let_an_hour_pass();
    bench.aws.set_state("microvm-1", "TERMINATED");
    // The database is lost, so the session's first token comes up again.
    let other = tempfile::tempdir().unwrap();
    let launcher = start(&bench.url, other.path()).await;
    let (status, body) = post(launcher.router(), started("whe_2", "sesn_1", NEW, now())).await;
    assert_eq!((status, &body["microvm_id"]), (200, &json!("microvm-2")));
}

#[tokio::test]
async fn a_launcher_that_shuts_down_says_503_and_finishes_what_it_began() {
    let bench = Bench::new().await;
    bench.deliver("whe_1", "sesn_1").await;
    bench.launcher.shut_down().await;
    let (status, body) = bench.deliver("whe_2", "sesn_2").await;
    assert_eq!((status, &body["error"]), (503, &json!("shutting_down")));
}

#[tokio::test]
async fn other_methods_get_405_and_large_bodies_413() {
    let bench = Bench::new().await;
    let get = Request::get(WEBHOOK_PATH).body(Body::empty()).unwrap();
    let response = bench.launcher.router().oneshot(get).await.unwrap();
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers()["allow"], "POST");
    let large = sealed("whe_1", " ".repeat(70_000), NEW, now());
    assert_eq!(post(bench.launcher.router(), large).await.0, 413);
}
