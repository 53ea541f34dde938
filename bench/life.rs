//! What a VM's later life takes, asked of the engine itself: suspend, resume up to the answer of the `/resume`
//! hook, a checkpoint of a running VM, and forks. Beside them, in the same run, stands a cold boot.

use crate::{
    boot::{only_template, open},
    report::{Report, Unit},
};
use anyhow::{Context as _, ensure};
use engine::{
    Attach, CheckpointId, Engine as _, ExecOutput, ExecRequest, ExitStatus, HookRequest,
    LaunchSpec, Origin, Qemu, TemplateId, VmId,
};
use std::{path::Path, sync::Arc, time::Instant};
use tokio::task::JoinSet;

/// What a VM has in memory that its template has not.
const DIRTY_BYTES: u64 = 50 << 20;
/// VMs that are launched at once from one checkpoint.
const FORKS: usize = 16;
/// As `images/claude-worker/image.toml` and AWS's contract have it.
const HOOK_PORT: u16 = 9000;
const RESUME_HOOK: &str = "/aws/lambda-microvms/runtime/v1/resume";
const HOOK_WAIT_MAX_MS: u32 = 30_000;

/// Everything, on the one template in the data directory. Nothing else may use that directory meanwhile.
pub(crate) fn measure(data_dir: &Path, runs: u32, report: &mut Report) -> anyhow::Result<()> {
    let state_dir = data_dir.join("engine");
    let template = only_template(&state_dir.join("templates"))?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let engine = open(state_dir).await?;
        let vm = VmId::new("bench")?;
        let measured = one_vm(&engine, &vm, template, runs, report).await;
        for listing in engine.list().await? {
            engine.stop(&listing.id, None).await?;
        }
        for checkpoint in engine.list_checkpoints().await? {
            engine.remove_checkpoint(&checkpoint.id).await?;
        }
        engine.shutdown().await;
        measured
    })
}

async fn one_vm(
    engine: &Arc<Qemu>,
    vm: &VmId,
    template: TemplateId,
    runs: u32,
    report: &mut Report,
) -> anyhow::Result<()> {
    let spec = LaunchSpec { id: vm.clone(), origin: Origin::Template(template), internet: true };
    // A back door that nobody answers: kept, or the worker would meet a closed port.
    let mut _sockets = engine.launch(spec).await?.sockets;
    dirty(engine, vm).await?;
    let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
    // One that is not counted fills the host's page cache.
    for run in 0..=runs {
        let suspended = engine.suspend(vm).await?;
        let asked = Instant::now();
        let launched = engine.resume(vm).await?;
        _sockets = launched.sockets;
        let request = HookRequest {
            port: HOOK_PORT,
            path: RESUME_HOOK.to_owned(),
            body: None,
            timeout_ms: HOOK_WAIT_MAX_MS,
        };
        engine.call_hook(vm, request).await.context("the /resume hook")?;
        let answered = asked.elapsed().as_secs_f64() * 1e3;
        if run > 0 {
            report.add("suspend_50_dirty", Unit::Ms, vec![suspended.pause_ms]);
            report.add("resume_50_dirty", Unit::Ms, vec![launched.restore_ms]);
            report.add("resume_50_dirty_to_hook", Unit::Ms, vec![answered]);
            report.add("suspended_50_dirty", Unit::Mib, vec![mib(suspended.memory_bytes)]);
        }
    }
    for run in 0..=runs {
        let checkpoint = CheckpointId::new("bench")?;
        let saved = engine.checkpoint(vm, &checkpoint).await?;
        if run > 0 {
            report.add("fork_pause_50_dirty", Unit::Ms, vec![saved.pause_ms]);
        }
        // As often as the demo: they keep the machine busy.
        if run > 0 && run <= crate::DEMOS_MAX {
            let took = forks(engine, &checkpoint).await?;
            report.add("forks_16", Unit::Ms, vec![took]);
        }
        engine.remove_checkpoint(&checkpoint).await?;
    }
    Ok(())
}

/// Milliseconds from asking for all of them to the last one running.
async fn forks(engine: &Arc<Qemu>, checkpoint: &CheckpointId) -> anyhow::Result<f64> {
    let ids: Vec<VmId> =
        (0..FORKS).map(|n| VmId::new(format!("bench-fork-{n}"))).collect::<Result<_, _>>()?;
    let asked = Instant::now();
    let mut launches = JoinSet::new();
    for id in ids.clone() {
        let (engine, origin) = (engine.clone(), Origin::Checkpoint(checkpoint.clone()));
        launches
            .spawn(async move { engine.launch(LaunchSpec { id, origin, internet: true }).await });
    }
    while let Some(launched) = launches.join_next().await {
        launched??;
    }
    let took = asked.elapsed().as_secs_f64() * 1e3;
    for id in &ids {
        engine.stop(id, None).await?;
    }
    Ok(took)
}

async fn dirty(engine: &Qemu, vm: &VmId) -> anyhow::Result<()> {
    let script = format!("head -c {DIRTY_BYTES} /dev/urandom > /dev/shm/dirty");
    let argv = ["sh", "-c", &script].map(String::from).to_vec();
    let request =
        ExecRequest { argv, user: "root".into(), attach: Attach::NoInput, ..Default::default() };
    let mut session = engine.exec(vm, request).await?;
    let mut status = None;
    while let Some(output) = session.output.recv().await {
        if let ExecOutput::Exited(ended) = output {
            status = Some(ended);
        }
    }
    ensure!(status == Some(ExitStatus::Code(0)), "{script}: {status:?}");
    Ok(())
}
