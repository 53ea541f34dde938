//! `AssumeRole`: credentials of a role for a while. The role's trust policy decides, and the
//! caller's own policies where that names only the account.
//!
//! Session tags are taken and have no effect yet: AWS's own service role sessions carry them, and
//! no policy here looks at them.

use crate::{
    auth::role_id,
    error::ApiError,
    iam::PolicyDocument,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use control::{IssueRequest, RoleArn};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

/// Where the caller gives none, in seconds.
const DURATION_S: u64 = 3600;
/// Most characters of a session policy; it travels in the session token, in a header.
const SESSION_POLICY_CHARS_MAX: usize = 2048;

static ROLE_ARN: Shape = Shape::text(20, 2048);
static SESSION_NAME: Shape = Shape::matching(2, 64, r"[\w+=,.@-]*");
static POLICY: Shape = Shape::text(1, SESSION_POLICY_CHARS_MAX);
static DURATION: Shape = Shape::Integer { min: 900, max: 43_200 };
static TAG_KEY: Shape = Shape::matching(1, 128, r"[\p{L}\p{Z}\p{N}_.:/=+\-@]+");
static TAG_VALUE: Shape = Shape::matching(0, 256, r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*");
static TAG: Shape =
    Shape::Structure(&[Member::required("Key", &TAG_KEY), Member::required("Value", &TAG_VALUE)]);
static TAGS: Shape = Shape::List { min: 0, max: 50, of: &TAG };
static TAG_KEYS: Shape = Shape::List { min: 0, max: 50, of: &TAG_KEY };
static EXTERNAL_ID: Shape = Shape::matching(2, 1224, r"[\w+=,.@:\/-]*");
static INPUT: Shape = Shape::Structure(&[
    Member::required("RoleArn", &ROLE_ARN),
    Member::required("RoleSessionName", &SESSION_NAME),
    Member::unavailable("PolicyArns"),
    Member::optional("Policy", &POLICY),
    Member::optional("DurationSeconds", &DURATION),
    Member::optional("Tags", &TAGS),
    Member::optional("TransitiveTagKeys", &TAG_KEYS),
    Member::optional("ExternalId", &EXTERNAL_ID),
    Member::unavailable("SerialNumber"),
    Member::unavailable("TokenCode"),
    Member::unavailable("SourceIdentity"),
    Member::unavailable("ProvidedContexts"),
    Member::unavailable("MinimumSessionTokenSize"),
]);

pub(super) static OPERATION: Operation =
    Operation { name: "AssumeRole", route: None, input: &INPUT, run: |call| Box::pin(run(call)) };

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    role_arn: String,
    role_session_name: String,
    policy: Option<String>,
    external_id: Option<String>,
    duration_seconds: Option<u64>,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let role = RoleArn::parse(&input.role_arn)
        .map_err(|_| ApiError::bad("ValidationError", format!("{} is invalid", input.role_arn)))?;
    let authenticator = &call.state.authenticator;
    let mut context = call.context.clone();
    context.set("sts:RoleSessionName", input.role_session_name.clone());
    if let Some(external_id) = &input.external_id {
        context.set("sts:ExternalId", external_id.clone());
    }
    // A role that does not exist trusts nobody, and the answer says no more than that.
    authenticator
        .authorize_assume(&call.principal, &role, &context)
        .map_err(|denied| call.access_denied(denied.to_string()))?;
    if let Some(policy) = &input.policy {
        PolicyDocument::parse(policy)
            .map_err(|error| ApiError::bad("MalformedPolicyDocument", error.to_string()))?;
    }
    let issued = call.state.control.credentials().issue(IssueRequest {
        role: role.clone(),
        session_name: input.role_session_name.clone(),
        duration: Duration::from_secs(input.duration_seconds.unwrap_or(DURATION_S)),
        session_policy: input.policy,
    });
    let session = &input.role_session_name;
    Ok(Reply::ok(json!({
        "Credentials": {
            "AccessKeyId": issued.access_key_id,
            "SecretAccessKey": issued.secret_access_key.expose(),
            "SessionToken": issued.session_token,
            "Expiration": issued.expiration.to_string(),
        },
        "AssumedRoleUser": {
            "AssumedRoleId": format!("{}:{session}", role_id(call.account(), role.name())),
            "Arn": format!("arn:aws:sts::{}:assumed-role/{}/{session}", role.account(), role.name()),
        },
    })))
}
