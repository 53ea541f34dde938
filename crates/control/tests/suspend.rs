//! Suspended and resumed MicroVMs: by request, by idling, by knocking at the endpoint, over restarts
//! of Warren and of its host, and whatever is done to the host's clock.

mod house;

use control::{
    AutoResume, Clock, ControlConfig, ControlError, Hold, Hook, IdleCounts, IdlePolicy, Mark,
    MicrovmId, MicrovmState, NotRunning, RunMicrovm, testing::Fault,
};
use engine::HookOutcome;
use house::House;
use std::{sync::Arc, time::Duration};

const HOUR: Duration = Duration::from_secs(3600);

fn policy(idle_s: u64, suspended_s: u64, auto_resume: AutoResume) -> Option<IdlePolicy> {
    Some(IdlePolicy {
        max_idle: Duration::from_secs(idle_s),
        suspended: Duration::from_secs(suspended_s),
        auto_resume,
    })
}

/// With AWS's idle rule, so that nothing but the test keeps a VM awake.
async fn by_awss_rule() -> House {
    let house = House::open().await;
    house.control.shutdown().await;
    let House { dir, engine, clock, .. } = house;
    let config =
        ControlConfig { idle_counts: IdleCounts::Ingress, ..ControlConfig::new(dir.path()) };
    House::configured(dir, engine, clock, config).await
}

async fn running(house: &House, idle_policy: Option<IdlePolicy>) -> MicrovmId {
    let request = RunMicrovm { idle_policy, ..house.request() };
    let id = house.control.run_microvm(request).await.unwrap().id;
    house.reaches(&id, MicrovmState::Running).await;
    id
}

async fn suspended(house: &House, idle_policy: Option<IdlePolicy>) -> MicrovmId {
    let id = running(house, idle_policy).await;
    house.control.suspend_microvm(&id).await.unwrap();
    house.reaches(&id, MicrovmState::Suspended).await;
    id
}

async fn marks(house: &House, id: &MicrovmId) -> Vec<Mark> {
    house.control.timeline(id).await.unwrap().iter().map(|entry| entry.mark).collect()
}

fn hooks(house: &House, id: &MicrovmId, hook: Hook) -> usize {
    house.engine.count(&format!("hook {id} {}", hook.path()))
}

#[tokio::test]
async fn a_vm_is_suspended_and_resumed_as_the_same_one() {
    let house = House::open().await;
    let before = house.control.get_microvm(&running(&house, None).await).await.unwrap();
    let id = before.id.clone();
    house.control.suspend_microvm(&id).await.unwrap();
    house.reaches(&id, MicrovmState::Suspended).await;
    assert!(house.back_door.attached().is_empty(), "nothing is served while it is suspended");
    house.control.suspend_microvm(&id).await.unwrap();
    house.control.resume_microvm(&id).await.unwrap();
    let after = house.reaches(&id, MicrovmState::Running).await;
    house.control.resume_microvm(&id).await.unwrap();
    assert_eq!(after, before, "endpoint and start are what they were");
    assert_eq!(house.back_door.attached().len(), 1);
    assert_eq!((hooks(&house, &id, Hook::Suspend), hooks(&house, &id, Hook::Resume)), (1, 1));
    assert_eq!(
        marks(&house, &id).await[4..],
        [
            Mark::Suspending,
            Mark::SuspendHookAnswered,
            Mark::Suspended,
            Mark::Resuming,
            Mark::Restored,
            Mark::ResumeHookAnswered,
            Mark::Resumed,
        ]
    );
    let timeline = house.control.timeline(&id).await.unwrap();
    for entry in timeline {
        let is_work = matches!(
            entry.mark,
            Mark::Restored | Mark::Suspended | Mark::SuspendHookAnswered | Mark::ResumeHookAnswered
        );
        assert!(entry.took_ms.is_some() || !is_work, "{entry:?} says what it took");
    }
}

#[tokio::test]
async fn what_a_hook_of_suspending_or_resuming_refuses_ends_the_vm_in_awss_words() {
    for (hook, text) in [(Hook::Suspend, "Suspend"), (Hook::Resume, "Resume")] {
        let house = House::open().await;
        house.engine.answer(hook, HookOutcome::Answered { status: 500 });
        let id = running(&house, None).await;
        house.control.suspend_microvm(&id).await.unwrap();
        if hook == Hook::Resume {
            house.reaches(&id, MicrovmState::Suspended).await;
            house.control.resume_microvm(&id).await.unwrap();
        }
        let vm = house.reaches(&id, MicrovmState::Terminated).await;
        let reason = vm.state_reason.unwrap();
        assert!(
            reason.starts_with(&format!("{text} lifecycle hook returned HTTP status 500.")),
            "{reason}"
        );
        assert!(house.engine.vms().is_empty());
    }
}

#[tokio::test]
async fn a_vm_that_cannot_be_saved_runs_on_and_one_that_cannot_be_restored_stays() {
    let house = House::open().await;
    // After the template: launch 1, /run 2, /suspend 3, the save 4, /resume 5.
    house.engine.fault(4, Fault::Fail);
    let id = running(&house, None).await;
    house.control.suspend_microvm(&id).await.unwrap();
    house.eventually(async || marks(&house, &id).await.contains(&Mark::NotSuspended)).await;
    house.reaches(&id, MicrovmState::Running).await;
    // /suspend 6, the save 7, the restore 8.
    house.engine.fault(8, Fault::Fail);
    house.control.suspend_microvm(&id).await.unwrap();
    house.reaches(&id, MicrovmState::Suspended).await;
    house.control.resume_microvm(&id).await.unwrap();
    house.eventually(async || marks(&house, &id).await.contains(&Mark::NotResumed)).await;
    house.reaches(&id, MicrovmState::Suspended).await;
    house.control.resume_microvm(&id).await.unwrap();
    house.reaches(&id, MicrovmState::Running).await;
}

#[tokio::test]
async fn a_suspended_vm_ends_like_any_other() {
    let house = House::open().await;
    let id = suspended(&house, None).await;
    house.control.terminate_microvm(&id).await.unwrap();
    let vm = house.reaches(&id, MicrovmState::Terminated).await;
    assert_eq!(vm.state_reason.as_deref(), Some("Success."));
    assert!(house.engine.vms().is_empty());
    let refused = house.control.resume_microvm(&id).await;
    assert!(matches!(refused, Err(ControlError::AlreadyTerminated(_))));
}

#[tokio::test]
async fn idling_suspends_and_being_suspended_for_long_ends() {
    let house = by_awss_rule().await;
    let id = running(&house, policy(60, 600, AutoResume::Disabled)).await;
    house.clock.advance(Duration::from_secs(59));
    house.settle().await;
    assert_eq!(house.state(&id).await, MicrovmState::Running);
    house.clock.advance(Duration::from_secs(1));
    house.reaches(&id, MicrovmState::Suspended).await;
    let timeline = house.control.timeline(&id).await.unwrap();
    assert!(timeline.iter().any(|entry| entry.detail == "idle for 60 s"), "{timeline:?}");
    house.clock.advance(Duration::from_secs(599));
    house.settle().await;
    assert_eq!(house.state(&id).await, MicrovmState::Suspended);
    house.clock.advance(Duration::from_secs(1));
    let vm = house.reaches(&id, MicrovmState::Terminated).await;
    assert_eq!(vm.state_reason.as_deref(), Some("MicroVM exceeded maximum lifetime."));
}

#[tokio::test]
async fn what_crosses_the_endpoint_keeps_a_vm_awake() {
    let house = by_awss_rule().await;
    let id = running(&house, policy(60, 600, AutoResume::Disabled)).await;
    let stream = house.control.traffic(&id, Hold::WhileOpen);
    for _ in 0..20 {
        stream.bytes_crossed();
        house.clock.advance(Duration::from_secs(30));
        house.settle().await;
        assert_eq!(house.state(&id).await, MicrovmState::Running);
    }
    // It is open still, but says nothing more: AWS's rule.
    house
        .eventually(async || {
            house.clock.advance(Duration::from_secs(30));
            house.state(&id).await == MicrovmState::Suspended
        })
        .await;
}

#[tokio::test]
async fn a_request_that_waits_for_its_answer_keeps_a_vm_awake() {
    let house = House::open().await;
    let id = running(&house, policy(60, 600, AutoResume::Disabled)).await;
    let request = house.control.traffic(&id, Hold::WhileOpen);
    for _ in 0..20 {
        house.clock.advance(Duration::from_secs(30));
        house.settle().await;
        assert_eq!(house.state(&id).await, MicrovmState::Running);
    }
    drop(request);
    house
        .eventually(async || {
            house.clock.advance(Duration::from_secs(30));
            house.state(&id).await == MicrovmState::Suspended
        })
        .await;
}

#[tokio::test]
async fn a_flood_of_requests_resumes_a_vm_once() {
    let house = House::open().await;
    let id = suspended(&house, policy(60, 600, AutoResume::Enabled)).await;
    let requests = (0..500).map(|_| {
        let (control, id) = (Arc::clone(&house.control), id.clone());
        tokio::spawn(async move { control.ensure_running(&id).await })
    });
    for request in requests.collect::<Vec<_>>() {
        request.await.unwrap().unwrap();
    }
    assert_eq!(house.engine.count(&format!("resume {id}")), 1);
    assert_eq!(hooks(&house, &id, Hook::Resume), 1);
}

#[tokio::test]
async fn a_request_is_told_why_it_cannot_be_delivered() {
    let house = House::open().await;
    for idle_policy in [None, policy(60, 600, AutoResume::Disabled)] {
        let id = suspended(&house, idle_policy).await;
        let refused = house.control.ensure_running(&id).await;
        assert!(matches!(refused, Err(NotRunning::Suspended(_))), "{refused:?}");
        assert_eq!(house.state(&id).await, MicrovmState::Suspended, "it is not woken");
    }
    let unknown = MicrovmId::random();
    let refused = house.control.ensure_running(&unknown).await;
    assert!(matches!(refused, Err(NotRunning::Unknown(_))), "{refused:?}");
    house.engine.answer(Hook::Resume, HookOutcome::Refused);
    let id = suspended(&house, policy(60, 600, AutoResume::Enabled)).await;
    let refused = house.control.ensure_running(&id).await;
    let Err(NotRunning::Ended { reason, .. }) = refused else { panic!("{refused:?}") };
    assert!(reason.starts_with("Resume lifecycle hook connection was refused."), "{reason}");
}

#[tokio::test]
async fn a_request_waits_for_a_vm_that_is_being_launched() {
    let house = House::open().await;
    let vm = house.control.run_microvm(house.request()).await.unwrap();
    house.control.ensure_running(&vm.id).await.unwrap();
    assert_eq!(house.state(&vm.id).await, MicrovmState::Running);
}

#[tokio::test]
async fn a_suspended_vm_is_found_again_with_its_deadline() {
    let house = House::open().await;
    let id = suspended(&house, policy(60, 600, AutoResume::Disabled)).await;
    house.clock.advance(Duration::from_secs(300));
    let house = house.reopened().await;
    house.settle().await;
    assert_eq!(house.state(&id).await, MicrovmState::Suspended);
    house.control.resume_microvm(&id).await.unwrap();
    house.reaches(&id, MicrovmState::Running).await;
    house.control.suspend_microvm(&id).await.unwrap();
    house.reaches(&id, MicrovmState::Suspended).await;
    house.clock.advance(Duration::from_secs(599));
    let house = house.reopened().await;
    house.settle().await;
    assert_eq!(house.state(&id).await, MicrovmState::Suspended);
    house.clock.advance(Duration::from_secs(1));
    house.reaches(&id, MicrovmState::Terminated).await;
}

#[tokio::test]
async fn setting_the_hosts_clock_moves_no_deadline() {
    let house = House::open().await;
    let request = RunMicrovm { maximum_duration: HOUR, ..house.request() };
    let id = house.control.run_microvm(request).await.unwrap().id;
    house.reaches(&id, MicrovmState::Running).await;
    let asleep = suspended(&house, policy(60, 600, AutoResume::Disabled)).await;
    // A day forward, then back beyond where it was; with a restart in between.
    house.clock.set(house.clock.now().plus(24 * HOUR));
    house.settle().await;
    let house = house.reopened().await;
    house.clock.set(house.clock.now().minus(48 * HOUR));
    house.settle().await;
    assert_eq!(house.state(&id).await, MicrovmState::Running);
    assert_eq!(house.state(&asleep).await, MicrovmState::Suspended);
    house.clock.advance(Duration::from_secs(600));
    house.reaches(&asleep, MicrovmState::Terminated).await;
    assert_eq!(house.state(&id).await, MicrovmState::Running);
    house.clock.advance(HOUR - Duration::from_secs(600));
    house.reaches(&id, MicrovmState::Terminated).await;
}

#[tokio::test]
async fn a_suspended_vm_outlives_a_restart_of_its_host_and_its_time_goes_on() {
    let house = House::open().await;
    let id = suspended(&house, policy(60, 7200, AutoResume::Disabled)).await;
    house.clock.reboot(HOUR);
    let house = house.reopened().await;
    house.settle().await;
    assert_eq!(house.state(&id).await, MicrovmState::Suspended);
    house.clock.advance(HOUR - Duration::from_secs(1));
    house.settle().await;
    assert_eq!(house.state(&id).await, MicrovmState::Suspended);
    house.clock.advance(Duration::from_secs(1));
    house.reaches(&id, MicrovmState::Terminated).await;
}

#[tokio::test]
async fn a_suspended_vm_whose_files_are_gone_is_terminated() {
    let house = House::open().await;
    let id = suspended(&house, None).await;
    house.engine.kill_silently(&id);
    house
        .eventually(async || {
            house.clock.advance(Duration::from_secs(60));
            house.state(&id).await == MicrovmState::Terminated
        })
        .await;
}

#[tokio::test]
async fn whoever_serves_its_connections_hears_when_it_stops_running() {
    let house = House::open().await;
    let id = running(&house, None).await;
    let (control, vm) = (Arc::clone(&house.control), id.clone());
    let heard = tokio::spawn(async move { control.stops_running(&vm).await });
    house.settle().await;
    assert!(!heard.is_finished());
    house.control.suspend_microvm(&id).await.unwrap();
    heard.await.unwrap();
    house.control.stops_running(&id).await;
}
