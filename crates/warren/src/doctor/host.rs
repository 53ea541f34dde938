//! The machine itself: rights, kernel, memory, disk, ports.

use crate::{
    commands::Context,
    config::Settings,
    failure::with_causes,
    node::open_engine,
    protocol::{Check, STATUS, Status, bytes},
};
use engine::Engine;
use hyper::Method;
use rustix::{fs::statvfs, process::geteuid};
use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    path::Path,
};

/// Below this no VM of the default image starts, in bytes.
const MEMORY_BYTES_MIN: u64 = 512 * 1024 * 1024;
const MEMORY_BYTES_WANTED: u64 = 2 * 1024 * 1024 * 1024;
/// Below this an image build fails, in bytes.
const DISK_BYTES_MIN: u64 = 2 * 1024 * 1024 * 1024;
const DISK_BYTES_WANTED: u64 = 10 * 1024 * 1024 * 1024;
/// What stands in `engine.libexec_dir`.
pub(crate) const PROGRAMS: &[&str] =
    &["warren-jail", "warren-guest", "warren-worker", "libramguard.so"];

pub(super) fn root() -> Check {
    let uid = geteuid();
    if uid.is_root() {
        return Check::ok("root", "uid 0");
    }
    Check::broken(
        "root",
        format!("uid {}", uid.as_raw()),
        "VMs need network namespaces, cgroups and mounts: run it with sudo",
    )
}

pub(super) fn kernel(settings: &Settings) -> Check {
    let dir = settings.engine.share_dir.join("kernel");
    let missing = ["vmlinux", "version", "modules/order"].iter().find(|f| !dir.join(f).is_file());
    match missing {
        None => {
            let version = fs::read_to_string(dir.join("version")).unwrap_or_default();
            Check::ok("guest kernel", version.trim())
        }
        Some(file) => Check::broken(
            "guest kernel",
            format!("{} is missing", dir.join(file).display()),
            "scripts/setup brings it; or set engine.share_dir",
        ),
    }
}

pub(super) fn programs(settings: &Settings) -> Check {
    let dir = &settings.engine.libexec_dir;
    let missing: Vec<&str> =
        PROGRAMS.iter().copied().filter(|program| !dir.join(program).is_file()).collect();
    if missing.is_empty() {
        return Check::ok("helper programs", dir.display().to_string());
    }
    Check::broken(
        "helper programs",
        format!("{} missing in {}", missing.join(", "), dir.display()),
        "`make build` puts them there; or set engine.libexec_dir",
    )
}

pub(super) fn cgroups() -> Check {
    const WANTED: [&str; 3] = ["cpu", "memory", "pids"];
    let root = Path::new("/sys/fs/cgroup");
    let (version, found) = match fs::read_to_string(root.join("cgroup.controllers")) {
        Ok(text) => (2, WANTED.map(|wanted| text.split_whitespace().any(|found| found == wanted))),
        // One hierarchy for each controller.
        Err(_) => (1, WANTED.map(|wanted| root.join(wanted).join("cgroup.procs").exists())),
    };
    let missing: Vec<&str> =
        WANTED.iter().zip(found).filter(|(_, found)| !found).map(|(wanted, _)| *wanted).collect();
    if missing.is_empty() {
        return Check::ok("cgroups", format!("version {version} with {}", WANTED.join(", ")));
    }
    let what = format!("version {version}, no controller for {}", missing.join(", "));
    let remedy = "let the container or the boot line enable them";
    if missing.len() == WANTED.len() {
        return Check::broken("cgroups", what, remedy);
    }
    Check::warn("cgroups", format!("{what}: VMs run without these limits"), remedy)
}

/// Which accelerator runs VMs here: what a running service says, or else what the engine finds out.
pub(super) async fn accelerator(context: &Context) -> Check {
    const NAME: &str = "accelerator";
    if let Ok(client) = context.client()
        && let Ok(status) = client.own::<Status>(Method::GET, STATUS).await
    {
        return found(NAME, &status.accelerator, &status.accelerator_reason);
    }
    if !geteuid().is_root() {
        return Check::skipped(NAME);
    }
    match open_engine(&context.settings).await {
        Ok(engine) => {
            let report = engine.report();
            engine.shutdown().await;
            found(NAME, &report.accelerator, &report.reason)
        }
        Err(e) => {
            Check::broken(NAME, with_causes(&e), "see the checks above; --data-dir may be in use")
        }
    }
}

fn found(name: &str, accelerator: &str, reason: &str) -> Check {
    let text = format!("{accelerator}: {reason}");
    if accelerator == "kvm" {
        return Check::ok(name, text);
    }
    Check::warn(
        name,
        text,
        "VMs work, some ten times slower; for KVM use a host with /dev/kvm that works, on the metal \
         or with nested virtualisation",
    )
}

/// Free space where the data directory is, or where it will be made.
pub(super) fn disk(settings: &Settings) -> Check {
    let dir = settings.data_dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    let free = match statvfs(dir) {
        Ok(fs) => fs.f_bavail.saturating_mul(fs.f_frsize),
        Err(e) => {
            return Check::broken(
                "disk space",
                format!("{}: {e}", dir.display()),
                "take another --data-dir",
            );
        }
    };
    let found = format!("{} free in {}", bytes(free), dir.display());
    let remedy = "an image takes about 1 GiB: free some space, or take another --data-dir";
    match free {
        0..DISK_BYTES_MIN => Check::broken("disk space", found, remedy),
        DISK_BYTES_MIN..DISK_BYTES_WANTED => Check::warn("disk space", found, remedy),
        DISK_BYTES_WANTED.. => Check::ok("disk space", found),
    }
}

pub(super) fn memory() -> Check {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let Some(available) = available_bytes(&text) else {
        return Check::warn("memory", "/proc/meminfo does not say", "is /proc mounted?");
    };
    let found = format!("{} available", bytes(available));
    let remedy = "a VM of the default image takes some 50 MiB once idle, 500 MiB at its busiest";
    match available {
        0..MEMORY_BYTES_MIN => Check::broken("memory", found, remedy),
        MEMORY_BYTES_MIN..MEMORY_BYTES_WANTED => Check::warn("memory", found, remedy),
        MEMORY_BYTES_WANTED.. => Check::ok("memory", found),
    }
}

fn available_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

pub(super) fn ports(settings: &Settings) -> Vec<Check> {
    vec![
        port("port of the API", settings.api_listen),
        port("port of the emulator", settings.platform_listen),
    ]
}

fn port(name: &str, address: SocketAddr) -> Check {
    match TcpListener::bind(address) {
        Ok(_) => Check::ok(name, format!("{address} is free")),
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => Check::warn(
            name,
            format!("{address} is in use"),
            "fine where it is Warren itself (warren ps answers); else see `ss -ltnp`, or choose \
             another in warren.toml",
        ),
        Err(e) => Check::broken(name, format!("{address}: {e}"), "choose another in warren.toml"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_from_meminfo() {
        let text = "MemTotal:  100 kB\nMemAvailable:   24 kB\n";
        assert_eq!(available_bytes(text), Some(24 * 1024));
        assert_eq!(available_bytes("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn a_taken_port_is_told() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let check = port("p", holder.local_addr().unwrap());
        assert!(check.found.ends_with("is in use"), "{}", check.found);
    }
}
