//! `DeleteMicrovmImage`: of an image that is gone already, 200 too.

use super::{error::from_control, identifier::authorized_image, shapes::OF_IMAGE};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
};
use http::Method;
use serde::Deserialize;
use serde_json::json;

pub(super) static OPERATION: Operation = Operation {
    name: "DeleteMicrovmImage",
    route: Some((Method::DELETE, "/2025-09-09/microvm-images/{imageIdentifier}")),
    input: &OF_IMAGE,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    image_identifier: String,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let arn = authorized_image(&call, &input.image_identifier).await?;
    call.state.control.images().delete(&arn.name).await.map_err(from_control)?;
    Ok(Reply::ok(json!({ "imageIdentifier": arn.to_string(), "state": "DELETING" })))
}
