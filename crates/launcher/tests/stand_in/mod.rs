//! A small HTTP server in the shape of AWS: it counts what the launcher asks of it and can be told
//! to refuse, to hang or to lose an answer. Signatures are not checked here; the real surface does.

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::Notify;

/// How RunMicrovm is answered.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum RunMode {
    #[default]
    Launch,
    /// 403 by IAM.
    Deny,
    /// Launches, then answers 500: the outcome is open.
    LaunchAndLoseTheAnswer,
    /// Launches and never answers.
    LaunchAndHang,
}

#[derive(Default)]
pub(crate) struct World {
    pub(crate) run_mode: RunMode,
    /// Bodies of all RunMicrovm calls.
    pub(crate) runs: Vec<Value>,
    /// State of each VM by id, in the order of launch.
    pub(crate) vms: Vec<(String, &'static str)>,
    /// VM of each client token, with its start, as AWS remembers them.
    tokens: HashMap<String, (String, u64)>,
    pub(crate) resumes: usize,
    pub(crate) secret: Option<String>,
    /// Value of `warren/environment-key`.
    pub(crate) environment_key: Option<String>,
    pub(crate) secret_reads: usize,
}

#[derive(Clone, Default)]
pub(crate) struct StandIn {
    world: Arc<Mutex<World>>,
    /// Rung when a RunMicrovm has launched and hangs.
    pub(crate) hanging: Arc<Notify>,
}

impl StandIn {
    /// Serves on a free port of loopback and returns the base URL.
    pub(crate) async fn serve(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        url
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub(crate) fn set_state(&self, microvm_id: &str, state: &'static str) {
        for (id, known) in &mut self.world().vms {
            if id == microvm_id {
                *known = state;
            }
        }
    }

    #[allow(dead_code, reason = "one of the two tests that share this looks at the past")]
    /// Makes all launches so far look as if they had been asked for an hour ago.
    pub(crate) fn let_an_hour_pass(&self) {
        for (_, started_at) in self.world().tokens.values_mut() {
            *started_at -= 3600;
        }
    }
}

async fn answer(
    State(aws): State<StandIn>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    assert!(headers.contains_key("authorization"), "the SDK signs every request");
    let target = headers.get("x-amz-target").map(|value| value.to_str().unwrap().to_owned());
    let path: Vec<&str> = uri.path().trim_matches('/').split('/').collect();
    match (method.as_str(), path.as_slice(), target.as_deref()) {
        ("POST", [""], Some("secretsmanager.GetSecretValue")) => {
            let body: Value = serde_json::from_slice(&body).unwrap();
            get_secret_value(&aws, body["SecretId"].as_str().unwrap())
        }
        ("POST", ["2025-09-09", "microvms"], None) => {
            let body = serde_json::from_slice(&body).unwrap();
            let (response, mode) = run(&aws, body);
            if mode == RunMode::LaunchAndHang {
                aws.hanging.notify_one();
                std::future::pending::<()>().await;
            }
            response
        }
        ("GET", ["2025-09-09", "microvms", id], None) => get(&aws, id),
        ("POST", ["2025-09-09", "microvms", id, "resume"], None) => {
            aws.world().resumes += 1;
            aws.set_state(id, "RUNNING");
            Json(json!({})).into_response()
        }
        ("DELETE", ["2025-09-09", "microvms", id], None) => {
            aws.set_state(id, "TERMINATED");
            Json(json!({})).into_response()
        }
        other => panic!("the launcher asked for {other:?}"),
    }
}

fn get_secret_value(aws: &StandIn, id: &str) -> Response {
    let mut world = aws.world();
    let secret = if id == "warren/environment-key" {
        &world.environment_key
    } else {
        world.secret_reads += 1;
        &world.secret
    };
    match secret {
        Some(secret) => Json(json!({ "Name": "s", "SecretString": secret })).into_response(),
        None => (
            StatusCode::BAD_REQUEST,
            Json(json!({
                "__type": "ResourceNotFoundException",
                "Message": "Secrets Manager can't find the specified secret.",
            })),
        )
            .into_response(),
    }
}

fn run(aws: &StandIn, body: Value) -> (Response, RunMode) {
    let mut world = aws.world();
    let mode = world.run_mode;
    let token = body["clientToken"].as_str().unwrap().to_owned();
    world.runs.push(body);
    if mode == RunMode::Deny {
        let message = "User: warren-launcher is not authorized to perform: lambda:RunMicrovm";
        return (error(StatusCode::FORBIDDEN, "AccessDeniedException", message), mode);
    }
    let (id, started_at) = match world.tokens.get(&token) {
        Some(known) => known.clone(),
        None => {
            let id = format!("microvm-{}", world.vms.len() + 1);
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            world.vms.push((id.clone(), "RUNNING"));
            world.tokens.insert(token, (id.clone(), now));
            (id, now)
        }
    };
    if mode == RunMode::LaunchAndLoseTheAnswer {
        let lost = error(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerException", "lost");
        return (lost, mode);
    }
    // A repeated token gets the first answer, whatever became of the VM.
    (Json(vm(&id, "PENDING", started_at)).into_response(), mode)
}

fn get(aws: &StandIn, id: &str) -> Response {
    let world = aws.world();
    match world.vms.iter().find(|(known, _)| known == id) {
        Some((id, state)) => Json(vm(id, state, 1)).into_response(),
        None => error(
            StatusCode::NOT_FOUND,
            "ResourceNotFoundException",
            &format!("MicroVM not found: {id}"),
        ),
    }
}

fn vm(id: &str, state: &str, started_at: u64) -> Value {
    json!({
        "microvmId": id, "state": state, "endpoint": "e.example", "imageArn": "arn", "imageVersion": "1.0",
        "maximumDurationInSeconds": 28800, "startedAt": started_at, "terminatedAt": null,
    })
}

fn error(status: StatusCode, code: &'static str, message: &str) -> Response {
    (status, [("x-amzn-errortype", code)], Json(json!({ "message": message }))).into_response()
}
