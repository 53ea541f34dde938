//! `GetMicrovmImage`.

use super::{describe, error::from_control, identifier::authorized_image, shapes::OF_IMAGE};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
};
use http::Method;
use serde::Deserialize;

pub(super) static OPERATION: Operation = Operation {
    name: "GetMicrovmImage",
    route: Some((Method::GET, "/2025-09-09/microvm-images/{imageIdentifier}")),
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
    let image = call.state.control.images().get(&arn.name).await.map_err(from_control)?;
    Ok(Reply::ok(describe::image(&image)))
}
