//! `GetParameter`, `GetParameters`, `GetParametersByPath` and `GetParameterHistory`.

use super::{
    describe_parameters::{Filter, members},
    error::{from_control, validation},
    name::{Asked, authorized_name},
    shapes::{BOOLEAN, FILTERS, NAME, NAMES, RESULTS, TOKEN},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use control::{PageRequest, Parameter, ParameterType};
use serde::Deserialize;
use serde_json::{Value, json};

/// Parameters of a page by path, where the caller sets no number.
const BY_PATH_MAX: usize = 10;
/// Versions of a page, where the caller sets no number.
const HISTORY_MAX: usize = 50;

static ONE_INPUT: Shape = Shape::Structure(&[
    Member::required("Name", &NAME),
    Member::optional("WithDecryption", &BOOLEAN),
]);
static SEVERAL_INPUT: Shape = Shape::Structure(&[
    Member::required("Names", &NAMES),
    Member::optional("WithDecryption", &BOOLEAN),
]);
static PATH_RESULTS: Shape = Shape::Integer { min: 1, max: 10 };
static PATH_INPUT: Shape = Shape::Structure(&[
    Member::required("Path", &NAME),
    Member::optional("Recursive", &BOOLEAN),
    Member::optional("ParameterFilters", &FILTERS),
    Member::optional("WithDecryption", &BOOLEAN),
    Member::optional("MaxResults", &PATH_RESULTS),
    Member::optional("NextToken", &TOKEN),
]);
static HISTORY_INPUT: Shape = Shape::Structure(&[
    Member::required("Name", &NAME),
    Member::optional("WithDecryption", &BOOLEAN),
    Member::optional("MaxResults", &RESULTS),
    Member::optional("NextToken", &TOKEN),
]);

pub(super) static GET: Operation = Operation {
    name: "GetParameter",
    route: None,
    input: &ONE_INPUT,
    run: |call| Box::pin(get(call)),
};
pub(super) static GET_SEVERAL: Operation = Operation {
    name: "GetParameters",
    route: None,
    input: &SEVERAL_INPUT,
    run: |call| Box::pin(get_several(call)),
};
pub(super) static GET_BY_PATH: Operation = Operation {
    name: "GetParametersByPath",
    route: None,
    input: &PATH_INPUT,
    run: |call| Box::pin(get_by_path(call)),
};
pub(super) static HISTORY: Operation = Operation {
    name: "GetParameterHistory",
    route: None,
    input: &HISTORY_INPUT,
    run: |call| Box::pin(history(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    name: Option<String>,
    #[serde(default)]
    names: Vec<String>,
    path: Option<String>,
    #[serde(default)]
    recursive: bool,
    #[serde(default)]
    parameter_filters: Vec<Filter>,
    #[serde(default)]
    with_decryption: bool,
    max_results: Option<usize>,
    next_token: Option<String>,
}

impl Input {
    fn value<'p>(&self, parameter: &'p Parameter) -> &'p str {
        match parameter.about.kind {
            ParameterType::SecureString if !self.with_decryption => &parameter.sealed,
            ParameterType::SecureString | ParameterType::String | ParameterType::StringList => {
                &parameter.value
            }
        }
    }

    fn describe(&self, call: &Call, parameter: &Parameter, selector: Option<&str>) -> Value {
        let mut members = json!({
            "Name": parameter.name.as_str(),
            "Type": parameter.about.kind.as_str(),
            "Value": self.value(parameter),
            "Version": parameter.version,
            "LastModifiedDate": parameter.modified_at.seconds(),
            "ARN": call.state.control.parameters().arn(parameter.name.as_str()),
            "DataType": "text",
        });
        if let (Some(selector), Some(members)) = (selector, members.as_object_mut()) {
            members.insert("Selector".to_owned(), json!(selector));
        }
        members
    }
}

async fn get(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let asked = Asked::parse(&call, input.name.as_deref().unwrap_or_default())?;
    let parameter = asked.get(&call).await?;
    let shown = input.describe(&call, &parameter, asked.selector.as_deref());
    Ok(Reply::ok(json!({ "Parameter": shown })))
}

async fn get_several(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let (mut found, mut invalid) = (Vec::new(), Vec::new());
    for name in &input.names {
        let asked = Asked::parse(&call, name)?;
        match asked.get(&call).await {
            Ok(parameter) => {
                found.push(input.describe(&call, &parameter, asked.selector.as_deref()));
            }
            Err(error) if error.code.starts_with("Parameter") => invalid.push(name),
            Err(error) => return Err(error),
        }
    }
    Ok(Reply::ok(json!({ "Parameters": found, "InvalidParameters": invalid })))
}

async fn get_by_path(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let path = input.path.as_deref().unwrap_or_default();
    if !path.starts_with('/') {
        return Err(validation(
            "The parameter doesn't meet the parameter name requirements. The parameter name must \
             begin with a forward slash \"/\".",
        ));
    }
    let parameters = call.state.control.parameters();
    call.authorize(&parameters.arn(path.trim_end_matches('/')))?;
    let prefix = format!("{}/", path.trim_end_matches('/'));
    let items_max = input.max_results.unwrap_or(BY_PATH_MAX);
    let request = PageRequest { items_max, token: input.next_token.clone() };
    let page = parameters.list(&prefix, request).await.map_err(from_control)?;
    let mut shown = Vec::new();
    for parameter in &page.items {
        let below = parameter.name.as_str().get(prefix.len()..).unwrap_or_default();
        if !input.recursive && below.contains('/') {
            continue;
        }
        if Filter::all_fit(&input.parameter_filters, &call, parameter).await? {
            shown.push(input.describe(&call, parameter, None));
        }
    }
    let mut reply = json!({ "Parameters": shown });
    if let (Some(token), Some(members)) = (page.next_token, reply.as_object_mut()) {
        members.insert("NextToken".to_owned(), json!(token));
    }
    Ok(Reply::ok(reply))
}

async fn history(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let name = authorized_name(&call, input.name.as_deref().unwrap_or_default())?;
    let versions = call.state.control.parameters().history(&name).await.map_err(from_control)?;
    // A page begins after the version that the token names.
    let after = match input.next_token.as_deref().filter(|token| !token.is_empty()) {
        None => 0,
        Some(token) => {
            token.parse().map_err(|_| from_control(control::ControlError::BadPageToken))?
        }
    };
    let mut rest = versions.iter().filter(|parameter| parameter.version > after);
    let page: Vec<&Parameter> =
        rest.by_ref().take(input.max_results.unwrap_or(HISTORY_MAX)).collect();
    let shown: Vec<Value> = page
        .iter()
        .map(|parameter| {
            let mut shown = members(parameter);
            shown.insert("Value".to_owned(), json!(input.value(parameter)));
            shown.insert("Labels".to_owned(), json!(parameter.labels));
            Value::Object(shown)
        })
        .collect();
    let mut reply = json!({ "Parameters": shown });
    if let (Some(_), Some(last), Some(members)) = (rest.next(), page.last(), reply.as_object_mut())
    {
        members.insert("NextToken".to_owned(), json!(last.version.to_string()));
    }
    Ok(Reply::ok(reply))
}
