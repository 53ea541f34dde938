//! `DeleteLogGroup`: with its streams and events.

use super::{error::from_control, group::authorized_group, shapes::GROUP};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use serde::Deserialize;

static INPUT: Shape = Shape::Structure(&[Member::required("logGroupName", &GROUP)]);

pub(super) static OPERATION: Operation = Operation {
    name: "DeleteLogGroup",
    route: None,
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    log_group_name: String,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let group = authorized_group(&call, &input.log_group_name, None)?;
    call.state.control.logs().delete_group(&group).await.map_err(from_control)?;
    Ok(Reply::empty())
}
