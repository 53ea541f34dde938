//! `RestoreSecret`: takes back a deletion whose recovery window is open.

use super::{error::from_control, secret_id::authorized_secret, shapes::OF_SECRET};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
};
use serde::Deserialize;
use serde_json::json;

pub(super) static OPERATION: Operation = Operation {
    name: "RestoreSecret",
    route: None,
    input: &OF_SECRET,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    secret_id: String,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let secret = authorized_secret(&call, &input.secret_id).await?;
    let secret = call.state.control.secrets().restore(&secret.arn).await.map_err(from_control)?;
    Ok(Reply::ok(json!({ "ARN": secret.arn, "Name": secret.name.as_str() })))
}
