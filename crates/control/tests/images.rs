//! Images, versions and builds.

mod house;

use control::{
    BuildProgress, BuildState, ClientToken, ControlError, CreateImage, Hook, ImageState,
    ImageVersion, PageRequest, RunMicrovm, UpdateImage, VersionState, VersionStatus,
    testing::{Fault, image_spec},
};
use engine::HookOutcome;
use house::{House, image};
use std::collections::BTreeMap;

fn create() -> CreateImage {
    CreateImage { name: image(), spec: image_spec(), tags: BTreeMap::new(), client_token: None }
}

fn update() -> UpdateImage {
    UpdateImage { name: image(), spec: image_spec(), client_token: None }
}

fn second() -> ImageVersion {
    ImageVersion::parse("2.0").unwrap()
}

/// Builds a second version and gives what was seen of it.
async fn updated(house: &House, request: UpdateImage) -> Vec<BuildProgress> {
    let mut started = house.control.images().update(request).await.unwrap();
    assert_eq!(started.image.state, ImageState::Updating);
    let mut seen = Vec::new();
    let progress = started.progress.as_mut().unwrap();
    while let Some(one) = progress.recv().await {
        seen.push(one);
    }
    seen
}

#[tokio::test]
async fn a_build_is_watched_from_its_first_step_to_an_active_version() {
    let house = House::empty().await;
    let images = house.control.images();
    let mut started = images.create(create()).await.unwrap();
    assert_eq!(started.image.state, ImageState::Creating);
    assert_eq!(started.version.state, VersionState::Pending);
    let mut seen = Vec::new();
    while let Some(one) = started.progress.as_mut().unwrap().recv().await {
        seen.push(one);
    }
    assert_eq!(seen[0], BuildProgress::Step("fetching s3://bucket/app.zip".to_owned()));
    assert!(seen.contains(&BuildProgress::Line("the app starts".to_owned())), "{seen:?}");
    assert!(matches!(seen.last(), Some(BuildProgress::Finished { result: Ok(_), .. })));

    let ready = images.get(&image()).await.unwrap();
    assert_eq!(ready.state, ImageState::Created);
    assert_eq!(ready.latest_active_version, Some(ImageVersion::FIRST));
    let builds = images.builds(&image(), ImageVersion::FIRST).await.unwrap();
    assert_eq!((builds.len(), builds[0].state), (1, BuildState::Successful));
    assert_eq!(builds[0].snapshot.map(|sizes| sizes.memory_bytes), Some(Some(3)));
    assert_eq!(builds[0].cold_boot_ms, Some(1200));
    assert!(std::fs::read_dir(house.dir.path().join("builds")).unwrap().next().is_none());
}

#[tokio::test]
async fn a_build_that_fails_says_why_and_leaves_the_older_version_running() {
    let house = House::open().await;
    let images = house.control.images();
    let mut broken = update();
    broken.spec.artifact_uri = "s3://bucket/broken".to_owned();
    updated(&house, broken).await;
    let failed = images.version(&image(), second()).await.unwrap();
    assert_eq!((failed.state, failed.status), (VersionState::Failed, VersionStatus::Inactive));
    let reason = "CONTAINER_BUILD_FAILED: The container image build failed.";
    assert_eq!(failed.state_reason.as_deref(), Some(reason));
    let now = images.get(&image()).await.unwrap();
    assert_eq!(now.state, ImageState::UpdateFailed);
    assert_eq!(now.latest_failed_version, Some(second()));
    let vm = house.control.run_microvm(house.request()).await.unwrap();
    assert_eq!(vm.version, ImageVersion::FIRST);

    house.engine.answer(Hook::Ready, HookOutcome::Answered { status: 500 });
    // Of another size, so that there is no snapshot of it yet.
    let mut other = update();
    other.spec.memory_mib = 1024;
    updated(&house, other).await;
    let third = images.version(&image(), ImageVersion::parse("3.0").unwrap()).await.unwrap();
    assert_eq!(third.state_reason.as_deref(), Some("Ready hook check failed: 500"));
}

#[tokio::test]
async fn the_newest_active_version_is_run() {
    let house = House::open().await;
    let images = house.control.images();
    updated(&house, update()).await;
    let run = async |version| {
        let request = RunMicrovm { version, ..house.request() };
        house.control.run_microvm(request).await.map(|vm| vm.version)
    };
    assert_eq!(run(None).await.unwrap(), second());
    assert_eq!(run(Some(ImageVersion::FIRST)).await.unwrap(), ImageVersion::FIRST);
    images.set_status(&image(), second(), VersionStatus::Inactive).await.unwrap();
    assert_eq!(run(None).await.unwrap(), ImageVersion::FIRST);
    let refused = run(Some(second())).await.unwrap_err().to_string();
    assert!(refused.ends_with("microvm-image:worker and version 2.0"), "{refused}");
}

#[tokio::test]
async fn a_snapshot_stays_until_the_last_vm_from_it_is_gone() {
    let house = House::open().await;
    let images = house.control.images();
    let last = images.delete_version(&image(), ImageVersion::FIRST).await;
    assert!(matches!(last, Err(ControlError::LastVersion { .. })));
    let mut other = update();
    other.spec.memory_mib = 1024;
    updated(&house, other).await;
    let id = house.running().await;
    let refused = images.delete(&image()).await;
    assert!(matches!(refused, Err(ControlError::ImageInUse(_))));

    images.delete_version(&image(), second()).await.unwrap();
    house.eventually(async || images.version(&image(), second()).await.is_err()).await;
    assert_eq!(images.get(&image()).await.unwrap().state, ImageState::Updated);
    house.settle().await;
    assert_eq!(house.engine.count("remove_template"), 0);
    house.control.terminate_microvm(&id).await.unwrap();
    house.reaches(&id, control::MicrovmState::Terminated).await;
    house.clock.advance(control::ControlConfig::new("/").reconcile_every);
    house.eventually(async || house.engine.count("remove_template") == 1).await;

    images.delete(&image()).await.unwrap();
    house.eventually(async || images.get(&image()).await.is_err()).await;
    house.eventually(async || house.engine.count("remove_template") == 2).await;
    images.delete(&image()).await.unwrap();
    // The terminated VM is still listed.
    assert_eq!(house.control.get_microvm(&id).await.unwrap().version, second());
}

#[tokio::test]
async fn building_again_what_has_not_changed_makes_no_snapshot() {
    let house = House::open().await;
    updated(&house, update()).await;
    assert_eq!(house.engine.count("make_template"), 1);
    let version = house.control.images().version(&image(), second()).await.unwrap();
    assert_eq!(version.state, VersionState::Successful);
}

#[tokio::test]
async fn an_artifact_that_cannot_be_fetched_is_the_builds_reason() {
    let house = House::open().await;
    let mut absent = update();
    absent.spec.artifact_uri = "s3://bucket/absent".to_owned();
    updated(&house, absent).await;
    let failed = house.control.images().version(&image(), second()).await.unwrap();
    let reason = "S3_NO_SUCH_KEY: s3://bucket/absent is not there.";
    assert_eq!(failed.state_reason.as_deref(), Some(reason));
}

#[tokio::test]
async fn a_snapshot_is_validated_on_a_vm_that_comes_from_it() {
    let house = House::open().await;
    let mut with_validate = update();
    let timeouts = &mut with_validate.spec.hooks.timeouts;
    timeouts.insert(Hook::Validate, Hook::Validate.default_timeout());
    updated(&house, with_validate.clone()).await;
    let calls = house.engine.calls();
    let call = |part: &str| calls.iter().position(|call| call.contains(part)).expect(part);
    assert!(call("launch validate-") < call("/validate"), "{calls:?}");
    assert!(call("/validate") < call("stop validate-"), "{calls:?}");
    assert!(house.back_door.attached().is_empty());

    house.engine.answer(Hook::Validate, HookOutcome::Answered { status: 500 });
    updated(&house, with_validate).await;
    let third = ImageVersion::parse("3.0").unwrap();
    let failed = house.control.images().version(&image(), third).await.unwrap();
    let reason = failed.state_reason.unwrap();
    assert!(reason.starts_with("Validate hook check failed: "), "{reason}");
    let build = &house.control.images().builds(&image(), third).await.unwrap()[0];
    let sizes = build.snapshot.unwrap();
    assert_eq!((sizes.code_bytes, sizes.memory_bytes), (1, None));
    assert!(house.engine.vms().is_empty());
}

#[tokio::test]
async fn one_change_at_a_time_and_none_after_a_crash_is_left_hanging() {
    let house = House::open().await;
    house.engine.fault(1, Fault::HangBefore);
    let mut other = update();
    other.spec.memory_mib = 1024;
    let started = house.control.images().update(other).await.unwrap();
    let images = house.control.images();
    let busy = images.update(update()).await;
    let expected = "MicroVM Image is already in state: UPDATING";
    assert_eq!(busy.unwrap_err().to_string(), expected);
    let busy = images.set_status(&image(), ImageVersion::FIRST, VersionStatus::Inactive).await;
    assert_eq!(busy.unwrap_err().to_string(), expected);
    assert!(matches!(images.delete(&image()).await, Err(ControlError::ImageNotDeletable(_))));
    drop(started);
    let house = house.reopened().await;
    let failed = house.control.images().version(&image(), second()).await.unwrap();
    assert!(failed.state_reason.unwrap().contains("interrupted by a restart"));
    updated(&house, update()).await;
}

#[tokio::test]
async fn a_request_that_breaks_a_rule_is_named() {
    let house = House::open().await;
    let images = house.control.images();
    let taken = images.create(create()).await.unwrap_err().to_string();
    assert_eq!(taken, "A MicroVM image with the name 'worker' already exists in this account");
    let refused = async |change: fn(&mut CreateImage)| {
        let mut request = create();
        change(&mut request);
        images.create(request).await.unwrap_err().to_string()
    };
    let memory = refused(|request| request.spec.memory_mib = 600).await;
    assert!(memory.contains("[512, 1024, 2048, 4096, 8192"), "{memory}");
    let hooks = refused(|request| request.spec.hooks.timeouts.retain(|hook, _| *hook == Hook::Run));
    let hooks = hooks.await;
    assert!(hooks.starts_with("The ready (/ready) MicroVM image hook must be enabled"), "{hooks}");
    let env = refused(|r| r.spec.environment.push(("AWS_REGION".into(), "x".into()))).await;
    assert_eq!(env, "Environment variable key 'AWS_REGION' is reserved");
}

#[tokio::test]
async fn a_client_token_builds_once() {
    let house = House::empty().await;
    let images = house.control.images();
    let client_token = ClientToken::parse("once").ok();
    let request = CreateImage { client_token, ..create() };
    let mut first = images.create(request.clone()).await.unwrap();
    while first.progress.as_mut().unwrap().recv().await.is_some() {}
    let again = images.create(request.clone()).await.unwrap();
    assert_eq!(again.version.version, ImageVersion::FIRST);
    assert!(again.progress.is_none());
    let mut other = request.clone();
    other.spec.memory_mib = 1024;
    assert!(matches!(images.create(other).await, Err(ControlError::ClientTokenReused)));
    // A token goes with its image: the name can be used again (spec 1.6).
    images.delete(&image()).await.unwrap();
    house.eventually(async || images.get(&image()).await.is_err()).await;
    assert!(images.create(request).await.unwrap().progress.is_some());
}

#[tokio::test]
async fn images_are_found_by_a_part_of_their_name() {
    let house = House::open().await;
    let list = async |filter| {
        let page = PageRequest { items_max: 10, token: None };
        house.control.images().list(filter, page).await.unwrap().items.len()
    };
    assert_eq!((list(None).await, list(Some("ork")).await, list(Some("%")).await), (1, 1, 0));
    assert_eq!(
        house.control.images().managed()[0].arn.to_string().rsplit(':').next(),
        Some("al2023-1")
    );
}

#[tokio::test]
async fn an_image_of_another_kernel_or_qemu_is_made_ready_again_by_itself() {
    let house = House::open().await;
    assert!(house.control.is_launchable(&image()).await.unwrap());
    house.engine.outdate_templates();
    assert!(!house.control.is_launchable(&image()).await.unwrap());
    // Whoever comes first waits for it.
    house.running().await;
    assert!(house.control.is_launchable(&image()).await.unwrap());
    assert_eq!(house.engine.count("make_template"), 2);

    house.engine.outdate_templates();
    let house = house.reopened().await;
    house.eventually(async || house.control.is_launchable(&image()).await.unwrap()).await;
}
