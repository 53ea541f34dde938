//! Random lives, played to the state machine and to a model of it side by side.
//!
//! The model is the table of spec 1.1 and 1.4 as one `match` over (state on the wire, work under way,
//! event); it knows no phases. The world around it is random: requests and timers in any
//! interleaving, work that succeeds and fails, guests that die, restarts of the control plane, answers
//! that come too late.

use super::*;
use crate::AutoResume;
use MicrovmState::{Pending, Running, Suspended, Suspending, Terminated, Terminating};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

/// Seeds of one run of the tests.
const LIVES: u64 = 5000;

/// Events in one life.
const EVENTS: usize = 80;

const START: Steady = Steady::from_ms(1_000_000);

struct Model {
    state: MicrovmState,
    doing: Option<Work>,
    active_at: Steady,
    suspended_at: Steady,
    reason: Option<String>,
}

impl Model {
    fn new() -> Self {
        Self {
            state: Pending,
            doing: Some(Work::Clone),
            active_at: START,
            suspended_at: START,
            reason: None,
        }
    }

    fn go(&mut self, state: MicrovmState, doing: Option<Work>) {
        (self.state, self.doing) = (state, doing);
    }

    fn run(&mut self, now: Steady) {
        self.active_at = now;
        self.go(Running, None);
    }

    /// `then` where the image has the hook, else at once what follows from it.
    fn call(&mut self, terms: &Terms, hook: Hook, state: MicrovmState, else_do: Option<Work>) {
        let doing = if terms.hooks.contains(&hook) { Some(Work::Call(hook)) } else { else_do };
        self.go(state, doing);
    }

    fn end(&mut self, terms: &Terms, reason: &str, told: bool) {
        self.reason = Some(reason.to_owned());
        match self.doing {
            Some(Work::Clone | Work::Save | Work::Restore) => self.state = Terminating,
            _ if told && self.state != Suspended => {
                self.call(terms, Hook::Terminate, Terminating, Some(Work::Remove));
            }
            _ => self.go(Terminating, Some(Work::Remove)),
        }
    }

    fn step(&mut self, event: &Event, terms: &Terms, now: Steady) -> Result<(), Refusal> {
        match (self.state, self.doing, event) {
            (Terminated, _, Event::SuspendAsked | Event::ResumeAsked) => {
                return Err(Refusal::AlreadyTerminated);
            }
            (Pending | Suspending | Terminating, _, Event::SuspendAsked | Event::ResumeAsked) => {
                return Err(Refusal::WrongState);
            }
            (Running, _, Event::SuspendAsked) => {
                self.call(terms, Hook::Suspend, Suspending, Some(Work::Save));
            }
            (Suspended, _, Event::ResumeAsked) => self.go(Pending, Some(Work::Restore)),
            (Suspended, _, Event::Knocked)
                if terms.idle_policy.is_some_and(|p| p.auto_resume == AutoResume::Enabled) =>
            {
                self.go(Pending, Some(Work::Restore));
            }

            (Suspended, _, Event::RestEnded) => self.end(terms, "Success.", false),

            // What is under way when it ends.
            (Terminating, Some(Work::Remove), Event::Removed { .. }) => self.go(Terminated, None),
            (Terminating, Some(Work::Clone), Event::Cloned { .. })
            | (Terminating, Some(Work::Save), Event::Saved { .. } | Event::NotSaved { .. })
            | (
                Terminating,
                Some(Work::Restore),
                Event::Restored { .. } | Event::NotRestored { .. },
            ) => {
                self.go(Terminating, Some(Work::Remove));
            }
            (Terminating, Some(Work::Restore), Event::Adopted) => {}
            (Terminating, Some(Work::Call(_)), Event::HookEnded { hook: Hook::Terminate, .. }) => {
                self.go(Terminating, Some(Work::Remove));
            }
            (
                Terminating,
                Some(Work::Call(_)),
                Event::Died { .. } | Event::AppExited { .. } | Event::WorkFailed { .. },
            )
            | (Terminating, Some(_), Event::WorkFailed { .. }) => {
                self.go(Terminating, Some(Work::Remove));
            }
            (Terminating | Terminated, _, _) => {}

            (_, _, Event::TerminateAsked) => self.end(terms, "Success.", true),
            (_, _, Event::Died { reason }) => self.end(terms, reason, false),
            (_, _, Event::AppExited { code }) => {
                self.end(terms, &format!("Container Stopped with Exit Code: {code}"), false);
            }
            (_, _, Event::WorkFailed { reason }) => {
                self.reason = Some(reason.clone());
                self.go(Terminating, Some(Work::Remove));
            }
            (_, _, Event::Tick) => self.tick(terms, now),

            // A launch.
            (Pending, Some(Work::Clone), Event::Cloned { .. }) => {
                self.active_at = now;
                self.call(terms, Hook::Run, Pending, None);
                if self.doing.is_none() {
                    self.run(now);
                }
            }
            (Pending, Some(Work::Call(Hook::Run)), Event::Adopted) => self.run(now),
            // A resume.
            (Pending, Some(Work::Restore), Event::Restored { .. } | Event::Adopted) => {
                self.call(terms, Hook::Resume, Pending, None);
                if self.doing.is_none() {
                    self.run(now);
                }
            }
            (Pending, Some(Work::Restore), Event::NotRestored { .. }) => self.go(Suspended, None),
            // A suspend.
            (Suspending, Some(Work::Save), Event::Saved { .. }) => {
                self.suspended_at = now;
                self.go(Suspended, None);
                if terms.idle_policy.is_some_and(|policy| policy.suspended.is_zero()) {
                    self.tick(terms, now);
                }
            }
            (Suspending, Some(Work::Save), Event::NotSaved { .. }) => {
                self.call(terms, Hook::Resume, Pending, None);
                if self.doing.is_none() {
                    self.run(now);
                }
            }
            (_, Some(Work::Call(called)), Event::HookEnded { hook, outcome })
                if called == *hook =>
            {
                match (hook, hook_failure(*hook, outcome)) {
                    (_, Some(reason)) => {
                        self.reason = Some(reason);
                        self.go(Terminating, Some(Work::Remove));
                    }
                    (Hook::Suspend, None) => self.go(Suspending, Some(Work::Save)),
                    (_, None) => self.run(now),
                }
            }
            // Activity.
            (Running, _, Event::Ingress { at }) => self.touch(*at),
            (Running, _, Event::Traffic | Event::Adopted)
                if terms.idle_counts == IdleCounts::Work =>
            {
                self.touch(now);
            }
            // Everything else means nothing here.
            _ => {}
        }
        Ok(())
    }

    fn touch(&mut self, at: Steady) {
        if at.since(self.active_at) >= ACTIVITY_RESOLUTION {
            self.active_at = at;
        }
    }

    fn tick(&mut self, terms: &Terms, now: Steady) {
        let over =
            |since: Steady, limit: Duration| now.ms() - since.ms() >= limit.as_millis() as i64;
        match (terms.idle_policy, self.state) {
            _ if over(START, terms.maximum_duration) => self.end(terms, LIFETIME, true),
            (Some(policy), Running) if over(self.active_at, policy.max_idle) => {
                if policy.suspended.is_zero() {
                    self.end(terms, LIFETIME, true);
                } else {
                    self.call(terms, Hook::Suspend, Suspending, Some(Work::Save));
                }
            }
            (Some(policy), Suspended) if over(self.suspended_at, policy.suspended) => {
                self.end(terms, LIFETIME, true);
            }
            _ => {}
        }
    }
}

fn any_terms(random: &mut StdRng) -> Terms {
    let all = [Hook::Run, Hook::Resume, Hook::Suspend, Hook::Terminate];
    let policy = |suspended_s, auto_resume| IdlePolicy {
        max_idle: Duration::from_secs(60),
        suspended: Duration::from_secs(suspended_s),
        auto_resume,
    };
    let policies = [
        None,
        Some(policy(0, AutoResume::Enabled)),
        Some(policy(90, AutoResume::Enabled)),
        Some(policy(90, AutoResume::Disabled)),
    ];
    Terms {
        started_at: START,
        maximum_duration: Duration::from_secs(*[120, 600, 28_800].choose(random).unwrap()),
        idle_policy: *policies.choose(random).unwrap(),
        hooks: all.into_iter().filter(|_| random.random_bool(0.7)).collect(),
        idle_counts: *[IdleCounts::Work, IdleCounts::Ingress].choose(random).unwrap(),
    }
}

fn any_outcome(random: &mut StdRng) -> HookOutcome {
    match random.random_range(0..12) {
        0 => HookOutcome::Refused,
        1 => HookOutcome::TimedOut,
        2 => HookOutcome::Broken { error: "reset".to_owned() },
        3 => HookOutcome::Answered { status: 500 },
        _ => HookOutcome::Answered { status: 200 },
    }
}

/// How the work under way ends, mostly well.
fn outcome_of(work: Work, random: &mut StdRng) -> Event {
    let reason = || "it failed".to_owned();
    let well = random.random_bool(0.8);
    match work {
        Work::Clone if well => Event::Cloned { path: "clone".to_owned() },
        Work::Save if well => Event::Saved { detail: String::new() },
        Work::Save => Event::NotSaved { reason: reason() },
        Work::Restore if well => Event::Restored { path: "resumed".to_owned() },
        Work::Restore => Event::NotRestored { reason: reason() },
        Work::Call(hook) => Event::HookEnded { hook, outcome: any_outcome(random) },
        Work::Remove => Event::Removed { at: Timestamp::from_ms(1) },
        Work::Clone => Event::WorkFailed { reason: reason() },
    }
}

/// What may happen whatever is under way; also what comes too late.
fn any_event(random: &mut StdRng, now: Steady) -> Event {
    let stale = [Work::Clone, Work::Save, Work::Restore, Work::Remove]
        .into_iter()
        .chain(Hook::ALL.iter().copied().map(Work::Call))
        .collect::<Vec<_>>();
    match random.random_range(0..27) {
        0..=3 => Event::SuspendAsked,
        4..=6 => Event::ResumeAsked,
        7..=9 => Event::Knocked,
        10 => Event::TerminateAsked,
        11..=13 => Event::Traffic,
        14..=16 => Event::Ingress { at: now },
        17..=20 => Event::Tick,
        21 => Event::Died { reason: "died".to_owned() },
        22 => Event::AppExited { code: 1 },
        23 => Event::Adopted,
        24 => Event::RestEnded,
        _ => outcome_of(*stale.choose(random).unwrap(), random),
    }
}

/// Which states may follow which on the wire (spec 1.1).
fn may_follow(from: MicrovmState, to: MicrovmState) -> bool {
    from == to
        || match from {
            // Suspended again: it could not be restored.
            Pending => matches!(to, Running | Suspended | Terminating),
            Running => matches!(to, Suspending | Terminating),
            // Pending and Running: it could not be saved.
            Suspending => matches!(to, Suspended | Pending | Running | Terminating),
            Suspended => matches!(to, Pending | Terminating),
            Terminating => to == Terminated,
            Terminated => false,
        }
}

#[test]
fn every_random_life_is_the_life_that_the_table_says() {
    for seed in 0..LIVES {
        let mut random = StdRng::seed_from_u64(seed);
        let terms = any_terms(&mut random);
        let (mut life, mut model, mut now) = (Life::Cloning, Model::new(), START);
        let mut run_calls = 0;
        for _ in 0..EVENTS {
            now = now.plus(Duration::from_millis(random.random_range(0..25_000)));
            let event = match life.work() {
                Some(work) if random.random_bool(0.5) => outcome_of(work, &mut random),
                _ => any_event(&mut random, now),
            };
            let told = format!("seed {seed}: {life:?} by {event:?}");
            let (got, expected) = (life.on(&event, &terms, now), model.step(&event, &terms, now));
            let next = match (got, expected) {
                (Ok(step), Ok(())) => step.life,
                (got, expected) => {
                    assert_eq!(got.map(drop), expected, "{told}");
                    life.clone()
                }
            };
            assert_eq!(next.state(), model.state, "{told}");
            assert_eq!(next.work(), model.doing, "{told}");
            assert_eq!(next.reason(), model.reason.as_deref(), "{told}");
            assert!(may_follow(life.state(), next.state()), "{told}");
            match &next {
                Life::Running { active_at } => assert_eq!(*active_at, model.active_at, "{told}"),
                Life::Suspended { since } => assert_eq!(*since, model.suspended_at, "{told}"),
                _ => {}
            }
            if next.work() == Some(Work::Call(Hook::Run)) && life.work() != next.work() {
                run_calls += 1;
            }
            life = next;
        }
        assert!(run_calls <= 1, "seed {seed}: /run was called {run_calls} times");
        ends(life, &terms, now, &mut random, seed);
    }
}

/// From wherever it is, an end that is asked for comes, by nothing but the outcomes of its work.
fn ends(mut life: Life, terms: &Terms, now: Steady, random: &mut StdRng, seed: u64) {
    life = life.on(&Event::TerminateAsked, terms, now).unwrap().life;
    for _ in 0..4 {
        let Some(work) = life.work() else { break };
        life = life.on(&outcome_of(work, random), terms, now).unwrap().life;
    }
    assert_eq!(life.phase(), Phase::Terminated, "seed {seed}");
}

#[test]
fn a_deadline_is_when_a_tick_changes_something_and_not_before() {
    for seed in 0..LIVES {
        let mut random = StdRng::seed_from_u64(seed);
        let terms = any_terms(&mut random);
        let (mut life, mut now) = (Life::Cloning, START);
        for _ in 0..EVENTS {
            let told = format!("seed {seed}: {life:?}");
            if let Some(deadline) = life.deadline(&terms) {
                let before = Steady::from_ms(deadline.ms() - 1).max(now);
                if before < deadline {
                    assert_eq!(life.on(&Event::Tick, &terms, before).unwrap().life, life, "{told}");
                }
                let at = life.on(&Event::Tick, &terms, deadline.max(now)).unwrap().life;
                assert_ne!(at, life, "{told}");
            }
            now = now.plus(Duration::from_millis(random.random_range(0..25_000)));
            let event = match life.work() {
                Some(work) if random.random_bool(0.5) => outcome_of(work, &mut random),
                _ => any_event(&mut random, now),
            };
            if let Ok(step) = life.on(&event, &terms, now) {
                life = step.life;
            }
        }
    }
}
