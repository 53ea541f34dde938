//! The binary `warren`; all of it is in the library beside.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A variable that is not UTF-8 is none of ours.
    let env = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    warren::run(std::env::args_os(), env)
}
