//! `FilterLogEvents`: streams of a group, merged, oldest first; what `aws logs tail` asks for.

use super::{
    error::{from_control, parameter},
    group::{GroupInput, stream},
    pattern::Pattern,
    shapes::{BOOLEAN, EVENTS_LIMIT, GROUP, GROUP_IDENTIFIER, STREAM, STREAMS, TIMESTAMP, TOKEN},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use control::{FilterEvents, LogEvent, PageRequest, StreamChoice, TimeSpan, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

/// Events that are looked at for one page, where the caller sets no number.
const EVENTS_MAX: usize = 10_000;

static FILTER: Shape = Shape::text(0, 1024);
static INPUT: Shape = Shape::Structure(&[
    Member::optional("logGroupName", &GROUP),
    Member::optional("logGroupIdentifier", &GROUP_IDENTIFIER),
    Member::optional("logStreamNames", &STREAMS),
    Member::optional("logStreamNamePrefix", &STREAM),
    Member::optional("startTime", &TIMESTAMP),
    Member::optional("endTime", &TIMESTAMP),
    Member::optional("filterPattern", &FILTER),
    Member::optional("nextToken", &TOKEN),
    Member::optional("limit", &EVENTS_LIMIT),
    Member::unavailable("startFromHead"),
    Member::optional("interleaved", &BOOLEAN),
    Member::optional("unmask", &BOOLEAN),
]);

pub(super) static OPERATION: Operation = Operation {
    name: "FilterLogEvents",
    route: None,
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    log_stream_names: Option<Vec<String>>,
    log_stream_name_prefix: Option<String>,
    start_time: Option<i64>,
    end_time: Option<i64>,
    filter_pattern: Option<String>,
    next_token: Option<String>,
    limit: Option<usize>,
    #[serde(flatten)]
    group: GroupInput,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let group = input.group.authorized(&call)?;
    let pattern =
        Pattern::parse(input.filter_pattern.as_deref().unwrap_or_default()).map_err(parameter)?;
    let streams = match (input.log_stream_names, input.log_stream_name_prefix) {
        (Some(_), Some(_)) => {
            return Err(parameter(
                "logStreamNames and logStreamNamePrefix are mutually exclusive parameters.",
            ));
        }
        (Some(names), None) => {
            StreamChoice::Named(names.iter().map(|name| stream(name)).collect::<Result<_, _>>()?)
        }
        (None, Some(prefix)) => StreamChoice::Prefixed(prefix),
        (None, None) => StreamChoice::All,
    };
    let query = FilterEvents {
        group,
        streams,
        span: TimeSpan {
            from: input.start_time.map(Timestamp::from_ms),
            // The end counts in for this call alone of the two.
            until: input.end_time.map(|end| Timestamp::from_ms(end.saturating_add(1))),
        },
        page: PageRequest { items_max: input.limit.unwrap_or(EVENTS_MAX), token: input.next_token },
    };
    let page = call.state.control.logs().filter(query).await.map_err(from_control)?;
    // The pattern is applied to each page: one may be empty and have a next, as on AWS.
    let fitting = page.items.iter().filter(|event| pattern.fits(&event.message));
    let events: Vec<Value> = fitting.map(describe).collect();
    let mut reply = json!({ "events": events, "searchedLogStreams": [] });
    if let (Some(token), Some(members)) = (page.next_token, reply.as_object_mut()) {
        members.insert("nextToken".to_owned(), json!(token));
    }
    Ok(Reply::ok(reply))
}

fn describe(event: &LogEvent) -> Value {
    json!({
        "logStreamName": event.stream.as_str(),
        "timestamp": event.at.ms(),
        "ingestionTime": event.ingested_at.ms(),
        "message": event.message,
        // Digits only, in the order of writing, as AWS's are.
        "eventId": format!("{:056}", event.sequence),
    })
}
