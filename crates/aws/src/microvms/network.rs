//! Network connectors of a RunMicrovm request (spec 2.3, 7).

use super::error::{not_found, validation};
use crate::{error::ApiError, iam::Arn, service::Call};

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

/// # Errors
/// 400 with AWS's text for what is not a connector; 404 for a connector that does not exist.
pub(super) fn check(connectors: &[String], direction: Direction) -> Result<(), ApiError> {
    if direction == Direction::Egress && connectors.len() > 1 {
        return Err(validation("Only one egress network connector can be provided"));
    }
    for connector in connectors {
        let arn: Arn =
            connector.parse().map_err(|_| validation("Malformed network connector ARN"))?;
        if arn.service != "lambda" || !arn.resource.starts_with("network-connector:") {
            return Err(validation("Malformed network connector ARN"));
        }
        if arn.account != "aws" {
            return Err(not_found(format!("Network connector not found for: {connector}")));
        }
        let known: &[&str] = match direction {
            Direction::Ingress => &INGRESS,
            Direction::Egress => &EGRESS,
        };
        if !arn.resource.strip_prefix(MANAGED).is_some_and(|name| known.contains(&name)) {
            return Err(validation(format!(
                "Unrecognized managed network connector ARN: {connector}"
            )));
        }
    }
    Ok(())
}
