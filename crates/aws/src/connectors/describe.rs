//! What is answered of connectors: members that are set, and no others.

use super::error::arn_of;
use crate::service::Call;
use control::{Connector, ConnectorState, ConnectorVersion, Timestamp, UpdateStatus, VpcEgress};
use serde_json::{Map, Value, json};

/// Create and Delete: six members only.
pub(super) fn brief(call: &Call, connector: &Connector, version: &ConnectorVersion) -> Value {
    Value::Object(brief_members(call, connector, version))
}

fn brief_members(
    call: &Call,
    connector: &Connector,
    version: &ConnectorVersion,
) -> Map<String, Value> {
    members([
        ("Arn", json!(arn_of(call, connector.id.as_str()))),
        ("Name", json!(connector.name.as_str())),
        ("Id", json!(connector.id.as_str())),
        ("Configuration", configuration(&version.configuration)),
        ("OperatorRole", json!(version.operator_role.as_str())),
        ("State", json!(connector.state.as_str())),
    ])
}

/// Which version a Get names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    Connector,
    Version,
}

/// Get.
pub(super) fn whole(
    call: &Call,
    connector: &Connector,
    version: &ConnectorVersion,
    asked: Asked,
) -> Value {
    let mut whole = brief_members(call, connector, version);
    whole.append(&mut of_version(call, connector, version.version));
    if asked == Asked::Connector {
        whole.append(&mut latest(call, connector));
    }
    whole.append(&mut update_status(connector));
    whole.insert("LastModified".to_owned(), modified(connector.modified_at));
    if let Some(reason) = state_reason(connector.state) {
        whole.insert("StateReason".to_owned(), json!(reason));
    }
    Value::Object(whole)
}

/// Update: no reason of the state.
pub(super) fn updated(call: &Call, connector: &Connector, version: &ConnectorVersion) -> Value {
    let mut whole = brief_members(call, connector, version);
    whole.append(&mut of_version(call, connector, version.version));
    let mut status = update_status(connector);
    // Its code is a member of Get alone.
    status.remove("LastUpdateStatusReasonCode");
    whole.append(&mut status);
    whole.insert("LastModified".to_owned(), modified(connector.modified_at));
    Value::Object(whole)
}

/// An item of ListNetworkConnectors.
pub(super) fn item(call: &Call, connector: &Connector) -> Value {
    let mut item = members([
        ("Arn", json!(arn_of(call, connector.id.as_str()))),
        ("Name", json!(connector.name.as_str())),
        ("Id", json!(connector.id.as_str())),
        ("Type", json!("VPC_EGRESS")),
        ("State", json!(connector.state.as_str())),
        ("LastModified", modified(connector.modified_at)),
    ]);
    item.append(&mut latest(call, connector));
    Value::Object(item)
}

/// An item of ListNetworkConnectorVersions.
pub(super) fn version_item(
    call: &Call,
    connector: &Connector,
    version: &ConnectorVersion,
) -> Value {
    let mut item = members([
        ("Arn", json!(arn_of(call, connector.id.as_str()))),
        ("Name", json!(connector.name.as_str())),
        ("Id", json!(connector.id.as_str())),
        ("State", json!(connector.state.as_str())),
        ("LastModified", modified(version.created_at)),
    ]);
    item.append(&mut of_version(call, connector, version.version));
    if let Some(reason) = state_reason(connector.state) {
        item.insert("StateReason".to_owned(), json!(reason));
    }
    Value::Object(item)
}

fn members<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn of_version(call: &Call, connector: &Connector, version: u32) -> Map<String, Value> {
    let arn = format!("{}:{version}", arn_of(call, connector.id.as_str()));
    members([("VersionArn", json!(arn)), ("Version", json!(version))])
}

fn latest(call: &Call, connector: &Connector) -> Map<String, Value> {
    let version = connector.latest_version;
    let arn = format!("{}:{version}", arn_of(call, connector.id.as_str()));
    members([("LatestVersionArn", json!(arn)), ("LatestVersion", json!(version))])
}

fn update_status(connector: &Connector) -> Map<String, Value> {
    let mut status = Map::new();
    if let Some(update) = connector.update_status.map(UpdateStatus::as_str) {
        status.insert("LastUpdateStatus".to_owned(), json!(update));
    }
    if let Some(reason) = &connector.update_reason {
        status.insert("LastUpdateStatusReason".to_owned(), json!(reason));
    }
    status
}

fn state_reason(state: ConnectorState) -> Option<&'static str> {
    match state {
        ConnectorState::Active => Some("Initial creation"),
        ConnectorState::Pending
        | ConnectorState::Inactive
        | ConnectorState::Failed
        | ConnectorState::Deleting
        | ConnectorState::DeleteFailed => None,
    }
}

/// ISO 8601, as this service's model has it.
fn modified(at: Timestamp) -> Value {
    json!(at.to_string())
}

fn configuration(configuration: &VpcEgress) -> Value {
    let VpcEgress { subnets, security_groups, protocol, compute, elastic_ip } = configuration;
    let mut vpc = members([
        ("SubnetIds", json!(subnets)),
        ("NetworkProtocol", json!(protocol.as_str())),
        ("AssociatedComputeResourceTypes", json!([compute.as_str()])),
    ]);
    if let Some(groups) = security_groups {
        vpc.insert("SecurityGroupIds".to_owned(), json!(groups));
    }
    if let Some(ip) = elastic_ip {
        vpc.insert("ElasticIpConfiguration".to_owned(), json!({ "Type": ip.as_str() }));
    }
    json!({ "VpcEgressConfiguration": vpc })
}
