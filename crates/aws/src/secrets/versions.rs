//! `UpdateSecretVersionStage` and `ListSecretVersionIds`.

use super::{
    error::from_control,
    secret_id::authorized_secret,
    shapes::{BOOLEAN, SECRET_ID, STAGE, VERSION_ID},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use serde::Deserialize;
use serde_json::{Value, json};

static MOVE_INPUT: Shape = Shape::Structure(&[
    Member::required("SecretId", &SECRET_ID),
    Member::required("VersionStage", &STAGE),
    Member::optional("RemoveFromVersionId", &VERSION_ID),
    Member::optional("MoveToVersionId", &VERSION_ID),
]);
static RESULTS: Shape = Shape::Integer { min: 1, max: 100 };
static TOKEN: Shape = Shape::text(1, 4096);
static LIST_INPUT: Shape = Shape::Structure(&[
    Member::required("SecretId", &SECRET_ID),
    Member::optional("MaxResults", &RESULTS),
    Member::optional("NextToken", &TOKEN),
    Member::optional("IncludeDeprecated", &BOOLEAN),
]);

pub(super) static MOVE: Operation = Operation {
    name: "UpdateSecretVersionStage",
    route: None,
    input: &MOVE_INPUT,
    run: |call| Box::pin(move_stage(call)),
};
pub(super) static LIST: Operation = Operation {
    name: "ListSecretVersionIds",
    route: None,
    input: &LIST_INPUT,
    run: |call| Box::pin(list(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MoveInput {
    secret_id: String,
    version_stage: String,
    remove_from_version_id: Option<String>,
    move_to_version_id: Option<String>,
}

async fn move_stage(call: Call) -> Result<Reply, ApiError> {
    let input: MoveInput = call.input()?;
    let secret = authorized_secret(&call, &input.secret_id).await?;
    let (from, to) = (input.remove_from_version_id, input.move_to_version_id);
    let secrets = call.state.control.secrets();
    let moved =
        secrets.move_stage(&secret.arn, &input.version_stage, from.as_deref(), to.as_deref()).await;
    moved.map_err(from_control)?;
    Ok(Reply::ok(json!({ "ARN": secret.arn, "Name": secret.name.as_str() })))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListInput {
    secret_id: String,
    max_results: Option<usize>,
    next_token: Option<String>,
    #[serde(default)]
    include_deprecated: bool,
}

async fn list(call: Call) -> Result<Reply, ApiError> {
    let input: ListInput = call.input()?;
    let secret = authorized_secret(&call, &input.secret_id).await?;
    let versions = call.state.control.secrets().versions(&secret.arn).await;
    let versions = versions.map_err(from_control)?;
    let mut shown = versions
        .iter()
        .filter(|(_, _, stages)| input.include_deprecated || !stages.is_empty())
        // A page begins after the version that the token names.
        .skip_while(|(id, _, _)| input.next_token.as_ref().is_some_and(|after| after != id))
        .skip(usize::from(input.next_token.is_some()));
    let page: Vec<_> = shown.by_ref().take(input.max_results.unwrap_or(100)).collect();
    let next = shown.next().and(page.last()).map(|(id, _, _)| id.clone());
    let page: Vec<Value> = page
        .iter()
        .map(|(id, created_at, stages)| {
            json!({"VersionId": id, "VersionStages": stages, "CreatedDate": created_at.seconds()})
        })
        .collect();
    let mut reply = json!({ "Versions": page, "ARN": secret.arn, "Name": secret.name.as_str() });
    if let (Some(next), Some(members)) = (next, reply.as_object_mut()) {
        members.insert("NextToken".to_owned(), json!(next));
    }
    Ok(Reply::ok(reply))
}
