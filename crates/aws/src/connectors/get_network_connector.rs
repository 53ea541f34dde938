//! `GetNetworkConnector`: the newest version, or the one that an ARN names.

use super::{
    describe::{self, Asked},
    error::from_control,
    identifier::authorized,
    shapes::IDENTIFIER,
};
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
    name: "GetNetworkConnector",
    route: Some((Method::GET, "/2026-04-04/network-connectors/{Identifier}")),
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
    let (number, asked) = match named.version {
        Some(version) => (version, Asked::Version),
        None => (named.connector.latest_version, Asked::Connector),
    };
    let version = call.state.control.connectors().version(&named.connector, number).await;
    let version = version.map_err(|error| from_control(error, &named.given))?;
    Ok(Reply::ok(describe::whole(&call, &named.connector, &version, asked)))
}
