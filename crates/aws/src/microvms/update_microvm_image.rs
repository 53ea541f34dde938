//! `UpdateMicrovmImage`: a full replacement, as the image's next version.

use super::{
    describe,
    error::{bad_id, from_control},
    identifier::authorized_image,
    image_configuration::{Configuration, with_configuration},
    network,
    shapes::{CLIENT_TOKEN, IMAGE_IDENTIFIER},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use control::{ClientToken, UpdateImage};
use http::Method;
use serde::Deserialize;

static INPUT: Shape = with_configuration![
    Member::label("imageIdentifier", &IMAGE_IDENTIFIER),
    Member::optional("clientToken", &CLIENT_TOKEN),
];

pub(super) static OPERATION: Operation = Operation {
    name: "UpdateMicrovmImage",
    route: Some((Method::PUT, "/2025-09-09/microvm-images/{imageIdentifier}")),
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    image_identifier: String,
    client_token: Option<String>,
    #[serde(flatten)]
    configuration: Configuration,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let arn = authorized_image(&call, &input.image_identifier).await?;
    let build_role = input.configuration.build_role()?;
    call.authorize_pass_role(&build_role, &arn.to_string())?;
    let connectors = input.configuration.egress_network_connectors.clone().unwrap_or_default();
    network::authorize(&call, &connectors)?;
    network::check(&call, &connectors, network::Direction::Egress).await?;
    let client_token = input.client_token.as_deref().map(ClientToken::parse).transpose();
    let request = UpdateImage {
        name: arn.name,
        spec: input.configuration.spec(build_role)?,
        client_token: client_token.map_err(|error| bad_id(&error))?,
    };
    let started = call.state.control.images().update(request).await.map_err(from_control)?;
    Ok(Reply::ok(describe::started_build(&call, &started)))
}
