//! `ListTags`.

use super::{resource::authorized, shapes::RESOURCE};
use crate::{
    error::ApiError,
    iam::Context,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use http::Method;
use serde::Deserialize;
use serde_json::json;

static INPUT: Shape = Shape::Structure(&[Member::label("Resource", &RESOURCE)]);

pub(super) static OPERATION: Operation = Operation {
    name: "ListTags",
    route: Some((Method::GET, "/2017-03-31/tags/{Resource}")),
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    resource: String,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let Input { resource } = call.input()?;
    let (_, tags) = authorized(&call, &resource, &Context::default()).await?;
    Ok(Reply::ok(json!({ "Tags": tags })))
}
