//! `UpdateMicrovmImageVersion`: whether new VMs may be run from a version.

use super::{
    describe,
    error::from_control,
    identifier::{authorized_image, version},
    shapes::{IMAGE_IDENTIFIER, NON_BLANK},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use control::VersionStatus;
use http::Method;
use serde::Deserialize;

static STATUS: Shape = Shape::Choice(&["ACTIVE", "INACTIVE"]);
static INPUT: Shape = Shape::Structure(&[
    Member::label("imageIdentifier", &IMAGE_IDENTIFIER),
    Member::label("imageVersion", &NON_BLANK),
    Member::required("status", &STATUS),
]);

pub(super) static OPERATION: Operation = Operation {
    name: "UpdateMicrovmImageVersion",
    route: Some((
        Method::PATCH,
        "/2025-09-09/microvm-images/{imageIdentifier}/versions/{imageVersion}",
    )),
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    image_identifier: String,
    image_version: String,
    status: StatusInput,
}

#[derive(Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum StatusInput {
    Active,
    Inactive,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let arn = authorized_image(&call, &input.image_identifier).await?;
    let version = version(&arn, &input.image_version)?;
    let status = match input.status {
        StatusInput::Active => VersionStatus::Active,
        StatusInput::Inactive => VersionStatus::Inactive,
    };
    let images = call.state.control.images();
    let version = images.set_status(&arn.name, version, status).await.map_err(from_control)?;
    Ok(Reply::ok(describe::version(&version)))
}
