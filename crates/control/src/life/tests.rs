//! Every transition of spec 1.1 and every refusal of 1.4, by hand; random lives are in `model.rs`.

use super::*;
use crate::AutoResume;

const START: Steady = Steady::from_ms(1_000_000);

/// What the wall clock says at an end.
const WALL: Timestamp = Timestamp::from_ms(77);

fn after(seconds: u64) -> Steady {
    START.plus(Duration::from_secs(seconds))
}

/// All hooks, no idle policy.
fn terms() -> Terms {
    Terms {
        started_at: START,
        maximum_duration: Duration::from_secs(28_800),
        idle_policy: None,
        hooks: BTreeSet::from([Hook::Run, Hook::Resume, Hook::Suspend, Hook::Terminate]),
        idle_counts: IdleCounts::Work,
    }
}

fn idle(max_idle_s: u64, suspended_s: u64, auto_resume: AutoResume) -> Terms {
    let idle_policy = Some(IdlePolicy {
        max_idle: Duration::from_secs(max_idle_s),
        suspended: Duration::from_secs(suspended_s),
        auto_resume,
    });
    Terms { idle_policy, ..terms() }
}

fn hookless() -> Terms {
    Terms { hooks: BTreeSet::new(), ..terms() }
}

fn cloned() -> Event {
    Event::Cloned { path: "clone".to_owned() }
}

fn answered(hook: Hook, status: u16) -> Event {
    Event::HookEnded { hook, outcome: HookOutcome::Answered { status } }
}

fn removed() -> Event {
    Event::Removed { at: WALL }
}

fn saved() -> Event {
    Event::Saved { detail: String::new() }
}

fn restored() -> Event {
    Event::Restored { path: "resumed".to_owned() }
}

fn restoring() -> Life {
    Life::Restoring { suspended_since: START }
}

fn running() -> Life {
    Life::Running { active_at: START }
}

fn stopping(reason: &str) -> Life {
    Life::Stopping { reason: reason.to_owned() }
}

/// Plays events one second apart and gives the phases that were passed through.
fn play(terms: &Terms, from: Life, events: &[Event]) -> (Life, Vec<Phase>) {
    let mut life = from;
    let mut phases = Vec::new();
    for (second, event) in (1..).zip(events) {
        life = life.on(event, terms, after(second)).expect("the event is allowed").life;
        phases.push(life.phase());
    }
    (life, phases)
}

fn check(terms: &Terms, from: Life, events: &[Event], expected: &[Phase]) {
    assert_eq!(play(terms, from.clone(), events).1, expected, "from {from:?} by {events:?}");
}

#[test]
fn a_launch_goes_through_the_run_hook_where_there_is_one() {
    check(
        &terms(),
        Life::Cloning,
        &[cloned(), answered(Hook::Run, 200)],
        &[Phase::CallingRun, Phase::Running],
    );
    check(&hookless(), Life::Cloning, &[cloned()], &[Phase::Running]);
}

#[test]
fn a_run_hook_that_fails_never_makes_a_running_vm() {
    let (life, phases) =
        play(&terms(), Life::Cloning, &[cloned(), answered(Hook::Run, 500), removed()]);
    assert_eq!(phases, [Phase::CallingRun, Phase::Stopping, Phase::Terminated]);
    let reason = "Run lifecycle hook returned HTTP status 500. Please check your hook endpoint and \
                  application logs for more details.";
    assert_eq!(life, Life::Terminated { at: WALL, reason: reason.to_owned() });
}

#[test]
fn every_outcome_of_a_hook_has_awss_words() {
    let look = "Please check your hook endpoint and application logs for more details.";
    let reason = |hook, outcome| hook_failure(hook, &outcome);
    assert_eq!(reason(Hook::Run, HookOutcome::Answered { status: 200 }), None);
    for (outcome, text) in [
        (HookOutcome::Answered { status: 503 }, format!("returned HTTP status 503. {look}")),
        (HookOutcome::Refused, format!("connection was refused. {look}")),
        (HookOutcome::TimedOut, "timed out".to_owned()),
        (HookOutcome::Broken { error: "x".to_owned() }, format!("failed. {look}")),
    ] {
        let whole = format!("Resume lifecycle hook {text}");
        assert_eq!(reason(Hook::Resume, outcome), Some(whole));
    }
}

#[test]
fn a_vm_is_suspended_and_resumed_through_its_hooks() {
    check(
        &terms(),
        running(),
        &[
            Event::SuspendAsked,
            answered(Hook::Suspend, 200),
            saved(),
            Event::SuspendAsked,
            Event::ResumeAsked,
            restored(),
            answered(Hook::Resume, 200),
            Event::ResumeAsked,
        ],
        &[
            Phase::CallingSuspend,
            Phase::Saving,
            Phase::Suspended,
            Phase::Suspended,
            Phase::Restoring,
            Phase::CallingResume,
            Phase::Running,
            Phase::Running,
        ],
    );
    check(
        &hookless(),
        running(),
        &[Event::SuspendAsked, saved(), Event::ResumeAsked, restored()],
        &[Phase::Saving, Phase::Suspended, Phase::Restoring, Phase::Running],
    );
}

#[test]
fn a_suspend_or_resume_hook_that_fails_ends_the_vm() {
    check(
        &terms(),
        running(),
        &[Event::SuspendAsked, answered(Hook::Suspend, 500)],
        &[Phase::CallingSuspend, Phase::Stopping],
    );
    check(&terms(), Life::CallingResume, &[answered(Hook::Resume, 404)], &[Phase::Stopping]);
}

#[test]
fn what_a_state_does_not_allow_is_refused() {
    let ended = Life::Terminated { at: WALL, reason: String::new() };
    for (life, refusal) in [
        (Life::Cloning, Refusal::WrongState),
        (Life::CallingSuspend, Refusal::WrongState),
        (restoring(), Refusal::WrongState),
        (stopping(""), Refusal::WrongState),
        (ended, Refusal::AlreadyTerminated),
    ] {
        for event in [Event::SuspendAsked, Event::ResumeAsked] {
            assert_eq!(life.on(&event, &terms(), START), Err(refusal), "{event:?} in {life:?}");
        }
    }
}

#[test]
fn terminate_tells_the_app_where_there_is_one_to_tell() {
    let told = [Phase::CallingTerminate, Phase::Stopping, Phase::Terminated];
    let events = [Event::TerminateAsked, answered(Hook::Terminate, 500), removed()];
    check(&terms(), running(), &events, &told);
    let events = [Event::TerminateAsked, removed()];
    check(&hookless(), running(), &events, &[Phase::Stopping, Phase::Terminated]);
    let asleep = Life::Suspended { since: START };
    check(&terms(), asleep, &events, &[Phase::Stopping, Phase::Terminated]);
    assert_eq!(play(&hookless(), running(), &events).0.reason(), Some("Success."));
}

#[test]
fn a_clone_under_way_is_awaited_before_it_is_removed() {
    for lost in [Event::TerminateAsked, Event::AppExited { code: 1 }] {
        check(
            &terms(),
            Life::Cloning,
            &[lost, Event::Died { reason: "x".to_owned() }, cloned(), removed()],
            &[Phase::EndingClone, Phase::EndingClone, Phase::Stopping, Phase::Terminated],
        );
    }
    let failed = Event::WorkFailed { reason: "no disk".to_owned() };
    let (life, _) = play(&terms(), Life::Cloning, &[Event::TerminateAsked, failed]);
    assert_eq!(life, stopping("Success."));
}

#[test]
fn a_save_or_a_restore_under_way_is_awaited_before_it_is_removed() {
    for (from, outcomes) in [
        (Life::Saving, [saved(), Event::NotSaved { reason: "x".to_owned() }]),
        (restoring(), [restored(), Event::NotRestored { reason: "x".to_owned() }]),
    ] {
        for outcome in outcomes {
            let died = Event::Died { reason: "x".to_owned() };
            let (life, _) = play(&terms(), from.clone(), &[Event::TerminateAsked, died, outcome]);
            assert_eq!(life, stopping("Success."), "from {from:?}");
        }
    }
}

#[test]
fn the_first_reason_stays() {
    let events = [Event::AppExited { code: 7 }, Event::TerminateAsked, removed()];
    let (life, phases) = play(&terms(), running(), &events);
    // The hook of a container that is gone is not called.
    assert_eq!(phases, [Phase::Stopping, Phase::Stopping, Phase::Terminated]);
    assert_eq!(life.reason(), Some("Container Stopped with Exit Code: 7"));
}

#[test]
fn the_maximum_duration_counts_from_the_start_in_every_state() {
    let end = after(28_800);
    for life in [
        Life::Cloning,
        Life::CallingRun,
        Life::Running { active_at: end },
        Life::Suspended { since: end },
        Life::CallingResume,
    ] {
        assert_eq!(life.deadline(&terms()), Some(end), "{life:?}");
        let early = life.on(&Event::Tick, &terms(), after(28_799)).unwrap();
        assert_eq!(early.life, life);
        let step = life.on(&Event::Tick, &terms(), end).unwrap();
        assert_eq!(step.life.state(), MicrovmState::Terminating, "{life:?}");
        assert_eq!(step.life.reason(), Some("MicroVM exceeded maximum lifetime."));
    }
}

#[test]
fn an_idle_vm_is_suspended_and_at_last_terminated() {
    let terms = idle(60, 600, AutoResume::Disabled);
    assert_eq!(running().deadline(&terms), Some(after(60)));
    let step = running().on(&Event::Tick, &terms, after(60)).unwrap();
    assert_eq!(step.life, Life::CallingSuspend);
    let asleep = Life::Suspended { since: after(61) };
    assert_eq!(asleep.deadline(&terms), Some(after(661)));
    let step = asleep.on(&Event::Tick, &terms, after(661)).unwrap();
    assert_eq!(step.life, stopping("MicroVM exceeded maximum lifetime."));
    assert_eq!(step.marks, [(Mark::Terminating, "suspended for 600 s".to_owned())]);
}

#[test]
fn with_nothing_to_stay_suspended_for_an_idle_vm_is_terminated() {
    let terms = idle(60, 0, AutoResume::Disabled);
    let step = running().on(&Event::Tick, &terms, after(60)).unwrap();
    assert_eq!(step.life.state(), MicrovmState::Terminating);
    assert_eq!(step.marks, [(Mark::Terminating, "idle for 60 s".to_owned())]);
    // An explicit suspend does not leave it there either (spec 5).
    let (life, _) = play(&terms, Life::Saving, &[saved()]);
    assert_eq!(life.state(), MicrovmState::Terminating);
}

#[test]
fn a_vm_that_cannot_be_saved_runs_on() {
    let not_saved = Event::NotSaved { reason: "the disk is full".to_owned() };
    let events = [Event::SuspendAsked, answered(Hook::Suspend, 200), not_saved.clone()];
    let (life, _) = play(&terms(), running(), &events);
    assert_eq!(life, Life::CallingResume, "the app that heard /suspend hears /resume");
    let (life, _) = play(&hookless(), running(), &[Event::SuspendAsked, not_saved]);
    assert_eq!(life, Life::Running { active_at: after(2) }, "the idle clock begins again");
}

#[test]
fn a_vm_that_cannot_be_restored_stays_suspended_for_as_long_as_before() {
    let asleep = Life::Suspended { since: START };
    let failed = Event::NotRestored { reason: "no memory".to_owned() };
    let (life, _) = play(&terms(), asleep.clone(), &[Event::ResumeAsked, failed]);
    assert_eq!(life, asleep);
}

#[test]
fn work_counts_as_activity_unless_aws_rules() {
    let terms = idle(60, 0, AutoResume::Disabled);
    let active = Life::Running { active_at: after(50) };
    assert_eq!(running().on(&Event::Traffic, &terms, after(50)).unwrap().life, active);
    let ingress = Event::Ingress { at: after(50) };
    assert_eq!(running().on(&ingress, &terms, after(55)).unwrap().life, active);
    let aws = Terms { idle_counts: IdleCounts::Ingress, ..terms };
    assert_eq!(running().on(&Event::Traffic, &aws, after(50)).unwrap().life, running());
    assert_eq!(running().on(&ingress, &aws, after(55)).unwrap().life, active);
    let older = Event::Ingress { at: after(40) };
    assert_eq!(active.on(&older, &aws, after(55)).unwrap().life, active, "time does not go back");
}

#[test]
fn a_request_wakes_a_vm_only_where_that_was_asked_for() {
    let asleep = Life::Suspended { since: START };
    let wake = |auto_resume| {
        asleep.on(&Event::Knocked, &idle(60, 600, auto_resume), after(1)).unwrap().life
    };
    assert_eq!(wake(AutoResume::Enabled), restoring());
    assert_eq!(wake(AutoResume::Disabled), asleep);
}

#[test]
fn a_run_hook_that_was_under_way_at_a_crash_is_not_called_twice() {
    let step = Life::CallingRun.on(&Event::Adopted, &terms(), after(5)).unwrap();
    assert_eq!(step.life, Life::Running { active_at: after(5) });
}

#[test]
fn a_life_is_read_back_as_it_was_written() {
    let lives = [
        Life::Cloning,
        Life::CallingRun,
        Life::Running { active_at: after(3) },
        Life::CallingSuspend,
        Life::Saving,
        Life::Suspended { since: after(4) },
        restoring(),
        Life::CallingResume,
        Life::Ending { awaits: Awaited::Clone, reason: "a".to_owned() },
        Life::Ending { awaits: Awaited::Save, reason: "a".to_owned() },
        Life::Ending { awaits: Awaited::Restore, reason: "a".to_owned() },
        Life::CallingTerminate { reason: "b".to_owned() },
        stopping("c"),
        Life::Terminated { at: WALL, reason: "d".to_owned() },
    ];
    assert_eq!(lives.len(), Phase::ALL.len());
    for life in lives {
        let reason = life.reason().map(str::to_owned);
        let read = Life::from_stored(life.phase().as_str(), life.phase_at_ms(), reason);
        assert_eq!(read, Some(life));
    }
    assert_eq!(Life::from_stored("asleep", 0, None), None);
}
