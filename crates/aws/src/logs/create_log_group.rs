//! `CreateLogGroup`.

use super::{
    error::{from_control, parameter},
    group::authorized_group,
    shapes::GROUP,
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use serde::Deserialize;

static CLASS: Shape = Shape::Choice(&["STANDARD", "INFREQUENT_ACCESS", "DELIVERY", "ESSENTIALS"]);
static INPUT: Shape = Shape::Structure(&[
    Member::required("logGroupName", &GROUP),
    Member::unavailable("kmsKeyId"),
    Member::unavailable("tags"),
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
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let group = authorized_group(&call, &input.log_group_name, None)?;
    if input.log_group_class.is_some_and(|class| class != "STANDARD") {
        return Err(parameter("logGroupClass: only STANDARD is available in this Warren."));
    }
    call.state.control.logs().create_group(&group).await.map_err(from_control)?;
    Ok(Reply::empty())
}
