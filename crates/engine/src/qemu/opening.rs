//! Opening the engine: its tools are there, nobody else has its directory, and what an engine before it left
//! half made is gone.

use super::{
    Inner, OUTPUT_BEHIND_MAX, QemuConfig, arguments::Accelerator, calibration, initrd, remains,
    standby::Standby, vmm::Tools,
};
use crate::{
    EngineError, EngineReport,
    slot::Slots,
    state::{StateDir, host_error},
    turns::Turns,
};
use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use tokio::sync::broadcast;
use tokio_util::task::TaskTracker;

impl Inner {
    pub(super) fn open(config: &QemuConfig) -> Result<Self, EngineError> {
        if !nix::unistd::geteuid().is_root() {
            let source = std::io::Error::from_raw_os_error(libc::EPERM);
            return Err(host_error(
                Path::new("the engine"),
                "make namespaces and control groups, for which it must be root",
                source,
            ));
        }
        let state = StateDir::open(&config.state_dir)?;
        let lock = exclusive(&config.state_dir)?;
        let qemu = find_program("qemu-system-x86_64")?;
        let vmm = qemu_version(&qemu)?;
        let present = |dir: &Path, name: &str, package: &str| {
            let path = dir.join(name);
            if path.exists() {
                return Ok(path);
            }
            let reason = format!("{} is not there; {package}", path.display());
            Err(EngineError::ToolMissing { tool: name.to_owned(), reason })
        };
        let kernel_dir = config.share_dir.join("kernel");
        let built = "`make build` makes it";
        let guest = present(&config.libexec_dir, "warren-guest", built)?;
        let modules = present(&kernel_dir, "modules", "`make setup` fetches it")?;
        let tools = Tools {
            qemu,
            jail: present(&config.libexec_dir, "warren-jail", built)?,
            ramguard: present(&config.libexec_dir, "libramguard.so", built)?,
            kernel: present(&kernel_dir, "vmlinux", "`make setup` fetches it")?,
            initrd: initrd::build(&guest, &modules, &config.state_dir)?,
        };
        let slots = Slots::new(&config.state_dir);
        remains::remove_internal(&slots, &state)?;
        remains::finish_suspends(&slots, &state)?;
        state.remove_incomplete()?;
        let finding = calibration::find(config.accelerator, &tools, &state, &slots, &vmm)?;
        let accelerator = match finding.accelerator {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        };
        Ok(Self {
            report: EngineReport { vmm, accelerator: accelerator.into(), reason: finding.reason },
            accelerator: finding.accelerator,
            tools,
            state,
            slots,
            vms: Mutex::default(),
            events: Arc::default(),
            logs: broadcast::channel(OUTPUT_BEHIND_MAX).0,
            standby: Standby::new(config.standby),
            turns: Turns::default(),
            tasks: TaskTracker::new(),
            _lock: lock,
        })
    }
}

/// One engine for each directory.
fn exclusive(dir: &Path) -> Result<nix::fcntl::Flock<File>, EngineError> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(|e| host_error(&path, "create", e))?;
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock)
        .map_err(|(_, e)| host_error(&path, "lock; another Warren uses this directory", e.into()))
}

fn find_program(name: &str) -> Result<PathBuf, EngineError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file()).ok_or_else(
        || EngineError::ToolMissing {
            tool: name.to_owned(),
            reason: "it is not on the PATH; `make setup` installs it (Debian: qemu-system-x86)"
                .into(),
        },
    )
}

fn qemu_version(qemu: &Path) -> Result<String, EngineError> {
    let failed =
        |reason: String| EngineError::ToolMissing { tool: qemu.display().to_string(), reason };
    let output = std::process::Command::new(qemu)
        .arg("--version")
        .output()
        .map_err(|e| failed(e.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    // "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)"
    let version = text
        .split_whitespace()
        .nth(3)
        .ok_or_else(|| failed("it does not tell its version".into()))?;
    Ok(format!("qemu {version}"))
}
