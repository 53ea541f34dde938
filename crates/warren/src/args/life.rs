//! What may be typed about a VM's life: runs, suspends, forks, checkpoints, and looking at them.

use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  warren run claude-worker\n  \
    warren run my-image --payload '{\"task\":\"build\"}' --idle 300 --suspended 3600 --auto-resume\n  \
    warren run --from before-the-upgrade\n\n\
    Prints the VM's id when its /run hook has answered.")]
pub(crate) struct Run {
    /// Name of an image
    #[arg(required_unless_present = "from")]
    pub(crate) image: Option<String>,
    /// Go on from this checkpoint instead: memory, processes and files are as they were
    #[arg(long, value_name = "NAME", conflicts_with_all = ["image", "version", "role", "idle"])]
    pub(crate) from: Option<String>,
    /// For the VM's /run hook; at most 4096 bytes
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) payload: Option<String>,
    /// Version of the image [default: the newest active one]
    #[arg(long)]
    pub(crate) version: Option<String>,
    /// Role whose credentials the app gets from IMDS; empty for none
    #[arg(long, default_value = "warren-execution")]
    pub(crate) role: String,
    /// End it after so many seconds, suspended ones included; at most 28800
    #[arg(long, value_name = "SECONDS")]
    pub(crate) max_duration: Option<u64>,
    /// Suspend it after so many seconds in which nothing happens; at least 60
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(60..=28_800))]
    pub(crate) idle: Option<u64>,
    /// End it after so many seconds suspended; 0: end it rather than suspend it
    #[arg(long, value_name = "SECONDS", requires = "idle", default_value_t = 28_800)]
    pub(crate) suspended: u64,
    /// Resume it when a request comes to its endpoint
    #[arg(long, requires = "idle")]
    pub(crate) auto_resume: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Vms {
    #[arg(required = true)]
    pub(crate) vms: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  warren fork 3f2a\n  warren fork 3f2a -n 4\n  \
    warren fork 3f2a --payload '{\"try\":1}' --payload '{\"try\":2}'\n\n\
    The VM stands still for some milliseconds and goes on. Each fork has all of its memory,\n\
    processes and files, and an identity, a network and a /run hook of its own.")]
pub(crate) struct Fork {
    pub(crate) vm: String,
    /// How many; with --payload, as many as there are payloads
    #[arg(short, value_name = "COUNT", default_value_t = 1, conflicts_with = "payload",
        value_parser = clap::value_parser!(u8).range(1..=64))]
    pub(crate) n: u8,
    /// For the /run hook of a fork of its own; may be given several times
    #[arg(short, long, value_name = "TEXT")]
    pub(crate) payload: Vec<String>,
}

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  warren checkpoint 3f2a before-the-upgrade\n  \
        warren run --from before-the-upgrade\n  \
        warren checkpoint ls\n  \
        warren checkpoint diff before-the-upgrade after-the-upgrade\n  \
        warren checkpoint rm before-the-upgrade\n\n\
        Only what differs from the image's snapshot is stored. VMs that were run from a checkpoint\n\
        go on when it is removed."
)]
pub(crate) struct Checkpoint {
    #[command(subcommand)]
    pub(crate) command: Option<CheckpointCommand>,
    /// A VM that runs or is suspended
    #[arg(required = true)]
    pub(crate) vm: Option<String>,
    /// Name of the new checkpoint: letters, digits, '.', '_' and '-'
    #[arg(required = true)]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CheckpointCommand {
    /// List the checkpoints
    Ls,
    /// Remove checkpoints
    Rm {
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Show which files differ between two checkpoints
    Diff { from: String, to: String },
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  warren cp ./data 3f2a:/workspace\n  \
    warren cp 3f2a:/workspace/report.md .\n  warren cp 3f2a:/etc/hosts -\n\n\
    Directories are copied whole, with modes and symbolic links. As with cp, what is copied to a\n\
    directory that exists lands in it. '-' is standard output, or input, as a tar stream.\n\
    The image must have tar.")]
pub(crate) struct Cp {
    /// A path here, or VM:PATH
    pub(crate) from: Place,
    /// A path here, or VM:PATH
    pub(crate) to: Place,
    /// As whom, in the VM [default: the image's user]
    #[arg(short, long, default_value = "", hide_default_value = true)]
    pub(crate) user: String,
}

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Here(PathBuf),
    /// Standard input or output.
    Stream,
    InVm {
        vm: String,
        path: String,
    },
}

impl std::str::FromStr for Place {
    type Err = String;

    /// A path here that holds a ':' is written with a '/' before it: `./a:b`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            _ if text == "-" => Ok(Self::Stream),
            _ if text.is_empty() => Err("expected a path, or VM:PATH".into()),
            Some((vm, path)) if !vm.is_empty() && !vm.contains('/') => {
                if path.is_empty() {
                    return Err(format!("expected a path after {vm}:"));
                }
                Ok(Self::InVm { vm: vm.into(), path: path.into() })
            }
            Some(_) | None => Ok(Self::Here(text.into())),
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  warren attach 3f2a\n\n\
    Shows what the kernel and Warren's PID 1 say, from the beginning of what is kept; Ctrl-C leaves\n\
    it. The app's own output is in warren logs; a shell is opened by warren shell.")]
pub(crate) struct Attach {
    pub(crate) vm: String,
    /// Show what there is, and end
    #[arg(long)]
    pub(crate) no_follow: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  warren top\n  warren top -n 1\n  \
    warren top --json --every 10 >> use.jsonl")]
pub(crate) struct Top {
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 2,
        value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub(crate) every: u16,
    /// Look so often and end
    #[arg(short, value_name = "COUNT")]
    pub(crate) n: Option<u32>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  warren events -f\n  warren events 3f2a --since 480\n  \
    warren events --json -f | jq -c 'select(.event == \"terminated\")'")]
pub(crate) struct Events {
    /// Only this VM's
    pub(crate) vm: Option<String>,
    /// Go on as more happens
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How far back, in minutes
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    pub(crate) since: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_a_vm_is_told_from_a_path() {
        let place = |text: &str| text.parse::<Place>();
        let in_vm = |vm: &str, path: &str| Ok(Place::InVm { vm: vm.into(), path: path.into() });
        assert_eq!(place("3f2a:/etc/hosts"), in_vm("3f2a", "/etc/hosts"));
        assert_eq!(place("3f2a:a:b"), in_vm("3f2a", "a:b"));
        assert_eq!(place("./a:b"), Ok(Place::Here("./a:b".into())));
        assert_eq!(place("dir/"), Ok(Place::Here("dir/".into())));
        assert_eq!(place("-"), Ok(Place::Stream));
        assert!(place("3f2a:").is_err());
    }
}
