//! `GetMicrovmImageVersion`.

use super::{
    describe,
    error::from_control,
    identifier::{authorized_image, version},
    shapes::OF_VERSION,
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
};
use http::Method;
use serde::Deserialize;

pub(super) static OPERATION: Operation = Operation {
    name: "GetMicrovmImageVersion",
    route: Some((
        Method::GET,
        "/2025-09-09/microvm-images/{imageIdentifier}/versions/{imageVersion}",
    )),
    input: &OF_VERSION,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    image_identifier: String,
    image_version: String,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let arn = authorized_image(&call, &input.image_identifier).await?;
    let version = version(&arn, &input.image_version)?;
    let images = call.state.control.images();
    let version = images.version(&arn.name, version).await.map_err(from_control)?;
    Ok(Reply::ok(describe::version(&version)))
}
