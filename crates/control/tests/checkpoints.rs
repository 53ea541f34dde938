//! Checkpoints and forks: other MicroVMs that go on from a moment of one, each with its own identity.

mod house;

use control::{
    CheckpointName, CheckpointState, ControlError, Hook, Mark, Microvm, MicrovmId, MicrovmState,
    RunFrom, RunMicrovm, testing::Fault,
};
use house::House;
use std::{collections::HashSet, time::Duration};

fn name(text: &str) -> CheckpointName {
    CheckpointName::parse(text).unwrap()
}

fn from(payload: Option<&str>) -> RunFrom {
    RunFrom {
        run_hook_payload: payload.map(str::to_owned),
        maximum_duration: None,
        client_token: None,
    }
}

fn run_hook(house: &House, id: &MicrovmId, payload: &str) -> usize {
    let body = format!(r#"{{"microvmId":"{id}","runHookPayload":"{payload}"}}"#);
    house.engine.count(&format!("hook {id} {} {body}", Hook::Run.path()))
}

#[tokio::test]
async fn a_checkpoint_is_run_from_as_another_microvm() {
    let house = House::open().await;
    let source = house.running().await;
    let made = house.control.checkpoint(&source, name("before")).await.unwrap();
    assert_eq!((made.state, made.memory_bytes), (CheckpointState::Ready, 1 << 20));
    assert_eq!(house.state(&source).await, MicrovmState::Running, "it goes on");
    let marks = house.control.timeline(&source).await.unwrap();
    assert!(marks.iter().any(|entry| entry.mark == Mark::Checkpointed), "{marks:?}");
    house.clock.advance(Duration::from_secs(1));
    let vm = house.control.run_from(&name("before"), from(Some("mine"))).await.unwrap();
    let vm = house.reaches(&vm.id, MicrovmState::Running).await;
    let source = house.control.get_microvm(&source).await.unwrap();
    assert_ne!((&vm.id, &vm.endpoint, &vm.log), (&source.id, &source.endpoint, &source.log));
    assert_eq!((&vm.image, vm.version), (&source.image, source.version));
    assert_eq!(run_hook(&house, &vm.id, "mine"), 1);
    // Another one of it knows where it comes from.
    let child = house.control.checkpoint(&vm.id, name("after")).await.unwrap();
    assert_eq!(child.parent, Some(name("before")));
    let listed = house.control.checkpoints().await.unwrap();
    assert_eq!(
        listed.iter().map(|c| c.name.clone()).collect::<Vec<_>>(),
        [Some(name("before")), Some(name("after"))]
    );
}

#[tokio::test]
async fn a_suspended_microvm_can_be_saved_too_and_others_cannot() {
    let house = House::open().await;
    let id = house.running().await;
    house.control.suspend_microvm(&id).await.unwrap();
    house.reaches(&id, MicrovmState::Suspended).await;
    house.control.checkpoint(&id, name("asleep")).await.unwrap();
    assert_eq!(house.state(&id).await, MicrovmState::Suspended);
    let again = house.control.checkpoint(&id, name("asleep")).await;
    assert!(matches!(again, Err(ControlError::CheckpointExists(_))), "{again:?}");
    house.control.terminate_microvm(&id).await.unwrap();
    house.reaches(&id, MicrovmState::Terminated).await;
    let ended = house.control.checkpoint(&id, name("ended")).await;
    assert!(matches!(ended, Err(ControlError::AlreadyTerminated(_))), "{ended:?}");
    let unknown = house.control.checkpoint(&MicrovmId::random(), name("unknown")).await;
    assert!(matches!(unknown, Err(ControlError::MicrovmNotFound(_))), "{unknown:?}");
}

#[tokio::test]
async fn forks_are_others_each_with_its_own_payload_and_leave_no_checkpoint() {
    let house = House::open().await;
    let source = house.running().await;
    let payloads: Vec<_> = (0..16).map(|n| Some(format!("fork {n}"))).collect();
    let forks = house.control.fork(&source, payloads).await.unwrap();
    for (n, fork) in forks.iter().enumerate() {
        house.reaches(&fork.id, MicrovmState::Running).await;
        assert_eq!(run_hook(&house, &fork.id, &format!("fork {n}")), 1);
    }
    let own = |of: fn(&Microvm) -> String| forks.iter().map(of).collect::<HashSet<_>>().len();
    assert_eq!(own(|vm| vm.endpoint.clone()), 16);
    assert_eq!(house.engine.count("checkpoint"), 1, "all are of one moment");
    house.eventually(async || house.engine.checkpoints().is_empty()).await;
    house.eventually(async || house.control.checkpoints().await.unwrap().is_empty()).await;
    assert_eq!(house.engine.vms().len(), 17);
}

#[tokio::test]
async fn what_cannot_be_forked_is_refused_before_anything_is_done() {
    let house = House::open().await;
    let source = house.running().await;
    for count in [0, 65] {
        let refused = house.control.fork(&source, vec![None; count]).await;
        assert!(matches!(refused, Err(ControlError::TooManyForks { .. })), "{refused:?}");
    }
    let refused = house.control.fork(&source, vec![Some("x".repeat(4097))]).await;
    assert!(matches!(refused, Err(ControlError::PayloadTooLong { .. })), "{refused:?}");
    let refused = house.control.run_from(&name("absent"), from(None)).await;
    assert!(matches!(refused, Err(ControlError::CheckpointNotFound(_))), "{refused:?}");
    assert_eq!(house.engine.count("checkpoint"), 0);
}

#[tokio::test]
async fn a_deleted_checkpoint_is_gone_and_its_microvms_go_on() {
    let house = House::open().await;
    let source = house.running().await;
    house.control.checkpoint(&source, name("one")).await.unwrap();
    let vm = house.control.run_from(&name("one"), from(None)).await.unwrap();
    house.reaches(&vm.id, MicrovmState::Running).await;
    house.control.delete_checkpoint(&name("one")).await.unwrap();
    assert!(house.engine.checkpoints().is_empty());
    assert_eq!(house.state(&vm.id).await, MicrovmState::Running);
    let gone = house.control.delete_checkpoint(&name("one")).await;
    assert!(matches!(gone, Err(ControlError::CheckpointNotFound(_))), "{gone:?}");
    house.control.checkpoint(&source, name("one")).await.unwrap();
}

#[tokio::test]
async fn a_checkpoint_that_fails_leaves_its_name_free_and_the_microvm_running() {
    let house = House::open().await;
    let id = house.running().await;
    // The template was call 0, the launch 1, /run 2.
    house.engine.fault(3, Fault::Fail);
    let failed = house.control.checkpoint(&id, name("one")).await;
    assert!(matches!(failed, Err(ControlError::Engine(_))), "{failed:?}");
    assert_eq!(house.state(&id).await, MicrovmState::Running);
    house.control.checkpoint(&id, name("one")).await.unwrap();
}

#[tokio::test]
async fn a_suspend_or_an_end_waits_for_a_checkpoint_under_way() {
    let house = House::open().await;
    let id = house.running().await;
    house.engine.fault(3, Fault::HangBefore);
    let saving = house.control.checkpoint(&id, name("slow"));
    let meanwhile = async {
        house.eventually(async || house.engine.count("checkpoint") == 1).await;
        house.control.terminate_microvm(&id).await.unwrap();
        house.settle().await;
        assert_eq!(house.engine.count("stop"), 0, "the engine is at work on it");
        assert_eq!(house.state(&id).await, MicrovmState::Terminating);
    };
    tokio::select! {
        saved = saving => panic!("{saved:?}"),
        () = meanwhile => {}
    }
}

#[tokio::test]
async fn what_a_crash_leaves_of_checkpoints_is_removed_and_what_is_ready_stays() {
    let house = House::open().await;
    let id = house.running().await;
    house.control.checkpoint(&id, name("kept")).await.unwrap();
    house.engine.fault(4, Fault::HangAfter);
    let saving = house.control.checkpoint(&id, name("cut"));
    tokio::select! {
        saved = saving => panic!("{saved:?}"),
        () = house.eventually(async || house.engine.checkpoints().len() == 2) => {}
    }
    let House { dir, engine, clock, control, .. } = house;
    drop(control);
    let house = House::on(dir, engine, clock).await;
    let listed = house.control.checkpoints().await.unwrap();
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(listed[0].name, Some(name("kept")));
    assert_eq!(house.engine.checkpoints().len(), 1);
}

#[tokio::test]
async fn an_image_can_be_deleted_under_a_checkpoint_that_goes_on() {
    let house = House::open().await;
    let id = house.running().await;
    house.control.checkpoint(&id, name("one")).await.unwrap();
    house.control.terminate_microvm(&id).await.unwrap();
    house.reaches(&id, MicrovmState::Terminated).await;
    house.control.images().delete(&house::image()).await.unwrap();
    let gone = house.control.run_microvm(RunMicrovm::of(house::image())).await;
    assert!(matches!(gone, Err(ControlError::NoActiveVersion { .. })), "{gone:?}");
    let vm = house.control.run_from(&name("one"), from(None)).await.unwrap();
    house.reaches(&vm.id, MicrovmState::Running).await;
}
