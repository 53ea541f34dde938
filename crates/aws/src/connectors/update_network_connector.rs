//! `UpdateNetworkConnector`: the next version; it stays ACTIVE meanwhile.

use super::{
    configuration::{Configuration, required},
    describe,
    error::{from_control, invalid},
    identifier::authorized,
    operator_role,
    shapes::{CLIENT_TOKEN, CONFIGURATION, IDENTIFIER, OPERATOR_ROLE},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use control::{ClientToken, UpdateConnector};
use http::Method;
use serde::Deserialize;

static INPUT: Shape = Shape::Structure(&[
    Member::label("Identifier", &IDENTIFIER),
    Member::optional("Configuration", &CONFIGURATION),
    Member::optional("OperatorRole", &OPERATOR_ROLE),
    Member::optional("ClientToken", &CLIENT_TOKEN),
]);

pub(super) static OPERATION: Operation = Operation {
    name: "UpdateNetworkConnector",
    route: Some((Method::PUT, "/2026-04-04/network-connectors/{Identifier}")),
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    identifier: String,
    configuration: Option<Configuration>,
    operator_role: Option<String>,
    client_token: Option<String>,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let named = authorized(&call, &input.identifier).await?;
    if named.version.is_some() {
        return Err(invalid("A version of a network connector cannot be updated."));
    }
    let client_token = input.client_token.ok_or_else(|| required("ClientToken"))?;
    let client_token = ClientToken::parse(&client_token).map_err(|e| invalid(e.to_string()))?;
    let operator_role = input.operator_role.map(|role| operator_role::check(&call, &role));
    let request = UpdateConnector {
        id: named.connector.id,
        configuration: input.configuration.map(Configuration::vpc_egress).transpose()?,
        operator_role: operator_role.transpose()?,
        client_token,
    };
    let updated = call.state.control.connectors().update(request).await;
    let (connector, version) = updated.map_err(|error| from_control(error, &named.given))?;
    Ok(Reply::accepted(describe::updated(&call, &connector, &version)))
}
