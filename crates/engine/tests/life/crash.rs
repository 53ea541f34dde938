//! Promise: the process that owns the engine may be killed at any moment; a VM then runs, is suspended, or is
//! gone when it is stopped, and one that lives is whole.
//!
//! The owner is this test's own program, started with an argument; it suspends, resumes and saves a VM
//! without end until it is killed.

use crate::host::{Host, checkpoint_name, count, open_config, sh};
use engine::{
    CheckpointId, Engine, EngineError, LaunchSpec, Origin, Qemu, TemplateId, VmId, VmState,
};
use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

const OWNER: &str = "--own-an-engine";
const KILLS: u32 = 12;
/// From one kill to the next, on top of the time to begin: through every step of a round.
const STEP: Duration = Duration::from_millis(29);

/// The directory, where this process is to own an engine.
pub(crate) fn owner() -> Option<PathBuf> {
    let mut arguments = std::env::args_os().skip(1);
    (arguments.next()? == OWNER).then(|| arguments.next().map(PathBuf::from))?
}

/// Says `begun` when the VM is found, and never ends by itself.
pub(crate) fn own(dir: PathBuf) -> ! {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let error = runtime.block_on(rounds(dir)).expect_err("it has no end");
    panic!("{error:?}");
}

async fn rounds(dir: PathBuf) -> Result<(), EngineError> {
    let engine = Qemu::open(open_config(&dir)).await?;
    let id = VmId::new("owned").expect("a name");
    let state = engine.list().await?.into_iter().find(|vm| vm.id == id).map(|vm| vm.state);
    match state {
        Some(VmState::Running) => drop(engine.adopt(&id).await?),
        Some(VmState::Suspended) => drop(engine.resume(&id).await?),
        Some(VmState::Remains) => panic!("the VM is lost"),
        None => {
            let origin = Origin::Template(TemplateId::new("life").expect("a name"));
            engine.launch(LaunchSpec { id: id.clone(), origin, internet: true }).await?;
            let script =
                "head -c 8000000 /dev/urandom > /dev/shm/m; md5sum /dev/shm/m > /dev/shm/sum";
            sh(&engine, &id, script).await?;
        }
    }
    std::fs::write(dir.join("begun"), "").expect("a sign");
    loop {
        engine.suspend(&id).await?;
        engine.resume(&id).await?;
        let name = CheckpointId::new("kept").expect("a name");
        engine.remove_checkpoint(&name).await?;
        engine.checkpoint(&id, &name).await?;
    }
}

pub(crate) async fn whenever_the_engine_is_killed_a_vm_is_whole_or_gone(host: &Host) {
    let dir = host.lend().await.to_owned();
    for kill in 0..KILLS {
        let sign = dir.join("begun");
        let _ = std::fs::remove_file(&sign);
        let mut owner = Command::new(std::env::current_exe().unwrap())
            .arg(OWNER)
            .arg(&dir)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        for _ in 0..6000 {
            if sign.exists() {
                break;
            }
            assert_eq!(
                owner.try_wait().unwrap(),
                None,
                "kill {kill}: it did not find its VM again"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(STEP * kill).await;
        assert_eq!(owner.try_wait().unwrap(), None, "kill {kill}: it failed before it was killed");
        owner.kill().unwrap();
        owner.wait().unwrap();
    }
    let engine = host.reopen().await;
    let id = VmId::new("owned").unwrap();
    match host.state(&id).await {
        Some(VmState::Running) => drop(engine.adopt(&id).await.unwrap()),
        Some(VmState::Suspended) => drop(engine.resume(&id).await.unwrap()),
        state => panic!("it is {state:?}"),
    }
    assert_eq!(host.sh(&id, "md5sum -c /dev/shm/sum").await, "/dev/shm/m: OK");
    let before = count(&engine, &id).await;
    assert!(count(&engine, &id).await >= before);
    // A checkpoint is whole or not there.
    for info in engine.list_checkpoints().await.unwrap() {
        let (fork, _) = host.launch_from(Origin::Checkpoint(info.id.clone())).await;
        assert_eq!(host.sh(&fork, "md5sum -c /dev/shm/sum").await, "/dev/shm/m: OK");
        host.stop([&fork]).await;
        engine.remove_checkpoint(&info.id).await.unwrap();
    }
    engine.checkpoint(&id, &checkpoint_name()).await.unwrap();
    host.stop([&id]).await;
    for info in engine.list_checkpoints().await.unwrap() {
        engine.remove_checkpoint(&info.id).await.unwrap();
    }
    for place in ["vms", "checkpoints"] {
        let left: Vec<_> = std::fs::read_dir(host.path(place)).unwrap().flatten().collect();
        assert!(left.is_empty(), "{place}: {left:?}");
    }
}
