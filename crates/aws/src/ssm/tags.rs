//! Tags of parameters: `AddTagsToResource`, `RemoveTagsFromResource`, `ListTagsForResource`.

use super::{
    error::{from_control, validation},
    name::authorized_name,
    put_parameter::Tag,
    shapes::{TAG_KEY, TAGS},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape, UNLIMITED},
};
use control::{ControlError, ParameterName};
use serde::Deserialize;
use serde_json::{Value, json};

/// Most tags of a parameter, as on AWS.
const TAGS_MAX: usize = 50;

static KIND: Shape = Shape::Choice(&[
    "Document",
    "ManagedInstance",
    "MaintenanceWindow",
    "Parameter",
    "PatchBaseline",
    "OpsItem",
    "OpsMetadata",
    "Automation",
    "Association",
    "CloudConnector",
]);
static ID: Shape = Shape::text(0, UNLIMITED);
static KEYS: Shape = Shape::List { min: 0, max: UNLIMITED, of: &TAG_KEY };
static ADD_INPUT: Shape = Shape::Structure(&[
    Member::required("ResourceType", &KIND),
    Member::required("ResourceId", &ID),
    Member::required("Tags", &TAGS),
]);
static REMOVE_INPUT: Shape = Shape::Structure(&[
    Member::required("ResourceType", &KIND),
    Member::required("ResourceId", &ID),
    Member::required("TagKeys", &KEYS),
]);
static LIST_INPUT: Shape = Shape::Structure(&[
    Member::required("ResourceType", &KIND),
    Member::required("ResourceId", &ID),
]);

pub(super) static ADD: Operation = Operation {
    name: "AddTagsToResource",
    route: None,
    input: &ADD_INPUT,
    run: |call| Box::pin(add(call)),
};
pub(super) static REMOVE: Operation = Operation {
    name: "RemoveTagsFromResource",
    route: None,
    input: &REMOVE_INPUT,
    run: |call| Box::pin(remove(call)),
};
pub(super) static LIST: Operation = Operation {
    name: "ListTagsForResource",
    route: None,
    input: &LIST_INPUT,
    run: |call| Box::pin(list(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    resource_type: String,
    resource_id: String,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(default)]
    tag_keys: Vec<String>,
}

impl Input {
    fn parameter(&self, call: &Call) -> Result<ParameterName, ApiError> {
        if self.resource_type != "Parameter" {
            return Err(validation("ResourceType: only Parameter is available in this Warren."));
        }
        authorized_name(call, &self.resource_id)
    }
}

fn of_resource(error: ControlError) -> ApiError {
    match error {
        ControlError::ParameterNotFound(name) => ApiError::bad(
            "InvalidResourceId",
            format!("The resource ID {name} is not valid. Verify that you entered the correct ID."),
        ),
        other => from_control(other),
    }
}

async fn add(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let name = input.parameter(&call)?;
    let parameters = call.state.control.parameters();
    let mut tags = parameters.tags(&name).await.map_err(of_resource)?;
    tags.extend(input.tags.into_iter().map(|tag| (tag.key, tag.value)));
    if tags.len() > TAGS_MAX {
        let message = format!("A parameter may have {TAGS_MAX} tags.");
        return Err(ApiError::bad("TooManyTagsError", message));
    }
    parameters.set_tags(&name, &tags).await.map_err(of_resource)?;
    Ok(Reply::ok(json!({})))
}

async fn remove(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let name = input.parameter(&call)?;
    let parameters = call.state.control.parameters();
    let mut tags = parameters.tags(&name).await.map_err(of_resource)?;
    tags.retain(|key, _| !input.tag_keys.contains(key));
    parameters.set_tags(&name, &tags).await.map_err(of_resource)?;
    Ok(Reply::ok(json!({})))
}

async fn list(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let name = input.parameter(&call)?;
    let tags = call.state.control.parameters().tags(&name).await.map_err(of_resource)?;
    let tags: Vec<Value> =
        tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect();
    Ok(Reply::ok(json!({ "TagList": tags })))
}
