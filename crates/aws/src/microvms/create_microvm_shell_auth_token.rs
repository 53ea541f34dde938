//! `CreateMicrovmShellAuthToken`: a token for a shell in one MicroVM that was run with
//! SHELL_INGRESS.

use super::{
    create_microvm_auth_token::{reply, token_life},
    error::from_control,
    identifier::authorized_microvm,
    shapes::{MICROVM_IDENTIFIER, POSITIVE},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use control::Reach;
use http::Method;
use serde::Deserialize;

static INPUT: Shape = Shape::Structure(&[
    Member::label("microvmIdentifier", &MICROVM_IDENTIFIER),
    Member::required("expirationInMinutes", &POSITIVE),
]);

pub(super) static OPERATION: Operation = Operation {
    name: "CreateMicrovmShellAuthToken",
    route: Some((Method::POST, "/2025-09-09/microvms/{microvmIdentifier}/shell-auth-token")),
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    microvm_identifier: String,
    expiration_in_minutes: u64,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let microvm = authorized_microvm(&call, &input.microvm_identifier).await?;
    let life = token_life(input.expiration_in_minutes)?;
    let tokens = call.state.control.proxy_tokens();
    let token = tokens.issue(&microvm, Reach::Shell, life).map_err(from_control)?;
    Ok(reply(&token))
}
