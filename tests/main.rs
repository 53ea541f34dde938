//! The promises of the README, held against real VMs. One file a promise; each names its tests as sentences.
//!
//! The tests share one [`e2e::Site`] and run one after the other, in this order: those that kill or stop
//! Warren come last.

mod architecture;
mod aws_cli;
mod commands;
mod crash;
mod demo;
mod failures;
mod gateway;
mod hostile;
mod images;
mod isolation;
mod leaves_nothing;
mod life;
mod official_workers;
mod polling;
mod session;
mod uniqueness;
mod webhooks;

use e2e::Site;
use libtest_mimic::{Arguments, Trial};
use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    process::ExitCode,
    sync::{Arc, OnceLock},
};

/// The site that the tests share, started by the first that needs it.
#[derive(Clone, Default)]
struct Shared(Arc<OnceLock<Option<Site>>>);

impl Shared {
    /// Where it did not start, the first test says why and the others do not try again.
    fn site(&self) -> &Site {
        let start = || catch_unwind(Site::start).ok();
        self.0.get_or_init(start).as_ref().expect("the site did not start: see the first failure")
    }

    /// A test on the shared site. One that fails leaves it to the next as it found it.
    fn test(&self, name: &str, body: fn(&Site)) -> Trial {
        let shared = self.clone();
        Trial::test(name, move || {
            let site = shared.site();
            let held = catch_unwind(AssertUnwindSafe(|| body(site)));
            held.map_err(|panic| {
                let recovered = catch_unwind(AssertUnwindSafe(|| site.recover()));
                drop(recovered);
                resume_unwind(panic)
            })
        })
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // VMs are dear, and most tests look at the whole machine.
    arguments.test_threads = Some(1);
    let shared = Shared::default();
    let trials = [
        architecture::trials(),
        session::trials(&shared),
        uniqueness::trials(&shared),
        isolation::trials(&shared),
        webhooks::trials(&shared),
        hostile::trials(&shared),
        polling::trials(&shared),
        official_workers::trials(&shared),
        aws_cli::trials(&shared),
        images::trials(&shared),
        commands::trials(&shared),
        demo::trials(&shared),
        gateway::trials(&shared),
        failures::trials(&shared),
        life::trials(&shared),
        crash::trials(&shared),
        leaves_nothing::trials(&shared),
    ];
    let conclusion = libtest_mimic::run(&arguments, trials.into_iter().flatten().collect());
    // Ends the site's processes and VMs, which would outlive this one.
    drop(Arc::into_inner(shared.0));
    conclusion.exit_code()
}
