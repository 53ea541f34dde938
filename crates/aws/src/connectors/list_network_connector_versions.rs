//! `ListNetworkConnectorVersions`: newest first. Each has the state of its connector.

use super::{
    describe,
    error::from_control,
    identifier::authorized,
    shapes::{IDENTIFIER, MARKER, MAX_ITEMS, STATE},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use control::PageRequest;
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

const ITEMS_MAX: usize = 100;

static INPUT: Shape = Shape::Structure(&[
    Member::label("Identifier", &IDENTIFIER),
    Member::query("State", &STATE),
    Member::query("Marker", &MARKER),
    Member::query("MaxItems", &MAX_ITEMS),
]);

pub(super) static OPERATION: Operation = Operation {
    name: "ListNetworkConnectorVersions",
    route: Some((Method::GET, "/2026-04-04/network-connectors/{Identifier}/versions")),
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    identifier: String,
    state: Option<String>,
    marker: Option<String>,
    max_items: Option<usize>,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let named = authorized(&call, &input.identifier).await?;
    let connector = &named.connector;
    let page = PageRequest { items_max: input.max_items.unwrap_or(ITEMS_MAX), token: input.marker };
    let page = call.state.control.connectors().versions(connector, page).await;
    let page = page.map_err(|error| from_control(error, &named.given))?;
    let wanted = input.state.is_none_or(|state| state == connector.state.as_str());
    let items: Vec<Value> = page
        .items
        .iter()
        .filter(|_| wanted)
        .map(|version| describe::version_item(&call, connector, version))
        .collect();
    let mut answer = json!({ "NetworkConnectorVersions": items });
    if let Some(marker) = page.next_token.filter(|_| wanted) {
        answer["NextMarker"] = json!(marker);
    }
    Ok(Reply::ok(answer))
}
