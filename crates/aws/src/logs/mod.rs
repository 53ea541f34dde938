//! CloudWatch Logs: enough for SDKs to write and for `aws logs tail --follow` to read. One file an
//! operation.

mod create_log_group;
mod create_log_stream;
mod delete_log_group;
mod describe_log_groups;
mod describe_log_streams;
mod error;
mod filter_log_events;
mod get_log_events;
mod group;
mod pattern;
mod put_log_events;
mod shapes;

use crate::{protocol::Protocol, service::Service};

pub(crate) static SERVICE: Service = Service {
    signing_name: "logs",
    protocol: Protocol::Json,
    target_prefix: "Logs_20140328",
    path_prefixes: &[],
    xml_namespace: "",
    message_member: "message",
    validation_code: "InvalidParameterException",
    operations: &[
        &create_log_group::OPERATION,
        &create_log_stream::OPERATION,
        &put_log_events::OPERATION,
        &describe_log_groups::OPERATION,
        &describe_log_streams::OPERATION,
        &get_log_events::OPERATION,
        &filter_log_events::OPERATION,
        &delete_log_group::OPERATION,
    ],
    unavailable: &[],
};
