//! Which connector a caller means, and whether it may have to do with it.

use super::error::{arn_of, from_control, not_found};
use crate::{
    error::ApiError,
    iam::{Arn, Context},
    service::Call,
    tags,
};
use control::{Connector, ConnectorId, ConnectorName, ConnectorRef, ControlError};

/// Prefix of a customer's connector in the resource of its ARN.
const RESOURCE: &str = "network-connector:";

/// A connector, or one version of it.
pub(super) struct Named {
    pub(super) connector: Connector,
    /// Where an ARN ends in `:<n>`.
    pub(super) version: Option<u32>,
    /// What the caller gave, as an ARN.
    pub(super) given: String,
}

/// The connector of an id, a name or an ARN, once the caller is known to have the operation's right
/// on it.
///
/// # Errors
/// 403, also for an ARN of another account or Region; 404.
pub(super) async fn authorized(call: &Call, identifier: &str) -> Result<Named, ApiError> {
    let given = arn_of(call, identifier);
    let Some((which, version)) = parse(call, identifier)? else {
        call.authorize_any()?;
        return Err(not_found(&given));
    };
    match call.state.control.connectors().get(&which).await {
        Ok(connector) => {
            let context = tags::of_resource(&connector.tags);
            call.authorize_with(&arn_of(call, connector.id.as_str()), &context)?;
            Ok(Named { connector, version, given })
        }
        Err(error) => {
            call.authorize_with(&given, &Context::default())?;
            Err(from_control(error, &given))
        }
    }
}

/// None: it cannot name a connector of this account.
fn parse(call: &Call, text: &str) -> Result<Option<(ConnectorRef, Option<u32>)>, ApiError> {
    if !text.starts_with("arn:") {
        let id = ConnectorId::parse(text).map(ConnectorRef::Id);
        let named = id.or_else(|_| ConnectorName::parse(text).map(ConnectorRef::Name));
        return Ok(named.ok().map(|which| (which, None)));
    }
    let Ok(arn) = text.parse::<Arn>() else { return Ok(None) };
    if arn.service != "lambda" {
        return Ok(None);
    }
    if arn.account != call.account() || arn.region != call.region() {
        return Err(call.access_denied(format!(
            "User: {} is not authorized to perform: lambda:{} on resource: {text}",
            call.principal.arn(),
            call.operation.name
        )));
    }
    let Some(rest) = arn.resource.strip_prefix(RESOURCE) else { return Ok(None) };
    let (id, version) = match rest.split_once(':') {
        Some((id, version)) => match version.parse::<u32>() {
            Ok(version) => (id, Some(version)),
            Err(_) => return Ok(None),
        },
        None => (rest, None),
    };
    let id = ConnectorId::parse(id).map(ConnectorRef::Id);
    let named = id.or_else(|_| ConnectorName::parse(rest).map(ConnectorRef::Name));
    Ok(named.ok().map(|which| (which, version)))
}

/// The customer's connector that an ARN names, for a MicroVM or an image that is to have it.
///
/// # Errors
/// What `control` says; [`ControlError::ConnectorNotFound`] too where the ARN names none.
pub(crate) async fn named_by_arn(call: &Call, arn: &str) -> Result<Connector, ControlError> {
    let absent = || ControlError::ConnectorNotFound(arn.to_owned());
    let Ok(Some((which, version))) = parse(call, arn) else { return Err(absent()) };
    let connectors = call.state.control.connectors();
    let connector = connectors.get(&which).await?;
    if let Some(version) = version {
        connectors.version(&connector, version).await?;
    }
    Ok(connector)
}
