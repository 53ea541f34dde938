//! Tags of log groups: `TagResource`, `UntagResource`, `ListTagsForResource`.

use super::{
    error::{from_control, parameter},
    group::arn,
};
use crate::{
    error::ApiError,
    iam::Arn,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use control::LogGroup;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

static RESOURCE: Shape = Shape::matching(1, 1011, r"[\w+=/:,.@-]*");
static KEY: Shape = Shape::matching(1, 128, r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]+)$");
static VALUE: Shape = Shape::matching(0, 256, r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$");
pub(super) static TAGS: Shape = Shape::Map { min: 1, max: 50, key: &KEY, value: &VALUE };
static KEYS: Shape = Shape::List { min: 0, max: 50, of: &KEY };

static TAG_INPUT: Shape = Shape::Structure(&[
    Member::required("resourceArn", &RESOURCE),
    Member::required("tags", &TAGS),
]);
static UNTAG_INPUT: Shape = Shape::Structure(&[
    Member::required("resourceArn", &RESOURCE),
    Member::required("tagKeys", &KEYS),
]);
static LIST_INPUT: Shape = Shape::Structure(&[Member::required("resourceArn", &RESOURCE)]);

pub(super) static TAG: Operation = Operation {
    name: "TagResource",
    route: None,
    input: &TAG_INPUT,
    run: |call| Box::pin(tag(call)),
};
pub(super) static UNTAG: Operation = Operation {
    name: "UntagResource",
    route: None,
    input: &UNTAG_INPUT,
    run: |call| Box::pin(untag(call)),
};
pub(super) static LIST: Operation = Operation {
    name: "ListTagsForResource",
    route: None,
    input: &LIST_INPUT,
    run: |call| Box::pin(list(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    resource_arn: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    tag_keys: Vec<String>,
}

impl Input {
    /// The group, once the caller is known to have the operation's right on it.
    fn group(&self, call: &Call) -> Result<LogGroup, ApiError> {
        let text = &self.resource_arn;
        let name = text.parse::<Arn>().ok().filter(|arn| arn.service == "logs");
        let name = name.and_then(|arn| {
            let name = arn.resource.strip_prefix("log-group:")?;
            Some(name.strip_suffix(":*").unwrap_or(name).to_owned())
        });
        let group = name.and_then(|name| LogGroup::parse(&name).ok());
        let group = group.ok_or_else(|| {
            parameter(format!("resourceArn: {text} is not the ARN of a log group"))
        })?;
        call.authorize(&arn(call, group.as_str()))?;
        Ok(group)
    }
}

async fn tag(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let group = input.group(&call)?;
    call.state.control.logs().tag(&group, input.tags).await.map_err(from_control)?;
    Ok(Reply::empty())
}

async fn untag(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let group = input.group(&call)?;
    call.state.control.logs().untag(&group, &input.tag_keys).await.map_err(from_control)?;
    Ok(Reply::empty())
}

async fn list(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let group = input.group(&call)?;
    let tags = call.state.control.logs().tags(&group).await.map_err(from_control)?;
    Ok(Reply::ok(json!({ "tags": tags })))
}
