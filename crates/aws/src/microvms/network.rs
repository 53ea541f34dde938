//! Network connectors that a MicroVM or an image is to have (spec 2.3, 7).

use super::error::{from_control, not_found, validation};
use crate::{
    connectors,
    error::ApiError,
    iam::{Arn, Context},
    service::Call,
};
use control::{ComputeResource, ConnectorState, ControlError};

/// Prefix of a managed connector's resource.
const MANAGED: &str = "network-connector:aws-network-connector:";
const INGRESS: [&str; 4] = ["ALL_INGRESS", "HTTP_INGRESS", "SHELL_INGRESS", "NO_INGRESS"];
const EGRESS: [&str; 1] = ["INTERNET_EGRESS"];

/// Which way the traffic of a connector begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    Ingress,
    Egress,
}

/// ARN of the managed connector of this name.
pub(super) fn managed(call: &Call, name: &str) -> String {
    format!("arn:aws:lambda:{}:aws:{MANAGED}{name}", call.region())
}

/// The caller may use each of these.
///
/// # Errors
/// AccessDenied that names `lambda:PassNetworkConnector` and the connector.
pub(super) fn authorize(call: &Call, connectors: &[String]) -> Result<(), ApiError> {
    connectors.iter().try_for_each(|connector| {
        call.authorize_action("lambda:PassNetworkConnector", Some(connector), &Context::default())
    })
}

/// # Errors
/// 400 with AWS's text for what is not a connector; 404 for a connector that does not exist.
pub(super) async fn check(
    call: &Call,
    connectors: &[String],
    direction: Direction,
) -> Result<(), ApiError> {
    if direction == Direction::Egress && connectors.len() > 1 {
        return Err(validation("Only one egress network connector can be provided"));
    }
    for connector in connectors {
        let malformed = || validation("Malformed network connector ARN");
        let arn: Arn = connector.parse().map_err(|_| malformed())?;
        if arn.service != "lambda" || !arn.resource.starts_with("network-connector:") {
            return Err(malformed());
        }
        if arn.account == "aws" {
            check_managed(connector, &arn, direction)?;
        } else {
            check_own(call, connector, direction).await?;
        }
    }
    Ok(())
}

fn check_managed(connector: &str, arn: &Arn, direction: Direction) -> Result<(), ApiError> {
    let known: &[&str] = match direction {
        Direction::Ingress => &INGRESS,
        Direction::Egress => &EGRESS,
    };
    if arn.resource.strip_prefix(MANAGED).is_some_and(|name| known.contains(&name)) {
        return Ok(());
    }
    Err(validation(format!("Unrecognized managed network connector ARN: {connector}")))
}

/// A connector of a customer: there, ACTIVE, for MicroVMs, and for traffic that begins in them.
async fn check_own(call: &Call, arn: &str, direction: Direction) -> Result<(), ApiError> {
    let connector = match connectors::named_by_arn(call, arn).await {
        Ok(connector) => connector,
        Err(ControlError::ConnectorNotFound(_)) => {
            return Err(not_found(format!("Network connector not found for: {arn}")));
        }
        Err(error) => return Err(from_control(error)),
    };
    if direction == Direction::Ingress {
        return Err(validation(format!(
            "Network connector {arn} is of type VPC_EGRESS and cannot be used for ingress"
        )));
    }
    if connector.state != ConnectorState::Active {
        let state = connector.state.as_str();
        return Err(validation(format!("Network connector {arn} is {state}; it must be ACTIVE")));
    }
    let connectors = call.state.control.connectors();
    let latest = connectors.version(&connector, connector.latest_version).await;
    match latest.map_err(from_control)?.configuration.compute {
        ComputeResource::MicroVm => Ok(()),
        ComputeResource::WebFunction => Err(validation(format!(
            "Network connector {arn} is not associated with the compute resource type MicroVm"
        ))),
    }
}
