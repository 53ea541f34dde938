//! `DeleteMicrovmImageVersion`.

use super::{
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
use serde_json::json;

pub(super) static OPERATION: Operation = Operation {
    name: "DeleteMicrovmImageVersion",
    route: Some((
        Method::DELETE,
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
    call.state.control.images().delete_version(&arn.name, version).await.map_err(from_control)?;
    Ok(Reply::ok(json!({
        "imageIdentifier": arn.to_string(),
        "imageVersion": version.to_string(),
        "state": "DELETING",
    })))
}
