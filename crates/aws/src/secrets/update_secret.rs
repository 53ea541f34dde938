//! `UpdateSecret`: a new description, a new current value, or both.

use super::{
    error::from_control,
    secret_id::authorized_secret,
    shapes::{BINARY, DESCRIPTION, SECRET_ID, STRING, TOKEN},
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
    Member::optional("Description", &DESCRIPTION),
    Member::unavailable("KmsKeyId"),
    Member::optional("SecretBinary", &BINARY),
    Member::optional("SecretString", &STRING),
    Member::unavailable("Type"),
]);

pub(super) static OPERATION: Operation =
    Operation { name: "UpdateSecret", route: None, input: &INPUT, run: |call| Box::pin(run(call)) };

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    secret_id: String,
    client_request_token: Option<String>,
    description: Option<String>,
    #[serde(flatten)]
    value: ValueInput,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let secret = authorized_secret(&call, &input.secret_id).await?;
    if let Some(description) = &input.description {
        let secrets = call.state.control.secrets();
        let described = secrets.describe_anew(&secret.arn, Some(description), None).await;
        described.map_err(from_control)?;
    }
    let mut reply = json!({ "ARN": secret.arn, "Name": secret.name.as_str() });
    if let Some(value) = input.value.value()? {
        let request = PutSecret {
            secret: secret.arn,
            value,
            version_id: input.client_request_token,
            stages: Vec::new(),
        };
        let version = call.state.control.secrets().put(request).await.map_err(from_control)?;
        if let Some(members) = reply.as_object_mut() {
            members.insert("VersionId".to_owned(), json!(version.version_id));
        }
    }
    Ok(Reply::ok(reply))
}
