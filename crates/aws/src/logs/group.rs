//! Which log group a caller means, and whether it may have to do with it.

use super::error::parameter;
use crate::{error::ApiError, iam::Arn, service::Call};
use control::{LogGroup, LogStream};
use serde::Deserialize;

/// A group by name, or by name or ARN as identifier.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GroupInput {
    log_group_name: Option<String>,
    log_group_identifier: Option<String>,
}

impl GroupInput {
    /// The group, once the caller is known to have the operation's right on it.
    ///
    /// # Errors
    /// InvalidParameter where not exactly one is given; AccessDenied.
    pub(super) fn authorized(&self, call: &Call) -> Result<LogGroup, ApiError> {
        let name = match (&self.log_group_name, &self.log_group_identifier) {
            (Some(name), None) => name.clone(),
            (None, Some(identifier)) => match identifier.parse::<Arn>() {
                Ok(arn) => {
                    arn.resource.strip_prefix("log-group:").unwrap_or(&arn.resource).to_owned()
                }
                Err(_) => identifier.clone(),
            },
            (Some(_), Some(_)) | (None, None) => {
                return Err(parameter(
                    "Exactly one of logGroupName and logGroupIdentifier must be given.",
                ));
            }
        };
        authorized_group(call, &name, None)
    }
}

/// # Errors
/// InvalidParameter for what is no name; AccessDenied.
pub(super) fn authorized_group(
    call: &Call,
    name: &str,
    stream: Option<&str>,
) -> Result<LogGroup, ApiError> {
    let group = LogGroup::parse(name).map_err(|error| parameter(error.to_string()))?;
    call.authorize(&resource(call, group.as_str(), stream.unwrap_or_default()))?;
    Ok(group)
}

pub(super) fn stream(name: &str) -> Result<LogStream, ApiError> {
    LogStream::parse(name).map_err(|error| parameter(error.to_string()))
}

/// What rights are held against: AWS names the stream of a group, empty where none is meant.
pub(super) fn resource(call: &Call, group: &str, stream: &str) -> String {
    format!("{}:log-stream:{stream}", arn(call, group))
}

pub(super) fn arn(call: &Call, group: &str) -> String {
    format!("arn:aws:logs:{}:{}:log-group:{group}", call.region(), call.account())
}
