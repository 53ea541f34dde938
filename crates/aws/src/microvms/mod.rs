//! `lambda-microvms`: MicroVMs, images, versions. One file an operation, save three that differ in a word.
//!
//! Order of a call: the model's constraints (before anything), rights, Warren's own rules, then
//! `control`. On the wire unset members are explicit nulls, as the live service sends them.

mod change_microvm;
mod create_microvm_auth_token;
mod create_microvm_image;
mod create_microvm_shell_auth_token;
mod delete_microvm_image;
mod delete_microvm_image_version;
mod describe;
mod error;
mod get_microvm;
mod get_microvm_image;
mod get_microvm_image_build;
mod get_microvm_image_version;
mod identifier;
mod image_configuration;
mod list_managed_microvm_image_versions;
mod list_managed_microvm_images;
mod list_microvm_image_builds;
mod list_microvm_image_versions;
mod list_microvm_images;
mod list_microvms;
mod logging;
mod network;
mod paging;
mod run_microvm;
mod shapes;
mod update_microvm_image;
mod update_microvm_image_version;

use crate::{protocol::Protocol, service::Service};
pub(crate) use error::memory_quota;

pub(crate) static SERVICE: Service = Service {
    signing_name: "lambda",
    protocol: Protocol::RestJson,
    target_prefix: "",
    path_prefixes: &["2025-09-09"],
    xml_namespace: "",
    message_member: "message",
    validation_code: "ValidationException",
    operations: &[
        &run_microvm::OPERATION,
        &get_microvm::OPERATION,
        &list_microvms::OPERATION,
        &change_microvm::TERMINATE,
        &change_microvm::SUSPEND,
        &change_microvm::RESUME,
        &create_microvm_auth_token::OPERATION,
        &create_microvm_shell_auth_token::OPERATION,
        &create_microvm_image::OPERATION,
        &update_microvm_image::OPERATION,
        &get_microvm_image::OPERATION,
        &list_microvm_images::OPERATION,
        &delete_microvm_image::OPERATION,
        &get_microvm_image_version::OPERATION,
        &list_microvm_image_versions::OPERATION,
        &update_microvm_image_version::OPERATION,
        &delete_microvm_image_version::OPERATION,
        &get_microvm_image_build::OPERATION,
        &list_microvm_image_builds::OPERATION,
        &list_managed_microvm_images::OPERATION,
        &list_managed_microvm_image_versions::OPERATION,
    ],
    unavailable: &[],
};
