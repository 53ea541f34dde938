//! `RunMicrovm`: the launch path. Rights on the image, on the role that is passed and on every
//! connector, defaults included; then `control` records the VM and answers PENDING.

use super::{
    describe,
    error::{bad_id, from_control, validation},
    identifier::{BadArnText, authorize_on_image, image_arn, version_argument},
    logging::{LoggingInput, logging},
    network::{self, Direction},
    shapes::{BOOLEAN, CLIENT_TOKEN, CONNECTORS, IMAGE_IDENTIFIER, LOGGING, ROLE_ARN, VERSION},
};
use crate::{
    error::ApiError,
    iam::Context,
    protocol::Reply,
    service::{Call, Operation},
    shape::{Member, Shape},
};
use control::{
    AutoResume, ClientToken, IdlePolicy, ImageArn, ImageVersion, MAXIMUM_DURATION, RoleArn,
    RunMicrovm,
};
use http::Method;
use serde::Deserialize;
use std::time::Duration;

static IDLE_SECONDS: Shape = Shape::Integer { min: 60, max: i64::MAX };
static SUSPENDED_SECONDS: Shape = Shape::Integer { min: 0, max: i64::MAX };
static IDLE_POLICY: Shape = Shape::Structure(&[
    Member::required("maxIdleDurationSeconds", &IDLE_SECONDS),
    Member::required("suspendedDurationSeconds", &SUSPENDED_SECONDS),
    Member::required("autoResumeEnabled", &BOOLEAN),
]);
static PAYLOAD: Shape = Shape::secret(0, control::RUN_HOOK_PAYLOAD_BYTES_MAX);
static DURATION: Shape = Shape::Integer { min: 1, max: MAXIMUM_DURATION.as_secs() as i64 };
static INPUT: Shape = Shape::Structure(&[
    Member::optional("ingressNetworkConnectors", &CONNECTORS),
    Member::optional("egressNetworkConnectors", &CONNECTORS),
    Member::required("imageIdentifier", &IMAGE_IDENTIFIER),
    Member::optional("imageVersion", &VERSION),
    Member::optional("executionRoleArn", &ROLE_ARN),
    Member::optional("idlePolicy", &IDLE_POLICY),
    Member::optional("logging", &LOGGING),
    Member::optional("runHookPayload", &PAYLOAD),
    Member::optional("maximumDurationInSeconds", &DURATION),
    Member::optional("clientToken", &CLIENT_TOKEN),
]);

pub(super) static OPERATION: Operation = Operation {
    name: "RunMicrovm",
    route: Some((Method::POST, "/2025-09-09/microvms")),
    input: &INPUT,
    run: |call| Box::pin(run(call)),
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    ingress_network_connectors: Option<Vec<String>>,
    egress_network_connectors: Option<Vec<String>>,
    image_identifier: String,
    image_version: Option<String>,
    execution_role_arn: Option<String>,
    idle_policy: Option<IdlePolicyInput>,
    logging: Option<LoggingInput>,
    run_hook_payload: Option<String>,
    maximum_duration_in_seconds: Option<u64>,
    client_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IdlePolicyInput {
    max_idle_duration_seconds: u64,
    suspended_duration_seconds: u64,
    auto_resume_enabled: bool,
}

async fn run(call: Call) -> Result<Reply, ApiError> {
    let input: Input = call.input()?;
    let arn = image_arn(&call, &input.image_identifier, BadArnText::Run).await?;
    authorize_on_image(&call, &arn, Context::default()).await?;
    let execution_role = input.execution_role_arn.as_deref().map(RoleArn::parse).transpose();
    let execution_role = execution_role.map_err(|error| bad_id(&error))?;
    if let Some(role) = &execution_role {
        call.authorize_pass_role(role, &arn.to_string())?;
    }
    let version = input.image_version.as_deref().map(version_argument).transpose()?;
    let ingress = input.ingress_network_connectors.unwrap_or_default();
    let egress = input.egress_network_connectors.unwrap_or_default();
    authorize_connectors(&call, &ingress, Direction::Ingress, &arn, version).await?;
    authorize_connectors(&call, &egress, Direction::Egress, &arn, version).await?;
    network::check(&call, &ingress, Direction::Ingress).await?;
    network::check(&call, &egress, Direction::Egress).await?;

    let client_token = input.client_token.as_deref().map(ClientToken::parse).transpose();
    let request = RunMicrovm {
        version,
        execution_role,
        idle_policy: input.idle_policy.map(idle_policy).transpose()?,
        logging: logging(input.logging)?,
        run_hook_payload: input.run_hook_payload,
        maximum_duration: input
            .maximum_duration_in_seconds
            .map_or(MAXIMUM_DURATION, Duration::from_secs),
        ingress_connectors: ingress,
        egress_connectors: egress,
        client_token: client_token.map_err(|error| bad_id(&error))?,
        ..RunMicrovm::of(arn.name)
    };
    let microvm = call.state.control.run_microvm(request).await.map_err(from_control)?;
    Ok(Reply::ok(describe::microvm(&microvm)))
}

/// PassNetworkConnector on each connector that the VM will have.
async fn authorize_connectors(
    call: &Call,
    given: &[String],
    direction: Direction,
    image: &ImageArn,
    version: Option<ImageVersion>,
) -> Result<(), ApiError> {
    let defaults;
    let effective = match (given, direction) {
        ([], Direction::Ingress) => {
            defaults = vec![network::managed(call, "HTTP_INGRESS")];
            &defaults
        }
        ([], Direction::Egress) => {
            defaults = image_egress(call, image, version).await;
            &defaults
        }
        (given, Direction::Ingress | Direction::Egress) => given,
    };
    network::authorize(call, effective)
}

/// The connectors of the image's version. One that does not exist has the default: that it is
/// missing is told after the rights are known.
async fn image_egress(call: &Call, image: &ImageArn, version: Option<ImageVersion>) -> Vec<String> {
    let images = call.state.control.images();
    let version = match version {
        Some(version) => Some(version),
        None => images.get(&image.name).await.ok().and_then(|image| image.latest_active_version),
    };
    let connectors = match version {
        Some(version) => images.version(&image.name, version).await.ok(),
        None => None,
    }
    .map(|version| version.spec.egress_connectors)
    .unwrap_or_default();
    if connectors.is_empty() { vec![network::managed(call, "INTERNET_EGRESS")] } else { connectors }
}

/// Limits that the model leaves to the service: its guide's, and what its integers hold.
fn idle_policy(input: IdlePolicyInput) -> Result<IdlePolicy, ApiError> {
    let limits = [
        ("maxIdleDurationSeconds", input.max_idle_duration_seconds, MAXIMUM_DURATION.as_secs()),
        ("suspendedDurationSeconds", input.suspended_duration_seconds, i32::MAX as u64),
    ];
    if let Some((member, value, max)) = limits.into_iter().find(|(_, value, max)| value > max) {
        return Err(validation(format!(
            "1 validation error detected: Value '{value}' at 'idlePolicy.{member}' failed to satisfy \
             constraint: Member must have value less than or equal to {max}"
        )));
    }
    Ok(IdlePolicy {
        max_idle: Duration::from_secs(input.max_idle_duration_seconds),
        suspended: Duration::from_secs(input.suspended_duration_seconds),
        auto_resume: if input.auto_resume_enabled {
            AutoResume::Enabled
        } else {
            AutoResume::Disabled
        },
    })
}
