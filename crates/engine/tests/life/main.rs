//! The engine against real VMs: what a VM's later life promises. As root, with QEMU and the guest kernel
//! (`make setup`) and the helper programs (`make build`).
//!
//! The tests share one template, made from this host's own bash, perl and coreutils, and run one after
//! the other. Its app counts, and tells how far it is to whoever connects to its port.

#![forbid(unsafe_code)]

mod crash;
mod forks;
mod host;
mod layers;
mod sleep;

use host::Host;
use libtest_mimic::{Arguments, Trial};
use std::{process::ExitCode, sync::Arc};
use tokio::runtime::Runtime;

/// The host that the tests share, made by the first that needs it.
struct Shared {
    runtime: Runtime,
    host: tokio::sync::OnceCell<Host>,
}

fn main() -> ExitCode {
    if let Some(arguments) = crash::owner() {
        crash::own(arguments);
    }
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let runtime = Runtime::new().expect("a runtime");
    let shared = Arc::new(Shared { runtime, host: tokio::sync::OnceCell::new() });
    macro_rules! trial {
        ($body:path) => {{
            let shared = shared.clone();
            let name = stringify!($body).rsplit("::").next().unwrap_or_default().trim();
            Trial::test(name, move || {
                shared
                    .runtime
                    .block_on(async { $body(shared.host.get_or_init(Host::new).await).await });
                Ok(())
            })
        }};
    }
    let trials = vec![
        trial!(sleep::a_suspended_vm_goes_on_where_it_was),
        trial!(sleep::a_suspended_vm_uses_nothing_and_says_so),
        trial!(sleep::connections_to_the_outside_are_cut_and_known_to_be),
        trial!(sleep::a_suspended_vm_outlives_the_engine_and_its_template),
        trial!(forks::forks_go_on_from_their_source_and_are_their_own),
        trial!(forks::a_suspended_vm_can_be_saved_and_forked),
        trial!(forks::a_checkpoint_is_made_once_and_gone_when_removed),
        trial!(layers::many_checkpoints_keep_the_chain_short_and_every_state_right),
        trial!(crash::whenever_the_engine_is_killed_a_vm_is_whole_or_gone),
        trial!(host::a_templates_files_never_change),
    ];
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Some(shared) = Arc::into_inner(shared)
        && let Some(host) = shared.host.into_inner()
    {
        shared.runtime.block_on(host.close());
    }
    conclusion.exit_code()
}
