//! `ListMicrovmImageBuilds`: Warren makes one a version.

use super::{
    describe,
    error::from_control,
    identifier::{authorized_image, version},
    shapes::{ARCHITECTURE, IMAGE_IDENTIFIER, MAX_RESULTS, NON_BLANK, TEXT},
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

static CHIPSET: Shape = Shape::Choice(&["GRAVITON", "INTEL"]);
static INPUT: Shape = Shape::Structure(&[
    Member::label("imageIdentifier", &IMAGE_IDENTIFIER),
    Member::label("imageVersion", &NON_BLANK),
    Member::query("architecture", &ARCHITECTURE),
    Member::query("chipset", &CHIPSET),
    Member::query("chipsetGeneration", &NON_BLANK),
    Member::query("maxResults", &MAX_RESULTS),
    Member::query("nextToken", &TEXT),
]);

pub(super) static OPERATION: Operation = Operation {
    name: "ListMicrovmImageBuilds",
    route: Some((
        Method::GET,
        "/2025-09-09/microvm-images/{imageIdentifier}/versions/{imageVersion}/builds",
    )),
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    image_identifier: String,
    image_version: String,
    architecture: Option<String>,
    chipset: Option<String>,
    chipset_generation: Option<String>,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let arn = authorized_image(&call, &input.image_identifier).await?;
    let version = version(&arn, &input.image_version)?;
    let builds = call.state.control.images().builds(&arn.name, version).await;
    let wanted = [
        ("architecture", input.architecture),
        ("chipset", input.chipset),
        ("chipsetGeneration", input.chipset_generation),
    ];
    let items: Vec<Value> = builds
        .map_err(from_control)?
        .iter()
        .map(describe::build_item)
        .filter(|item| {
            wanted.iter().all(|(member, wanted)| {
                wanted.as_ref().is_none_or(|wanted| item.get(*member) == Some(&json!(wanted)))
            })
        })
        .map(Value::Object)
        .collect();
    Ok(Reply::ok(json!({ "items": items, "nextToken": null })))
}
