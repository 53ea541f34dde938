//! The AWS surface as stock clients see it: a Warren in process whose engine runs nothing, and
//! boto3, the AWS CLI and the SDK for Rust driving it over loopback.

mod awscli;
mod boto3;
mod conformance;
mod limits;
mod rust_sdk;
mod wire;
mod world;
