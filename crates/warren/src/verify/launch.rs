//! Launches a VM of the launcher's image as the launcher would, for a session that does not exist,
//! and ends it.

use super::LAUNCH;
use crate::{
    client::{Call, Client, ClientError, read_body},
    config::Settings,
    failure::with_causes,
    node::{EXECUTION_ROLE, role_arn},
    protocol::{Check, Status},
};
use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const PATH: &str = "/2025-09-09/microvms";
const SERVICE: &str = "lambda";
const RUNNING_SECONDS_MAX: u64 = 60;
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The VM ends by itself where this process is killed in between.
const LIFETIME_SECONDS: u32 = 120;

pub(super) async fn launch(client: &Client, settings: &Settings, status: &Status) -> Check {
    let began = Instant::now();
    let payload = json!({"version": "1", "session": {
        "ANTHROPIC_SESSION_ID": "sesn_warren_verify",
        "ANTHROPIC_ENVIRONMENT_ID": status.environment_id,
        "AWS_REGION": settings.region,
        "ENVIRONMENT_KEY_SECRET_ID": launcher::ENVIRONMENT_KEY_SECRET_ID_DEFAULT,
    }});
    let request = json!({
        "imageIdentifier": status.image,
        "executionRoleArn": role_arn(&settings.account, EXECUTION_ROLE),
        "maximumDurationInSeconds": LIFETIME_SECONDS,
        "runHookPayload": payload.to_string(),
    });
    let remedy = "see `warren logs` and what the service logs";
    let id = match call(client, Method::POST, PATH, Some(request)).await {
        Ok(vm) => text(&vm, "microvmId"),
        Err(e) => return Check::broken(LAUNCH, with_causes(&e), remedy),
    };
    let path = format!("{PATH}/{id}");
    let found = wait_running(client, &path).await;
    // Ended whatever was found; it would end by itself soon.
    let ended = call(client, Method::DELETE, &path, None).await;
    match (found, ended) {
        (Ok(()), Ok(_)) => {
            Check::ok(LAUNCH, format!("{id} ran after {} ms", began.elapsed().as_millis()))
        }
        (Ok(()), Err(e)) => {
            Check::warn(LAUNCH, format!("{id} does not end: {}", with_causes(&e)), remedy)
        }
        (Err(reason), _) => Check::broken(LAUNCH, format!("{id} {reason}"), remedy),
    }
}

async fn wait_running(client: &Client, path: &str) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(RUNNING_SECONDS_MAX);
    loop {
        let vm = call(client, Method::GET, path, None).await.map_err(|e| with_causes(&e))?;
        match text(&vm, "state").as_str() {
            "RUNNING" => return Ok(()),
            "PENDING" if Instant::now() < deadline => tokio::time::sleep(LOOK_EVERY).await,
            "PENDING" => return Err(format!("is still PENDING after {RUNNING_SECONDS_MAX} s")),
            state => return Err(format!("became {state}: {}", text(&vm, "stateReason"))),
        }
    }
}

fn text(value: &Value, member: &str) -> String {
    value.get(member).and_then(Value::as_str).unwrap_or_default().to_owned()
}

async fn call(
    client: &Client,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Result<Value, ClientError> {
    let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
    let headers = [("content-type", "application/json")];
    let call = Call { service: SERVICE, method, path, headers: &headers, body };
    let answer = read_body(path, client.send(call).await?).await?;
    if answer.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&answer)
        .map_err(|e| ClientError::BadAnswer { path: path.to_owned(), reason: e.to_string() })
}
