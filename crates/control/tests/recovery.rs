//! The control plane ends at any call, like after `kill -9`, and begins again: what was promised is
//! kept, and nothing is doubled.

mod house;

use control::{
    ClientToken, Control, ControlError, Hook, Mark, Microvm, MicrovmFilter, MicrovmId,
    MicrovmState, PageRequest, RunMicrovm,
    testing::{FakeEngine, Fault, ManualClock},
};
use house::House;
use std::{sync::Arc, time::Duration};
use tokio::runtime::Runtime;

/// What outlives a control plane.
struct World {
    dir: Arc<tempfile::TempDir>,
    engine: Arc<FakeEngine>,
    clock: Arc<ManualClock>,
}

impl World {
    /// With an image.
    fn new() -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let world =
            Self { dir, engine: Arc::new(FakeEngine::new()), clock: Arc::new(ManualClock::new()) };
        world.life(async |house| house.make_image().await);
        world
    }

    /// One life of a control plane, ended where it stands.
    fn life<T>(&self, act: impl AsyncFnOnce(&House) -> T) -> T {
        let runtime = Runtime::new().unwrap();
        let (dir, engine, clock) = (self.dir.clone(), self.engine.clone(), self.clock.clone());
        let result = runtime.block_on(async {
            let house = House::on(dir, engine, clock).await;
            act(&house).await
        });
        runtime.shutdown_background();
        result
    }
}

fn run_hooks(engine: &FakeEngine, id: &MicrovmId) -> usize {
    engine.count(&format!("hook {id} {}", Hook::Run.path()))
}

async fn all(control: &Control) -> Vec<Microvm> {
    let page = PageRequest { items_max: 50, token: None };
    control.list_microvms(MicrovmFilter::default(), page).await.unwrap().items
}

#[test]
fn a_launch_that_is_cut_off_at_any_call_goes_on_and_calls_run_once() {
    // The template was call 0; the launch is 1, the hook 2.
    for (nth, fault) in [
        (1, Fault::HangBefore),
        (1, Fault::HangAfter),
        (2, Fault::HangBefore),
        (2, Fault::HangAfter),
    ] {
        let world = World::new();
        world.engine.fault(nth, fault);
        let id = world.life(async |house| {
            let id = house.control.run_microvm(house.request()).await.unwrap().id;
            house.eventually(async || house.engine.calls().len() > nth).await;
            id
        });
        world.life(async |house| {
            let told = format!("{fault:?} at call {nth}: {:?}", house.engine.calls());
            house.reaches(&id, MicrovmState::Running).await;
            assert_eq!(all(&house.control).await.len(), 1, "{told}");
            assert_eq!(house.engine.vms(), [id.to_string()], "{told}");
            assert_eq!(run_hooks(&house.engine, &id), 1, "{told}");
            assert_eq!(house.back_door.attached().len(), 1, "{told}");
            house.control.terminate_all().await.unwrap();
            assert!(house.engine.vms().is_empty(), "{told}");
        });
    }
}

#[test]
fn a_suspend_or_resume_that_is_cut_off_at_any_call_goes_on() {
    // The template was call 0, the launch 1, /run 2; then /suspend 3, the save 4, the restore 5 and
    // /resume 6.
    for nth in 3..=6 {
        for fault in [Fault::HangBefore, Fault::HangAfter] {
            let world = World::new();
            world.engine.fault(nth, fault);
            let goal = if nth < 5 { MicrovmState::Suspended } else { MicrovmState::Running };
            let id = world.life(async |house| {
                let id = house.running().await;
                house.control.suspend_microvm(&id).await.unwrap();
                if goal == MicrovmState::Running {
                    house.reaches(&id, MicrovmState::Suspended).await;
                    house.control.resume_microvm(&id).await.unwrap();
                }
                house.eventually(async || house.engine.calls().len() > nth).await;
                id
            });
            world.life(async |house| {
                house.reaches(&id, goal).await;
                assert_eq!(run_hooks(&house.engine, &id), 1, "call {nth}, {fault:?}");
                assert_eq!(house.engine.vms(), [id.to_string()]);
            });
        }
    }
}

#[test]
fn an_end_that_is_cut_off_goes_on() {
    for fault in [Fault::HangBefore, Fault::HangAfter] {
        let world = World::new();
        // Template, launch, hook, then the stop.
        world.engine.fault(3, fault);
        let id = world.life(async |house| {
            let id = house.running().await;
            house.control.terminate_microvm(&id).await.unwrap();
            house.eventually(async || house.engine.count("stop") > 0).await;
            assert_eq!(house.state(&id).await, MicrovmState::Terminating);
            id
        });
        world.life(async |house| {
            let vm = house.reaches(&id, MicrovmState::Terminated).await;
            assert_eq!(vm.state_reason.as_deref(), Some("Success."));
            assert!(house.engine.vms().is_empty());
        });
    }
}

#[test]
fn a_running_vm_is_adopted_with_its_deadline() {
    let world = World::new();
    let id = world.life(async |house| {
        let maximum_duration = Duration::from_secs(600);
        let request = RunMicrovm { maximum_duration, ..house.request() };
        let id = house.control.run_microvm(request).await.unwrap().id;
        house.reaches(&id, MicrovmState::Running).await;
        id
    });
    world.clock.advance(Duration::from_secs(300));
    world.life(async |house| {
        house.log_line_after_adoption(&id).await;
        assert_eq!(house.state(&id).await, MicrovmState::Running);
        assert_eq!(run_hooks(&house.engine, &id), 1);
        assert_eq!(house.back_door.attached().len(), 1);
        let timeline = house.control.timeline(&id).await.unwrap();
        assert_eq!(timeline.last().map(|entry| entry.mark), Some(Mark::Adopted));
        assert!(timeline.last().unwrap().elapsed_ms >= 300_000.0);
        house.clock.advance(Duration::from_secs(300));
        house.reaches(&id, MicrovmState::Terminated).await;
    });
}

#[test]
fn a_vm_that_died_meanwhile_is_terminated_with_what_its_console_says() {
    let world = World::new();
    let id = world.life(async |house| house.running().await);
    world.engine.kill_silently(&id);
    world.life(async |house| {
        let vm = house.reaches(&id, MicrovmState::Terminated).await;
        assert!(vm.state_reason.unwrap().contains("Kernel panic"));
        assert!(house.engine.vms().is_empty());
    });
}

#[tokio::test]
async fn what_has_no_row_is_removed() {
    let house = House::open().await;
    let stray = MicrovmId::random();
    house.engine.stray(&stray);
    let id = house.running().await;
    house.clock.advance(Duration::from_secs(61));
    house.eventually(async || house.engine.vms().len() == 1).await;
    assert_eq!(house.engine.vms(), [id.to_string()]);
}

#[tokio::test]
async fn a_death_that_nobody_heard_is_found_by_the_clock() {
    let house = House::open().await;
    let id = house.running().await;
    house.engine.kill_silently(&id);
    house.clock.advance(Duration::from_secs(61));
    let vm = house.reaches(&id, MicrovmState::Terminated).await;
    assert!(vm.state_reason.unwrap().starts_with("The MicroVM ended unexpectedly"));
}

#[tokio::test]
async fn a_client_token_gives_the_first_answer_again_also_after_a_restart() {
    let mut house = House::open().await;
    let client_token = Some(ClientToken::parse("once").unwrap());
    let request = RunMicrovm { client_token, ..house.request() };
    let first = house.control.run_microvm(request.clone()).await.unwrap();
    house.reaches(&first.id, MicrovmState::Running).await;
    assert_eq!(house.control.run_microvm(request.clone()).await.unwrap(), first);

    house = house.reopened().await;
    assert_eq!(house.control.run_microvm(request.clone()).await.unwrap(), first);
    house.control.terminate_microvm(&first.id).await.unwrap();
    house.reaches(&first.id, MicrovmState::Terminated).await;
    assert_eq!(house.control.run_microvm(request.clone()).await.unwrap(), first);

    let other = RunMicrovm { run_hook_payload: Some(String::new()), ..request.clone() };
    let refused = house.control.run_microvm(other).await;
    assert!(matches!(refused, Err(ControlError::ClientTokenReused)));
    assert_eq!(all(&house.control).await.len(), 1);

    // The token goes with its resource.
    house.clock.advance(Duration::from_secs(8 * 24 * 3600));
    house.eventually(async || all(&house.control).await.is_empty()).await;
    assert_ne!(house.control.run_microvm(request).await.unwrap().id, first.id);
}

#[tokio::test]
async fn equal_requests_at_the_same_time_make_one_vm() {
    let house = House::open().await;
    let client_token = Some(ClientToken::parse("once").unwrap());
    let request = RunMicrovm { client_token, ..house.request() };
    let runs = (0..50).map(|_| house.control.run_microvm(request.clone()));
    let answers = futures::future::join_all(runs).await;
    let first = answers[0].as_ref().unwrap();
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|vm| vm == first)));
    house.reaches(&first.id, MicrovmState::Running).await;
    assert_eq!(house.engine.count("launch"), 1);
}

#[tokio::test]
async fn the_databases_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let house = House::empty().await;
    for name in ["control.db", "control.db-wal", "logs.db", "logs.db-wal"] {
        let file = std::fs::metadata(house.dir.path().join(name)).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600, "{name}");
    }
}
