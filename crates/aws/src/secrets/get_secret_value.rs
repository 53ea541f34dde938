//! `GetSecretValue`.

use super::{
    error::from_control,
    secret_id::authorized_secret,
    shapes::{SECRET_ID, STAGE, VERSION_ID},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use control::{OpenedSecret, SecretSelector, SecretValue};
use serde::Deserialize;
use serde_json::{Value, json};

static INPUT: Shape = Shape::Structure(&[
    Member::required("SecretId", &SECRET_ID),
    Member::optional("VersionId", &VERSION_ID),
    Member::optional("VersionStage", &STAGE),
]);

pub(super) static OPERATION: Operation = Operation {
    name: "GetSecretValue",
    route: None,
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    secret_id: String,
    version_id: Option<String>,
    version_stage: Option<String>,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    // Rights first: nothing is opened for a caller who may not have it.
    authorized_secret(&call, &input.secret_id).await?;
    let which = SecretSelector { version_id: input.version_id, stage: input.version_stage };
    let secrets = call.state.control.secrets();
    let secret = secrets.get(&input.secret_id, which).await.map_err(from_control)?;
    Ok(Reply::ok(opened(secret)))
}

/// A version with its value.
pub(super) fn opened(secret: OpenedSecret) -> Value {
    let (member, value) = match secret.value {
        SecretValue::Text(text) => ("SecretString", text),
        SecretValue::Binary(bytes) => ("SecretBinary", BASE64_STANDARD.encode(bytes)),
    };
    json!({
        "ARN": secret.version.arn,
        "Name": secret.version.name.as_str(),
        "VersionId": secret.version.version_id,
        "VersionStages": secret.version.stages,
        "CreatedDate": secret.created_at.seconds(),
        member: value,
    })
}
