//! `PutRetentionPolicy` and `DeleteRetentionPolicy`.

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

/// What AWS takes, in days.
const DAYS: [u32; 22] = [
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922,
    3288, 3653,
];

static NUMBER: Shape = Shape::Integer { min: i64::MIN, max: i64::MAX };
static PUT_INPUT: Shape = Shape::Structure(&[
    Member::required("logGroupName", &GROUP),
    Member::required("retentionInDays", &NUMBER),
]);
static DELETE_INPUT: Shape = Shape::Structure(&[Member::required("logGroupName", &GROUP)]);

pub(super) static PUT: Operation = Operation {
    name: "PutRetentionPolicy",
    route: None,
    input: &PUT_INPUT,
    run: |call| Box::pin(run(call)),
};
pub(super) static DELETE: Operation = Operation {
    name: "DeleteRetentionPolicy",
    route: None,
    input: &DELETE_INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    log_group_name: String,
    /// None: DeleteRetentionPolicy, whose shape has no such member.
    retention_in_days: Option<i64>,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let group = authorized_group(&call, &input.log_group_name, None)?;
    let days = match input.retention_in_days {
        None => None,
        Some(days) => {
            let known = DAYS.into_iter().find(|known| i64::from(*known) == days);
            Some(known.ok_or_else(|| {
                parameter(format!("retentionInDays: {days} is not one of {DAYS:?}"))
            })?)
        }
    };
    call.state.control.logs().set_retention(&group, days).await.map_err(from_control)?;
    Ok(Reply::empty())
}
