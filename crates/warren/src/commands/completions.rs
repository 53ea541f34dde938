//! `warren completions`.

use super::Context;
use crate::{
    args::Cli,
    failure::{Exit, Outcome},
};
use clap::CommandFactory;

pub(crate) fn completions(context: &Context, shell: clap_complete::Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "warren", &mut script);
    context.printer.bytes(&script)?;
    Ok(Exit::Success)
}
