//! `GetMicrovm`.

use super::{describe, identifier::authorized_microvm, shapes::OF_MICROVM};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
};
use http::Method;
use serde::Deserialize;

pub(super) static OPERATION: Operation = Operation {
    name: "GetMicrovm",
    route: Some((Method::GET, "/2025-09-09/microvms/{microvmIdentifier}")),
    input: &OF_MICROVM,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    microvm_identifier: String,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let microvm = authorized_microvm(&call, &input.microvm_identifier).await?;
    Ok(Reply::ok(describe::microvm(&microvm)))
}
