//! `TagResource`: adds to what is there; 204.

use super::{
    TAGS,
    error::{from_control, not_found},
    requested,
    resource::{absent, authorized},
    shapes::RESOURCE,
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use http::Method;
use serde::Deserialize;
use std::collections::BTreeMap;

static INPUT: Shape =
    Shape::Structure(&[Member::label("Resource", &RESOURCE), Member::required("Tags", &TAGS)]);

pub(super) static OPERATION: Operation = Operation {
    name: "TagResource",
    route: Some((Method::POST, "/2017-03-31/tags/{Resource}")),
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    resource: String,
    tags: BTreeMap<String, String>,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let Input { resource, tags } = call.input()?;
    let (what, _) = authorized(&call, &resource, &requested(&tags)).await?;
    match call.state.control.tags().add(&what, tags).await {
        Ok(true) => Ok(Reply::no_content()),
        Ok(false) => Err(not_found(absent(&resource))),
        Err(error) => Err(from_control(&error)),
    }
}
