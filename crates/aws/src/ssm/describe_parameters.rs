//! `DescribeParameters`, and the filters of lists. Filters are applied to each page, so that a page
//! may hold fewer than were asked for, as on AWS.

use super::{
    error::from_control,
    shapes::{BOOLEAN, FILTER_VALUES, FILTERS, RESULTS, TOKEN},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape, UNLIMITED},
};
use control::{PageRequest, Parameter};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Parameters of a page, where the caller sets no number.
const PARAMETERS_MAX: usize = 50;

static OLD_KEY: Shape = Shape::Choice(&["Name", "Type", "KeyId"]);
static OLD_FILTER: Shape = Shape::Structure(&[
    Member::required("Key", &OLD_KEY),
    Member::required("Values", &FILTER_VALUES),
]);
static OLD_FILTERS: Shape = Shape::List { min: 0, max: UNLIMITED, of: &OLD_FILTER };
static INPUT: Shape = Shape::Structure(&[
    Member::optional("Filters", &OLD_FILTERS),
    Member::optional("ParameterFilters", &FILTERS),
    Member::optional("MaxResults", &RESULTS),
    Member::optional("NextToken", &TOKEN),
    Member::optional("Shared", &BOOLEAN),
]);

pub(super) static OPERATION: Operation = Operation {
    name: "DescribeParameters",
    route: None,
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    #[serde(default)]
    filters: Vec<Filter>,
    #[serde(default)]
    parameter_filters: Vec<Filter>,
    max_results: Option<usize>,
    next_token: Option<String>,
    #[serde(default)]
    shared: bool,
}

/// A condition on the parameters of a list.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Filter {
    key: String,
    option: Option<String>,
    #[serde(default)]
    values: Vec<String>,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    call.authorize(&format!("arn:aws:ssm:{}:{}:*", call.region(), call.account()))?;
    if input.shared {
        // Nobody shares parameters with this account.
        return Ok(Reply::ok(json!({ "Parameters": [] })));
    }
    let items_max = input.max_results.unwrap_or(PARAMETERS_MAX);
    let token = input.next_token.filter(|token| !token.is_empty());
    let parameters = call.state.control.parameters();
    let page = parameters.list("", PageRequest { items_max, token }).await.map_err(from_control)?;
    let mut filters = input.parameter_filters;
    filters.extend(input.filters.into_iter().map(|mut filter| {
        // The old kind looks at the beginning.
        filter.option = (filter.key == "Name").then(|| "BeginsWith".to_owned());
        filter
    }));
    let mut shown = Vec::new();
    for parameter in &page.items {
        if Filter::all_fit(&filters, &call, parameter).await? {
            let mut members = members(parameter);
            members.insert("ARN".to_owned(), json!(parameters.arn(parameter.name.as_str())));
            shown.push(members);
        }
    }
    let mut reply = json!({ "Parameters": shown });
    if let (Some(token), Some(members)) = (page.next_token, reply.as_object_mut()) {
        members.insert("NextToken".to_owned(), json!(token));
    }
    Ok(Reply::ok(reply))
}

/// What lists and histories say of a version. Unset members are absent.
pub(super) fn members(parameter: &Parameter) -> Map<String, Value> {
    let about = &parameter.about;
    let mut members = Map::new();
    let mut set = |name: &str, value: Value| {
        members.insert(name.to_owned(), value);
    };
    set("Name", json!(parameter.name.as_str()));
    set("Type", json!(about.kind.as_str()));
    set("Version", json!(parameter.version));
    set("Tier", json!(about.tier.as_str()));
    set("DataType", json!("text"));
    set("Policies", json!([]));
    set("LastModifiedDate", json!(parameter.modified_at.seconds()));
    set("LastModifiedUser", json!(about.modified_by));
    if let Some(description) = &about.description {
        set("Description", json!(description));
    }
    if let Some(pattern) = &about.allowed_pattern {
        set("AllowedPattern", json!(pattern));
    }
    members
}

impl Filter {
    /// # Errors
    /// InvalidFilterKey, InvalidFilterOption.
    pub(super) async fn all_fit(
        filters: &[Self],
        call: &Call,
        parameter: &Parameter,
    ) -> Result<bool, ApiError> {
        for filter in filters {
            if !filter.fits(call, parameter).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn fits(&self, call: &Call, parameter: &Parameter) -> Result<bool, ApiError> {
        let name = parameter.name.as_str();
        if let Some(key) = self.key.strip_prefix("tag:") {
            let tags = call.state.control.parameters().tags(&parameter.name).await;
            let tags = tags.map_err(from_control)?;
            let value = tags.get(key);
            return Ok(value.is_some_and(|value| {
                self.values.is_empty() || self.values.iter().any(|wanted| wanted == value)
            }));
        }
        let text = match self.key.as_str() {
            "Name" => name,
            "Type" => parameter.about.kind.as_str(),
            "Tier" => parameter.about.tier.as_str(),
            "DataType" => "text",
            "Label" => {
                return Ok(self.values.iter().any(|label| parameter.labels.contains(label)));
            }
            "Path" => return self.is_below(name),
            other => {
                let message = format!("The filter {other} is not available in this Warren.");
                return Err(ApiError::bad("InvalidFilterKey", message));
            }
        };
        match self.option.as_deref() {
            None | Some("Equals") => Ok(self.values.iter().any(|wanted| wanted == text)),
            Some("BeginsWith") => {
                Ok(self.values.iter().any(|wanted| text.starts_with(wanted.as_str())))
            }
            Some("Contains") => Ok(self.values.iter().any(|wanted| text.contains(wanted.as_str()))),
            Some(other) => Err(invalid_option(other)),
        }
    }

    fn is_below(&self, name: &str) -> Result<bool, ApiError> {
        let recursive = match self.option.as_deref() {
            None | Some("OneLevel") => false,
            Some("Recursive") => true,
            Some(other) => return Err(invalid_option(other)),
        };
        Ok(self.values.iter().any(|path| {
            let below = name.strip_prefix(path.trim_end_matches('/'));
            let below = below.and_then(|below| below.strip_prefix('/'));
            below.is_some_and(|below| recursive || !below.contains('/'))
        }))
    }
}

fn invalid_option(option: &str) -> ApiError {
    ApiError::bad("InvalidFilterOption", format!("The filter option {option} is not valid."))
}
