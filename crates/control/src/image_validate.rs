//! The `validate` hook: asked of a VM that comes from the new snapshot, before its version may be run.
//!
//! The VM is none of the fleet's: its name is not a MicroVM's, so the reconciler leaves it alone, and
//! nothing it does stays.

use crate::{
    BuildProgress, ControlError, Hook, MicrovmId, VmAttachment,
    app_log::Lines,
    error::chain,
    fleet::Fleet,
    image_build::{self, Failure},
    image_template::Making,
};
use engine::{
    AppOutput, HookOutcome, HookRequest, LaunchSpec, Launched, Origin, TemplateId, VmId,
    hook_failure,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tracing::warn;

/// How the names of these VMs begin.
const PREFIX: &str = "validate-";
/// Between two askings of a hook that says 503: "again, please".
const RETRY_WAIT: Duration = Duration::from_millis(100);
/// What a hook may take beyond its own time until the engine is taken to hang.
const HOOK_SLACK: Duration = Duration::from_secs(5);

/// Asks the hook, where the image has it, until it answers 200.
///
/// # Errors
/// AWS's sentence for what the hook answered.
pub(crate) async fn validate(
    fleet: &Arc<Fleet>,
    making: &Making<'_>,
    template: &TemplateId,
) -> Result<(), Failure> {
    let hooks = &making.spec.hooks;
    let Some((time, port)) = hooks.timeouts.get(&Hook::Validate).zip(hooks.port) else {
        return Ok(());
    };
    let _ = making.progress.send(BuildProgress::Step("wait for /validate".to_owned()));
    let microvm = MicrovmId::random();
    let vm = VmId::new(microvm.as_str().replacen("microvm-", PREFIX, 1))
        .expect("a MicroVM's id is a VM's name with any such beginning");
    let output = fleet.outside.engine.logs();
    let outcome = tokio::select! {
        outcome = ask_in_vm(fleet, making, (&microvm, &vm), template, (*time, port)) => outcome,
        never = pass_output(output, &vm, making) => match never {},
    };
    fleet.outside.back_door.detach(&microvm).await;
    if let Err(error) = fleet.outside.engine.stop(&vm, None).await {
        warn!(%vm, "the VM of a validation is not removed: {}", chain(&error));
    }
    outcome
}

async fn ask_in_vm(
    fleet: &Arc<Fleet>,
    making: &Making<'_>,
    (microvm, vm): (&MicrovmId, &VmId),
    template: &TemplateId,
    (time, port): (Duration, u16),
) -> Result<(), Failure> {
    let spec = LaunchSpec {
        id: vm.clone(),
        origin: Origin::Template(template.clone()),
        internet: image_build::network(making.spec) == crate::BuildNetwork::Internet,
    };
    let Launched { sockets, .. } = fleet.outside.engine.launch(spec).await?;
    // A build's hooks run with the build's role (spec 4).
    let attachment = VmAttachment {
        id: microvm.clone(),
        image: making.image.clone(),
        version: making.version,
        execution_role: Some(making.spec.build_role.clone()),
        egress_connectors: making.spec.egress_connectors.clone(),
        credentials: Arc::clone(&fleet.credentials),
    };
    let attached = fleet.outside.back_door.attach(attachment, sockets).await;
    attached.map_err(|error| Failure::platform(chain(&error)))?;
    let deadline = Instant::now() + time;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let request = HookRequest {
            port,
            path: Hook::Validate.path(),
            body: None,
            timeout_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX),
        };
        let asked = fleet.outside.engine.call_hook(vm, request);
        let outcome = match tokio::time::timeout(left + HOOK_SLACK, asked).await {
            Ok(outcome) => outcome?,
            Err(_elapsed) => HookOutcome::TimedOut,
        };
        match outcome {
            HookOutcome::Answered { status: 200 } => return Ok(()),
            HookOutcome::Answered { status: 503 } if Instant::now() < deadline => {
                tokio::time::sleep(RETRY_WAIT).await;
            }
            other => return Err(Failure::from(hook_failure("Validate", &other, time))),
        }
    }
}

/// Shows what the VM's app prints as the build's output.
async fn pass_output(
    mut output: Receiver<AppOutput>,
    vm: &VmId,
    making: &Making<'_>,
) -> std::convert::Infallible {
    let mut lines = Lines::default();
    loop {
        match output.recv().await {
            Ok(AppOutput { id, data, .. }) if id == *vm => {
                for line in lines.push(&data) {
                    let _ = making.progress.send(BuildProgress::Line(line));
                }
            }
            Ok(_) | Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Ends the VMs of validations that a process before this one broke off.
pub(crate) async fn end_left_over(fleet: &Fleet) -> Result<(), ControlError> {
    for listing in fleet.outside.engine.list().await? {
        if listing.id.as_str().starts_with(PREFIX) {
            fleet.outside.engine.stop(&listing.id, None).await?;
        }
    }
    Ok(())
}
