//! From the command line to the exit code.

use crate::{
    args::{Cli, Command, Global},
    commands::{self, Context},
    config::{self, Env},
    failure::{Exit, Failure, Outcome},
    print::{Closed, Format, Printer, Talk},
};
use clap::Parser;
use std::{ffi::OsString, process::ExitCode, time::Duration};

/// A command that has ended does not wait longer for what it left running.
const SHUTDOWN: Duration = Duration::from_millis(200);

/// Runs the command that `args` (the program's name first) say, and prints how it ended.
pub fn run(args: impl IntoIterator<Item = OsString>, env: Env) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are output; their reader may leave early.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { Exit::Usage } else { Exit::Success }.code());
        }
    };
    let printer = printer(&cli.global, &env);
    match dispatch(cli, &env, printer) {
        (Ok(exit), _) => ExitCode::from(exit.code()),
        (Err(failure), printer) => {
            let closed = failure.error.downcast_ref::<Closed>();
            if !closed.is_some_and(Closed::by_reader) {
                printer.failure(failure.error.as_ref(), failure.hint.as_deref());
            }
            ExitCode::from(failure.exit.code())
        }
    }
}

fn printer(options: &Global, env: &Env) -> Printer {
    let format = if options.json { Format::Json } else { Format::Human };
    let talk = match (options.quiet, options.verbose) {
        (true, _) => Talk::Quiet,
        (false, 0) => Talk::Normal,
        (false, _) => Talk::Verbose,
    };
    Printer::new(format, talk, options.color, env.get("NO_COLOR").is_some_and(|v| !v.is_empty()))
}

fn dispatch(cli: Cli, env: &Env, printer: Printer) -> (Outcome, Printer) {
    let settings = match config::resolve(&cli.global, env, std::env::current_exe()) {
        Ok(settings) => settings,
        Err(e) => return (Err(e.into()), printer),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            let failure = Failure { error: Box::new(e), hint: None, exit: Exit::Failed };
            return (Err(failure), printer);
        }
    };
    let context = Context { settings, printer };
    let outcome = runtime.block_on(command(&context, cli.command));
    // Standard input may still be read by a thread that nothing can wake.
    runtime.shutdown_timeout(SHUTDOWN);
    (outcome, context.printer)
}

async fn command(context: &Context, command: Command) -> Outcome {
    match command {
        Command::Up(up) => commands::up(context, up).await,
        Command::Down => commands::down(context).await,
        Command::Platform(platform) => commands::platform(context, platform).await,
        Command::Demo(demo) => crate::demo::demo(context, demo).await,
        Command::Doctor => crate::doctor::doctor(context).await,
        Command::Verify(verify) => crate::verify::verify(context, verify).await,
        Command::Init(init) => commands::init(context, init),
        Command::Import(import) => commands::import_stack(context, import),
        Command::Env => commands::env(context),
        Command::Ca => commands::ca(context),
        Command::Ps(ps) => commands::ps(context, ps).await,
        Command::Logs(logs) => commands::logs(context, logs).await,
        Command::Shell(shell) => commands::shell(context, shell).await,
        Command::Exec(exec) => commands::exec(context, exec).await,
        Command::Inspect { vm } => commands::inspect(context, &vm).await,
        Command::Top(top) => commands::top(context, top).await,
        Command::Events(events) => commands::events(context, events).await,
        Command::Attach(attach) => commands::attach(context, attach).await,
        Command::Cp(cp) => commands::cp(context, cp).await,
        Command::Run(run) => commands::run(context, run).await,
        Command::Suspend(vms) => commands::suspend(context, vms).await,
        Command::Resume(vms) => commands::resume(context, vms).await,
        Command::Fork(fork) => commands::fork(context, fork).await,
        Command::Checkpoint(checkpoint) => commands::checkpoint(context, checkpoint).await,
        Command::Rm(rm) => commands::rm(context, rm).await,
        Command::Secret(secret) => commands::secret(context, secret).await,
        Command::Image(image) => commands::image(context, image).await,
        Command::Completions { shell } => commands::completions(context, shell),
        Command::Version => {
            context.printer.line(concat!("warren ", env!("CARGO_PKG_VERSION")))?;
            Ok(Exit::Success)
        }
    }
}
