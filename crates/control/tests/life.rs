//! What becomes of MicroVMs, on an engine without VMs and a clock that is moved by hand.

mod house;

use control::{
    AutoResume, ControlConfig, ControlError, Hook, IdleCounts, IdlePolicy, Mark, MicrovmFilter,
    MicrovmState, PageRequest, Quotas, RunMicrovm, testing::Fault,
};
use engine::HookOutcome;
use house::House;
use std::time::Duration;

#[tokio::test]
async fn a_vm_is_pending_at_once_and_running_after_its_run_hook() {
    let house = House::open().await;
    let request = RunMicrovm { run_hook_payload: Some("{\"a\":1}".into()), ..house.request() };
    let vm = house.control.run_microvm(request).await.unwrap();
    assert_eq!(vm.state, MicrovmState::Pending);
    let vm = house.reaches(&vm.id, MicrovmState::Running).await;
    assert_eq!(vm.state_reason, None);
    let hook = format!("hook {} /aws/lambda-microvms/runtime/v1/run ", vm.id);
    let body = format!(r#"{{"microvmId":"{}","runHookPayload":"{{\"a\":1}}"}}"#, vm.id);
    assert_eq!(house.engine.count(&hook), 1);
    assert!(house.engine.calls().contains(&(hook + &body)), "{:?}", house.engine.calls());
    assert_eq!(house.back_door.attached().len(), 1);
    let timeline = house.control.timeline(&vm.id).await.unwrap();
    let marks: Vec<Mark> = timeline.iter().map(|entry| entry.mark).collect();
    assert_eq!(marks, [Mark::Accepted, Mark::Restored, Mark::RunHookAnswered, Mark::Running]);
    assert_eq!(timeline[1].detail, "clone");
    assert!(timeline.is_sorted_by_key(|entry| entry.elapsed_ms));
}

#[tokio::test]
async fn a_terminated_vm_leaves_nothing_and_says_success() {
    let house = House::open().await;
    let id = house.running().await;
    house.control.terminate_microvm(&id).await.unwrap();
    let vm = house.reaches(&id, MicrovmState::Terminated).await;
    assert_eq!(vm.state_reason.as_deref(), Some("Success."));
    assert!(vm.terminated_at.is_some());
    assert!(house.engine.vms().is_empty() && house.back_door.attached().is_empty());
    house.control.terminate_microvm(&id).await.unwrap();
    let refused = house.control.suspend_microvm(&id).await;
    assert!(matches!(refused, Err(ControlError::AlreadyTerminated(_))));
}

#[tokio::test]
async fn a_run_hook_that_fails_ends_the_vm_in_awss_words() {
    for (outcome, reason) in [
        (HookOutcome::Answered { status: 500 }, "Run lifecycle hook returned HTTP status 500."),
        (HookOutcome::TimedOut, "Run lifecycle hook timed out"),
        (HookOutcome::Refused, "Run lifecycle hook connection was refused."),
        (HookOutcome::Broken { error: "x".into() }, "Run lifecycle hook failed."),
    ] {
        let house = House::open().await;
        house.engine.answer(Hook::Run, outcome);
        let vm = house.control.run_microvm(house.request()).await.unwrap();
        let vm = house.reaches(&vm.id, MicrovmState::Terminated).await;
        assert!(vm.state_reason.as_deref().unwrap().starts_with(reason), "{vm:?}");
        assert!(house.engine.vms().is_empty());
    }
}

#[tokio::test]
async fn whichever_call_of_a_launch_fails_the_vm_ends_with_a_reason_and_nothing_is_left() {
    // After the template: launch, hook; then the stop, which is tried until it succeeds.
    for nth in 1..=3 {
        let house = House::open().await;
        house.engine.fault(nth, Fault::Fail);
        let vm = house.control.run_microvm(house.request()).await.unwrap();
        if nth < 3 {
            let vm = house.reaches(&vm.id, MicrovmState::Terminated).await;
            assert!(vm.state_reason.is_some(), "call {nth}");
        } else {
            house.reaches(&vm.id, MicrovmState::Running).await;
            house.control.terminate_microvm(&vm.id).await.unwrap();
            house.reaches(&vm.id, MicrovmState::Terminated).await;
        }
        assert!(house.engine.vms().is_empty() && house.back_door.attached().is_empty());
    }
}

#[tokio::test]
async fn a_vm_ends_at_its_maximum_duration() {
    let house = House::open().await;
    let request = RunMicrovm { maximum_duration: Duration::from_secs(600), ..house.request() };
    let id = house.control.run_microvm(request).await.unwrap().id;
    house.reaches(&id, MicrovmState::Running).await;
    house.clock.advance(Duration::from_secs(600));
    let vm = house.reaches(&id, MicrovmState::Terminated).await;
    assert_eq!(vm.state_reason.as_deref(), Some("MicroVM exceeded maximum lifetime."));
}

#[tokio::test]
async fn a_vm_that_works_is_not_idle_and_one_that_rests_is() {
    let house = House::open().await;
    let idle_policy = Some(IdlePolicy {
        max_idle: Duration::from_secs(60),
        suspended: Duration::ZERO,
        auto_resume: AutoResume::Disabled,
    });
    let request = RunMicrovm { idle_policy, ..house.request() };
    let id = house.control.run_microvm(request).await.unwrap().id;
    house.reaches(&id, MicrovmState::Running).await;
    for _ in 0..30 {
        house.engine.send_bytes(&id, 1000);
        house.clock.advance(Duration::from_secs(10));
        house.settle().await;
        assert_eq!(house.state(&id).await, MicrovmState::Running);
    }
    house
        .eventually(async || {
            house.clock.advance(Duration::from_secs(10));
            house.state(&id).await != MicrovmState::Running
        })
        .await;
    let vm = house.reaches(&id, MicrovmState::Terminated).await;
    assert_eq!(vm.state_reason.as_deref(), Some("MicroVM exceeded maximum lifetime."));
    let timeline = house.control.timeline(&id).await.unwrap();
    assert!(timeline.iter().any(|entry| entry.detail == "idle for 60 s"), "{timeline:?}");
}

#[tokio::test]
async fn an_app_that_ends_ends_its_vm_with_its_exit_code() {
    let house = House::open().await;
    let id = house.running().await;
    house.engine.exit_app(&id, 3);
    let vm = house.reaches(&id, MicrovmState::Terminated).await;
    assert_eq!(vm.state_reason.as_deref(), Some("Container Stopped with Exit Code: 3"));
}

#[tokio::test]
async fn a_guest_that_is_alive_is_powered_off_in_order() {
    let house = House::open().await;
    let id = house.running().await;
    house.control.terminate_microvm(&id).await.unwrap();
    house.reaches(&id, MicrovmState::Terminated).await;
    assert_eq!(house.engine.count(&format!("stop {id} in order")), 1);
}

#[tokio::test]
async fn a_guest_that_dies_leaves_its_reason_and_its_console() {
    let house = House::open().await;
    let id = house.running().await;
    house.engine.print(&id, "half a line");
    house.engine.kill(&id, "out of memory", "first\nOut of memory: Killed process 1\n");
    let vm = house.reaches(&id, MicrovmState::Terminated).await;
    let reason = vm.state_reason.unwrap();
    assert!(reason.contains("out of memory") && reason.contains("Killed process 1"), "{reason}");
    assert_eq!(house.engine.count(&format!("stop {id} at once")), 1);
    let lines = house.log_lines(&id, 3).await;
    assert_eq!(
        lines,
        ["half a line", "console: first", "console: Out of memory: Killed process 1"]
    );
}

#[tokio::test]
async fn idling_that_began_before_a_restart_ends_when_it_would_have() {
    let idle_policy = Some(IdlePolicy {
        max_idle: Duration::from_secs(600),
        suspended: Duration::ZERO,
        auto_resume: AutoResume::Disabled,
    });
    let house = House::open().await;
    let request = RunMicrovm { idle_policy, ..house.request() };
    let id = house.control.run_microvm(request).await.unwrap().id;
    house.reaches(&id, MicrovmState::Running).await;
    house.control.shutdown().await;
    let House { dir, engine, clock, .. } = house;
    clock.advance(Duration::from_secs(300));
    let aws_rule =
        ControlConfig { idle_counts: IdleCounts::Ingress, ..ControlConfig::new(dir.path()) };
    let house = House::configured(dir, engine, clock, aws_rule).await;
    house.log_line_after_adoption(&id).await;
    house.clock.advance(Duration::from_secs(299));
    house.settle().await;
    assert_eq!(house.state(&id).await, MicrovmState::Running);
    house.clock.advance(Duration::from_secs(1));
    house.reaches(&id, MicrovmState::Terminated).await;
}

#[tokio::test]
async fn memory_beyond_the_quota_is_refused_and_comes_back_with_the_end_of_a_vm() {
    let house = House::open().await;
    house.control.shutdown().await;
    let House { dir, engine, clock, .. } = house;
    let quotas = Quotas { memory_mib: Some(600), ..Quotas::default() };
    let config = ControlConfig { quotas, ..ControlConfig::new(dir.path()) };
    let house = House::configured(dir, engine, clock, config).await;
    let id = house.running().await;
    let refused = house.control.run_microvm(house.request()).await;
    assert!(matches!(refused, Err(ControlError::MemoryQuota { limit_mib: 600 })));
    house.control.terminate_microvm(&id).await.unwrap();
    house.reaches(&id, MicrovmState::Terminated).await;
    house.running().await;
}

#[tokio::test]
async fn whoever_listens_hears_of_every_step_in_order() {
    let house = House::open().await;
    let mut events = house.control.events();
    let id = house.running().await;
    house.control.terminate_microvm(&id).await.unwrap();
    let mut heard = Vec::new();
    while heard.last() != Some(&Mark::Terminated) {
        let event = events.recv().await.unwrap();
        assert_eq!(event.id, id);
        heard.push(event.entry.mark);
    }
    let timeline = house.control.timeline(&id).await.unwrap();
    assert_eq!(heard, timeline.iter().map(|entry| entry.mark).collect::<Vec<_>>());
    assert_eq!(heard[4..], [Mark::Terminating, Mark::Terminated]);
}

#[tokio::test]
async fn a_list_is_newest_first_and_stable_while_vms_come() {
    let house = House::open().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        house.clock.advance(Duration::from_secs(1));
        ids.insert(0, house.running().await);
    }
    let list = async |token| {
        let page = PageRequest { items_max: 2, token };
        house.control.list_microvms(MicrovmFilter::default(), page).await.unwrap()
    };
    let first = list(None).await;
    house.running().await;
    let second = list(first.next_token.clone()).await;
    let third = list(second.next_token.clone()).await;
    let pages = [first, second, third];
    assert_eq!(pages[2].next_token, None);
    let seen = pages.into_iter().flat_map(|page| page.items).map(|vm| vm.id);
    assert_eq!(seen.collect::<Vec<_>>(), ids);
    let other = MicrovmFilter { image: control::ImageName::parse("other").ok(), version: None };
    let page = PageRequest { items_max: 2, token: None };
    assert!(house.control.list_microvms(other, page).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_request_is_refused_before_anything_is_written() {
    let house = House::open().await;
    let run = |request| house.control.run_microvm(request);
    let long = RunMicrovm { run_hook_payload: Some("x".repeat(4097)), ..house.request() };
    assert!(matches!(run(long).await, Err(ControlError::PayloadTooLong { bytes: 4097, .. })));
    let absent = RunMicrovm::of(control::ImageName::parse("absent").unwrap());
    let error = run(absent).await.unwrap_err().to_string();
    assert!(
        error.starts_with("No active version found for MicroVM image arn:aws:lambda"),
        "{error}"
    );
    let short = RunMicrovm { maximum_duration: Duration::ZERO, ..house.request() };
    assert!(matches!(run(short).await, Err(ControlError::BadMaximumDuration { .. })));
    assert_eq!(house.engine.count("launch"), 0);
}

#[tokio::test]
async fn no_microvm_is_run_while_all_are_terminated() {
    let house = House::open().await;
    house.running().await;
    // The template was call 0, then the launch and the hook; the removal hangs.
    house.engine.fault(3, Fault::HangBefore);
    let ending = house.control.terminate_all();
    let refused = async {
        house.eventually(async || house.engine.count("stop") > 0).await;
        house.control.run_microvm(house.request()).await.unwrap_err()
    };
    tokio::select! {
        ended = ending => panic!("{ended:?}"),
        error = refused => assert!(matches!(error, ControlError::TerminatingAll), "{error}"),
    }
    // Given up, it refuses no more.
    house.control.run_microvm(house.request()).await.unwrap();
}
