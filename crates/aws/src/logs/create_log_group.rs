//! `CreateLogGroup`.

use super::{
    error::{from_control, parameter},
    group::{arn, authorized_group},
    shapes::GROUP,
    tags::TAGS,
};
use crate::{
    error::ApiError,
    iam::Context,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use serde::Deserialize;
use std::collections::BTreeMap;

static CLASS: Shape = Shape::Choice(&["STANDARD", "INFREQUENT_ACCESS", "DELIVERY", "ESSENTIALS"]);
static INPUT: Shape = Shape::Structure(&[
    Member::required("logGroupName", &GROUP),
    Member::unavailable("kmsKeyId"),
    Member::optional("tags", &TAGS),
    Member::optional("logGroupClass", &CLASS),
    Member::unavailable("deletionProtectionEnabled"),
]);

pub(super) static OPERATION: Operation = Operation {
    name: "CreateLogGroup",
    route: None,
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    log_group_name: String,
    log_group_class: Option<String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let group = authorized_group(&call, &input.log_group_name, None)?;
    if input.log_group_class.is_some_and(|class| class != "STANDARD") {
        return Err(parameter("logGroupClass: only STANDARD is available in this Warren."));
    }
    if !input.tags.is_empty() {
        let resource = arn(&call, group.as_str());
        call.authorize_action("logs:TagResource", Some(&resource), &Context::default())?;
    }
    let logs = call.state.control.logs();
    logs.create_group(&group).await.map_err(from_control)?;
    if !input.tags.is_empty() {
        logs.tag(&group, input.tags).await.map_err(from_control)?;
    }
    Ok(Reply::empty())
}
