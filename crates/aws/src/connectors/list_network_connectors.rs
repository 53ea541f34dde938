//! `ListNetworkConnectors`: oldest first. At the end there is no `NextMarker`.

use super::{
    describe,
    error::from_control,
    shapes::{MARKER, MAX_ITEMS, STATE},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use control::{ConnectorState, PageRequest};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

/// The answer's shape holds no more, though one may ask for 100.
const ITEMS_MAX: usize = 50;

static INPUT: Shape = Shape::Structure(&[
    Member::query("State", &STATE),
    Member::query("Marker", &MARKER),
    Member::query("MaxItems", &MAX_ITEMS),
]);

pub(super) static OPERATION: Operation = Operation {
    name: "ListNetworkConnectors",
    route: Some((Method::GET, "/2026-04-04/network-connectors")),
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    state: Option<String>,
    marker: Option<String>,
    max_items: Option<usize>,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let Input { state, marker, max_items } = call.input()?;
    call.authorize("*")?;
    let state =
        state.and_then(|name| ConnectorState::ALL.iter().copied().find(|s| s.as_str() == name));
    let items_max = max_items.unwrap_or(ITEMS_MAX).min(ITEMS_MAX);
    let page = PageRequest { items_max, token: marker };
    let page = call.state.control.connectors().list(state, page).await;
    let page = page.map_err(|error| from_control(error, ""))?;
    let items: Vec<Value> = page.items.iter().map(|item| describe::item(&call, item)).collect();
    let mut answer = json!({ "NetworkConnectors": items });
    if let Some(marker) = page.next_token {
        answer["NextMarker"] = json!(marker);
    }
    Ok(Reply::ok(answer))
}
