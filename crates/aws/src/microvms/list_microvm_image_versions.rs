//! `ListMicrovmImageVersions`: newest first.

use super::{
    describe,
    error::from_control,
    identifier::authorized_image,
    paging::{self, Paging},
    shapes::{IMAGE_IDENTIFIER, MAX_RESULTS, TEXT},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use http::Method;
use serde::Deserialize;

static INPUT: Shape = Shape::Structure(&[
    Member::label("imageIdentifier", &IMAGE_IDENTIFIER),
    Member::query("maxResults", &MAX_RESULTS),
    Member::query("nextToken", &TEXT),
]);

pub(super) static OPERATION: Operation = Operation {
    name: "ListMicrovmImageVersions",
    route: Some((Method::GET, "/2025-09-09/microvm-images/{imageIdentifier}/versions")),
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    image_identifier: String,
    #[serde(flatten)]
    paging: Paging,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let arn = authorized_image(&call, &input.image_identifier).await?;
    let page = call.state.control.images().versions(&arn.name, input.paging.request()).await;
    Ok(paging::reply(page.map_err(from_control)?, describe::version))
}
