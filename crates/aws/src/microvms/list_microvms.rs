//! `ListMicrovms`: newest first, ended ones included.

use super::{
    describe,
    error::from_control,
    identifier::{BadArnText, image_arn, version_argument},
    paging::{self, Paging},
    shapes::{IMAGE_IDENTIFIER, MAX_RESULTS, TEXT},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use control::MicrovmFilter;
use http::Method;
use serde::Deserialize;

static INPUT: Shape = Shape::Structure(&[
    Member::query("maxResults", &MAX_RESULTS),
    Member::query("nextToken", &TEXT),
    Member::query("imageIdentifier", &IMAGE_IDENTIFIER),
    Member::query("imageVersion", &TEXT),
]);

pub(super) static OPERATION: Operation = Operation {
    name: "ListMicrovms",
    route: Some((Method::GET, "/2025-09-09/microvms")),
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    image_identifier: Option<String>,
    image_version: Option<String>,
    #[serde(flatten)]
    paging: Paging,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    call.authorize("*")?;
    let image = match &input.image_identifier {
        Some(identifier) => Some(image_arn(&call, identifier, BadArnText::Image).await?.name),
        None => None,
    };
    let version = input.image_version.as_deref().map(version_argument).transpose()?;
    let filter = MicrovmFilter { image, version };
    let page = call.state.control.list_microvms(filter, input.paging.request()).await;
    Ok(paging::reply(page.map_err(from_control)?, describe::microvm_item))
}
