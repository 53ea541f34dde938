//! `logging` of a request: a union, of which the shape has seen to it that one member is set.

use super::error::bad_id;
use crate::error::ApiError;
use control::{LogGroup, LogStream, Logging};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LoggingInput {
    cloud_watch: Option<CloudWatchInput>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CloudWatchInput {
    log_group: Option<String>,
    log_stream: Option<String>,
}

/// # Errors
/// 400 for what cannot be the name of a group or stream.
pub(super) fn logging(input: Option<LoggingInput>) -> Result<Logging, ApiError> {
    let Some(LoggingInput { cloud_watch }) = input else { return Ok(Logging::Default) };
    let Some(CloudWatchInput { log_group, log_stream }) = cloud_watch else {
        return Ok(Logging::Disabled);
    };
    let group = log_group.as_deref().map(LogGroup::parse).transpose();
    let stream = log_stream.as_deref().map(LogStream::parse).transpose();
    Ok(Logging::CloudWatch {
        group: group.map_err(|error| bad_id(&error))?,
        stream: stream.map_err(|error| bad_id(&error))?,
    })
}
