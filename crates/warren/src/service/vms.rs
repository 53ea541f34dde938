//! The VMs with their use of the machine, which AWS' ListMicrovms does not tell.

use super::{BODY_BYTES_MAX, Service, answer::Refused};
use crate::protocol::{Launch, Usage, Vm};
use axum::{
    Json,
    extract::{Path, Query, Request, State},
};
use control::{
    Control, ControlError, Mark, Microvm, MicrovmFilter, MicrovmId, MicrovmState, PageRequest,
};
use serde::Deserialize;
use std::sync::Arc;

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
    let mut vms = Vec::new();
    for vm in found {
        if which.all || vm.state != MicrovmState::Terminated {
            vms.push(shown(&service, vm).await);
        }
    }
    Ok(Json(vms))
}

pub(super) async fn remove(
    State(service): State<Arc<Service>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<serde_json::Value>, Refused> {
    service.admit(request, "warren:RemoveVm", BODY_BYTES_MAX).await?;
    let id = MicrovmId::parse(&id).map_err(|e| Refused::bad_request(e.to_string()))?;
    service.control.terminate_microvm(&id).await.map_err(|e| Refused::control(&e))?;
    Ok(Json(serde_json::json!({})))
}

/// Every MicroVM that is still listed, newest first.
async fn all(control: &Control) -> Result<Vec<Microvm>, ControlError> {
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

async fn shown(service: &Service, vm: Microvm) -> Vm {
    let usage = match vm.state {
        // One that ends at this moment has no usage any more, and that is no error.
        MicrovmState::Running => service.control.usage(&vm.id).await.ok(),
        MicrovmState::Pending
        | MicrovmState::Suspending
        | MicrovmState::Suspended
        | MicrovmState::Terminating
        | MicrovmState::Terminated => None,
    };
    let launch = launch_of(service, &vm.id).await;
    Vm {
        microvm_id: vm.id.to_string(),
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
        }),
    }
}
