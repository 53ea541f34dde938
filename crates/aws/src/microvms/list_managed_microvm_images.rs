//! `ListManagedMicrovmImages`: the base images that Warren provides.

use super::{
    describe,
    shapes::{MAX_RESULTS, TEXT},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use http::Method;
use serde_json::{Value, json};

static INPUT: Shape = Shape::Structure(&[
    Member::query("maxResults", &MAX_RESULTS),
    Member::query("nextToken", &TEXT),
]);

pub(super) static OPERATION: Operation = Operation {
    name: "ListManagedMicrovmImages",
    route: Some((Method::GET, "/2025-09-09/managed-microvm-images")),
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Reply, ApiError> {
    call.authorize("*")?;
    // A handful at most: always one page.
    let images = call.state.control.images().managed();
    let items: Vec<Value> = images.iter().map(describe::managed_image).collect();
    Ok(Reply::ok(json!({ "items": items, "nextToken": null })))
}
