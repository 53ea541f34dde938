//! The role that a connector's network interfaces are made with: given by a caller who may give it,
//! to a service that it trusts, with the rights that are needed. Tried when it is given.

use super::error::{arn_of, invalid};
use crate::{error::ApiError, service::Call};
use control::RoleArn;

/// What a connector does with its role.
const NEEDED: &str = "ec2:CreateNetworkInterface";

/// # Errors
/// 403 without PassRole; 400 for a role that cannot be assumed, or that may not do what is needed.
pub(super) fn check(call: &Call, text: &str) -> Result<RoleArn, ApiError> {
    let unassumable = || {
        invalid(
            "The service is unable to assume the provided NetworkConnectorOperatorRole. Please \
             verify the role exists and its trust policy lets lambda.amazonaws.com assume it.",
        )
    };
    let role = RoleArn::parse(text).map_err(|_| unassumable())?;
    call.authorize_to_pass(&role)?;
    // The connector has no id yet; its account is what a trust policy can name.
    let source = arn_of(call, "*");
    let authenticator = &call.state.authenticator;
    let exists = authenticator.role_exists(role.name()) && role.account() == call.account();
    if !exists || !authenticator.service_is_trusted(role.name(), "lambda.amazonaws.com", &source) {
        return Err(unassumable());
    }
    if !authenticator.role_may(role.name(), NEEDED, "*") {
        return Err(invalid(
            "Encountered unauthorized operation while calling EC2 due to invalid \
             ConnectorOperatorRole permissions",
        ));
    }
    Ok(role)
}
