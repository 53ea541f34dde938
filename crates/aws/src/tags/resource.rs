//! What an ARN names that can have tags, once the caller is known to have the operation's right on it.

use super::{error, of_resource};
use crate::{
    error::ApiError,
    iam::{Arn, Context},
    service::Call,
};
use control::{ConnectorId, ImageName, Tagged};
use std::collections::BTreeMap;

/// The resource and its tags.
///
/// # Errors
/// 403, also for an ARN of another account or Region; 404 for what is not there.
pub(super) async fn authorized(
    call: &Call,
    text: &str,
    request: &Context,
) -> Result<(Tagged, BTreeMap<String, String>), ApiError> {
    // The shape has seen to it that it is an ARN.
    let arn: Arn = text.parse().map_err(|_| error::not_found(absent(text)))?;
    if arn.account != call.account() || arn.region != call.region() {
        return Err(call.access_denied(format!(
            "User: {} is not authorized to perform: lambda:{} on resource: {text}",
            call.principal.arn(),
            call.operation.name
        )));
    }
    let what = match arn.resource.split_once(':') {
        Some(("microvm-image", name)) => ImageName::parse(name).ok().map(Tagged::Image),
        Some(("network-connector", id)) => ConnectorId::parse(id).ok().map(Tagged::Connector),
        Some(_) | None => None,
    };
    let tags = match &what {
        Some(what) => {
            let tags = call.state.control.tags().of(what).await;
            tags.map_err(|error| error::from_control(&error))?
        }
        None => None,
    };
    let mut context = request.clone();
    context.extend(&of_resource(tags.as_ref().unwrap_or(&BTreeMap::new())));
    call.authorize_with(text, &context)?;
    what.zip(tags).ok_or_else(|| error::not_found(absent(text)))
}

pub(super) fn absent(arn: &str) -> String {
    format!("Resource not found: {arn}")
}
