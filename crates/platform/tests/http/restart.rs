//! What a restart must not change: everything.

use std::sync::Arc;
use std::time::Duration;

use platform::{ManualClock, Platform, PlatformError, Timestamp};
use serde_json::json;

use crate::support::{Bench, Client, bash, config};

/// Starts the platform anew on the same data.
async fn restart(bench: Bench) -> Bench {
    let Bench { platform, dir, environment, agent, clock } = bench;
    platform.shutdown().await;
    let mut config = config(&dir);
    if let Some(clock) = &clock {
        config.clock = Arc::new(clock.clone());
    }
    let platform = Platform::start(config).await.unwrap();
    Bench { platform, dir, environment, agent, clock }
}

#[tokio::test]
async fn sessions_events_keys_and_calls_survive_a_restart() {
    let bench = Bench::start().await;
    let session = bench.session(Some(&bash(&["ls"]))).await;
    let item = bench.claim().await;
    let call = bench.awaited(&session).await.remove(0);
    let path = format!("/v1/sessions/{session}/events");
    let before = bench.operator().get(&path).await.ok();
    let secret = agents::WorkSecret::decode(item["secret"].as_str().unwrap()).unwrap();
    let (key, id) = (bench.platform.api_key().clone(), item["id"].as_str().unwrap());

    let bench = restart(bench).await;
    assert_eq!(*bench.platform.api_key(), key);
    assert_eq!(bench.operator().get(&path).await.ok(), before);
    let token = Client::new(&bench.platform.base_url(), secret.sessions_token.expose());
    let beat = bench.work(&format!("/{id}/heartbeat?expected_last_heartbeat=NO_HEARTBEAT"));
    assert_eq!(token.post(&beat, json!({})).await.ok()["state"], "active");
    bench.answer(&session, &call).await.ok();
    bench.ended(&session).await;
}

#[tokio::test]
async fn a_lease_runs_on_over_a_restart() {
    let bench = Bench::start_on_manual_clock(|_| {}).await;
    bench.session(Some(&bash(&["ls"]))).await;
    let item = bench.claim().await;
    let id = item["id"].as_str().unwrap();
    let beat = bench.beat(id, "NO_HEARTBEAT").await.ok();
    let bench = restart(bench).await;
    let beat = bench.beat(id, beat["last_heartbeat"].as_str().unwrap()).await.ok();
    bench.clock.as_ref().unwrap().advance(Duration::from_secs(301));
    let bench = restart(bench).await;
    let late = bench.beat(id, beat["last_heartbeat"].as_str().unwrap()).await;
    late.refused(412, "precondition_failed_error");
    assert_eq!(bench.claim().await["id"], item["id"]);
}

#[tokio::test]
async fn an_agent_that_was_thinking_goes_on_after_a_restart() {
    let bench = Bench::start_on_manual_clock(|config| config.think = Duration::from_secs(60)).await;
    let session = bench.session(Some("hello")).await;
    let bench = restart(bench).await;
    bench.clock.as_ref().unwrap().advance(Duration::from_secs(60));
    bench.ended(&session).await;
}

#[tokio::test]
async fn a_shutdown_ends_streams_and_polls() {
    let bench = Bench::start().await;
    let session = bench.session(None).await;
    let mut stream = bench.operator().stream(&session).await;
    let (worker, request) = (bench.worker(), bench.poll_as("host-1", "?block_ms=999"));
    let polling = tokio::spawn(async move { worker.send(request).await.ok() });
    while bench.operator().get(&bench.work("/stats")).await.ok()["workers_polling"] == 0 {
        tokio::task::yield_now().await;
    }
    bench.platform.shutdown().await;
    assert!(stream.next().await.is_none());
    assert!(polling.await.unwrap().is_null());
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let bench = Bench::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&dir);
    config.listen = bench.platform.local_addr();
    let error = Platform::start(config).await.unwrap_err();
    let address = bench.platform.local_addr();
    assert_eq!(error.to_string(), format!("the platform emulator cannot listen on {address}"));
    assert!(matches!(error, PlatformError::Listen { .. }));
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_one_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let config =
        platform::PlatformConfig::new(([127, 0, 0, 1], 0).into(), file.path().join("below"));
    let error = Platform::start(config).await.unwrap_err();
    assert!(matches!(error, PlatformError::DataDir { .. }), "{error}");
    assert!(error.to_string().contains("below"), "{error}");
}

#[test]
fn a_manual_clock_does_not_move_by_itself() {
    use platform::Clock as _;
    let clock = ManualClock::at(Timestamp::from_micros(7));
    assert_eq!(clock.now(), Timestamp::from_micros(7));
}
