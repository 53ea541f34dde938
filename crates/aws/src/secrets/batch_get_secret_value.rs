//! `BatchGetSecretValue`: by ids, or by the filters of ListSecrets.

use super::{
    error::{from_control, parameter},
    get_secret_value::opened,
    list_secrets::{FILTERS, Filter},
    shapes::SECRET_ID,
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use control::{PageRequest, SecretSelector};
use serde::Deserialize;
use serde_json::{Value, json};

/// Secrets of a page, where the caller sets no number.
const SECRETS_MAX: usize = 20;

static IDS: Shape = Shape::List { min: 1, max: 20, of: &SECRET_ID };
static RESULTS: Shape = Shape::Integer { min: 1, max: 20 };
static TOKEN: Shape = Shape::text(1, 4096);
static INPUT: Shape = Shape::Structure(&[
    Member::optional("SecretIdList", &IDS),
    Member::optional("Filters", &FILTERS),
    Member::optional("MaxResults", &RESULTS),
    Member::optional("NextToken", &TOKEN),
]);

pub(super) static OPERATION: Operation = Operation {
    name: "BatchGetSecretValue",
    route: None,
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    secret_id_list: Option<Vec<String>>,
    filters: Option<Vec<Filter>>,
    max_results: Option<usize>,
    next_token: Option<String>,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    call.authorize("*")?;
    let mut next = None;
    let ids = match (input.secret_id_list, input.filters) {
        (Some(ids), None) if input.max_results.is_none() => ids,
        (None, Some(filters)) => {
            let items_max = input.max_results.unwrap_or(SECRETS_MAX);
            let page = PageRequest { items_max, token: input.next_token };
            let page = call.state.control.secrets().list(page).await.map_err(from_control)?;
            next = page.next_token;
            let fitting = page.items.into_iter();
            let fitting = fitting.filter(|secret| filters.iter().all(|filter| filter.fits(secret)));
            fitting.map(|secret| secret.arn).collect()
        }
        (_, _) => {
            return Err(parameter(
                "Either 'SecretIdList' or 'Filters' must be provided, but not both; 'MaxResults' \
                 goes with 'Filters'.",
            ));
        }
    };
    let (mut values, mut errors) = (Vec::new(), Vec::new());
    for id in ids {
        match value(&call, &id).await {
            Ok(value) => values.push(value),
            Err(error) => errors.push(json!({
                "SecretId": id,
                "ErrorCode": error.code,
                "Message": error.message,
            })),
        }
    }
    let mut reply = json!({ "SecretValues": values, "Errors": errors });
    if let (Some(token), Some(members)) = (next, reply.as_object_mut()) {
        members.insert("NextToken".to_owned(), json!(token));
    }
    Ok(Reply::ok(reply))
}

/// As GetSecretValue answers, with the right of that.
async fn value(call: &Call, id: &str) -> Result<Value, ApiError> {
    const ACTION: &str = "secretsmanager:GetSecretValue";
    let none = crate::iam::Context::default();
    let secrets = call.state.control.secrets();
    let secret = match secrets.describe(id).await {
        Ok(secret) => secret,
        Err(error) => {
            call.authorize_action(ACTION, None, &none)?;
            return Err(from_control(error));
        }
    };
    call.authorize_action(ACTION, Some(&secret.arn), &none)?;
    let found = secrets.get(&secret.arn, SecretSelector::default()).await.map_err(from_control)?;
    Ok(opened(found))
}
