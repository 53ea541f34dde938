//! Runs, suspends, resumes and forks: each is answered when the VM has come to where it was sent, or
//! says why not.

use super::{BODY_BYTES_MAX, Service, answer::Refused};
use crate::{
    node::role_arn,
    protocol::{Begun, ForkRequest, Idle, Origin, RunRequest},
};
use axum::{
    Json,
    body::Bytes,
    extract::{Path, Request, State},
};
use control::{
    AutoResume, CheckpointName, ControlError, IdlePolicy, ImageName, ImageVersion, Microvm,
    MicrovmId, RoleArn, RunFrom, RunMicrovm,
};
use serde::de::DeserializeOwned;
use std::{sync::Arc, time::Duration};

pub(super) fn document<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refused> {
    serde_json::from_slice(body)
        .map_err(|e| Refused::bad_request(format!("the request is not understood: {e}")))
}

pub(super) fn microvm(id: &str) -> Result<MicrovmId, Refused> {
    MicrovmId::parse(id).map_err(|e| Refused::bad_request(e.to_string()))
}

pub(super) async fn run(
    State(service): State<Arc<Service>>,
    request: Request,
) -> Result<Json<Begun>, Refused> {
    let (_, body) = service.admit(request, "warren:RunVm", BODY_BYTES_MAX).await?;
    let asked: RunRequest = document(&body)?;
    let vm = start(&service, asked).await.map_err(|e| Refused::control(&e))?;
    settled(&service, &vm.id).await.map(Json)
}

async fn start(service: &Service, asked: RunRequest) -> Result<Microvm, ControlError> {
    let RunRequest { origin, payload, max_duration_s } = asked;
    let maximum_duration = max_duration_s.map(Duration::from_secs);
    match origin {
        Origin::Checkpoint { name } => {
            let name = CheckpointName::parse(&name)?;
            let request =
                RunFrom { run_hook_payload: payload, maximum_duration, client_token: None };
            service.control.run_from(&name, request).await
        }
        Origin::Image { name, version, role, idle } => {
            let account = &service.settings.account;
            let role = role.map(|role| RoleArn::parse(&role_arn(account, &role))).transpose()?;
            let version = version.as_deref().map(ImageVersion::parse).transpose()?;
            let mut request = RunMicrovm::of(ImageName::parse(&name)?);
            request.version = version;
            request.execution_role = role;
            request.idle_policy = idle.map(idle_policy);
            request.run_hook_payload = payload;
            if let Some(duration) = maximum_duration {
                request.maximum_duration = duration;
            }
            service.control.run_microvm(request).await
        }
    }
}

fn idle_policy(idle: Idle) -> IdlePolicy {
    IdlePolicy {
        max_idle: Duration::from_secs(idle.max_idle_s),
        suspended: Duration::from_secs(idle.suspended_s),
        auto_resume: if idle.auto_resume { AutoResume::Enabled } else { AutoResume::Disabled },
    }
}

pub(super) async fn suspend(
    State(service): State<Arc<Service>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<Begun>, Refused> {
    service.admit(request, "warren:SuspendVm", BODY_BYTES_MAX).await?;
    let id = microvm(&id)?;
    service.control.suspend_microvm(&id).await.map_err(|e| Refused::control(&e))?;
    settled(&service, &id).await.map(Json)
}

pub(super) async fn resume(
    State(service): State<Arc<Service>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<Begun>, Refused> {
    service.admit(request, "warren:ResumeVm", BODY_BYTES_MAX).await?;
    let id = microvm(&id)?;
    service.control.resume_microvm(&id).await.map_err(|e| Refused::control(&e))?;
    settled(&service, &id).await.map(Json)
}

pub(super) async fn fork(
    State(service): State<Arc<Service>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<Vec<Begun>>, Refused> {
    let (_, body) = service.admit(request, "warren:ForkVm", BODY_BYTES_MAX).await?;
    let id = microvm(&id)?;
    let ForkRequest { payloads } = document(&body)?;
    let forks = service.control.fork(&id, payloads).await.map_err(|e| Refused::control(&e))?;
    let mut begun = Vec::new();
    for fork in forks {
        begun.push(settled(&service, &fork.id).await?);
    }
    Ok(Json(begun))
}

async fn settled(service: &Service, id: &MicrovmId) -> Result<Begun, Refused> {
    let vm = service.control.settled(id).await.map_err(|e| Refused::control(&e))?;
    Ok(Begun {
        microvm_id: vm.id.to_string(),
        state: vm.state.as_str().into(),
        state_reason: vm.state_reason,
    })
}
