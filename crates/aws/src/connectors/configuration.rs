//! `Configuration` of a request, and the rules that its model does not tell.

use super::error::invalid;
use crate::error::ApiError;
use control::{ComputeResource, ElasticIp, NetworkProtocol, VpcEgress};
use serde::Deserialize;

/// A union of one member.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Configuration {
    vpc_egress_configuration: VpcEgressInput,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VpcEgressInput {
    subnet_ids: Option<Vec<String>>,
    security_group_ids: Option<Vec<String>>,
    network_protocol: Option<String>,
    associated_compute_resource_types: Option<Vec<String>>,
    elastic_ip_configuration: Option<ElasticIpInput>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ElasticIpInput {
    r#type: String,
}

impl Configuration {
    /// # Errors
    /// 400 for a member that is left out, though its shape lets it be.
    pub(super) fn vpc_egress(self) -> Result<VpcEgress, ApiError> {
        let VpcEgressInput {
            subnet_ids,
            security_group_ids,
            network_protocol,
            associated_compute_resource_types,
            elastic_ip_configuration,
        } = self.vpc_egress_configuration;
        let compute = associated_compute_resource_types.and_then(|types| types.into_iter().next());
        Ok(VpcEgress {
            subnets: subnet_ids.ok_or_else(|| required("SubnetIds"))?,
            security_groups: security_group_ids,
            protocol: chosen("NetworkProtocol", NetworkProtocol::ALL, network_protocol, |p| {
                p.as_str()
            })?,
            compute: chosen(
                "AssociatedComputeResourceTypes",
                ComputeResource::ALL,
                compute,
                ComputeResource::as_str,
            )?,
            elastic_ip: elastic_ip_configuration
                .map(|ip| chosen("Type", ElasticIp::ALL, Some(ip.r#type), ElasticIp::as_str))
                .transpose()?,
        })
    }
}

pub(super) fn required(member: &str) -> ApiError {
    invalid(format!("{member} is a required field"))
}

/// The variant of this name, which the shape has checked.
fn chosen<T: Copy>(
    member: &str,
    all: &[T],
    text: Option<String>,
    name: fn(T) -> &'static str,
) -> Result<T, ApiError> {
    let text = text.ok_or_else(|| required(member))?;
    all.iter().copied().find(|variant| name(*variant) == text).ok_or_else(|| required(member))
}
