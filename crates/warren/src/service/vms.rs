//! The VMs with their use of the machine, which AWS' ListMicrovms does not tell.

use super::{BODY_BYTES_MAX, Service, answer::Refused, events::step, life::microvm};
use crate::{
    failure::with_causes,
    protocol::{HookCalls, Idle, Inspection, Launch, Usage, Vm},
};
use axum::{
    Json,
    extract::{Path, Query, Request, State},
};
use control::{
    AutoResume, Control, ControlError, Hook, Mark, Microvm, MicrovmFilter, MicrovmId,
    MicrovmOrigin, MicrovmState, PageRequest, TimelineEntry,
};
use serde::Deserialize;
use std::{collections::HashMap, sync::Arc};

/// As many as AWS gives on a page.
const PAGE_ITEMS: usize = 50;

#[derive(Deserialize)]
pub(super) struct Which {
    /// Ended ones too.
    #[serde(default)]
    all: bool,
}

pub(super) async fn list(
    State(service): State<Arc<Service>>,
    Query(which): Query<Which>,
    request: Request,
) -> Result<Json<Vec<Vm>>, Refused> {
    service.admit(request, "warren:ListVms", BODY_BYTES_MAX).await?;
    let found = all(&service.control).await.map_err(|e| Refused::control(&e))?;
    let sessions = sessions(&service).await;
    let mut vms = Vec::new();
    for vm in found {
        if which.all || vm.state != MicrovmState::Terminated {
            vms.push(shown(&service, vm, &sessions).await);
        }
    }
    Ok(Json(vms))
}

pub(super) async fn inspect(
    State(service): State<Arc<Service>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<Inspection>, Refused> {
    service.admit(request, "warren:InspectVm", BODY_BYTES_MAX).await?;
    let id = microvm(&id)?;
    let found = service.control.inspect(&id).await.map_err(|e| Refused::control(&e))?;
    let control::Inspection { microvm, hooks, origin, timeline } = found;
    let origin = match origin {
        MicrovmOrigin::Image => "image".into(),
        MicrovmOrigin::Checkpoint(name) => format!("checkpoint {name}"),
        MicrovmOrigin::NamelessCheckpoint => "a fork, or a checkpoint that was removed".into(),
    };
    let idle = microvm.idle_policy.map(|policy| Idle {
        max_idle_s: policy.max_idle.as_secs(),
        suspended_s: policy.suspended.as_secs(),
        auto_resume: policy.auto_resume == AutoResume::Enabled,
    });
    let calls = hooks.timeouts.iter().map(|(hook, timeout)| HookCalls {
        hook: hook.name().into(),
        timeout_s: timeout.as_secs(),
        took_ms: calls_of(*hook, &timeline),
    });
    Ok(Json(Inspection {
        endpoint: microvm.endpoint.clone(),
        memory_mib: microvm.memory_mib,
        origin,
        execution_role: microvm.execution_role.as_ref().map(ToString::to_string),
        idle,
        max_duration_s: microvm.maximum_duration.as_secs(),
        terminated_at: microvm.terminated_at.map(|at| at.to_string()),
        ingress_connectors: microvm.ingress_connectors.clone(),
        egress_connectors: microvm.egress_connectors.clone(),
        log_group: microvm.log.as_ref().map(|log| log.group.to_string()),
        log_stream: microvm.log.as_ref().map(|log| log.stream.to_string()),
        hooks_port: hooks.port,
        hooks: calls.collect(),
        timeline: timeline.iter().map(step).collect(),
        vm: shown(&service, microvm, &sessions(&service).await).await,
    }))
}

/// How long each call of a hook took that is in the timeline.
fn calls_of(hook: Hook, timeline: &[TimelineEntry]) -> Vec<f64> {
    let answered = match hook {
        // Those of the image's build.
        Hook::Ready | Hook::Validate => return Vec::new(),
        Hook::Run => Mark::RunHookAnswered,
        Hook::Suspend => Mark::SuspendHookAnswered,
        Hook::Resume => Mark::ResumeHookAnswered,
        Hook::Terminate => Mark::TerminateHookEnded,
    };
    let is_call = |entry: &&TimelineEntry| {
        let failed = || entry.detail.to_lowercase().starts_with(hook.name());
        entry.mark == answered || (entry.mark == Mark::HookFailed && failed())
    };
    timeline.iter().filter(is_call).filter_map(|entry| entry.took_ms).collect()
}

/// Sessions by their VM's id; none where no launcher runs here.
async fn sessions(service: &Service) -> HashMap<String, String> {
    let Some(launcher) = &service.launcher else { return HashMap::new() };
    launcher.sessions_by_vm().await.unwrap_or_else(|error| {
        tracing::warn!(error = with_causes(&error), "sessions are not shown");
        HashMap::new()
    })
}

pub(super) async fn remove(
    State(service): State<Arc<Service>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<serde_json::Value>, Refused> {
    service.admit(request, "warren:RemoveVm", BODY_BYTES_MAX).await?;
    let id = microvm(&id)?;
    service.control.terminate_microvm(&id).await.map_err(|e| Refused::control(&e))?;
    Ok(Json(serde_json::json!({})))
}

/// Every MicroVM that is still listed, newest first.
pub(super) async fn all(control: &Control) -> Result<Vec<Microvm>, ControlError> {
    let mut vms = Vec::new();
    let mut token = None;
    loop {
        let page = PageRequest { items_max: PAGE_ITEMS, token };
        let page = control.list_microvms(MicrovmFilter::default(), page).await?;
        vms.extend(page.items);
        token = page.next_token;
        if token.is_none() {
            return Ok(vms);
        }
    }
}

/// What the launch took, once it is done.
async fn launch_of(service: &Service, id: &MicrovmId) -> Option<Launch> {
    let timeline = service.control.timeline(id).await.ok()?;
    let of = |mark| timeline.iter().find(|entry| entry.mark == mark);
    Some(Launch {
        path: of(Mark::Restored)?.detail.clone(),
        restored_ms: of(Mark::Restored)?.elapsed_ms,
        run_hook_answered_ms: of(Mark::RunHookAnswered)?.elapsed_ms,
    })
}

async fn shown(service: &Service, vm: Microvm, sessions: &HashMap<String, String>) -> Vm {
    let usage = match vm.state {
        // One that ends at this moment has no usage any more, and that is no error.
        MicrovmState::Running | MicrovmState::Suspended => service.control.usage(&vm.id).await.ok(),
        MicrovmState::Pending
        | MicrovmState::Suspending
        | MicrovmState::Terminating
        | MicrovmState::Terminated => None,
    };
    let launch = launch_of(service, &vm.id).await;
    Vm {
        microvm_id: vm.id.to_string(),
        session_id: sessions.get(vm.id.as_str()).cloned(),
        image: vm.image.name.to_string(),
        version: vm.version.to_string(),
        state: vm.state.as_str().into(),
        state_reason: vm.state_reason,
        started_at: vm.started_at.to_string(),
        launch,
        usage: usage.map(|u| Usage {
            pss_kib: u.pss_kib,
            cpu_ms: u.cpu_ms,
            sent_bytes: u.guest_sent_bytes,
            received_bytes: u.guest_received_bytes,
            disk_read_bytes: u.disk_read_bytes,
            disk_written_bytes: u.disk_written_bytes,
            disk_bytes: u.disk_bytes,
            saved_bytes: u.saved_bytes,
        }),
    }
}
