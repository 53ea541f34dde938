//! `ListManagedMicrovmImageVersions`: newest first.

use super::{
    describe,
    error::not_found,
    identifier::{BadArnText, image_arn},
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
use serde_json::{Value, json};

static INPUT: Shape = Shape::Structure(&[
    Member::label("imageIdentifier", &IMAGE_IDENTIFIER),
    Member::query("maxResults", &MAX_RESULTS),
    Member::query("nextToken", &TEXT),
]);

pub(super) static OPERATION: Operation = Operation {
    name: "ListManagedMicrovmImageVersions",
    route: Some((Method::GET, "/2025-09-09/managed-microvm-images/{imageIdentifier}/versions")),
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    image_identifier: String,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let Input { image_identifier } = call.input()?;
    let managed = call.state.control.images().managed();
    let image = managed.iter().find(|image| {
        image.arn.name.as_str() == image_identifier || image.arn.to_string() == image_identifier
    });
    let Some(image) = image else {
        let arn = image_arn(&call, &image_identifier, BadArnText::Image).await?;
        call.authorize(&arn.to_string())?;
        return Err(not_found(format!("MicroVMImage not found for MicroVMImageID: {arn}")));
    };
    call.authorize(&image.arn.to_string())?;
    let items: Vec<Value> = image
        .versions
        .iter()
        .map(|version| describe::managed_version(image, &image.arn, version))
        .collect();
    Ok(Reply::ok(json!({ "items": items, "nextToken": null })))
}
