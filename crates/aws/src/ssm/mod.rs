//! Parameters of Systems Manager. One file for each group of operations that share their shapes.

mod describe_parameters;
mod error;
mod get_parameters;
mod labels;
mod name;
mod put_parameter;
mod shapes;
mod tags;

use crate::{protocol::Protocol, service::Service};

pub(crate) static SERVICE: Service = Service {
    signing_name: "ssm",
    protocol: Protocol::Json,
    target_prefix: "AmazonSSM",
    path_prefixes: &[],
    xml_namespace: "",
    message_member: "message",
    validation_code: "ValidationException",
    operations: &[
        &put_parameter::PUT,
        &put_parameter::DELETE,
        &put_parameter::DELETE_SEVERAL,
        &get_parameters::GET,
        &get_parameters::GET_SEVERAL,
        &get_parameters::GET_BY_PATH,
        &get_parameters::HISTORY,
        &describe_parameters::OPERATION,
        &labels::LABEL,
        &labels::UNLABEL,
        &tags::ADD,
        &tags::REMOVE,
        &tags::LIST,
    ],
    unavailable: &[],
};
