//! RunMicrovm: check, resolve the version, write the row, answer. The launch is the keeper's.

use crate::{
    ControlConfig, ControlError, Hook, Hooks, Logging, MAXIMUM_DURATION, Mark, Microvm,
    MicrovmEvent, MicrovmId, MicrovmState, RUN_HOOK_PAYLOAD_BYTES_MAX, RunMicrovm, TimelineEntry,
    VersionState,
    fleet::Fleet,
    keeper::Beginning,
    life::Life,
    log_target::log_target,
    store::{Claim, MicrovmRow, NewMark, VersionRow},
};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use uuid::Uuid;

pub(crate) async fn run(fleet: &Arc<Fleet>, request: RunMicrovm) -> Result<Microvm, ControlError> {
    check_duration(request.maximum_duration)?;
    check_length(request.run_hook_payload.as_deref())?;
    let claim = request.client_token.clone().map(|token| Claim {
        operation: "RunMicrovm",
        token,
        fingerprint: fingerprint(&request),
    });
    // Taken before the version is looked up, so that it cannot be deleted before the row is there.
    let _admitted = fleet.admission.read().await;
    let row = match resolve(fleet, &request).await {
        Ok(version) => new_row(fleet, request, version)?,
        Err(error) => return repeated(fleet, claim.as_ref(), error).await,
    };
    admit(fleet, row, claim).await
}

/// Writes a row and gives it its keeper. The caller holds `admission` for reading.
pub(crate) async fn admit(
    fleet: &Arc<Fleet>,
    row: MicrovmRow,
    claim: Option<Claim>,
) -> Result<Microvm, ControlError> {
    let accepted = Instant::now();
    let config = &fleet.config;
    if fleet.refuses_runs() {
        return Err(ControlError::TerminatingAll);
    }
    let mark = NewMark {
        mark: Mark::Accepted,
        at: row.started_at,
        elapsed: Duration::ZERO,
        took: None,
        detail: String::new(),
    };
    let quota_mib = config.quotas.memory_mib;
    let earlier = fleet.store.insert_microvm(&row, &mark, claim.as_ref(), quota_mib).await?;
    if let Some(earlier) = earlier {
        return first_answer(fleet, &earlier).await;
    }
    let answer = row.view(config);
    // Nobody has to listen.
    let _ = fleet.events.send(MicrovmEvent {
        id: row.id.clone(),
        image: row.image.clone(),
        entry: TimelineEntry::from(mark),
    });
    fleet.keep(row, Beginning::New { accepted });
    Ok(answer)
}

pub(crate) fn check_duration(duration: Duration) -> Result<(), ControlError> {
    let (seconds, max) = (duration.as_secs(), MAXIMUM_DURATION.as_secs());
    if !(1..=max).contains(&seconds) {
        return Err(ControlError::BadMaximumDuration { seconds, max });
    }
    Ok(())
}

/// A payload for the `/run` hook of an image with these hooks.
pub(crate) fn check_payload(payload: Option<&str>, hooks: &Hooks) -> Result<(), ControlError> {
    check_length(payload)?;
    if payload.is_some() && !hooks.timeouts.contains_key(&Hook::Run) {
        return Err(ControlError::RunHookDisabled);
    }
    Ok(())
}

fn check_length(payload: Option<&str>) -> Result<(), ControlError> {
    let bytes = payload.map_or(0, str::len);
    if bytes > RUN_HOOK_PAYLOAD_BYTES_MAX {
        return Err(ControlError::PayloadTooLong { bytes, max: RUN_HOOK_PAYLOAD_BYTES_MAX });
    }
    Ok(())
}

/// Its label is another uuid than the id.
pub(crate) fn new_endpoint(config: &ControlConfig) -> String {
    format!("{}.{}", Uuid::new_v4().hyphenated(), config.endpoint_domain)
}

async fn resolve(fleet: &Fleet, request: &RunMicrovm) -> Result<VersionRow, ControlError> {
    let arn = fleet.config.image_arn(&request.image);
    let found = fleet.store.runnable(&arn, request.version).await?;
    let version = found.ok_or_else(|| ControlError::NoActiveVersion {
        image: arn.to_string(),
        version: request.version,
    })?;
    check_payload(request.run_hook_payload.as_deref(), &version.version.spec.hooks)?;
    Ok(version)
}

/// A repeated request is answered as the first time even where it could not be run any more.
async fn repeated(
    fleet: &Fleet,
    claim: Option<&Claim>,
    error: ControlError,
) -> Result<Microvm, ControlError> {
    let Some(claim) = claim else { return Err(error) };
    match fleet.store.claimed_microvm(claim).await? {
        Some(earlier) => first_answer(fleet, &earlier).await,
        None => Err(error),
    }
}

/// What the first request was answered (spec 1.6), whatever has become of the VM since.
async fn first_answer(fleet: &Fleet, id: &MicrovmId) -> Result<Microvm, ControlError> {
    let found = fleet.store.microvm(id).await?;
    let row = found.ok_or_else(|| ControlError::MicrovmNotFound(id.clone()))?;
    let now = row.view(&fleet.config);
    Ok(Microvm { state: MicrovmState::Pending, state_reason: None, terminated_at: None, ..now })
}

fn new_row(
    fleet: &Fleet,
    request: RunMicrovm,
    VersionRow { version, template, content: _ }: VersionRow,
) -> Result<MicrovmRow, ControlError> {
    let (config, now) = (&fleet.config, fleet.outside.clock.now());
    let template = template.ok_or_else(|| ControlError::Corrupt {
        what: "a version without its template",
        value: format!("{} {}", version.image, VersionState::Successful.as_str()),
    })?;
    let id = MicrovmId::random();
    // A run without logging goes to the default group, not to the image's (spec 8).
    let logging: &Logging = &request.logging;
    let log = log_target(logging, &request.image, version.version, id.as_str(), now);
    let or_managed = |given: Vec<String>, of_version: &[String], name: &str| match given {
        none if none.is_empty() && of_version.is_empty() => {
            vec![managed_connector(&config.region, name)]
        }
        none if none.is_empty() => of_version.to_vec(),
        given => given,
    };
    Ok(MicrovmRow {
        endpoint: new_endpoint(config),
        version: version.version,
        memory_mib: version.spec.memory_mib,
        template,
        checkpoint: None,
        execution_role: request.execution_role,
        idle_policy: request.idle_policy,
        maximum_duration: request.maximum_duration,
        ingress_connectors: or_managed(request.ingress_connectors, &[], "HTTP_INGRESS"),
        egress_connectors: or_managed(
            request.egress_connectors,
            &version.spec.egress_connectors,
            "INTERNET_EGRESS",
        ),
        log,
        hooks: version.spec.hooks,
        started_at: now,
        counted_from: fleet.steady.now(),
        payload: request.run_hook_payload,
        life: Life::Cloning,
        image: request.image,
        id,
    })
}

fn managed_connector(region: &str, name: &str) -> String {
    format!("arn:aws:lambda:{region}:aws:network-connector:aws-network-connector:{name}")
}

/// Digest of all parameters but the token.
fn fingerprint(request: &RunMicrovm) -> String {
    let idle = request.idle_policy.map(|idle| {
        json!([
            idle.max_idle.as_secs(),
            idle.suspended.as_secs(),
            format!("{:?}", idle.auto_resume)
        ])
    });
    let whole = json!([
        request.image.as_str(),
        request.version.map(|version| version.to_string()),
        request.execution_role.as_ref().map(|role| role.as_str()),
        idle,
        format!("{:?}", request.logging),
        request.run_hook_payload,
        request.maximum_duration.as_secs(),
        request.ingress_connectors,
        request.egress_connectors,
    ]);
    hex::encode(Sha256::digest(whole.to_string()))
}

impl MicrovmRow {
    /// As callers see it.
    pub(crate) fn view(&self, config: &ControlConfig) -> Microvm {
        Microvm {
            id: self.id.clone(),
            state: self.life.state(),
            state_reason: self.life.reason().map(str::to_owned),
            endpoint: self.endpoint.clone(),
            image: config.image_arn(&self.image),
            version: self.version,
            memory_mib: self.memory_mib,
            execution_role: self.execution_role.clone(),
            idle_policy: self.idle_policy,
            maximum_duration: self.maximum_duration,
            started_at: self.started_at,
            terminated_at: self.life.terminated_at(),
            ingress_connectors: self.ingress_connectors.clone(),
            egress_connectors: self.egress_connectors.clone(),
            log: self.log.clone(),
        }
    }
}
