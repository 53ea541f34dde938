//! STS: who one is, and how one becomes a role for a while.

mod assume_role;
mod get_caller_identity;

use crate::{protocol::Protocol, service::Service};

pub(crate) static SERVICE: Service = Service {
    signing_name: "sts",
    protocol: Protocol::Query,
    target_prefix: "",
    path_prefixes: &[],
    xml_namespace: "https://sts.amazonaws.com/doc/2011-06-15/",
    message_member: "message",
    validation_code: "ValidationError",
    operations: &[&assume_role::OPERATION, &get_caller_identity::OPERATION],
    unavailable: &[],
};
