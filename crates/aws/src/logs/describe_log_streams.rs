//! `DescribeLogStreams`.

use super::{
    error::{from_control, parameter},
    group::{GroupInput, arn},
    shapes::{BOOLEAN, DESCRIBE_LIMIT, GROUP, GROUP_IDENTIFIER, STREAM, TOKEN},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use control::{Direction, LogGroup, LogStreamInfo, PageRequest, StreamOrder, StreamQuery};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Streams of a page, where the caller sets no number.
const STREAMS_MAX: usize = 50;

static ORDER: Shape = Shape::Choice(&["LogStreamName", "LastEventTime"]);
static INPUT: Shape = Shape::Structure(&[
    Member::optional("logGroupName", &GROUP),
    Member::optional("logGroupIdentifier", &GROUP_IDENTIFIER),
    Member::optional("logStreamNamePrefix", &STREAM),
    Member::optional("orderBy", &ORDER),
    Member::optional("descending", &BOOLEAN),
    Member::optional("nextToken", &TOKEN),
    Member::optional("limit", &DESCRIBE_LIMIT),
]);

pub(super) static OPERATION: Operation = Operation {
    name: "DescribeLogStreams",
    route: None,
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    log_stream_name_prefix: Option<String>,
    order_by: Option<OrderInput>,
    descending: Option<bool>,
    next_token: Option<String>,
    limit: Option<usize>,
    #[serde(flatten)]
    group: GroupInput,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
enum OrderInput {
    LogStreamName,
    LastEventTime,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let group = input.group.authorized(&call)?;
    let order = match input.order_by {
        Some(OrderInput::LastEventTime) => StreamOrder::LastEvent,
        Some(OrderInput::LogStreamName) | None => StreamOrder::Name,
    };
    if order == StreamOrder::LastEvent && input.log_stream_name_prefix.is_some() {
        return Err(parameter("Cannot order by LastEventTime with a logStreamNamePrefix."));
    }
    let query = StreamQuery {
        prefix: input.log_stream_name_prefix,
        order,
        direction: match input.descending {
            Some(true) => Direction::Backward,
            Some(false) | None => Direction::Forward,
        },
    };
    let page =
        PageRequest { items_max: input.limit.unwrap_or(STREAMS_MAX), token: input.next_token };
    let page =
        call.state.control.logs().streams(&group, query, page).await.map_err(from_control)?;
    let streams: Vec<Value> = page.items.iter().map(|info| describe(&call, &group, info)).collect();
    let mut reply = json!({ "logStreams": streams });
    if let (Some(token), Some(members)) = (page.next_token, reply.as_object_mut()) {
        members.insert("nextToken".to_owned(), json!(token));
    }
    Ok(Reply::ok(reply))
}

fn describe(call: &Call, group: &LogGroup, info: &LogStreamInfo) -> Value {
    let stream = info.stream.as_str();
    let mut members: Map<String, Value> = [
        ("logStreamName", json!(stream)),
        ("creationTime", json!(info.created_at.ms())),
        ("arn", json!(format!("{}:log-stream:{stream}", arn(call, group.as_str())))),
        ("uploadSequenceToken", json!("0")),
        ("storedBytes", json!(0)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    let times = [
        ("firstEventTimestamp", info.first_event_at),
        ("lastEventTimestamp", info.last_event_at),
        ("lastIngestionTime", info.last_ingested_at),
    ];
    for (name, at) in times {
        if let Some(at) = at {
            members.insert(name.to_owned(), json!(at.ms()));
        }
    }
    Value::Object(members)
}
