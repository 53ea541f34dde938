//! `lambda-core`: network connectors. One file an operation.
//!
//! On the wire unset members are left out, unlike those of `lambda-microvms`. Rules that the model
//! does not tell are an InvalidParameterValueException in prose; what breaks the model is a
//! ValidationException as everywhere.

mod configuration;
mod create_network_connector;
mod delete_network_connector;
mod describe;
mod error;
mod get_network_connector;
mod identifier;
mod list_network_connector_versions;
mod list_network_connectors;
mod operator_role;
mod shapes;
mod update_network_connector;

use crate::{protocol::Protocol, service::Service};
pub(crate) use identifier::named_by_arn;

pub(crate) static SERVICE: Service = Service {
    signing_name: "lambda",
    protocol: Protocol::RestJson,
    target_prefix: "",
    path_prefixes: &["2026-04-04"],
    xml_namespace: "",
    message_member: "message",
    validation_code: "ValidationException",
    operations: &[
        &create_network_connector::OPERATION,
        &get_network_connector::OPERATION,
        &list_network_connectors::OPERATION,
        &update_network_connector::OPERATION,
        &delete_network_connector::OPERATION,
        &list_network_connector_versions::OPERATION,
    ],
    unavailable: &[],
};
