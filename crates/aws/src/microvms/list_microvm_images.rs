//! `ListMicrovmImages`.

use super::{
    describe,
    error::from_control,
    paging::{self, Paging},
    shapes::{MAX_RESULTS, NON_BLANK, TEXT},
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
    Member::query("maxResults", &MAX_RESULTS),
    Member::query("nextToken", &TEXT),
    Member::query("nameFilter", &NON_BLANK),
]);

pub(super) static OPERATION: Operation = Operation {
    name: "ListMicrovmImages",
    route: Some((Method::GET, "/2025-09-09/microvm-images")),
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    name_filter: Option<String>,
    #[serde(flatten)]
    paging: Paging,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    call.authorize("*")?;
    let images = call.state.control.images();
    let page = images.list(input.name_filter.as_deref(), input.paging.request()).await;
    Ok(paging::reply(page.map_err(from_control)?, describe::image_item))
}
