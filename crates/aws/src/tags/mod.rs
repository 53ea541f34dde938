//! Tags of images and network connectors, and the condition keys that come of them. One file an
//! operation.
//!
//! A MicroVM has no tags; in decisions about it, its image's count.

mod error;
mod list_tags;
mod resource;
mod shapes;
mod tag_resource;
mod untag_resource;

use crate::{
    iam::Context,
    protocol::Protocol,
    service::Service,
    shape::{Shape, UNLIMITED},
};
use std::collections::BTreeMap;

pub(crate) static SERVICE: Service = Service {
    signing_name: "lambda",
    protocol: Protocol::RestJson,
    target_prefix: "",
    path_prefixes: &["2017-03-31"],
    xml_namespace: "",
    message_member: "message",
    validation_code: "ValidationException",
    operations: &[&list_tags::OPERATION, &tag_resource::OPERATION, &untag_resource::OPERATION],
    unavailable: &[],
};

/// What a tag may be made of.
const LETTERS: &str = r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)";

pub(crate) static KEY: Shape = Shape::matching(1, 128, LETTERS);
static VALUE: Shape = Shape::matching(0, 256, LETTERS);
pub(crate) static TAGS: Shape = Shape::Map { min: 0, max: UNLIMITED, key: &KEY, value: &VALUE };

/// `aws:RequestTag/…` and `aws:TagKeys` of a request that sets tags.
pub(crate) fn requested(tags: &BTreeMap<String, String>) -> Context {
    let mut context = Context::default();
    for (key, value) in tags {
        context.set(&format!("aws:RequestTag/{key}"), value.clone());
    }
    if !tags.is_empty() {
        context.set_all("aws:TagKeys", tags.keys().cloned().collect());
    }
    context
}

/// `aws:ResourceTag/…` of what is asked about.
pub(crate) fn of_resource(tags: &BTreeMap<String, String>) -> Context {
    let mut context = Context::default();
    for (key, value) in tags {
        context.set(&format!("aws:ResourceTag/{key}"), value.clone());
    }
    context
}
