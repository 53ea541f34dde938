//! What may be typed: the commands and their options, and nothing of what they do.
//!
//! Values are parsed here into the types that the commands use, so that a command never sees a
//! string that could still be wrong. The environment is not read here: see [`crate::config`].

mod life;
mod platform;

use clap::{Args, Parser, Subcommand, ValueEnum};
pub(crate) use life::{
    Attach, Checkpoint, CheckpointCommand, Cp, Events, Fork, Place, Run, Top, Vms,
};
pub(crate) use platform::{
    Fault, Faults, Platform, PlatformApiKey, PlatformCommand, PlatformEnv, PlatformWebhook, Serve,
};
use std::path::PathBuf;

/// Runs every agent session in its own microVM, on your own machine.
#[derive(Debug, Parser)]
#[command(
    name = "warren",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100,
    after_help = "Examples:\n  \
        warren doctor                 what this machine can do, and what it lacks\n  \
        warren demo                   one session through the whole chain\n  \
        warren up                     start the service; stop it with warren down\n  \
        eval \"$(warren env)\"          point the AWS CLI at it\n\n\
        Configuration: <data-dir>/warren.toml, see docs/configuration.md.\n\
        Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 the service does not answer,\n\
        125 warren exec or shell itself failed (else the command's own code)."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options that every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Where everything that lasts is kept [env: WARREN_DATA_DIR] [default: /var/lib/warren]
    #[arg(long, global = true, help_heading = "Everywhere", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Configuration file [env: WARREN_CONFIG] [default: <data-dir>/warren.toml where it exists]
    #[arg(long, global = true, help_heading = "Everywhere", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// One JSON object a line instead of a table
    #[arg(long, global = true, help_heading = "Everywhere")]
    pub(crate) json: bool,
    /// Say only what was asked for, and errors
    #[arg(short, long, global = true, help_heading = "Everywhere", conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Say more; twice for everything
    #[arg(short, long, global = true, help_heading = "Everywhere", action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Colours in the output
    #[arg(
        long,
        global = true,
        help_heading = "Everywhere",
        value_enum,
        default_value_t,
        value_name = "WHEN"
    )]
    pub(crate) color: When,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal, and unless NO_COLOR is set
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the service: AWS API, launcher, VMs
    Up(Up),
    /// End all VMs, then stop the service
    Down,
    /// Run the emulator of the Managed Agents platform
    Platform(Platform),
    /// Run one session through the whole chain and show its timeline
    Demo(Demo),
    /// Show what this machine can do, and what to do about each lack
    Doctor,
    /// Write a commented warren.toml and the built-in roles as documents
    #[command(
        after_help = "Examples:\n  warren init\n  warren init ./conf && warren --config ./conf/warren.toml up\n\n\
        Nothing is written over."
    )]
    Init(Init),
    /// Show what a CloudFormation stack becomes here, or write it
    #[command(after_help = "Examples:\n  \
        aws cloudformation get-template --template-stage Processed --stack-name cma > stack.json\n  \
        warren import stack.json\n  warren import template.yaml --write ./conf\n\n\
        docs/migrating-from-aws.md tells what each resource becomes.")]
    Import(Import),
    /// Print exports that point the AWS CLI and SDKs at this Warren
    #[command(
        after_help = "Examples:\n  eval \"$(warren env)\"\n  aws lambda-microvms list-microvms"
    )]
    Env,
    /// Print the certificate of the authority that VMs' endpoints are certified by
    #[command(
        after_help = "Example:\n  warren ca > warren.pem; curl --cacert warren.pem https://…"
    )]
    Ca,
    /// List the VMs
    #[command(after_help = "Examples:\n  warren ps\n  warren ps --all --json | jq -r .microvm_id")]
    Ps(Ps),
    /// Show what there is to know of a VM: its record, its hooks, the timeline of its life
    #[command(after_help = "Examples:\n  warren inspect 3f2a\n  \
        warren inspect 3f2a --json | jq '.timeline[] | {event, took_ms}'")]
    Inspect { vm: String },
    /// Show what the VMs use of this machine, again and again
    Top(Top),
    /// Show every step in the lives of the VMs, with its reason
    Events(Events),
    /// Show what the VMs' applications print
    Logs(Logs),
    /// Show a VM's serial console
    Attach(Attach),
    /// Open a shell in a VM
    #[command(after_help = "Examples:\n  warren shell microvm-3f2a\n  \
        warren shell 3f2a -- bash -l\n\nA VM is named by its id or any beginning of it that is unique.")]
    Shell(Shell),
    /// Run a command in a VM
    #[command(after_help = "Examples:\n  warren exec 3f2a -- ls -l /workspace\n  \
        tar c . | warren exec 3f2a -- tar x -C /workspace\n\n\
        The exit code is the command's.")]
    Exec(Exec),
    /// Copy files to and from a VM
    Cp(Cp),
    /// Run a VM of an image, or from a checkpoint
    Run(Run),
    /// Suspend VMs to disk
    #[command(after_help = "Examples:\n  warren suspend 3f2a\n\n\
        A suspended VM uses no memory and no CPU; its processes, files and listening sockets are\n\
        there again after warren resume. Its maximum duration goes on.")]
    Suspend(Vms),
    /// Let suspended VMs go on
    #[command(after_help = "Examples:\n  warren resume 3f2a")]
    Resume(Vms),
    /// Copy a running VM with all its processes
    Fork(Fork),
    /// Keep VMs as they are now, to run others from
    Checkpoint(Checkpoint),
    /// End VMs
    #[command(after_help = "Examples:\n  warren rm 3f2a\n  warren rm --all")]
    Rm(Rm),
    /// Keep secrets for VMs and for the launcher
    #[command(subcommand)]
    Secret(Secret),
    /// Build and list images
    #[command(subcommand)]
    Image(Image),
    /// Walk the chain from webhook to VM and name the broken link
    Verify(Verify),
    /// Print a completion script
    #[command(after_help = "Examples:\n  warren completions bash > /etc/bash_completion.d/warren")]
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  warren up\n  warren up --environment env_01abc\n  \
    WARREN_API_LISTEN=127.0.0.1:7520 warren --data-dir /srv/warren up\n\n\
    VMs go on when it is stopped by a signal, and are found again at the next start;\n\
    warren down ends them.")]
pub(crate) struct Up {
    /// The self-hosted environment whose sessions are launched here [config: launcher.environment_id]
    #[arg(long, value_name = "ID")]
    pub(crate) environment: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  warren demo\n  \
    warren demo --workspace ./my-project --script my-script.json\n  \
    warren demo --json | jq -c 'select(.event == \"tool_result\")'\n\n\
    A script is {\"turns\":[{\"message\":\"text\",\"calls\":[{\"tool\":\"bash\",\"input\":{\"command\":\"ls\"}}]}]};\n\
    the tools are bash, read, write, edit, glob and grep.")]
pub(crate) struct Demo {
    /// Play this script instead of the one that comes with Warren
    #[arg(long, value_name = "FILE")]
    pub(crate) script: Option<PathBuf>,
    /// Copy this directory into /workspace first
    #[arg(long, value_name = "DIR")]
    pub(crate) workspace: Option<PathBuf>,
    /// Image of the VM
    #[arg(long, value_name = "NAME")]
    pub(crate) image: Option<String>,
    /// Leave everything running afterwards, and say how to look around
    #[arg(long)]
    pub(crate) keep: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Also those that have ended
    #[arg(short, long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  warren logs -f\n  warren logs 3f2a\n  \
    warren logs --group /aws/lambda-microvms/claude-worker")]
pub(crate) struct Logs {
    /// Only this VM's
    pub(crate) vm: Option<String>,
    /// Go on as more comes
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Log group [default: all of /aws/lambda-microvms/]
    #[arg(long, value_name = "NAME")]
    pub(crate) group: Option<String>,
    /// How far back, in minutes
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    pub(crate) since: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Shell {
    pub(crate) vm: String,
    /// As whom [default: root]
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) user: String,
    /// What to run [default: the user's shell]
    #[arg(last = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Exec {
    pub(crate) vm: String,
    /// As whom [default: the image's user]
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) user: String,
    /// Where [default: the image's working directory]
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) workdir: String,
    /// Add NAME=VALUE to the command's environment
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub(crate) env: Vec<(String, String)>,
    /// With a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    #[arg(last = true, required = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Rm {
    #[arg(required_unless_present = "all")]
    pub(crate) vms: Vec<String>,
    /// All that run
    #[arg(long, conflicts_with = "vms")]
    pub(crate) all: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Secret {
    /// Store a secret; the value comes from standard input, and is asked for on a terminal
    #[command(after_help = "Examples:\n  warren secret put warren/environment-key\n  \
        printf %s \"$KEY\" | warren secret put warren/environment-key")]
    Put { name: String },
    /// List the secrets' names
    Ls,
    /// Print a secret's value
    Get { name: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// Build an image from a directory with a Dockerfile
    #[command(after_help = "Examples:\n  warren image build ./worker\n  \
        warren image build ./worker --name my-worker --memory 1024")]
    Build(ImageBuild),
    /// List the images
    Ls,
    /// Remove an image
    Rm { name: String },
    /// Write an image to one file, for another host
    #[command(after_help = "Example:\n  warren image export claude-worker worker.image")]
    Export {
        name: String,
        /// Written by the service, on its host
        file: PathBuf,
        /// [default: the newest that may be run]
        #[arg(long)]
        version: Option<String>,
    },
    /// Make a version of what `image export` wrote, after its digest was found right
    #[command(after_help = "Example:\n  warren image import worker.image --name worker")]
    Import {
        /// Read by the service, on its host
        file: PathBuf,
        /// [default: the name that it was exported under]
        #[arg(long)]
        name: Option<String>,
    },
    /// Remove what builds keep for later ones: layers, and disks that no image is made from
    Prune,
}

#[derive(Debug, Args)]
pub(crate) struct ImageBuild {
    pub(crate) dir: PathBuf,
    /// Name of the image [default: what image.toml says, else the directory's name]
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Memory of its VMs [default: what image.toml says, else 512]
    #[arg(long, value_name = "MIB")]
    pub(crate) memory: Option<u32>,
    /// Add NAME=VALUE to the application's environment
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    pub(crate) env: Vec<(String, String)>,
    /// Port of the application's lifecycle hooks, 0 for none [default: what image.toml says, else 9000]
    #[arg(long, value_name = "PORT")]
    pub(crate) hooks_port: Option<u16>,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Where to [default: the data directory]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The stack's template, JSON or YAML
    pub(crate) template: PathBuf,
    /// Write warren.toml and iam/ into this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) write: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  warren verify\n  warren verify --launch")]
pub(crate) struct Verify {
    /// Also launch a VM of the launcher's image and end it
    #[arg(long)]
    pub(crate) launch: bool,
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("expected NAME=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// docs/cli.md: the help of every command.
    fn page() -> String {
        fn add(page: &mut String, command: &mut clap::Command, depth: usize) {
            let name = command.get_bin_name().unwrap_or("warren").to_owned();
            let help = command.render_long_help().to_string();
            page.push_str(&format!(
                "\n{} {name}\n\n```text\n{}\n```\n",
                "#".repeat(depth),
                help.trim_end()
            ));
            for sub in command.get_subcommands_mut() {
                // Said once, at the top.
                *sub = std::mem::take(sub)
                    .mut_args(|a| if a.is_global_set() { a.hide(true) } else { a });
                add(page, sub, (depth + 1).min(4));
            }
        }
        let mut page =
            "# Commands\n\nThis page is generated (`WARREN_WRITE_DOCS=1 cargo test -p warren`).\n"
                .to_owned();
        let mut command = Cli::command().term_width(100);
        command.build();
        add(&mut page, &mut command, 2);
        page
    }

    #[test]
    fn the_page_in_docs_is_the_help_itself() {
        crate::config::assert_page("cli.md", &page());
    }

    #[test]
    fn the_top_level_help_lists_every_command() {
        let help = Cli::command().render_help().to_string();
        let listed: Vec<&str> = help
            .lines()
            .skip_while(|l| *l != "Commands:")
            .skip(1)
            .take_while(|l| !l.is_empty())
            .filter_map(|l| l.split_whitespace().next())
            .collect();
        assert_eq!(
            listed,
            [
                "up",
                "down",
                "platform",
                "demo",
                "doctor",
                "init",
                "import",
                "env",
                "ca",
                "ps",
                "inspect",
                "top",
                "events",
                "logs",
                "attach",
                "shell",
                "exec",
                "cp",
                "run",
                "suspend",
                "resume",
                "fork",
                "checkpoint",
                "rm",
                "secret",
                "image",
                "verify",
                "completions",
                "version"
            ]
        );
    }

    #[test]
    fn an_exec_keeps_its_commands_options_to_itself() {
        let cli = Cli::try_parse_from(["warren", "exec", "vm", "-e", "A=b=c", "--", "ls", "-l"]);
        let Ok(Cli { command: Command::Exec(exec), .. }) = cli else { panic!("{cli:?}") };
        assert_eq!(exec.command, ["ls", "-l"]);
        assert_eq!(exec.env, [("A".to_owned(), "b=c".to_owned())]);
    }
}
