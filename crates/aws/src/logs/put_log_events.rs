//! `PutLogEvents`. Sequence tokens are taken and ignored, as AWS has done since 2023; so are
//! entities, which only AWS's own console shows.

use super::{
    error::{from_control, parameter},
    group::{authorized_group, stream},
    shapes::{GROUP, STREAM, TIMESTAMP, TOKEN},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape, UNLIMITED},
};
use control::{LogRecord, LogTarget, Timestamp};
use serde::Deserialize;
use serde_json::json;

/// Most bytes of a batch: messages in UTF-8, and this much more for each event.
const BATCH_BYTES_MAX: usize = 1_048_576;
const EVENT_OVERHEAD_BYTES: usize = 26;

static MESSAGE: Shape = Shape::text(1, UNLIMITED);
static EVENT: Shape = Shape::Structure(&[
    Member::required("timestamp", &TIMESTAMP),
    Member::required("message", &MESSAGE),
]);
static EVENTS: Shape = Shape::List { min: 1, max: 10_000, of: &EVENT };
static ENTITY_KEY: Shape = Shape::text(1, 32);
static ENTITY_VALUE: Shape = Shape::text(1, 512);
static KEY_ATTRIBUTES: Shape =
    Shape::Map { min: 2, max: 4, key: &ENTITY_KEY, value: &ENTITY_VALUE };
static ATTRIBUTE: Shape = Shape::text(1, 256);
static ATTRIBUTES: Shape = Shape::Map { min: 0, max: 10, key: &ATTRIBUTE, value: &ENTITY_VALUE };
static ENTITY: Shape = Shape::Structure(&[
    Member::optional("keyAttributes", &KEY_ATTRIBUTES),
    Member::optional("attributes", &ATTRIBUTES),
]);
static INPUT: Shape = Shape::Structure(&[
    Member::required("logGroupName", &GROUP),
    Member::required("logStreamName", &STREAM),
    Member::required("logEvents", &EVENTS),
    Member::optional("sequenceToken", &TOKEN),
    Member::optional("entity", &ENTITY),
]);

pub(super) static OPERATION: Operation =
    Operation { name: "PutLogEvents", route: None, input: &INPUT, run: |call| Box::pin(run(call)) };

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    log_group_name: String,
    log_stream_name: String,
    log_events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    timestamp: i64,
    message: String,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let group = authorized_group(&call, &input.log_group_name, Some(&input.log_stream_name))?;
    let target = LogTarget { group, stream: stream(&input.log_stream_name)? };
    let bytes: usize =
        input.log_events.iter().map(|event| event.message.len() + EVENT_OVERHEAD_BYTES).sum();
    if bytes > BATCH_BYTES_MAX {
        return Err(parameter(format!(
            "Upload too large: {bytes} bytes exceeds limit of {BATCH_BYTES_MAX}"
        )));
    }
    if !input.log_events.is_sorted_by_key(|event| event.timestamp) {
        return Err(parameter(
            "Log events in a single PutLogEvents request must be in chronological order.",
        ));
    }
    let records = input
        .log_events
        .into_iter()
        .map(|event| LogRecord { at: Timestamp::from_ms(event.timestamp), message: event.message })
        .collect();
    call.state.control.logs().put(&target, records).await.map_err(from_control)?;
    // SDKs before 2023 insist on a token.
    Ok(Reply::ok(json!({ "nextSequenceToken": "0" })))
}
