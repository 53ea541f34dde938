//! The five calls to Lambda MicroVMs that a launcher needs, and what their answers mean to it.
//!
//! What counts here is whether a failed RunMicrovm left the outcome open. A refusal launched
//! nothing; a time-out or a 5xx may have, and only the same request with the same token settles it.

use crate::{
    aws::{AwsClients, code_of, full_message},
    claim::Claim,
    config::{AtEnd, IdlePolicy, LauncherConfig, MAX_DURATION_SECONDS_DEFAULT, ResumeOn},
    sessions::Demand,
};
use agents::SessionId;
use aws_sdk_lambdamicrovms::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    operation::{
        get_microvm::GetMicrovmError, resume_microvm::ResumeMicrovmError,
        run_microvm::RunMicrovmError, terminate_microvm::TerminateMicrovmError,
    },
    types::{self, CloudWatchLogging, Logging, MicrovmState},
};
use aws_smithy_runtime_api::http::Response as HttpResponse;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// Longest run hook payload, bytes; 4097 is refused by the service.
const RUN_HOOK_PAYLOAD_BYTES_MAX: usize = 4096;
/// How long a VM may take to get from SUSPENDING to SUSPENDED before the delivery gives up on it.
const SUSPENDING_WAIT_MAX: Duration = Duration::from_secs(5);
const SUSPENDING_POLL: Duration = Duration::from_millis(250);
/// Names no VM. AWS answers ids of another form with an HTML page.
const NO_SUCH_MICROVM: &str = "microvm-00000000-0000-0000-0000-000000000000";

/// One RunMicrovm request, kept in the store so that it can be repeated to the letter: AWS refuses
/// a client token that comes back with other parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunRequest {
    pub(crate) client_token: String,
    image_identifier: String,
    image_version: Option<String>,
    execution_role_arn: Option<String>,
    max_duration_seconds: i32,
    idle_policy: Option<IdlePolicy>,
    log_group: Option<String>,
    ingress_connectors: Vec<String>,
    egress_connectors: Vec<String>,
    run_hook_payload: String,
}

/// The payload would be refused by the service.
#[derive(Debug, thiserror::Error)]
#[error(
    "the run hook payload of session {session} has {bytes} bytes, at most \
     {RUN_HOOK_PAYLOAD_BYTES_MAX} are allowed: shorten the environment key's name or the platform's URL"
)]
pub(crate) struct PayloadTooLong {
    session: SessionId,
    bytes: usize,
}

/// What the worker in the VM reads, as the reference sample writes it: ids, and either the name of the
/// environment key, with which the worker polls for its item, or the item itself with its own secret, by
/// the names that the official SDKs' `handleItem` has for them. Never the environment key.
#[derive(Serialize)]
struct Payload<'a> {
    version: &'static str,
    session: PayloadSession<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
struct PayloadSession<'a> {
    anthropic_session_id: &'a str,
    anthropic_environment_id: &'a str,
    aws_region: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment_key_secret_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    anthropic_work_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    anthropic_work_secret: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    anthropic_base_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warren_at_end: Option<&'static str>,
}

impl RunRequest {
    /// The request for a session's `generation`-th VM.
    pub(crate) fn new(
        config: &LauncherConfig,
        demand: &Demand,
        generation: i64,
    ) -> Result<Self, PayloadTooLong> {
        let Demand { session, environment, claim, .. } = demand;
        let key = config.environment_key_secret_id.as_str();
        let sleeps = match config.vm.at_end {
            AtEnd::Suspend { seconds } if claim.is_none() => Some(seconds),
            AtEnd::Keep if claim.is_none() => Some(MAX_DURATION_SECONDS_DEFAULT),
            AtEnd::Suspend { .. } | AtEnd::Keep | AtEnd::Terminate => None,
        };
        let payload = Payload {
            version: "1",
            session: PayloadSession {
                anthropic_session_id: session.as_str(),
                anthropic_environment_id: environment.as_str(),
                aws_region: &config.region,
                environment_key_secret_id: claim.is_none().then_some(key),
                anthropic_work_id: claim.as_ref().map(|claim| claim.work.as_str()),
                anthropic_work_secret: claim.as_ref().map(|claim| claim.secret.as_str()),
                anthropic_base_url: config.guest_platform_url.as_deref(),
                warren_at_end: sleeps.is_some().then_some("suspend"),
            },
        };
        // Strings in a struct: serialising them cannot fail, and an empty payload would be refused
        // by the worker by name.
        let run_hook_payload = serde_json::to_string(&payload).unwrap_or_default();
        if run_hook_payload.len() > RUN_HOOK_PAYLOAD_BYTES_MAX {
            return Err(PayloadTooLong { session: session.clone(), bytes: run_hook_payload.len() });
        }
        let vm = &config.vm;
        Ok(Self {
            client_token: client_token(session, claim.as_ref(), generation),
            image_identifier: vm.image_identifier.clone(),
            image_version: vm.image_version.clone(),
            execution_role_arn: vm.execution_role_arn.clone(),
            max_duration_seconds: vm.max_duration_seconds,
            idle_policy: sleeps.map(sleeping).or_else(|| vm.idle_policy.clone()),
            log_group: vm.log_group.clone(),
            ingress_connectors: vm.ingress_connectors.clone(),
            egress_connectors: vm.egress_connectors.clone(),
            run_hook_payload,
        })
    }

    /// What may be kept of it for good.
    pub(crate) fn without_payload(&self) -> Self {
        Self { run_hook_payload: String::new(), ..self.clone() }
    }

    pub(crate) fn run_hook_payload(&self) -> &str {
        &self.run_hook_payload
    }

    pub(crate) fn image_identifier(&self) -> &str {
        &self.image_identifier
    }
}

/// The worker suspends its VM itself; this policy is there for the end of the suspension.
fn sleeping(seconds: i32) -> IdlePolicy {
    IdlePolicy {
        max_idle_seconds: MAX_DURATION_SECONDS_DEFAULT,
        suspended_seconds: seconds,
        resume: ResumeOn::RequestOnly,
    }
}

/// A token that depends on the session, its item and the count of its VMs alone: a launcher that lost
/// its database, or a second one, asks with the same token and gets the same VM. Hashed, as a session
/// id may be longer than the 128 characters of a token.
fn client_token(session: &SessionId, claim: Option<&Claim>, generation: i64) -> String {
    let mut hash = Sha256::new_with_prefix(session.as_str());
    if let Some(claim) = claim {
        hash.update("/");
        hash.update(claim.work.as_str());
    }
    format!("warren-{}-{generation}", hex::encode(hash.finalize()))
}

/// What RunMicrovm answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) microvm_id: String,
    /// Unix time, seconds.
    pub(crate) started_at: i64,
}

/// RunMicrovm did not give a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RunFailure {
    /// AWS said no, with this code (`AccessDeniedException`, …): nothing was launched.
    Refused { code: String, message: String },
    /// Nobody knows whether a VM was launched.
    Open { code: String, message: String },
}

/// What a session's earlier VM is worth now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Alive,
    /// It was suspended and is being resumed.
    Resumed,
    /// It has ended or will within a moment, or nobody remembers it.
    Gone,
}

/// A session's VM could not be looked at or resumed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookError {
    #[error("{operation} failed for {microvm_id}: {code}: {message}")]
    Call { operation: &'static str, microvm_id: String, code: String, message: String },
    #[error("{microvm_id} is still SUSPENDING after {} s", SUSPENDING_WAIT_MAX.as_secs())]
    StillSuspending { microvm_id: String },
}

#[derive(Clone, Debug)]
pub(crate) struct Microvms {
    client: Client,
}

impl Microvms {
    pub(crate) fn new(clients: &AwsClients) -> Self {
        Self { client: clients.microvms.clone() }
    }

    pub(crate) async fn run(&self, request: &RunRequest) -> Result<Run, RunFailure> {
        let logging = request.log_group.as_ref().map(|group| {
            Logging::CloudWatch(CloudWatchLogging::builder().log_group(group).build())
        });
        let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
        let answer = self
            .client
            .run_microvm()
            .client_token(&request.client_token)
            .image_identifier(&request.image_identifier)
            .set_image_version(request.image_version.clone())
            .set_execution_role_arn(request.execution_role_arn.clone())
            .maximum_duration_in_seconds(request.max_duration_seconds)
            .set_idle_policy(request.idle_policy.as_ref().and_then(idle_policy))
            .set_logging(logging)
            .set_ingress_network_connectors(some(&request.ingress_connectors))
            .set_egress_network_connectors(some(&request.egress_connectors))
            .run_hook_payload(&request.run_hook_payload)
            .send()
            .await
            .map_err(|error| run_failure(&error))?;
        Ok(Run {
            microvm_id: answer.microvm_id().to_owned(),
            started_at: answer.started_at().secs(),
        })
    }

    /// Looks whether a VM still serves its session, and resumes it where it is suspended. Endpoint
    /// traffic never will: a worker only calls out, so the policy's auto-resume does not matter.
    pub(crate) async fn wake(&self, microvm_id: &str) -> Result<Found, LookError> {
        let give_up = tokio::time::Instant::now() + SUSPENDING_WAIT_MAX;
        loop {
            match self.state(microvm_id).await? {
                State::Serving => return Ok(Found::Alive),
                State::Ended => return Ok(Found::Gone),
                State::Suspended => match self.resume(microvm_id).await? {
                    Resume::Done => return Ok(Found::Resumed),
                    Resume::Changed => {}
                },
                State::Suspending => {}
            }
            if tokio::time::Instant::now() >= give_up {
                return Err(LookError::StillSuspending { microvm_id: microvm_id.to_owned() });
            }
            tokio::time::sleep(SUSPENDING_POLL).await;
        }
    }

    async fn state(&self, microvm_id: &str) -> Result<State, LookError> {
        match self.client.get_microvm().microvm_identifier(microvm_id).send().await {
            Ok(vm) => Ok(State::from(vm.state())),
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(GetMicrovmError::is_resource_not_found_exception) =>
            {
                Ok(State::Ended)
            }
            Err(error) => Err(look_error("GetMicrovm", microvm_id, &error)),
        }
    }

    async fn resume(&self, microvm_id: &str) -> Result<Resume, LookError> {
        match self.client.resume_microvm().microvm_identifier(microvm_id).send().await {
            Ok(_) => Ok(Resume::Done),
            // Not suspended any more, whatever it is now: the next look tells.
            Err(error)
                if error.as_service_error().is_some_and(|error| {
                    error.is_conflict_exception()
                        || error.is_validation_exception()
                        || error.is_resource_not_found_exception()
                }) =>
            {
                Ok(Resume::Changed)
            }
            Err(error) => {
                Err(look_error::<ResumeMicrovmError>("ResumeMicrovm", microvm_id, &error))
            }
        }
    }

    /// Whether a VM is there and has not ended.
    pub(crate) async fn serves(&self, microvm_id: &str) -> Result<bool, LookError> {
        match self.state(microvm_id).await? {
            State::Serving | State::Suspending | State::Suspended => Ok(true),
            State::Ended => Ok(false),
        }
    }

    /// Ends a VM. One that has ended already, or that nobody knows, is as good.
    pub(crate) async fn end(&self, microvm_id: &str) -> Result<(), LookError> {
        match self.client.terminate_microvm().microvm_identifier(microvm_id).send().await {
            Ok(_) => Ok(()),
            Err(error)
                if error.as_service_error().is_some_and(|error| {
                    error.is_conflict_exception() || error.is_resource_not_found_exception()
                }) =>
            {
                Ok(())
            }
            Err(error) => {
                Err(look_error::<TerminateMicrovmError>("TerminateMicrovm", microvm_id, &error))
            }
        }
    }

    /// Makes a call that changes nothing, so that a connection is open and credentials are there
    /// when the next webhook comes. Its answer does not matter.
    pub(crate) async fn keep_warm(&self) {
        let answer = self.client.get_microvm().microvm_identifier(NO_SUCH_MICROVM).send().await;
        if let Err(error) = answer
            && error.as_service_error().is_none()
        {
            tracing::debug!(error = full_message(&error), "the AWS API does not answer yet");
        }
    }
}

enum State {
    /// PENDING or RUNNING.
    Serving,
    Suspending,
    Suspended,
    /// TERMINATING, TERMINATED or not found.
    Ended,
}

impl From<&MicrovmState> for State {
    fn from(state: &MicrovmState) -> Self {
        match state {
            MicrovmState::Pending | MicrovmState::Running => Self::Serving,
            MicrovmState::Suspending => Self::Suspending,
            MicrovmState::Suspended => Self::Suspended,
            MicrovmState::Terminating | MicrovmState::Terminated => Self::Ended,
            // The SDK's enum is open. A second VM for a session does more harm than a missed one.
            new => {
                tracing::warn!(
                    state = new.as_str(),
                    "a MicroVM state that this version does not know"
                );
                Self::Serving
            }
        }
    }
}

enum Resume {
    Done,
    Changed,
}

fn idle_policy(policy: &IdlePolicy) -> Option<types::IdlePolicy> {
    types::IdlePolicy::builder()
        .max_idle_duration_seconds(policy.max_idle_seconds)
        .suspended_duration_seconds(policy.suspended_seconds)
        .auto_resume_enabled(match policy.resume {
            ResumeOn::EndpointTraffic => true,
            ResumeOn::RequestOnly => false,
        })
        .build()
        // Refuses only where a required member was not set; all three are.
        .ok()
}

fn run_failure(error: &SdkError<RunMicrovmError, HttpResponse>) -> RunFailure {
    let code = code_of(error);
    let message = full_message(error);
    let refused = error.raw_response().is_some_and(|response| response.status().is_client_error())
        && error.as_service_error().is_some();
    if refused { RunFailure::Refused { code, message } } else { RunFailure::Open { code, message } }
}

fn look_error<E>(
    operation: &'static str,
    microvm_id: &str,
    error: &SdkError<E, HttpResponse>,
) -> LookError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    LookError::Call {
        operation,
        microvm_id: microvm_id.to_owned(),
        code: code_of(error),
        message: full_message(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agents::{EnvironmentId, WorkId};

    fn demand(session: &str) -> Demand {
        Demand {
            session: SessionId::new(session).unwrap(),
            environment: EnvironmentId::new("env_1").unwrap(),
            event: None,
            claim: None,
        }
    }

    fn request(config: &LauncherConfig, session: &str) -> Result<RunRequest, PayloadTooLong> {
        RunRequest::new(config, &demand(session), 1)
    }

    fn config() -> LauncherConfig {
        LauncherConfig::new(EnvironmentId::new("env_1").unwrap(), "claude-worker", "/nowhere")
    }

    #[test]
    fn the_payload_is_the_envelope_that_the_worker_reads() {
        let mut config = config();
        config.guest_platform_url = Some("http://10.0.0.1:7430".into());
        assert_eq!(
            request(&config, "sesn_1").unwrap().run_hook_payload,
            r#"{"version":"1","session":{"ANTHROPIC_SESSION_ID":"sesn_1","ANTHROPIC_ENVIRONMENT_ID":"env_1","AWS_REGION":"us-east-1","ENVIRONMENT_KEY_SECRET_ID":"warren/environment-key","ANTHROPIC_BASE_URL":"http://10.0.0.1:7430"}}"#
        );
    }

    #[test]
    fn a_claimed_item_goes_into_the_payload_in_place_of_the_keys_name() {
        let mut demand = demand("sesn_1");
        demand.claim = Some(Claim {
            work: WorkId::new("work_1").unwrap(),
            session: demand.session.clone(),
            environment: demand.environment.clone(),
            secret: "e30".into(),
        });
        let request = RunRequest::new(&config(), &demand, 1).unwrap();
        assert_eq!(
            request.run_hook_payload,
            r#"{"version":"1","session":{"ANTHROPIC_SESSION_ID":"sesn_1","ANTHROPIC_ENVIRONMENT_ID":"env_1","AWS_REGION":"us-east-1","ANTHROPIC_WORK_ID":"work_1","ANTHROPIC_WORK_SECRET":"e30"}}"#
        );
        assert!(request.without_payload().run_hook_payload.is_empty());
        assert!(!format!("{demand:?}").contains("e30"), "no secret in a log");
    }

    #[test]
    fn a_payload_that_aws_would_refuse_is_refused_by_name() {
        let mut config = config();
        config.environment_key_secret_id = "k".repeat(4096);
        let error = request(&config, "sesn_1").unwrap_err();
        assert!(error.to_string().contains("session sesn_1"), "{error}");
    }

    #[test]
    fn a_client_token_fits_and_differs_by_session_and_generation() {
        let long = SessionId::new("s".repeat(256)).unwrap();
        let short = SessionId::new("s").unwrap();
        assert!(client_token(&long, None, i64::MAX).len() <= 128);
        assert_ne!(client_token(&long, None, 1), client_token(&short, None, 1));
        assert_ne!(client_token(&long, None, 1), client_token(&long, None, 2));
        assert_eq!(client_token(&long, None, 1), client_token(&long, None, 1));
    }
}
