//! `DeleteNetworkConnector`: of one that is being deleted, 202 too. An ARN that names a version
//! removes that version alone.

use super::{describe, error::from_control, identifier::authorized, shapes::IDENTIFIER};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use http::Method;
use serde::Deserialize;

static INPUT: Shape = Shape::Structure(&[Member::label("Identifier", &IDENTIFIER)]);

pub(super) static OPERATION: Operation = Operation {
    name: "DeleteNetworkConnector",
    route: Some((Method::DELETE, "/2026-04-04/network-connectors/{Identifier}")),
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    identifier: String,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let Input { identifier } = call.input()?;
    let named = authorized(&call, &identifier).await?;
    let (connectors, id) = (call.state.control.connectors(), &named.connector.id);
    let deleted = match named.version {
        Some(version) => connectors.delete_version(id, version).await,
        None => connectors.delete(id).await,
    };
    let (connector, version) = deleted.map_err(|error| from_control(error, &named.given))?;
    Ok(Reply::accepted(describe::brief(&call, &connector, &version)))
}
