//! Promise: others can begin as a VM is, and it goes on.

use crate::host::{Host, checkpoint_name};
use engine::{Engine, EngineError, Origin};
use std::collections::BTreeSet;

const FORKS: usize = 3;
const LOOK: &str = "cat /proc/sys/kernel/random/uuid /etc/machine-id /etc/hostname; \
     head -c 16 /dev/urandom | od -An -tx1";

pub(crate) async fn forks_go_on_from_their_source_and_are_their_own(host: &Host) {
    let (engine, source) = (host.engine().await, host.launch().await);
    host.sh(
        &source,
        "head -c 20971520 /dev/urandom > /dev/shm/m; md5sum /dev/shm/m > /dev/shm/sum; \
         head -c 3000000 /dev/urandom > /disk; md5sum /disk > /disk.sum; sync",
    )
    .await;
    let before = host.count(&source).await;
    let checkpoint = checkpoint_name();
    let info = engine.checkpoint(&source, &checkpoint).await.unwrap();
    assert!(info.memory_bytes > 20 << 20 && info.disk_bytes > 2_000_000 && info.pause_ms > 0.0);
    assert_eq!(engine.checkpoint_info(&checkpoint).await.unwrap(), Some(info.clone()));
    // The source goes on with the same connection, and writes where no fork sees it.
    host.sh(&source, "md5sum -c /dev/shm/sum /disk.sum && echo source > /who && sync").await;
    let mut looks = vec![host.sh(&source, LOOK).await];
    let mut forks = Vec::new();
    for _ in 0..FORKS {
        let (fork, _) = host.launch_from(Origin::Checkpoint(checkpoint.clone())).await;
        forks.push(fork);
    }
    for fork in &forks {
        looks.push(host.sh(fork, LOOK).await);
        let seen =
            host.sh(fork, "md5sum -c /dev/shm/sum /disk.sum; ls /who 2>/dev/null; true").await;
        assert_eq!(seen, "/dev/shm/m: OK\n/disk: OK");
        host.sh(fork, &format!("echo {fork} > /who; sync")).await;
        let count = host.count(fork).await;
        assert!((before..before + 5000).contains(&count), "{count} after {before}");
    }
    for line in 0..4 {
        let different: BTreeSet<_> = looks.iter().map(|look| look.lines().nth(line)).collect();
        assert_eq!(different.len(), FORKS + 1, "line {line} of {looks:?}");
    }
    assert_eq!(host.sh(&source, "cat /who").await, "source");
    // Nobody needs the checkpoint or the source any more, but for what is shared.
    engine.remove_checkpoint(&checkpoint).await.unwrap();
    host.stop([&source]).await;
    for fork in &forks {
        engine.suspend(fork).await.unwrap();
        engine.resume(fork).await.unwrap();
        let script =
            "echo 1 > /proc/sys/vm/drop_caches; md5sum -c /dev/shm/sum /disk.sum; cat /who";
        assert_eq!(host.sh(fork, script).await, format!("/dev/shm/m: OK\n/disk: OK\n{fork}"));
    }
    host.stop(&forks).await;
    host.check_template();
}

pub(crate) async fn a_suspended_vm_can_be_saved_and_forked(host: &Host) {
    let (engine, source) = (host.engine().await, host.launch().await);
    host.sh(&source, "echo before > /when; sync").await;
    engine.suspend(&source).await.unwrap();
    let names = [checkpoint_name(), checkpoint_name()];
    for name in &names {
        let info = engine.checkpoint(&source, name).await.unwrap();
        assert_eq!(info.pause_ms, 0.0, "nothing stood still for it");
    }
    engine.resume(&source).await.unwrap();
    host.sh(&source, "echo after > /when; sync").await;
    let mut forks = Vec::new();
    for name in names {
        let (fork, _) = host.launch_from(Origin::Checkpoint(name.clone())).await;
        assert_eq!(host.sh(&fork, "cat /when").await, "before");
        forks.push(fork);
        engine.remove_checkpoint(&name).await.unwrap();
    }
    assert_eq!(host.sh(&source, "cat /when").await, "after");
    host.stop(forks.iter().chain([&source])).await;
}

pub(crate) async fn a_checkpoint_is_made_once_and_gone_when_removed(host: &Host) {
    let (engine, source, name) = (host.engine().await, host.launch().await, checkpoint_name());
    engine.checkpoint(&source, &name).await.unwrap();
    let again = engine.checkpoint(&source, &name).await.unwrap_err();
    assert!(matches!(again, EngineError::CheckpointExists(_)), "{again}");
    let listed = engine.list_checkpoints().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].id, &listed[0].template), (&name, host.template()));
    engine.remove_checkpoint(&name).await.unwrap();
    engine.remove_checkpoint(&name).await.unwrap();
    assert_eq!(engine.list_checkpoints().await.unwrap(), []);
    assert_eq!(std::fs::read_dir(host.path("checkpoints")).unwrap().count(), 0);
    let origin = Origin::Checkpoint(name);
    let spec = engine::LaunchSpec { id: crate::host::name("vm"), origin, internet: false };
    let gone = engine.launch(spec).await.unwrap_err();
    assert!(matches!(gone, EngineError::NoSuchCheckpoint(_)), "{gone}");
    host.stop([&source]).await;
}
