//! `GetLogEvents`: one stream, in both directions.

use super::{
    error::from_control,
    group::{GroupInput, stream},
    shapes::{BOOLEAN, EVENTS_LIMIT, GROUP, GROUP_IDENTIFIER, STREAM, TIMESTAMP, TOKEN},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use control::{Direction, GetEvents, LogTarget, TimeSpan, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

/// Events of a page, where the caller sets no number.
const EVENTS_MAX: usize = 10_000;

static INPUT: Shape = Shape::Structure(&[
    Member::optional("logGroupName", &GROUP),
    Member::optional("logGroupIdentifier", &GROUP_IDENTIFIER),
    Member::required("logStreamName", &STREAM),
    Member::optional("startTime", &TIMESTAMP),
    Member::optional("endTime", &TIMESTAMP),
    Member::optional("nextToken", &TOKEN),
    Member::optional("limit", &EVENTS_LIMIT),
    Member::optional("startFromHead", &BOOLEAN),
    Member::optional("unmask", &BOOLEAN),
]);

pub(super) static OPERATION: Operation =
    Operation { name: "GetLogEvents", route: None, input: &INPUT, run: |call| Box::pin(run(call)) };

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    log_stream_name: String,
    start_time: Option<i64>,
    end_time: Option<i64>,
    next_token: Option<String>,
    limit: Option<usize>,
    start_from_head: Option<bool>,
    #[serde(flatten)]
    group: GroupInput,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let group = input.group.authorized(&call)?;
    let query = GetEvents {
        target: LogTarget { group, stream: stream(&input.log_stream_name)? },
        span: TimeSpan {
            from: input.start_time.map(Timestamp::from_ms),
            until: input.end_time.map(Timestamp::from_ms),
        },
        start: match input.start_from_head {
            Some(true) => Direction::Forward,
            Some(false) | None => Direction::Backward,
        },
        token: input.next_token,
        events_max: input.limit.unwrap_or(EVENTS_MAX),
    };
    let window = call.state.control.logs().get(query).await.map_err(from_control)?;
    let events: Vec<Value> = window
        .events
        .iter()
        .map(|event| {
            json!({
                "timestamp": event.at.ms(),
                "ingestionTime": event.ingested_at.ms(),
                "message": event.message,
            })
        })
        .collect();
    Ok(Reply::ok(json!({
        "events": events,
        "nextForwardToken": window.forward_token,
        "nextBackwardToken": window.backward_token,
    })))
}
