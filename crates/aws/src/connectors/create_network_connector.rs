//! `CreateNetworkConnector`: answers PENDING; ACTIVE comes soon after.

use super::{
    configuration::{Configuration, required},
    describe,
    error::{arn_of, from_control, invalid},
    operator_role,
    shapes::{CLIENT_TOKEN, CONFIGURATION, NAME, OPERATOR_ROLE},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
    tags,
};
use control::{ClientToken, ConnectorName, CreateConnector};
use http::Method;
use serde::Deserialize;
use std::collections::BTreeMap;

static INPUT: Shape = Shape::Structure(&[
    Member::required("Name", &NAME),
    Member::required("Configuration", &CONFIGURATION),
    Member::optional("OperatorRole", &OPERATOR_ROLE),
    Member::optional("ClientToken", &CLIENT_TOKEN),
    Member::optional("Tags", &tags::TAGS),
]);

pub(super) static OPERATION: Operation = Operation {
    name: "CreateNetworkConnector",
    route: Some((Method::POST, "/2026-04-04/network-connectors")),
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    name: String,
    configuration: Configuration,
    operator_role: Option<String>,
    client_token: Option<String>,
    tags: Option<BTreeMap<String, String>>,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let given_tags = input.tags.unwrap_or_default();
    // Its id does not exist yet, so a policy can name no more than all connectors.
    call.authorize_with(&arn_of(&call, "*"), &tags::requested(&given_tags))?;
    let name = ConnectorName::parse(&input.name)
        .map_err(|_| invalid(format!("{} cannot be the name of a new connector", input.name)))?;
    let client_token = input.client_token.ok_or_else(|| required("ClientToken"))?;
    let client_token = ClientToken::parse(&client_token).map_err(|e| invalid(e.to_string()))?;
    let configuration = input.configuration.vpc_egress()?;
    let role = input.operator_role.ok_or_else(|| {
        invalid("NetworkConnectorOperatorRole is required for VPC_EGRESS connector type")
    })?;
    let operator_role = operator_role::check(&call, &role)?;
    let request =
        CreateConnector { name, configuration, operator_role, tags: given_tags, client_token };
    let created = call.state.control.connectors().create(request).await;
    let (connector, version) = created.map_err(|e| from_control(e, &input.name))?;
    Ok(Reply::accepted(describe::brief(&call, &connector, &version)))
}
