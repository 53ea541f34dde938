//! `DescribeSecret`: all but the value.

use super::{secret_id::authorized_secret, shapes::OF_SECRET};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
};
use control::Secret;
use serde::Deserialize;
use serde_json::{Map, Value, json};

pub(super) static OPERATION: Operation = Operation {
    name: "DescribeSecret",
    route: None,
    input: &OF_SECRET,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    secret_id: String,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let secret = authorized_secret(&call, &input.secret_id).await?;
    Ok(Reply::ok(describe(&secret, "VersionIdsToStages")))
}

/// A secret; lists and Describe call its versions differently. Unset members are absent.
pub(super) fn describe(secret: &Secret, versions_member: &str) -> Value {
    let versions: Map<String, Value> =
        secret.versions.iter().map(|(version, stages)| (version.clone(), json!(stages))).collect();
    let tags: Vec<Value> =
        secret.tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect();
    let mut members = Map::new();
    let mut set = |name: &str, value: Value| {
        members.insert(name.to_owned(), value);
    };
    set("ARN", json!(secret.arn));
    set("Name", json!(secret.name.as_str()));
    set("CreatedDate", json!(secret.created_at.seconds()));
    set("LastChangedDate", json!(secret.changed_at.seconds()));
    set("Tags", json!(tags));
    set(versions_member, Value::Object(versions));
    if let Some(description) = &secret.description {
        set("Description", json!(description));
    }
    if let Some(at) = secret.deletion_at {
        set("DeletedDate", json!(at.seconds()));
    }
    Value::Object(members)
}
