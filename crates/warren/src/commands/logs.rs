//! `warren logs`: the log events of the VMs, through the CloudWatch Logs API like any client.

use super::Context;
use crate::{
    args,
    client::{Client, ClientError},
    failure::{Exit, Outcome},
    print::{Closed, Format, Paint},
};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

const SERVICE: &str = "logs";
const GROUPS: &str = "/aws/lambda-microvms/";
const FOLLOW_EVERY: Duration = Duration::from_millis(500);
/// How far back `--follow` looks again at each turn, in milliseconds: events may be written a
/// little later than they happened.
const OVERLAP_MS: u64 = 10_000;

#[derive(Debug, Clone, Serialize)]
struct Event {
    group: String,
    stream: String,
    /// Milliseconds since the epoch.
    timestamp: u64,
    message: String,
    #[serde(skip)]
    id: String,
}

pub(crate) async fn logs(context: &Context, logs: args::Logs) -> Outcome {
    let client = context.client()?;
    let vm = match &logs.vm {
        Some(name) => Some(client.vm(name).await?.microvm_id),
        None => None,
    };
    let mut from = now_ms().saturating_sub(u64::from(logs.since) * 60_000);
    let mut seen = HashSet::new();
    loop {
        let mut events = Vec::new();
        for group in groups(&client, logs.group.as_deref()).await? {
            events.extend(read(&client, &group, from).await?);
        }
        events.retain(|e: &Event| {
            !seen.contains(&e.id) && vm.as_ref().is_none_or(|vm| e.stream.ends_with(vm.as_str()))
        });
        events.sort_by_key(|e| e.timestamp);
        for event in events {
            show(context, &event)?;
            seen.insert(event.id);
        }
        if !logs.follow {
            return Ok(Exit::Success);
        }
        from = from.max(now_ms().saturating_sub(OVERLAP_MS));
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
}

fn show(context: &Context, event: &Event) -> Result<(), Closed> {
    let printer = &context.printer;
    match printer.format() {
        Format::Json => printer.record(event),
        Format::Human => {
            let vm = event.stream.rsplit(']').next().unwrap_or(&event.stream);
            let short = vm.strip_prefix("microvm-").unwrap_or(vm).chars().take(8);
            let source = printer.painted(Paint::Dim, &short.collect::<String>());
            printer.line(format!("{source} {}", event.message.trim_end_matches('\n')))
        }
    }
}

/// Follows `nextToken` until there is none.
async fn pages(
    client: &Client,
    operation: &str,
    mut input: serde_json::Map<String, Value>,
) -> Result<Vec<Value>, ClientError> {
    let mut pages = Vec::new();
    loop {
        let target = format!("Logs_20140328.{operation}");
        let page = client.json_rpc(SERVICE, &target, &Value::Object(input.clone())).await?;
        let token = page.get("nextToken").filter(|t| t.is_string()).cloned();
        pages.push(page);
        match token {
            Some(token) => input.insert("nextToken".into(), token),
            None => return Ok(pages),
        };
    }
}

fn items<'v>(pages: &'v [Value], member: &str) -> Vec<&'v Value> {
    pages.iter().filter_map(|p| p.get(member)?.as_array()).flatten().collect()
}

async fn groups(client: &Client, only: Option<&str>) -> Result<Vec<String>, ClientError> {
    if let Some(group) = only {
        return Ok(vec![group.to_owned()]);
    }
    let input = BTreeMap::from([("logGroupNamePrefix".to_owned(), json!(GROUPS))]);
    let pages = pages(client, "DescribeLogGroups", input.into_iter().collect()).await?;
    let names = items(&pages, "logGroups");
    Ok(names.iter().filter_map(|g| Some(g.get("logGroupName")?.as_str()?.to_owned())).collect())
}

async fn read(client: &Client, group: &str, from: u64) -> Result<Vec<Event>, ClientError> {
    let input = BTreeMap::from([
        ("logGroupName".to_owned(), json!(group)),
        ("startTime".to_owned(), json!(from)),
    ]);
    let pages = pages(client, "FilterLogEvents", input.into_iter().collect()).await?;
    let text = |value: &Value, member: &str| {
        value.get(member).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    Ok(items(&pages, "events")
        .into_iter()
        .map(|event| Event {
            group: group.to_owned(),
            stream: text(event, "logStreamName"),
            timestamp: event.get("timestamp").and_then(Value::as_u64).unwrap_or_default(),
            message: text(event, "message"),
            id: text(event, "eventId"),
        })
        .collect())
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
