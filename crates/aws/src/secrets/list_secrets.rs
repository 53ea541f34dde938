//! `ListSecrets`: by name. Filters are applied to each page, so that a page may hold fewer than
//! were asked for, as on AWS.

use super::{describe_secret::describe, error::from_control};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use control::{PageRequest, Secret};
use serde::Deserialize;
use serde_json::{Value, json};

/// Secrets of a page, where the caller sets no number.
const SECRETS_MAX: usize = 100;

static RESULTS: Shape = Shape::Integer { min: 1, max: 100 };
static TOKEN: Shape = Shape::text(1, 4096);
static KEY: Shape = Shape::Choice(&[
    "description",
    "name",
    "tag-key",
    "tag-value",
    "primary-region",
    "owning-service",
    "all",
]);
static VALUE: Shape = Shape::matching(0, 512, r"^\!?[a-zA-Z0-9 :_@\/\+\=\.\-\!]*$");
static VALUES: Shape = Shape::List { min: 1, max: 10, of: &VALUE };
static FILTER: Shape =
    Shape::Structure(&[Member::optional("Key", &KEY), Member::optional("Values", &VALUES)]);
pub(super) static FILTERS: Shape = Shape::List { min: 0, max: 10, of: &FILTER };
static INPUT: Shape = Shape::Structure(&[
    Member::unavailable("IncludePlannedDeletion"),
    Member::optional("MaxResults", &RESULTS),
    Member::optional("NextToken", &TOKEN),
    Member::optional("Filters", &FILTERS),
    Member::unavailable("SortOrder"),
    Member::unavailable("SortBy"),
]);

pub(super) static OPERATION: Operation =
    Operation { name: "ListSecrets", route: None, input: &INPUT, run: |call| Box::pin(run(call)) };

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    max_results: Option<usize>,
    next_token: Option<String>,
    #[serde(default)]
    filters: Vec<Filter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Filter {
    key: Option<String>,
    #[serde(default)]
    values: Vec<String>,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    call.authorize("*")?;
    let request = PageRequest {
        items_max: input.max_results.unwrap_or(SECRETS_MAX),
        token: input.next_token,
    };
    let page = call.state.control.secrets().list(request).await.map_err(from_control)?;
    let secrets: Vec<Value> = page
        .items
        .iter()
        .filter(|secret| input.filters.iter().all(|filter| filter.fits(secret)))
        .map(|secret| describe(secret, "SecretVersionsToStages"))
        .collect();
    let mut reply = json!({ "SecretList": secrets });
    if let (Some(token), Some(members)) = (page.next_token, reply.as_object_mut()) {
        members.insert("NextToken".to_owned(), json!(token));
    }
    Ok(Reply::ok(reply))
}

impl Filter {
    /// One of the values fits; one that begins with `!` must not.
    pub(super) fn fits(&self, secret: &Secret) -> bool {
        self.values.is_empty()
            || self.values.iter().any(|value| match value.strip_prefix('!') {
                Some(unwanted) => !self.fits_value(secret, unwanted),
                None => self.fits_value(secret, value),
            })
    }

    fn fits_value(&self, secret: &Secret, value: &str) -> bool {
        let in_description =
            || secret.description.as_ref().is_some_and(|text| text.contains(value));
        let in_tag_keys = || secret.tags.keys().any(|key| key.starts_with(value));
        let in_tag_values = || secret.tags.values().any(|tag| tag.starts_with(value));
        let in_name = || secret.name.as_str().starts_with(value);
        match self.key.as_deref() {
            Some("name") => in_name(),
            Some("description") => in_description(),
            Some("tag-key") => in_tag_keys(),
            Some("tag-value") => in_tag_values(),
            Some("primary-region" | "owning-service") => false,
            Some(_) | None => in_name() || in_description() || in_tag_keys() || in_tag_values(),
        }
    }
}
