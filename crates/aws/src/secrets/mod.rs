//! Secrets Manager: what a session needs, and what a person needs to manage it. One file an
//! operation.

mod batch_get_secret_value;
mod create_secret;
mod delete_secret;
mod describe_secret;
mod error;
mod get_random_password;
mod get_secret_value;
mod list_secrets;
mod put_secret_value;
mod restore_secret;
mod secret_id;
mod shapes;
mod tags;
mod update_secret;
mod value;
mod versions;

use crate::{protocol::Protocol, service::Service};

pub(crate) static SERVICE: Service = Service {
    signing_name: "secretsmanager",
    protocol: Protocol::Json,
    target_prefix: "secretsmanager",
    path_prefixes: &[],
    xml_namespace: "",
    message_member: "Message",
    validation_code: "ValidationException",
    operations: &[
        &create_secret::OPERATION,
        &put_secret_value::OPERATION,
        &get_secret_value::OPERATION,
        &describe_secret::OPERATION,
        &list_secrets::OPERATION,
        &update_secret::OPERATION,
        &delete_secret::OPERATION,
        &restore_secret::OPERATION,
        &versions::MOVE,
        &versions::LIST,
        &batch_get_secret_value::OPERATION,
        &get_random_password::OPERATION,
        &tags::TAG,
        &tags::UNTAG,
    ],
    unavailable: &[],
};
