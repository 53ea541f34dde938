//! Promise: a suspended VM uses nothing, and goes on where it was.

use crate::host::{APP_PORT, Host, count};
use engine::{Engine, EngineError, VmState};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// 20 MiB in memory, 20 MiB on the disk, and a process that nobody waits for.
const FILL: &str = "head -c 20971520 /dev/urandom > /dev/shm/memory; md5sum /dev/shm/memory > /dev/shm/sum; \
     head -c 20971520 /dev/urandom > /disk; md5sum /disk > /disk.sum; \
     setsid sleep 1000 > /dev/null 2>&1 & echo $! > /sleeper";
const CHECK: &str = "md5sum -c /dev/shm/sum /disk.sum; echo 1 > /proc/sys/vm/drop_caches; md5sum -c /disk.sum; \
     kill -0 $(cat /sleeper) && echo alive";

pub(crate) async fn a_suspended_vm_goes_on_where_it_was(host: &Host) {
    let (engine, id) = (host.engine().await, host.launch().await);
    host.sh(&id, FILL).await;
    let identity = host.sh(&id, "cat /etc/machine-id /etc/hostname").await;
    let mut last = host.count(&id).await;
    let mut drawn = Vec::new();
    for round in 0..4 {
        let suspended = engine.suspend(&id).await.unwrap();
        assert!(suspended.memory_bytes > 20 << 20, "{suspended:?}");
        assert_eq!(host.state(&id).await, Some(VmState::Suspended));
        tokio::time::sleep(Duration::from_millis(if round == 0 { 1500 } else { 0 })).await;
        let resumed = engine.resume(&id).await.unwrap();
        assert_eq!((resumed.path, host.state(&id).await), ("resumed", Some(VmState::Running)));
        let now = host.count(&id).await;
        assert!((last..last + 3000).contains(&now), "it counted on from {last}, not at {now}");
        last = now;
        let seconds: f64 = host.sh(&id, "date +%s.%N").await.parse().unwrap();
        let expected = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((seconds - expected).abs() < 1.0, "the clock is {seconds}, the host's {expected}");
        let check = host.sh(&id, CHECK).await;
        assert_eq!(check, "/dev/shm/memory: OK\n/disk: OK\n/disk: OK\nalive", "round {round}");
        drawn.push(host.sh(&id, "head -c 16 /dev/urandom | od -An -tx1").await);
    }
    assert_eq!(host.sh(&id, "cat /etc/machine-id /etc/hostname").await, identity);
    drawn.sort();
    drawn.dedup();
    assert_eq!(drawn.len(), 4, "random numbers are drawn once");
    host.stop([&id]).await;
    host.check_template();
}

pub(crate) async fn a_suspended_vm_uses_nothing_and_says_so(host: &Host) {
    let (engine, id) = (host.engine().await, host.launch().await);
    host.sh(&id, "head -c 5000000 /dev/urandom > /disk; sync").await;
    let running = engine.usage(&id).await.unwrap();
    assert!(running.pss_kib > 0 && running.disk_written_bytes >= 5_000_000, "{running:?}");
    let refused = engine.dial(&id, 81).await.unwrap_err();
    assert!(matches!(refused, EngineError::Refused { port: 81, .. }), "{refused}");
    assert_eq!(host.slots_of(&id), 1);
    engine.suspend(&id).await.unwrap();
    let usage = engine.usage(&id).await.unwrap();
    assert_eq!((usage.pss_kib, usage.cpu_ms), (0, 0));
    assert!(usage.disk_bytes > 5_000_000 && usage.saved_bytes > 100_000, "{usage:?}");
    assert_eq!(host.slots_of(&id), 0, "no process, no network, no control group");
    let dialled = engine.dial(&id, APP_PORT).await.unwrap_err();
    for error in
        [dialled, engine.suspend(&id).await.unwrap_err(), engine.adopt(&id).await.unwrap_err()]
    {
        let suspended = VmState::Suspended;
        assert!(
            matches!(error, EngineError::WrongState { state, .. } if state == suspended),
            "{error}"
        );
    }
    host.stop([&id]).await;
    let gone = engine.resume(&id).await.unwrap_err();
    assert!(matches!(gone, EngineError::NoSuchVm(_)), "{gone}");
}

pub(crate) async fn connections_to_the_outside_are_cut_and_known_to_be(host: &Host) {
    let (engine, id) = (host.engine().await, host.launch().await);
    // One that waits for an answer for ever, to what the host listens on; and one within the guest.
    let script = "setsid bash -c 'exec 3<>/dev/tcp/10.0.0.1/7420; echo up > /tmp/outward; cat <&3; \
         echo $? > /tmp/outward' > /dev/null 2>&1 & \
         exec 4<>/dev/tcp/127.0.0.1/8080; cat <&4; \
         for i in $(seq 100 2>/dev/null || echo 1 2 3 4 5 6 7 8 9); do [ -e /tmp/outward ] && break; sleep 0.2; done; \
         cat /tmp/outward";
    assert!(host.sh(&id, script).await.ends_with("up"));
    engine.suspend(&id).await.unwrap();
    host.keep(engine.resume(&id).await.unwrap());
    let script = "for i in 1 2 3 4 5 6 7 8 9; do [ $(cat /tmp/outward) = 1 ] && break; sleep 0.2; done; cat /tmp/outward";
    assert_eq!(host.sh(&id, script).await, "1", "cat was told of an error, and not left waiting");
    host.stop([&id]).await;
}

pub(crate) async fn a_suspended_vm_outlives_the_engine_and_its_template(host: &Host) {
    let id = host.launch().await;
    let before = host.count(&id).await;
    host.engine().await.suspend(&id).await.unwrap();
    let engine = host.reopen().await;
    assert_eq!(host.state(&id).await, Some(VmState::Suspended));
    // What a removal of the template does, but for the others that need it here.
    let (template, away) = (host.path("templates/life"), host.path("life-away"));
    std::fs::rename(&template, &away).unwrap();
    let resumed = engine.resume(&id).await;
    std::fs::rename(&away, &template).unwrap();
    resumed.unwrap();
    assert!(count(&engine, &id).await >= before);
    host.stop([&id]).await;
}
