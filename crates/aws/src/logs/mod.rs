//! CloudWatch Logs: enough for SDKs to write and for `aws logs tail --follow` to read. One file an
//! operation.

mod create_log_group;
mod create_log_stream;
mod delete_log_group;
mod delete_log_stream;
mod describe_log_groups;
mod describe_log_streams;
mod error;
mod filter_log_events;
mod get_log_events;
mod group;
mod pattern;
mod put_log_events;
mod retention;
mod shapes;
mod tags;

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
        &delete_log_stream::OPERATION,
        &retention::PUT,
        &retention::DELETE,
        &tags::TAG,
        &tags::UNTAG,
        &tags::LIST,
    ],
    unavailable: &[],
};
