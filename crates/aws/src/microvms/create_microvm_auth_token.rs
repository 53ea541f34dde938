//! `CreateMicrovmAuthToken`: a token for ports of one MicroVM's endpoint. A suspended one gives
//! tokens too.

use super::{
    error::{from_control, validation},
    identifier::authorized_microvm,
    shapes::{MICROVM_IDENTIFIER, NOTHING, POSITIVE},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape, UNLIMITED},
};
use control::{Reach, TOKEN_LIFE_MAX};
use http::Method;
use serde::Deserialize;
use serde_json::json;
use std::{ops::RangeInclusive, time::Duration};

static PORT: Shape = Shape::Integer { min: 1, max: 65_535 };
static RANGE: Shape =
    Shape::Structure(&[Member::required("startPort", &PORT), Member::required("endPort", &PORT)]);
static PORTS: Shape = Shape::Union(&[
    Member::optional("port", &PORT),
    Member::optional("range", &RANGE),
    Member::optional("allPorts", &NOTHING),
]);
static ALLOWED: Shape = Shape::List { min: 1, max: UNLIMITED, of: &PORTS };
static INPUT: Shape = Shape::Structure(&[
    Member::label("microvmIdentifier", &MICROVM_IDENTIFIER),
    Member::required("expirationInMinutes", &POSITIVE),
    Member::required("allowedPorts", &ALLOWED),
]);

pub(super) static OPERATION: Operation = Operation {
    name: "CreateMicrovmAuthToken",
    route: Some((Method::POST, "/2025-09-09/microvms/{microvmIdentifier}/auth-token")),
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    microvm_identifier: String,
    expiration_in_minutes: u64,
    allowed_ports: Vec<PortsInput>,
}

/// A union; the shape has seen to it that one member is set.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PortsInput {
    port: Option<u16>,
    range: Option<RangeInput>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RangeInput {
    start_port: u16,
    end_port: u16,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let microvm = authorized_microvm(&call, &input.microvm_identifier).await?;
    let life = token_life(input.expiration_in_minutes)?;
    let ranges = input.allowed_ports.into_iter().map(ports).collect::<Result<_, _>>()?;
    let tokens = call.state.control.proxy_tokens();
    let token = tokens.issue(&microvm, Reach::Ports(ranges), life).map_err(from_control)?;
    Ok(reply(&token))
}

fn ports(input: PortsInput) -> Result<RangeInclusive<u16>, ApiError> {
    match (input.port, input.range) {
        (Some(port), _) => Ok(port..=port),
        (None, Some(RangeInput { start_port, end_port })) if start_port <= end_port => {
            Ok(start_port..=end_port)
        }
        (None, Some(RangeInput { start_port, end_port })) => Err(validation(format!(
            "allowedPorts: the range begins with {start_port}, after its end {end_port}"
        ))),
        (None, None) => Ok(1..=u16::MAX),
    }
}

/// # Errors
/// 400 above AWS's maximum, in its words.
pub(super) fn token_life(minutes: u64) -> Result<Duration, ApiError> {
    let max = TOKEN_LIFE_MAX.as_secs() / 60;
    if minutes > max {
        return Err(validation(format!(
            "ExpirationMinutes {minutes} exceeded max allowed of {max}."
        )));
    }
    Ok(Duration::from_secs(minutes * 60))
}

/// The one part that tokens have, under the name of the header it is for.
pub(super) fn reply(token: &str) -> Reply {
    Reply::ok(json!({ "authToken": { "X-aws-proxy-auth": token } }))
}
