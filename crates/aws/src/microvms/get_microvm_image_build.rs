//! `GetMicrovmImageBuild`.

use super::{
    describe,
    error::{from_control, not_found},
    identifier::{authorized_image, version},
    shapes::{IMAGE_IDENTIFIER, NON_BLANK},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use control::BuildId;
use http::Method;
use serde::Deserialize;

static INPUT: Shape = Shape::Structure(&[
    Member::label("imageIdentifier", &IMAGE_IDENTIFIER),
    Member::label("imageVersion", &NON_BLANK),
    Member::label("buildId", &NON_BLANK),
]);

pub(super) static OPERATION: Operation = Operation {
    name: "GetMicrovmImageBuild",
    route: Some((
        Method::GET,
        "/2025-09-09/microvm-images/{imageIdentifier}/versions/{imageVersion}/builds/{buildId}",
    )),
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    image_identifier: String,
    image_version: String,
    build_id: String,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let arn = authorized_image(&call, &input.image_identifier).await?;
    let version = version(&arn, &input.image_version)?;
    let id = BuildId::parse(&input.build_id)
        .map_err(|_| not_found(format!("MicroVM image build not found: {}", input.build_id)))?;
    let images = call.state.control.images();
    let build = images.build(&arn.name, version, &id).await.map_err(from_control)?;
    Ok(Reply::ok(describe::build(&build)))
}
