//! `CreateMicrovmImage`: the image and its version 1.0 are recorded; the build goes on behind it.

use super::{
    describe,
    error::{bad_id, from_control},
    image_configuration::{Configuration, with_configuration},
    network,
    shapes::CLIENT_TOKEN,
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
    tags,
};
use control::{ClientToken, CreateImage, ImageName};
use http::Method;
use serde::Deserialize;
use std::collections::BTreeMap;

static NAME: Shape = Shape::matching(1, 64, "[a-zA-Z0-9-_]+");
static INPUT: Shape = with_configuration![
    Member::required("name", &NAME),
    Member::optional("tags", &tags::TAGS),
    Member::optional("clientToken", &CLIENT_TOKEN),
];

pub(super) static OPERATION: Operation = Operation {
    name: "CreateMicrovmImage",
    route: Some((Method::POST, "/2025-09-09/microvm-images")),
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    name: String,
    tags: Option<BTreeMap<String, String>>,
    client_token: Option<String>,
    #[serde(flatten)]
    configuration: Configuration,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let name = ImageName::parse(&input.name).map_err(|error| bad_id(&error))?;
    let arn = call.state.control.image_arn(&name).to_string();
    let given_tags = input.tags.unwrap_or_default();
    call.authorize_with(&arn, &tags::requested(&given_tags))?;
    let build_role = input.configuration.build_role()?;
    call.authorize_pass_role(&build_role, &arn)?;
    let connectors = input.configuration.egress_network_connectors.clone().unwrap_or_default();
    network::authorize(&call, &connectors)?;
    network::check(&call, &connectors, network::Direction::Egress).await?;
    let client_token = input.client_token.as_deref().map(ClientToken::parse).transpose();
    let request = CreateImage {
        name,
        spec: input.configuration.spec(build_role)?,
        tags: given_tags,
        client_token: client_token.map_err(|error| bad_id(&error))?,
    };
    let started = call.state.control.images().create(request).await.map_err(from_control)?;
    let mut answer = describe::started_build(&call, &started);
    if let Some(members) = answer.as_object_mut() {
        members.insert("tags".to_owned(), serde_json::json!(started.image.tags));
    }
    Ok(Reply::created(answer))
}
