//! What a VM leaves on its host, counted; and namespaces that stand for other machines.

use crate::process::Program;
use std::{collections::BTreeSet, fs, path::Path};

/// Everything on this machine that can belong to a VM of the data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remains {
    pub processes: BTreeSet<String>,
    pub namespaces: BTreeSet<String>,
    pub links: BTreeSet<String>,
    pub mounts: BTreeSet<String>,
    pub cgroups: BTreeSet<String>,
    pub slots: BTreeSet<String>,
    pub files: BTreeSet<String>,
}

impl Remains {
    pub fn look(data_dir: &Path) -> Self {
        Self {
            processes: vmm_processes(),
            namespaces: names(Path::new("/run/warren/netns"), |_| true),
            links: names(Path::new("/sys/class/net"), |name| name.starts_with("wv")),
            mounts: mounts(),
            cgroups: cgroups(),
            slots: names(Path::new("/run/warren/slots"), |_| true),
            files: names(&data_dir.join("engine/vms"), |_| true),
        }
    }

    pub fn is_empty(&self) -> bool {
        let Self { processes, namespaces, links, mounts, cgroups, slots, files } = self;
        [processes, namespaces, links, mounts, cgroups, slots, files]
            .into_iter()
            .all(BTreeSet::is_empty)
    }
}

fn names(directory: &Path, wanted: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().into_string().ok()).filter(|name| wanted(name)).collect()
}

fn vmm_processes() -> BTreeSet<String> {
    names(Path::new("/proc"), |name| name.bytes().all(|b| b.is_ascii_digit()))
        .into_iter()
        .filter_map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            (line.contains("guest=") && line.contains("qemu-system"))
                .then(|| format!("{pid} {}", &line[..80.min(line.len())]))
        })
        .collect()
}

fn mounts() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let at = |line: &str| line.split_whitespace().nth(1).map(String::from);
    text.lines()
        .filter_map(at)
        .filter(|at| at.contains("/run/warren/netns/") || at.contains("/engine/vms/"))
        .collect()
}

fn cgroups() -> BTreeSet<String> {
    ["", "memory", "pids", "cpu"]
        .iter()
        .flat_map(|controller| {
            let directory = Path::new("/sys/fs/cgroup").join(controller).join("warren");
            names(&directory, |name| directory.join(name).is_dir())
        })
        .collect()
}

/// A machine on the "internet": a namespace with a public-looking address, reached from the host by a
/// veth pair. Nothing leaves this machine.
pub struct Namespaces {
    name: &'static str,
}

/// TEST-NET-3 (RFC 5737): in no range that Warren keeps VMs from.
pub const PUBLIC_ADDRESS: &str = "203.0.113.2";

impl Namespaces {
    /// Makes the namespace and serves `body` over HTTP on port 80 of [`PUBLIC_ADDRESS`].
    pub fn internet() -> Self {
        let name = "e2e-internet";
        drop(Self { name });
        let script = format!(
            "ip netns add {name} && ip link add e2e-host type veth peer name e2e-inet netns {name} && \
             ip addr add 203.0.113.1/30 dev e2e-host && ip link set e2e-host up && \
             ip -n {name} addr add {PUBLIC_ADDRESS}/30 dev e2e-inet && ip -n {name} link set e2e-inet up && \
             ip -n {name} link set lo up"
        );
        Program::new("/bin/sh").args(["-c", &script]).run().ok();
        Self { name }
    }

    /// Starts a program in it.
    pub fn spawn(&self, args: &[&str]) -> std::process::Child {
        std::process::Command::new("ip")
            .args(["netns", "exec", self.name])
            .args(args)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("ip netns exec")
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        let _ = Program::new("ip").args(["link", "del", "e2e-host"]).run();
        let _ = Program::new("ip").args(["netns", "del", self.name]).run();
    }
}
