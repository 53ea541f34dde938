//! `GetCallerIdentity`: needs no right, as on AWS.

use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::Shape,
};
use serde_json::json;

static INPUT: Shape = Shape::Structure(&[]);

pub(super) static OPERATION: Operation = Operation {
    name: "GetCallerIdentity",
    route: None,
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

async fn run(call: Call) -> Result<Reply, ApiError> {
    Ok(Reply::ok(json!({
        "Arn": call.principal.arn(),
        "UserId": call.principal.user_id(),
        "Account": call.principal.account(),
    })))
}
