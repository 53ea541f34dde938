//! `PutParameter`, `DeleteParameter` and `DeleteParameters`.

use super::{
    error::{from_control, not_found, validation},
    name::authorized_name,
    shapes::{BOOLEAN, NAME, OF_NAME, OF_NAMES, TAGS},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape, UNLIMITED},
};
use control::{
    ControlError, Existing, ParameterAbout, ParameterTier, ParameterType, PutParameter,
    VersionSelector,
};
use regex::RegexBuilder;
use serde::Deserialize;
use serde_json::json;

/// Largest compiled pattern in bytes.
const PATTERN_BYTES_MAX: usize = 256 * 1024;

static DESCRIPTION: Shape = Shape::text(0, 1024);
static VALUE: Shape = Shape::secret(0, UNLIMITED);
static TYPE: Shape = Shape::Choice(&["String", "StringList", "SecureString"]);
static PATTERN: Shape = Shape::text(0, 1024);
static TIER: Shape = Shape::Choice(&["Standard", "Advanced", "Intelligent-Tiering"]);
static DATA_TYPE: Shape = Shape::text(0, 128);
static INPUT: Shape = Shape::Structure(&[
    Member::required("Name", &NAME),
    Member::optional("Description", &DESCRIPTION),
    Member::required("Value", &VALUE),
    Member::optional("Type", &TYPE),
    Member::unavailable("KeyId"),
    Member::optional("Overwrite", &BOOLEAN),
    Member::optional("AllowedPattern", &PATTERN),
    Member::optional("Tags", &TAGS),
    Member::optional("Tier", &TIER),
    Member::unavailable("Policies"),
    Member::optional("DataType", &DATA_TYPE),
]);

pub(super) static PUT: Operation =
    Operation { name: "PutParameter", route: None, input: &INPUT, run: |call| Box::pin(put(call)) };
pub(super) static DELETE: Operation = Operation {
    name: "DeleteParameter",
    route: None,
    input: &OF_NAME,
    run: |call| Box::pin(delete(call)),
};
pub(super) static DELETE_SEVERAL: Operation = Operation {
    name: "DeleteParameters",
    route: None,
    input: &OF_NAMES,
    run: |call| Box::pin(delete_several(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    name: String,
    description: Option<String>,
    value: String,
    r#type: Option<String>,
    #[serde(default)]
    overwrite: bool,
    allowed_pattern: Option<String>,
    #[serde(default)]
    tags: Vec<Tag>,
    tier: Option<String>,
    data_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Tag {
    pub(super) key: String,
    pub(super) value: String,
}

async fn put(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let name = authorized_name(&call, &input.name)?;
    if input.overwrite && !input.tags.is_empty() {
        return Err(validation(
            "Invalid request: tags and overwrite can't be used together. To create a parameter with \
             tags, please remove overwrite flag. To update tags for an existing parameter, please \
             use AddTagsToResource or RemoveTagsFromResource.",
        ));
    }
    if input.data_type.as_deref().is_some_and(|kind| kind != "text") {
        return Err(validation("DataType: only text is available in this Warren."));
    }
    let parameters = call.state.control.parameters();
    let before = match parameters.get(&name, &VersionSelector::Newest).await {
        Ok(before) => Some(before.about),
        Err(ControlError::ParameterNotFound(_)) => None,
        Err(error) => return Err(from_control(error)),
    };
    let asked = input
        .r#type
        .and_then(|text| ParameterType::ALL.iter().copied().find(|kind| kind.as_str() == text));
    let kind = match (asked, &before) {
        (None, None) => {
            return Err(validation("A parameter type is required when you create a parameter."));
        }
        (Some(asked), Some(before)) if input.overwrite && asked != before.kind => {
            return Err(ApiError::bad(
                "HierarchyTypeMismatchException",
                format!(
                    "The parameter {name} is of the type {}, which cannot be changed.",
                    before.kind.as_str()
                ),
            ));
        }
        (Some(asked), _) => asked,
        (None, Some(before)) => before.kind,
    };
    if let Some(pattern) = &input.allowed_pattern {
        fits(pattern, &input.value)?;
    }
    let fits_standard = input.value.len() <= ParameterTier::Standard.bytes_max();
    let tier = match (input.tier.as_deref(), &before) {
        (Some("Advanced"), _) => ParameterTier::Advanced,
        (Some("Intelligent-Tiering"), _) if !fits_standard => ParameterTier::Advanced,
        (None, Some(before)) => before.tier,
        (_, Some(before)) if before.tier == ParameterTier::Advanced => ParameterTier::Advanced,
        (Some(_) | None, _) => ParameterTier::Standard,
    };
    let before_description = before.and_then(|before| before.description);
    let about = ParameterAbout {
        kind,
        tier,
        description: input.description.or(before_description),
        allowed_pattern: input.allowed_pattern,
        modified_by: call.principal.arn().to_owned(),
    };
    let request = PutParameter {
        name,
        value: input.value,
        about,
        existing: if input.overwrite { Existing::Overwrite } else { Existing::Refuse },
        tags: input.tags.into_iter().map(|tag| (tag.key, tag.value)).collect(),
    };
    let version = parameters.put(request).await.map_err(from_control)?;
    Ok(Reply::ok(json!({ "Version": version, "Tier": tier.as_str() })))
}

fn fits(pattern: &str, value: &str) -> Result<(), ApiError> {
    let compiled = RegexBuilder::new(&format!("^(?:{pattern})$"))
        .size_limit(PATTERN_BYTES_MAX)
        .build()
        .map_err(|_| {
            let message = format!("The pattern {pattern} is not a regular expression.");
            ApiError::bad("InvalidAllowedPatternException", message)
        })?;
    if compiled.is_match(value) {
        return Ok(());
    }
    let message = format!("Parameter value, cannot be validated against allowedPattern: {pattern}");
    Err(ApiError::bad("ParameterPatternMismatchException", message))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OfName {
    name: String,
}

async fn delete(call: Call) -> Result<Reply, ApiError> {
    let input: OfName = call.input()?;
    let name = authorized_name(&call, &input.name)?;
    let there_was = call.state.control.parameters().delete(&name).await.map_err(from_control)?;
    if there_was { Ok(Reply::ok(json!({}))) } else { Err(not_found(name.as_str())) }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OfNames {
    names: Vec<String>,
}

async fn delete_several(call: Call) -> Result<Reply, ApiError> {
    let input: OfNames = call.input()?;
    // All rights first: nothing is deleted for a caller who may not delete all of it.
    let names = input.names.iter().map(|name| authorized_name(&call, name));
    let names = names.collect::<Result<Vec<_>, _>>()?;
    let (mut deleted, mut invalid) = (Vec::new(), Vec::new());
    for name in names {
        let there_was =
            call.state.control.parameters().delete(&name).await.map_err(from_control)?;
        if there_was { &mut deleted } else { &mut invalid }.push(name.to_string());
    }
    Ok(Reply::ok(json!({ "DeletedParameters": deleted, "InvalidParameters": invalid })))
}
