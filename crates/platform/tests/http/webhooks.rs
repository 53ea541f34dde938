//! Webhooks: who is told what, how often, and signed with which time.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agents::webhook::Keys;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use platform::{Clock as _, DeliveryState, OldSecret, Platform, SystemClock, Timestamp};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{Bench, PATIENCE, bash, config};

/// An attempt as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Arrived {
    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn kind(&self) -> String {
        self.json()["data"]["type"].as_str().unwrap().to_owned()
    }
}

/// A receiver that answers as it is told to, and keeps what arrives.
#[derive(Clone)]
pub(crate) struct Receiver {
    arrived: Arc<Mutex<Vec<Arrived>>>,
    answers: Arc<Mutex<Vec<StatusCode>>>,
    pub(crate) address: SocketAddr,
}

impl Receiver {
    /// The first attempts are answered with these, all others with 200.
    pub(crate) async fn start(answers: &[StatusCode]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut answers = answers.to_vec();
        answers.reverse();
        let receiver = Self {
            arrived: Arc::default(),
            answers: Arc::new(Mutex::new(answers)),
            address: listener.local_addr().unwrap(),
        };
        let app = Router::new().fallback(receive).with_state(receiver.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        receiver
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// How many attempts have arrived.
    pub(crate) fn count(&self) -> usize {
        self.arrived.lock().unwrap().len()
    }

    /// The ids of all that has arrived.
    pub(crate) fn ids(&self) -> std::collections::HashSet<String> {
        let arrived = self.arrived.lock().unwrap();
        arrived.iter().map(|arrived| arrived.header("webhook-id").to_owned()).collect()
    }

    /// Waits until so many attempts have arrived.
    pub(crate) async fn arrived(&self, count: usize) -> Vec<Arrived> {
        let wait = async {
            loop {
                let arrived = self.arrived.lock().unwrap().clone();
                if arrived.len() >= count {
                    return arrived;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the webhooks do not arrive")
    }
}

async fn receive(
    State(receiver): State<Receiver>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, [(&'static str, String); 1]) {
    receiver.arrived.lock().unwrap().push(Arrived { headers, body });
    let status = receiver.answers.lock().unwrap().pop().unwrap_or(StatusCode::OK);
    (status, [("location", receiver.url())])
}

/// Waits until the newest delivery stands there.
async fn settled(platform: &Platform, state: DeliveryState) -> platform::Delivery {
    let wait = async {
        loop {
            let log = platform.deliveries(1).await.unwrap();
            if let Some(delivery) = log.into_iter().next().filter(|found| found.state == state) {
                return delivery;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the delivery does not come this far")
}

#[tokio::test]
async fn a_turn_is_told_once_however_many_rounds_of_tools_it_has() {
    let bench = Bench::start().await;
    let receiver = Receiver::start(&[]).await;
    let types = ["session.status_run_started", "session.status_idled"];
    let endpoint = bench.platform.add_webhook_endpoint(&receiver.url(), &types).await.unwrap();
    let session = bench.session(Some(&bash(&["one", "two"]))).await;
    for round in 0..2 {
        let call = bench
            .until(&session, |events| {
                let calls = events.iter().filter(|event| event["type"] == "agent.tool_use");
                calls.map(|call| call["id"].as_str().unwrap().to_owned()).nth(round)
            })
            .await;
        bench.answer(&session, &call).await.ok();
    }
    bench.ended(&session).await;
    let arrived = receiver.arrived(2).await;
    let mut kinds: Vec<String> = arrived.iter().map(Arrived::kind).collect();
    kinds.sort();
    assert_eq!(kinds, ["session.status_idled", "session.status_run_started"]);
    let keys = Keys::parse(endpoint.secret.expose()).unwrap();
    for attempt in &arrived {
        let sent = attempt.json();
        let now = time::OffsetDateTime::now_utc();
        assert_eq!(keys.verify(&attempt.headers, &attempt.body, now), Ok(()));
        assert_eq!(sent["type"], "event");
        assert_eq!(sent["id"], attempt.header("webhook-id"));
        assert!(attempt.header("webhook-id").starts_with("whe_"));
        assert_eq!(sent["data"]["id"], session);
        assert!(sent["data"]["organization_id"].is_string());
        assert!(sent["data"]["workspace_id"].as_str().unwrap().starts_with("wrkspc_"));
    }
}

#[tokio::test]
async fn a_session_s_life_is_told_to_whom_it_may_concern_and_to_nobody_else() {
    let bench = Bench::start().await;
    let (all, none) = (Receiver::start(&[]).await, Receiver::start(&[]).await);
    let types = [
        "session.created",
        "session.status_run_started",
        "session.status_idled",
        "session.status_terminated",
        "session.archived",
        "session.deleted",
    ];
    bench.platform.add_webhook_endpoint(&all.url(), &types).await.unwrap();
    bench.platform.add_webhook_endpoint(&none.url(), &["agent.created"]).await.unwrap();
    let session = bench.session(Some("hello")).await;
    bench.ended(&session).await;
    let path = format!("/v1/sessions/{session}");
    bench.operator().post(&format!("{path}/archive"), json!({})).await.ok();
    bench.operator().delete(&path).await.ok();
    let mut kinds: Vec<String> = all.arrived(6).await.iter().map(Arrived::kind).collect();
    kinds.sort();
    let mut expected = types.map(str::to_owned);
    expected.sort();
    assert_eq!(kinds, expected);
    assert_eq!(none.arrived(0).await.len(), 0);
}

#[tokio::test]
async fn a_delivery_is_tried_three_times_each_signed_anew_and_then_dropped() {
    let bench = Bench::start_on_manual_clock(|_| {}).await;
    let clock = bench.clock.as_ref().unwrap();
    let receiver = Receiver::start(&[StatusCode::INTERNAL_SERVER_ERROR; 4]).await;
    let endpoint =
        bench.platform.add_webhook_endpoint(&receiver.url(), &["session.created"]).await.unwrap();
    bench.session(None).await;
    for attempts in 1..3 {
        receiver.arrived(attempts).await;
        let written = |log: &platform::Delivery| log.attempts.len() == attempts;
        while !written(&settled(&bench.platform, DeliveryState::Pending).await) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        clock.advance(Duration::from_secs(120));
    }
    let delivery = settled(&bench.platform, DeliveryState::Dropped).await;
    assert_eq!(delivery.attempts.len(), 3);
    assert!(delivery.attempts.iter().all(|attempt| attempt.status == Some(500)));
    let arrived = receiver.arrived(3).await;
    let keys = Keys::parse(endpoint.secret.expose()).unwrap();
    for (attempt, logged) in arrived.iter().zip(&delivery.attempts) {
        let at = logged.at.to_datetime();
        assert_eq!(attempt.header("webhook-timestamp"), at.unix_timestamp().to_string());
        assert_eq!(keys.verify(&attempt.headers, &attempt.body, at), Ok(()));
    }
    let ids: Vec<&str> = arrived.iter().map(|attempt| attempt.header("webhook-id")).collect();
    assert!(ids.iter().all(|id| *id == delivery.id.as_str()));
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_disables_the_endpoint_until_it_is_registered_again() {
    let bench = Bench::start().await;
    let receiver = Receiver::start(&[StatusCode::FOUND]).await;
    let types = ["session.created"];
    let endpoint = bench.platform.add_webhook_endpoint(&receiver.url(), &types).await.unwrap();
    bench.session(None).await;
    settled(&bench.platform, DeliveryState::Dropped).await;
    bench.session(None).await;
    assert_eq!(receiver.arrived(1).await.len(), 1);
    let again = bench
        .platform
        .add_webhook_endpoint_with_secret(&receiver.url(), &types, endpoint.secret.clone())
        .await
        .unwrap();
    assert_eq!(again.id, endpoint.id);
    bench.session(None).await;
    settled(&bench.platform, DeliveryState::Delivered).await;
}

#[tokio::test]
async fn a_delivery_that_was_on_its_way_goes_on_after_a_restart() {
    let bench = Bench::start().await;
    // Nobody listens there now.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://{address}/hook");
    bench.platform.add_webhook_endpoint(&url, &["session.created"]).await.unwrap();
    let session = bench.session(None).await;
    let pending = settled(&bench.platform, DeliveryState::Pending).await;
    let Bench { platform, dir, .. } = bench;
    platform.shutdown().await;
    let clock = platform::ManualClock::at(Timestamp::parse("2100-01-01T00:00:00Z").unwrap());
    let listener = TcpListener::bind(address).await.unwrap();
    let (sender, mut receiver) = tokio::sync::mpsc::channel(8);
    let app = Router::new().fallback(move |body: Bytes| async move {
        sender.send(body).await.unwrap();
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    let mut config = config(&dir);
    config.clock = Arc::new(clock);
    let platform = Platform::start(config).await.unwrap();
    let body = tokio::time::timeout(PATIENCE, receiver.recv()).await.unwrap().unwrap();
    let sent: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&sent["id"], &sent["data"]["id"]), (&json!(pending.id.as_str()), &json!(session)));
    settled(&platform, DeliveryState::Delivered).await;
    platform.shutdown().await;
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_one_is_refused_with_the_reason() {
    const URL: &str = "it must be an http:// or https:// URL with a host";
    let bench = Bench::start().await;
    for (url, types, reason) in [
        ("nowhere", &["session.created"][..], URL),
        ("ftp://host/x", &["session.created"], URL),
        ("http://host/x", &[], "it subscribes to no event type"),
    ] {
        let error = bench.platform.add_webhook_endpoint(url, types).await.unwrap_err();
        assert_eq!(error.to_string(), format!("{url} cannot be a webhook endpoint: {reason}"));
    }
    let secret = agents::Secret::new("short");
    let refused = bench
        .platform
        .add_webhook_endpoint_with_secret("http://host/x", &["session.created"], secret)
        .await;
    assert!(matches!(refused, Err(platform::PlatformError::Secret(_))));
}

#[tokio::test]
async fn an_endpoint_that_never_answers_holds_up_no_other() {
    let bench = Bench::start().await;
    // It takes connections into its backlog, and that is all.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", silent.local_addr().unwrap());
    let receiver = Receiver::start(&[]).await;
    for url in [url, receiver.url()] {
        bench.platform.add_webhook_endpoint(&url, &["session.created"]).await.unwrap();
    }
    for sessions in 1..=3 {
        bench.session(None).await;
        receiver.arrived(sessions).await;
    }
    let log = bench.platform.deliveries(10).await.unwrap();
    let pending = log.iter().filter(|delivery| delivery.state == DeliveryState::Pending);
    assert!(pending.count() >= 3);
}

#[tokio::test]
async fn an_endpoint_that_fails_for_long_is_disabled_until_it_is_enabled_again() {
    let bench = Bench::start_on_manual_clock(|config| {
        config.deliveries.failures_max = 4;
        config.deliveries.failing_max = Duration::from_secs(15);
    })
    .await;
    let clock = bench.clock.as_ref().unwrap();
    let receiver = Receiver::start(&[StatusCode::BAD_GATEWAY; 4]).await;
    let endpoint =
        bench.platform.add_webhook_endpoint(&receiver.url(), &["session.created"]).await.unwrap();
    // Three attempts of the first, one of the second.
    for attempts in [3, 4] {
        bench.session(None).await;
        let tried = async {
            while receiver.count() < attempts {
                clock.advance(Duration::from_secs(5));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, tried).await.expect("it is not tried");
    }
    let disabled = async {
        loop {
            let endpoints = bench.platform.webhook_endpoints().await.unwrap();
            if !endpoints[0].enabled {
                return endpoints[0].disabled_reason.clone().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let reason = tokio::time::timeout(PATIENCE, disabled).await.expect("it is never disabled");
    assert!(reason.contains("4 attempts in a row failed"), "{reason}");
    let before = receiver.arrived(4).await.len();
    bench.session(None).await;
    bench.platform.enable_webhook_endpoint(&endpoint.id).await.unwrap();
    bench.session(None).await;
    assert_eq!(
        receiver.arrived(before + 1).await.len(),
        before + 1,
        "what was missed stays missed"
    );
}

#[tokio::test]
async fn a_delivery_is_made_again_on_demand() {
    let bench = Bench::start().await;
    let receiver = Receiver::start(&[]).await;
    bench.platform.add_webhook_endpoint(&receiver.url(), &["session.created"]).await.unwrap();
    bench.session(None).await;
    let delivery = settled(&bench.platform, DeliveryState::Delivered).await;
    let path = format!("/_warren/v1/deliveries/{}/redeliver", delivery.id);
    assert_eq!(bench.operator().post(&path, json!({})).await.ok()["endpoints"], 1);
    let arrived = receiver.arrived(2).await;
    assert_eq!(arrived[0].body, arrived[1].body);
    let log = bench.operator().get("/_warren/v1/deliveries").await.ok();
    assert_eq!(log["data"][0]["id"], delivery.id.as_str());
    let operator = bench.operator();
    let missing = operator.post("/_warren/v1/deliveries/whe_none/redeliver", json!({}));
    missing.await.refused(404, "not_found_error");
}

#[tokio::test]
async fn a_rotated_secret_signs_at_once_and_the_old_one_as_long_as_it_is_kept() {
    let bench = Bench::start().await;
    let receiver = Receiver::start(&[]).await;
    let types = ["session.created"];
    let endpoint = bench.platform.add_webhook_endpoint(&receiver.url(), &types).await.unwrap();
    let good = |arrived: &Arrived, secret: &agents::Secret| {
        let keys = Keys::parse(secret.expose()).unwrap();
        let now = SystemClock.now().to_datetime();
        keys.verify(&arrived.headers, &arrived.body, now).is_ok()
    };
    let old = endpoint.secret;
    let new = bench.platform.rotate_webhook_secret(&endpoint.id, OldSecret::Keep).await.unwrap();
    bench.session(None).await;
    let first = receiver.arrived(1).await.remove(0);
    assert!(good(&first, &old) && good(&first, &new));
    let newest =
        bench.platform.rotate_webhook_secret(&endpoint.id, OldSecret::Revoke).await.unwrap();
    bench.session(None).await;
    let second = receiver.arrived(2).await.remove(1);
    assert!(good(&second, &newest) && !good(&second, &new) && !good(&second, &old));
}
