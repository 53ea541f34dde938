//! `lambda-microvms`: MicroVMs, images, versions. One file an operation.
//!
//! Order of a call: the model's constraints (before anything), rights, Warren's own rules, then
//! `control`. On the wire unset members are explicit nulls, as the live service sends them.

mod create_microvm_auth_token;
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
mod list_managed_microvm_image_versions;
mod list_managed_microvm_images;
mod list_microvm_image_builds;
mod list_microvm_image_versions;
mod list_microvm_images;
mod list_microvms;
mod network;
mod paging;
mod resume_microvm;
mod run_microvm;
mod shapes;
mod suspend_microvm;
mod terminate_microvm;
mod update_microvm_image_version;

use crate::{protocol::Protocol, service::Service};
use http::Method;

pub(crate) static SERVICE: Service = Service {
    signing_name: "lambda",
    protocol: Protocol::RestJson,
    target_prefix: "",
    // The date of `lambda-microvms`, that of its tags, and that of `lambda-core`.
    path_prefixes: &["2025-09-09", "2017-03-31", "2026-04-04"],
    xml_namespace: "",
    message_member: "message",
    validation_code: "ValidationException",
    operations: &[
        &run_microvm::OPERATION,
        &get_microvm::OPERATION,
        &list_microvms::OPERATION,
        &terminate_microvm::OPERATION,
        &suspend_microvm::OPERATION,
        &resume_microvm::OPERATION,
        &create_microvm_auth_token::OPERATION,
        &create_microvm_shell_auth_token::OPERATION,
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
    unavailable: &[
        (Method::POST, "/2025-09-09/microvm-images", "CreateMicrovmImage"),
        (Method::PUT, "/2025-09-09/microvm-images/{}", "UpdateMicrovmImage"),
        (Method::GET, "/2017-03-31/tags/{}", "ListTags"),
        (Method::POST, "/2017-03-31/tags/{}", "TagResource"),
        (Method::DELETE, "/2017-03-31/tags/{}", "UntagResource"),
        (Method::POST, "/2026-04-04/network-connectors", "CreateNetworkConnector"),
        (Method::GET, "/2026-04-04/network-connectors", "ListNetworkConnectors"),
        (Method::GET, "/2026-04-04/network-connectors/{}", "GetNetworkConnector"),
        (Method::PUT, "/2026-04-04/network-connectors/{}", "UpdateNetworkConnector"),
        (Method::DELETE, "/2026-04-04/network-connectors/{}", "DeleteNetworkConnector"),
        (Method::GET, "/2026-04-04/network-connectors/{}/versions", "ListNetworkConnectorVersions"),
    ],
};
