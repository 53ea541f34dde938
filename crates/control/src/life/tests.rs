//! Every transition of spec 1.1 and every refusal of 1.4, then random lives.

use super::*;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

const START: Timestamp = Timestamp::from_ms(1_000_000);

fn after(seconds: u64) -> Timestamp {
    START.plus(Duration::from_secs(seconds))
}

/// All hooks, no idle policy, an engine that can suspend.
fn terms() -> Terms {
    Terms {
        started_at: START,
        maximum_duration: Duration::from_secs(28_800),
        idle_policy: None,
        hooks: BTreeSet::from([Hook::Run, Hook::Resume, Hook::Suspend, Hook::Terminate]),
        idle_counts: IdleCounts::Work,
        suspension: Suspension::Available,
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
        play(&terms(), Life::Cloning, &[cloned(), answered(Hook::Run, 500), Event::Removed]);
    assert_eq!(phases, [Phase::CallingRun, Phase::Stopping, Phase::Terminated]);
    let reason = "Run lifecycle hook returned HTTP status 500. Please check your hook endpoint and \
                  application logs for more details.";
    assert_eq!(life, Life::Terminated { at: after(3), reason: reason.to_owned() });
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
            Event::Saved,
            Event::SuspendAsked,
            Event::ResumeAsked,
            Event::Restored,
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
        &[Event::SuspendAsked, Event::Saved, Event::ResumeAsked, Event::Restored],
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
    let ended = Life::Terminated { at: START, reason: String::new() };
    for (life, refusal) in [
        (Life::Cloning, Refusal::WrongState),
        (Life::CallingSuspend, Refusal::WrongState),
        (Life::Restoring, Refusal::WrongState),
        (stopping(""), Refusal::WrongState),
        (ended, Refusal::AlreadyTerminated),
    ] {
        for event in [Event::SuspendAsked, Event::ResumeAsked] {
            assert_eq!(life.on(&event, &terms(), START), Err(refusal), "{event:?} in {life:?}");
        }
    }
    let unable = Terms { suspension: Suspension::Unavailable, ..terms() };
    let refused = running().on(&Event::SuspendAsked, &unable, START);
    assert_eq!(refused, Err(Refusal::CannotSuspend));
}

#[test]
fn terminate_tells_the_app_where_there_is_one_to_tell() {
    let told = [Phase::CallingTerminate, Phase::Stopping, Phase::Terminated];
    let events = [Event::TerminateAsked, answered(Hook::Terminate, 500), Event::Removed];
    check(&terms(), running(), &events, &told);
    let events = [Event::TerminateAsked, Event::Removed];
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
            &[lost, Event::Died { reason: "x".to_owned() }, cloned(), Event::Removed],
            &[Phase::EndingClone, Phase::EndingClone, Phase::Stopping, Phase::Terminated],
        );
    }
    let failed = Event::WorkFailed { reason: "no disk".to_owned() };
    let (life, _) = play(&terms(), Life::Cloning, &[Event::TerminateAsked, failed]);
    assert_eq!(life, stopping("Success."));
}

#[test]
fn the_first_reason_stays() {
    let events = [Event::AppExited { code: 7 }, Event::TerminateAsked, Event::Removed];
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
    let terms = Terms { suspension: Suspension::Unavailable, ..idle(60, 0, AutoResume::Disabled) };
    let step = running().on(&Event::Tick, &terms, after(60)).unwrap();
    assert_eq!(step.life.state(), MicrovmState::Terminating);
    assert_eq!(step.marks, [(Mark::Terminating, "idle for 60 s".to_owned())]);
    // An explicit suspend does not leave it there either (spec 5).
    let terms = idle(60, 0, AutoResume::Disabled);
    let (life, _) = play(&terms, Life::Saving, &[Event::Saved]);
    assert_eq!(life.state(), MicrovmState::Terminating);
}

#[test]
fn an_idle_vm_that_cannot_be_suspended_keeps_running() {
    let terms = Terms { suspension: Suspension::Unavailable, ..idle(60, 9, AutoResume::Disabled) };
    assert_eq!(running().deadline(&terms), Some(after(28_800)));
    assert_eq!(running().on(&Event::Tick, &terms, after(600)).unwrap().life, running());
}

#[test]
fn work_counts_as_activity_unless_aws_rules() {
    let terms = idle(60, 0, AutoResume::Disabled);
    let active = Life::Running { active_at: after(50) };
    assert_eq!(running().on(&Event::Traffic, &terms, after(50)).unwrap().life, active);
    assert_eq!(running().on(&Event::Ingress, &terms, after(50)).unwrap().life, active);
    let aws = Terms { idle_counts: IdleCounts::Ingress, ..terms };
    assert_eq!(running().on(&Event::Traffic, &aws, after(50)).unwrap().life, running());
    assert_eq!(running().on(&Event::Ingress, &aws, after(50)).unwrap().life, active);
}

#[test]
fn endpoint_traffic_wakes_a_vm_only_where_that_was_asked_for() {
    let asleep = Life::Suspended { since: START };
    let wake = |auto_resume| {
        asleep.on(&Event::Ingress, &idle(60, 600, auto_resume), after(1)).unwrap().life
    };
    assert_eq!(wake(AutoResume::Enabled), Life::Restoring);
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
        Life::Restoring,
        Life::CallingResume,
        Life::EndingClone { reason: "a".to_owned() },
        Life::CallingTerminate { reason: "b".to_owned() },
        stopping("c"),
        Life::Terminated { at: after(5), reason: "d".to_owned() },
    ];
    assert_eq!(lives.len(), Phase::ALL.len());
    for life in lives {
        let reason = life.reason().map(str::to_owned);
        let read = Life::from_stored(life.phase().as_str(), life.phase_at(), reason);
        assert_eq!(read, Some(life));
    }
    assert_eq!(Life::from_stored("asleep", START, None), None);
}

fn any_event(random: &mut StdRng) -> Event {
    let hook = *Hook::ALL.choose(random).unwrap();
    let outcome = match random.random_range(0..4) {
        0 => HookOutcome::Refused,
        1 => HookOutcome::TimedOut,
        _ => HookOutcome::Answered { status: *[200, 200, 500].choose(random).unwrap() },
    };
    match random.random_range(0..19) {
        0 | 1 => cloned(),
        2..=5 => Event::HookEnded { hook, outcome },
        6 => Event::Saved,
        7 => Event::Restored,
        8 => Event::WorkFailed { reason: "work".to_owned() },
        9 => Event::Removed,
        10 => Event::TerminateAsked,
        11 => Event::SuspendAsked,
        12 => Event::ResumeAsked,
        13 => Event::Ingress,
        14 => Event::Traffic,
        15 => Event::Tick,
        16 => Event::Died { reason: "died".to_owned() },
        17 => Event::AppExited { code: 1 },
        _ => Event::Adopted,
    }
}

/// Which states may follow which on the wire (spec 1.1).
fn may_follow(from: MicrovmState, to: MicrovmState) -> bool {
    use MicrovmState::{Pending, Running, Suspended, Suspending, Terminated, Terminating};
    from == to
        || match from {
            Pending => matches!(to, Running | Terminating),
            Running => matches!(to, Suspending | Terminating),
            Suspending => matches!(to, Suspended | Terminating),
            Suspended => matches!(to, Pending | Running | Terminating),
            Terminating => to == Terminated,
            Terminated => false,
        }
}

#[test]
fn no_sequence_of_events_breaks_the_rules_of_a_life() {
    for seed in 0..2000 {
        let mut random = StdRng::seed_from_u64(seed);
        let policies = [
            terms(),
            hookless(),
            idle(60, 0, AutoResume::Enabled),
            idle(60, 90, AutoResume::Enabled),
        ];
        let mut terms = policies.choose(&mut random).unwrap().clone();
        if random.random_bool(0.5) {
            terms.suspension = Suspension::Unavailable;
        }
        let mut life = Life::Cloning;
        let mut now = START;
        let mut run_calls = 0;
        for _ in 0..60 {
            now = now.plus(Duration::from_secs(random.random_range(0..40)));
            let event = any_event(&mut random);
            let Ok(step) = life.on(&event, &terms, now) else { continue };
            let told = format!("seed {seed}: {life:?} by {event:?} became {:?}", step.life);
            assert!(may_follow(life.state(), step.life.state()), "{told}");
            if let Some(reason) = life.reason() {
                assert_eq!(step.life.reason(), Some(reason), "the first reason stays; {told}");
            }
            if step.life.phase() == Phase::CallingRun && life.phase() != Phase::CallingRun {
                run_calls += 1;
            }
            let ended = step.life.phase() == Phase::Terminated;
            assert_eq!(step.life.terminated_at().is_some(), ended, "{told}");
            assert!(life.phase() != Phase::Terminated || step.life == life, "{told}");
            // A clone that is under way is not abandoned.
            if life.work() == Some(Work::Clone) && step.life.work() != Some(Work::Clone) {
                let over = matches!(event, Event::Cloned { .. } | Event::WorkFailed { .. });
                assert!(over, "{told}");
            }
            life = step.life;
        }
        assert!(run_calls <= 1, "seed {seed}: /run was called {run_calls} times");
        // From wherever it is, it can be ended.
        life = life.on(&Event::TerminateAsked, &terms, now).unwrap().life;
        for event in [cloned(), answered(Hook::Terminate, 200), Event::Removed] {
            life = life.on(&event, &terms, now).unwrap().life;
        }
        assert_eq!(life.phase(), Phase::Terminated, "seed {seed}");
    }
}
