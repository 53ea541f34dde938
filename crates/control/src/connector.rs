//! Network connectors as callers see them: what is asked for, what is answered (spec 2.2).

use crate::{ClientToken, ConnectorId, ConnectorName, RoleArn, Timestamp, image::wire_names};
use std::collections::BTreeMap;

/// State of a connector (spec 1.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectorState {
    Pending,
    Active,
    Inactive,
    Failed,
    Deleting,
    DeleteFailed,
}

wire_names!(pub ConnectorState {
    Pending => "PENDING",
    Active => "ACTIVE",
    Inactive => "INACTIVE",
    Failed => "FAILED",
    Deleting => "DELETING",
    DeleteFailed => "DELETE_FAILED",
});

/// How far the last update is. The connector stays ACTIVE meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UpdateStatus {
    Successful,
    Failed,
    InProgress,
}

wire_names!(pub UpdateStatus {
    Successful => "Successful",
    Failed => "Failed",
    InProgress => "InProgress",
});

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NetworkProtocol {
    Ipv4,
    DualStack,
}

wire_names!(pub NetworkProtocol { Ipv4 => "IPv4", DualStack => "DualStack" });

/// What a connector is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ComputeResource {
    MicroVm,
    WebFunction,
}

wire_names!(pub ComputeResource { MicroVm => "MicroVm", WebFunction => "WebFunction" });

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ElasticIp {
    None,
    ServiceManaged,
}

wire_names!(pub ElasticIp { None => "None", ServiceManaged => "ServiceManaged" });

/// `VpcEgressConfiguration`. Subnets and groups are names here: a VM's traffic takes the host's way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VpcEgress {
    pub subnets: Vec<String>,
    pub security_groups: Option<Vec<String>>,
    pub protocol: NetworkProtocol,
    pub compute: ComputeResource,
    pub elastic_ip: Option<ElasticIp>,
}

/// A connector as Get answers it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Connector {
    pub id: ConnectorId,
    pub name: ConnectorName,
    pub state: ConnectorState,
    pub update_status: Option<UpdateStatus>,
    pub update_reason: Option<String>,
    /// The newest, from 1.
    pub latest_version: u32,
    pub tags: BTreeMap<String, String>,
    pub modified_at: Timestamp,
}

/// One version of a connector; it never changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectorVersion {
    pub version: u32,
    pub configuration: VpcEgress,
    pub operator_role: RoleArn,
    pub created_at: Timestamp,
}

/// Which connector a caller means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConnectorRef {
    Id(ConnectorId),
    Name(ConnectorName),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreateConnector {
    pub name: ConnectorName,
    pub configuration: VpcEgress,
    pub operator_role: RoleArn,
    pub tags: BTreeMap<String, String>,
    pub client_token: ClientToken,
}

/// What is none stays as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpdateConnector {
    pub id: ConnectorId,
    pub configuration: Option<VpcEgress>,
    pub operator_role: Option<RoleArn>,
    pub client_token: ClientToken,
}
