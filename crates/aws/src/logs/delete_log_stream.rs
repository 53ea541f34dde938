//! `DeleteLogStream`: with its events.

use super::{
    error::from_control,
    group::{authorized_group, stream},
    shapes::{GROUP, STREAM},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use control::LogTarget;
use serde::Deserialize;

static INPUT: Shape = Shape::Structure(&[
    Member::required("logGroupName", &GROUP),
    Member::required("logStreamName", &STREAM),
]);

pub(super) static OPERATION: Operation = Operation {
    name: "DeleteLogStream",
    route: None,
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    log_group_name: String,
    log_stream_name: String,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let group = authorized_group(&call, &input.log_group_name, Some(&input.log_stream_name))?;
    let target = LogTarget { group, stream: stream(&input.log_stream_name)? };
    call.state.control.logs().delete_stream(&target).await.map_err(from_control)?;
    Ok(Reply::empty())
}
