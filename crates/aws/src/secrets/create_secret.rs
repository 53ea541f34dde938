//! `CreateSecret`.

use super::{
    error::from_control,
    secret_id::future_arn,
    shapes::{BINARY, DESCRIPTION, NAME, STRING, TAGS, TOKEN},
    value::ValueInput,
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use control::{CreateSecret, SecretName};
use serde::Deserialize;
use serde_json::json;

static INPUT: Shape = Shape::Structure(&[
    Member::required("Name", &NAME),
    Member::optional("ClientRequestToken", &TOKEN),
    Member::optional("Description", &DESCRIPTION),
    Member::unavailable("KmsKeyId"),
    Member::optional("SecretBinary", &BINARY),
    Member::optional("SecretString", &STRING),
    Member::optional("Tags", &TAGS),
    Member::unavailable("AddReplicaRegions"),
    Member::unavailable("ForceOverwriteReplicaSecret"),
    Member::unavailable("Type"),
    Member::unavailable("CrossAccountPrimaryARN"),
]);

pub(super) static OPERATION: Operation =
    Operation { name: "CreateSecret", route: None, input: &INPUT, run: |call| Box::pin(run(call)) };

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    name: String,
    client_request_token: Option<String>,
    description: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(flatten)]
    value: ValueInput,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    #[serde(default)]
    key: String,
    value: Option<String>,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let name = SecretName::parse(&input.name).map_err(|_| {
        ApiError::bad(
            "ValidationException",
            "Invalid name. Must be a valid name containing alphanumeric characters, or any of the \
             following: -/_+=.@!",
        )
    })?;
    call.authorize(&future_arn(&call, &name))?;
    let request = CreateSecret {
        name,
        description: input.description,
        value: input.value.value()?,
        version_id: input.client_request_token,
        tags: input.tags.into_iter().map(|tag| (tag.key, tag.value.unwrap_or_default())).collect(),
    };
    let has_value = request.value.is_some();
    let version = call.state.control.secrets().create(request).await.map_err(from_control)?;
    let mut reply = json!({ "ARN": version.arn, "Name": version.name.as_str() });
    if has_value && let Some(members) = reply.as_object_mut() {
        members.insert("VersionId".to_owned(), json!(version.version_id));
    }
    Ok(Reply::ok(reply))
}
