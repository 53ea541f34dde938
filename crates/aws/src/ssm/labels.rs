//! `LabelParameterVersion` and `UnlabelParameterVersion`.

use super::{
    error::from_control,
    name::authorized_name,
    shapes::{NAME, VERSION},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use serde::Deserialize;
use serde_json::json;

static LABEL_TEXT: Shape = Shape::text(1, 100);
static LABELS: Shape = Shape::List { min: 1, max: 10, of: &LABEL_TEXT };
static LABEL_INPUT: Shape = Shape::Structure(&[
    Member::required("Name", &NAME),
    Member::optional("ParameterVersion", &VERSION),
    Member::required("Labels", &LABELS),
]);
static UNLABEL_INPUT: Shape = Shape::Structure(&[
    Member::required("Name", &NAME),
    Member::required("ParameterVersion", &VERSION),
    Member::required("Labels", &LABELS),
]);

pub(super) static LABEL: Operation = Operation {
    name: "LabelParameterVersion",
    route: None,
    input: &LABEL_INPUT,
    run: |call| Box::pin(label(call)),
};
pub(super) static UNLABEL: Operation = Operation {
    name: "UnlabelParameterVersion",
    route: None,
    input: &UNLABEL_INPUT,
    run: |call| Box::pin(unlabel(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    name: String,
    parameter_version: Option<i64>,
    labels: Vec<String>,
}

impl Input {
    /// No version is negative: one that is given so names none.
    fn version(&self) -> Option<u64> {
        self.parameter_version.map(|version| u64::try_from(version).unwrap_or(0))
    }
}

/// Letters, digits, `.`, `-` and `_`; not beginning with a digit, `aws` or `ssm`.
fn is_label(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let good = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    text.chars().all(good)
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && !lower.starts_with("aws")
        && !lower.starts_with("ssm")
}

async fn label(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let name = authorized_name(&call, &input.name)?;
    let (good, invalid): (Vec<String>, Vec<String>) =
        input.labels.iter().cloned().partition(|label| is_label(label));
    let parameters = call.state.control.parameters();
    let labelled = parameters.label(&name, input.version(), &good).await;
    let version = labelled.map_err(from_control)?;
    Ok(Reply::ok(json!({ "InvalidLabels": invalid, "ParameterVersion": version })))
}

async fn unlabel(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let name = authorized_name(&call, &input.name)?;
    let version = input.version().unwrap_or(0);
    let parameters = call.state.control.parameters();
    let missing = parameters.unlabel(&name, version, &input.labels).await.map_err(from_control)?;
    let removed: Vec<&String> =
        input.labels.iter().filter(|label| !missing.contains(label)).collect();
    Ok(Reply::ok(json!({ "RemovedLabels": removed, "InvalidLabels": missing })))
}
