//! `DescribeLogGroups`.

use super::{
    error::{from_control, parameter},
    group::{arn, resource},
    shapes::{DESCRIBE_LIMIT, GROUP, TOKEN},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use control::PageRequest;
use serde::Deserialize;
use serde_json::{Value, json};

/// Groups of a page, where the caller sets no number.
const GROUPS_MAX: usize = 50;

static PATTERN: Shape = Shape::matching(0, 512, r"[\.\-_/#A-Za-z0-9]*");
static INPUT: Shape = Shape::Structure(&[
    Member::optional("logGroupNamePrefix", &GROUP),
    Member::optional("logGroupNamePattern", &PATTERN),
    Member::optional("nextToken", &TOKEN),
    Member::optional("limit", &DESCRIBE_LIMIT),
    Member::unavailable("accountIdentifiers"),
    Member::unavailable("includeLinkedAccounts"),
    Member::unavailable("logGroupClass"),
    Member::unavailable("logGroupIdentifiers"),
]);

pub(super) static OPERATION: Operation = Operation {
    name: "DescribeLogGroups",
    route: None,
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    log_group_name_prefix: Option<String>,
    log_group_name_pattern: Option<String>,
    next_token: Option<String>,
    limit: Option<usize>,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    call.authorize(&resource(&call, "", ""))?;
    if input.log_group_name_prefix.is_some() && input.log_group_name_pattern.is_some() {
        return Err(parameter(
            "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.",
        ));
    }
    let page =
        PageRequest { items_max: input.limit.unwrap_or(GROUPS_MAX), token: input.next_token };
    let logs = call.state.control.logs();
    let page = logs.groups(input.log_group_name_prefix.as_deref(), page).await;
    let page = page.map_err(from_control)?;
    // A pattern is applied to each page: one may hold fewer groups than were asked for.
    let wanted = input.log_group_name_pattern.map(|pattern| pattern.to_lowercase());
    let groups: Vec<Value> = page
        .items
        .iter()
        .filter(|info| {
            wanted.as_ref().is_none_or(|part| info.group.as_str().to_lowercase().contains(part))
        })
        .map(|info| {
            let arn = arn(&call, info.group.as_str());
            let mut group = json!({
                "logGroupName": info.group.as_str(),
                "creationTime": info.created_at.ms(),
                "metricFilterCount": 0,
                "arn": format!("{arn}:*"),
                "logGroupArn": arn,
                "storedBytes": info.stored_bytes,
                "logGroupClass": "STANDARD",
            });
            if let (Some(days), Some(members)) = (info.retention_days, group.as_object_mut()) {
                members.insert("retentionInDays".to_owned(), json!(days));
            }
            group
        })
        .collect();
    let mut reply = json!({ "logGroups": groups });
    if let (Some(token), Some(members)) = (page.next_token, reply.as_object_mut()) {
        members.insert("nextToken".to_owned(), json!(token));
    }
    Ok(Reply::ok(reply))
}
