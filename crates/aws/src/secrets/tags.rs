//! `TagResource` and `UntagResource`.

use super::{
    error::from_control,
    secret_id::authorized_secret,
    shapes::{SECRET_ID, TAG_KEY, TAGS},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape, UNLIMITED},
};
use serde::Deserialize;

static TAG_INPUT: Shape =
    Shape::Structure(&[Member::required("SecretId", &SECRET_ID), Member::required("Tags", &TAGS)]);
static KEYS: Shape = Shape::List { min: 0, max: UNLIMITED, of: &TAG_KEY };
static UNTAG_INPUT: Shape = Shape::Structure(&[
    Member::required("SecretId", &SECRET_ID),
    Member::required("TagKeys", &KEYS),
]);

pub(super) static TAG: Operation = Operation {
    name: "TagResource",
    route: None,
    input: &TAG_INPUT,
    run: |call| Box::pin(run(call)),
};
pub(super) static UNTAG: Operation = Operation {
    name: "UntagResource",
    route: None,
    input: &UNTAG_INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    secret_id: String,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(default)]
    tag_keys: Vec<String>,
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
    let secret = authorized_secret(&call, &input.secret_id).await?;
    let mut tags = secret.tags;
    tags.retain(|key, _| !input.tag_keys.contains(key));
    tags.extend(input.tags.into_iter().map(|tag| (tag.key, tag.value.unwrap_or_default())));
    let secrets = call.state.control.secrets();
    secrets.describe_anew(&secret.arn, None, Some(&tags)).await.map_err(from_control)?;
    Ok(Reply::empty())
}
