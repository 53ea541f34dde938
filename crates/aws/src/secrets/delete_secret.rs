//! `DeleteSecret`: after a recovery window, or at once.

use super::{
    error::{from_control, parameter},
    secret_id::authorized_secret,
    shapes::{BOOLEAN, SECRET_ID},
};
use crate::{
    error::ApiError,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use control::SecretDeletion;
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

/// Where the caller gives none.
const RECOVERY_DAYS: u64 = 30;
const DAY: Duration = Duration::from_secs(24 * 3600);

static DAYS: Shape = Shape::Integer { min: i64::MIN, max: i64::MAX };
static INPUT: Shape = Shape::Structure(&[
    Member::required("SecretId", &SECRET_ID),
    Member::optional("RecoveryWindowInDays", &DAYS),
    Member::optional("ForceDeleteWithoutRecovery", &BOOLEAN),
]);

pub(super) static OPERATION: Operation =
    Operation { name: "DeleteSecret", route: None, input: &INPUT, run: |call| Box::pin(run(call)) };

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    secret_id: String,
    recovery_window_in_days: Option<i64>,
    force_delete_without_recovery: Option<bool>,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let secret = authorized_secret(&call, &input.secret_id).await?;
    let how = match (input.force_delete_without_recovery, input.recovery_window_in_days) {
        (Some(true), Some(_)) => {
            return Err(parameter(
                "You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.",
            ));
        }
        (Some(true), None) => SecretDeletion::Force,
        (Some(false) | None, days) => {
            let days = days.map_or(Some(RECOVERY_DAYS), |days| u64::try_from(days).ok());
            let days = days.and_then(|days| u32::try_from(days).ok());
            let days = days.filter(|days| (7..=30).contains(days)).ok_or_else(|| {
                parameter(
                    "The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).",
                )
            })?;
            SecretDeletion::After(DAY * days)
        }
    };
    let secrets = call.state.control.secrets();
    let secret = secrets.delete(&secret.arn, how).await.map_err(from_control)?;
    let mut reply = json!({ "ARN": secret.arn, "Name": secret.name.as_str() });
    if let (Some(at), Some(members)) = (secret.deletion_at, reply.as_object_mut()) {
        members.insert("DeletionDate".to_owned(), json!(at.seconds()));
    }
    Ok(Reply::ok(reply))
}
