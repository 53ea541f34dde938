//! `UntagResource`: keys that are not there are passed over; 204.

use super::{
    error::{from_control, not_found},
    resource::{absent, authorized},
    shapes::{KEYS, RESOURCE},
};
use crate::{
    error::ApiError,
    iam::Context,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use http::Method;
use serde::Deserialize;

static INPUT: Shape = Shape::Structure(&[
    Member::label("Resource", &RESOURCE),
    Member::required_query("TagKeys", "tagKeys", &KEYS),
]);

pub(super) static OPERATION: Operation = Operation {
    name: "UntagResource",
    route: Some((Method::DELETE, "/2017-03-31/tags/{Resource}")),
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    resource: String,
    tag_keys: Vec<String>,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let Input { resource, tag_keys } = call.input()?;
    let mut context = Context::default();
    context.set_all("aws:TagKeys", tag_keys.clone());
    let (what, _) = authorized(&call, &resource, &context).await?;
    match call.state.control.tags().remove(&what, &tag_keys).await {
        Ok(true) => Ok(Reply::no_content()),
        Ok(false) => Err(not_found(absent(&resource))),
        Err(error) => Err(from_control(&error)),
    }
}
