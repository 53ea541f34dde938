//! `SuspendMicrovm`, `ResumeMicrovm`, `TerminateMicrovm`: each asks for a state, is answered as soon
//! as that is recorded, and of a MicroVM that is in it already, 200 too.

use super::{error::from_control, identifier::authorized_microvm, shapes::OF_MICROVM};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
};
use http::Method;
use serde::Deserialize;
use serde_json::json;

pub(super) static SUSPEND: Operation = Operation {
    name: "SuspendMicrovm",
    route: Some((Method::POST, "/2025-09-09/microvms/{microvmIdentifier}/suspend")),
    input: &OF_MICROVM,
    run: |call| Box::pin(change(call, Change::Suspend)),
};

pub(super) static RESUME: Operation = Operation {
    name: "ResumeMicrovm",
    route: Some((Method::POST, "/2025-09-09/microvms/{microvmIdentifier}/resume")),
    input: &OF_MICROVM,
    run: |call| Box::pin(change(call, Change::Resume)),
};

pub(super) static TERMINATE: Operation = Operation {
    name: "TerminateMicrovm",
    route: Some((Method::DELETE, "/2025-09-09/microvms/{microvmIdentifier}")),
    input: &OF_MICROVM,
    run: |call| Box::pin(change(call, Change::Terminate)),
};

#[derive(Clone, Copy)]
enum Change {
    Suspend,
    Resume,
    Terminate,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    microvm_identifier: String,
}

async fn change(call: Call, change: Change) -> Result<Reply, ApiError> {
    let Input { microvm_identifier } = call.input()?;
    let microvm = authorized_microvm(&call, &microvm_identifier).await?;
    let control = &call.state.control;
    match change {
        Change::Suspend => control.suspend_microvm(&microvm.id).await,
        Change::Resume => control.resume_microvm(&microvm.id).await,
        Change::Terminate => control.terminate_microvm(&microvm.id).await,
    }
    .map_err(from_control)?;
    Ok(Reply::ok(json!({})))
}
