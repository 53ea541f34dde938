//! Pages of lists: `maxResults`, `nextToken` in; `items`, `nextToken` out.

use crate::protocol::Reply;
use control::{Page, PageRequest};
use serde::Deserialize;
use serde_json::{Value, json};

/// Items of a page where the caller sets no number; also the most that one may ask for.
const ITEMS_MAX: usize = 50;

/// The members of every list's input.
#[derive(Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct Paging {
    max_results: Option<usize>,
    next_token: Option<String>,
}

impl Paging {
    pub(super) fn request(self) -> PageRequest {
        PageRequest { items_max: self.max_results.unwrap_or(ITEMS_MAX), token: self.next_token }
    }
}

pub(super) fn reply<T>(page: Page<T>, describe: impl FnMut(&T) -> Value) -> Reply {
    let items: Vec<Value> = page.items.iter().map(describe).collect();
    Reply::ok(json!({ "items": items, "nextToken": page.next_token }))
}
