//! `ResumeMicrovm`: of what runs already, 200 too.

use super::{error::from_control, identifier::authorized_microvm, shapes::OF_MICROVM};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
};
use http::Method;
use serde::Deserialize;
use serde_json::json;

pub(super) static OPERATION: Operation = Operation {
    name: "ResumeMicrovm",
    route: Some((Method::POST, "/2025-09-09/microvms/{microvmIdentifier}/resume")),
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
    call.state.control.resume_microvm(&microvm.id).await.map_err(from_control)?;
    Ok(Reply::ok(json!({})))
}
