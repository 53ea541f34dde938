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
static KMS_KEY: Shape = Shape::text(0, 256);
static TAG_KEY: Shape = Shape::matching(1, 128, r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]+)$");
static TAG_VALUE: Shape = Shape::matching(0, 256, r"^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$");
static TAGS: Shape = Shape::Map { min: 1, max: 50, key: &TAG_KEY, value: &TAG_VALUE };
static INPUT: Shape = Shape::Structure(&[
    Member::required("logGroupName", &GROUP),
    Member::optional("kmsKeyId", &KMS_KEY),
    Member::optional("tags", &TAGS),
    Member::optional("logGroupClass", &CLASS),
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
    kms_key_id: Option<String>,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let group = authorized_group(&call, &input.log_group_name, None)?;
    if input.kms_key_id.is_some() {
        return Err(parameter("kmsKeyId: this Warren has no KMS."));
    }
    call.state.control.logs().create_group(&group).await.map_err(from_control)?;
    Ok(Reply::empty())
}
