//! `PutSecretValue`: a new version, which becomes the current one unless it says otherwise.

use super::{
    error::{from_control, parameter},
    secret_id::authorized_secret,
    shapes::{BINARY, SECRET_ID, STAGES, STRING, TOKEN},
    value::ValueInput,
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use control::PutSecret;
use serde::Deserialize;
use serde_json::json;

static INPUT: Shape = Shape::Structure(&[
    Member::required("SecretId", &SECRET_ID),
    Member::optional("ClientRequestToken", &TOKEN),
    Member::optional("SecretBinary", &BINARY),
    Member::optional("SecretString", &STRING),
    Member::optional("VersionStages", &STAGES),
    Member::unavailable("RotationToken"),
]);

pub(super) static OPERATION: Operation = Operation {
    name: "PutSecretValue",
    route: None,
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    secret_id: String,
    client_request_token: Option<String>,
    version_stages: Option<Vec<String>>,
    #[serde(flatten)]
    value: ValueInput,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    authorized_secret(&call, &input.secret_id).await?;
    let value = input
        .value
        .value()?
        .ok_or_else(|| parameter("You must provide either SecretString or SecretBinary."))?;
    let request = PutSecret {
        secret: input.secret_id,
        value,
        version_id: input.client_request_token,
        stages: input.version_stages.unwrap_or_default(),
    };
    let version = call.state.control.secrets().put(request).await.map_err(from_control)?;
    Ok(Reply::ok(json!({
        "ARN": version.arn,
        "Name": version.name.as_str(),
        "VersionId": version.version_id,
        "VersionStages": version.stages,
    })))
}
