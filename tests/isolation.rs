//! Promise: a VM reaches the internet and Warren's own services, and nothing else of its host; its VMM is
//! confined as if it were owned.

use crate::Shared;
use e2e::{Namespaces, PUBLIC_ADDRESS, Program, Site, eventually};
use libtest_mimic::Trial;
use std::{fs, net::TcpListener, path::Path};

pub(crate) fn trials(shared: &Shared) -> Vec<Trial> {
    vec![
        shared.test("a_vm_reaches_the_internet_by_nat", reaches_internet),
        shared.test(
            "a_vm_reaches_neither_its_host_nor_private_networks_nor_another_vm",
            reaches_nothing_else,
        ),
        shared.test("each_vmm_has_a_user_a_namespace_and_a_control_group_of_its_own", confined),
    ]
}

fn reaches_internet(site: &Site) {
    let internet = Namespaces::internet();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("index.html"), "hello from outside").unwrap();
    let mut server = internet.spawn(&[
        "python3",
        "-m",
        "http.server",
        "80",
        "--bind",
        PUBLIC_ADDRESS,
        "--directory",
        folder.path().to_str().unwrap(),
    ]);
    eventually("the outside server", 20, || {
        let probe = Program::new("curl").args(["-sm1", &format!("http://{PUBLIC_ADDRESS}/")]).run();
        (probe.code == 0).then_some(())
    });
    let platform = site.platform();
    let session = platform.create_session();
    let result = platform.bash(&session, &format!("curl -sm 20 http://{PUBLIC_ADDRESS}/"));
    platform.archive(&session);
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(result.text, "hello from outside");
    site.quiet();
}

/// Every IPv4 address of this machine.
fn own_addresses() -> Vec<String> {
    let text = Program::new("ip").args(["-4", "-o", "addr"]).run().ok();
    let addresses =
        text.lines().filter_map(|line| line.split_whitespace().nth(3)?.split('/').next());
    addresses.filter(|a| !a.starts_with("127.")).map(String::from).collect()
}

fn reaches_nothing_else(site: &Site) {
    let platform = site.platform();
    let (one, other) = (platform.create_session(), platform.create_session());
    platform.bash(&one, "nohup python3 -m http.server 8000 >/dev/null 2>&1 & sleep 1; echo up");
    let of_host = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = of_host.local_addr().unwrap().port();
    // The host's addresses, its ends of the VMs' links among them; a VM's link is one further.
    let mut targets: Vec<String> = own_addresses().iter().map(|a| format!("{a}:{port}")).collect();
    let links: Vec<String> =
        own_addresses().into_iter().filter(|a| a.starts_with("198.18.")).collect();
    assert!(links.len() >= 2, "two VMs have two links: {links:?}");
    for link in &links {
        let (net, last) = link.rsplit_once('.').unwrap();
        targets.push(format!("{net}.{}:8000", last.parse::<u8>().unwrap() + 1));
        targets.push(format!("{link}:22"));
    }
    targets.extend(
        ["192.168.1.1:80", "172.16.0.1:80", "169.254.1.1:80", "100.64.0.1:80"].map(String::from),
    );
    let script = format!(
        "for t in {}; do timeout 3 bash -c \"exec 3<>/dev/tcp/${{t%:*}}/${{t#*:}}\" 2>/dev/null && echo \"reached $t\"; done; echo tried",
        targets.join(" ")
    );
    let result = platform.bash(&other, &script);
    // The same script does reach what a VM may use, or it would prove nothing.
    let allowed =
        platform.bash(&other, "timeout 5 bash -c 'exec 3<>/dev/tcp/10.0.0.1/7420' && echo reached");
    platform.archive(&one);
    platform.archive(&other);
    assert_eq!(result.text, "tried");
    assert_eq!(allowed.text, "reached");
    site.quiet();
}

fn confined(site: &Site) {
    let platform = site.platform();
    let sessions = [platform.create_session(), platform.create_session()];
    sessions.iter().for_each(|session| drop(platform.bash(session, "true")));
    let ids: Vec<String> =
        site.vms().iter().map(|vm| vm["microvm_id"].as_str().unwrap().to_owned()).collect();
    let pids: Vec<String> = ids.iter().map(|id| vmm_of(id)).collect();
    let mut users = Vec::new();
    for pid in &pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_whitespace().next().unwrap_or_default().to_owned()
        };
        assert_eq!(field("CapEff:"), "0000000000000000");
        assert_eq!(field("NoNewPrivs:"), "1");
        assert_eq!(field("Seccomp:"), "2", "QEMU's own sandbox is on");
        assert_ne!(field("Uid:"), "0");
        users.push(field("Uid:"));
        for namespace in ["net", "mnt", "ipc", "uts"] {
            let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
            assert_ne!(of(pid), of("self"), "{namespace}");
        }
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        assert!(groups.contains("/warren/warren-"), "{groups}");
        let root = Path::new("/proc").join(pid).join("root");
        assert!(
            !root.join("etc/passwd").exists() && !root.join("root").exists(),
            "the host's tree shows"
        );
    }
    assert_ne!(users[0], users[1], "each has a user of its own");
    sessions.iter().for_each(|session| platform.archive(session));
    site.quiet();
}

/// The process of a VM: its record names the slot, whose control group holds it.
fn vmm_of(id: &str) -> String {
    for entry in fs::read_dir("/run/warren/slots").unwrap().flatten() {
        let content = fs::read_to_string(entry.path()).unwrap_or_default();
        if content.lines().nth(1) == Some(id) {
            let name =
                format!("warren/warren-{}/cgroup.procs", entry.file_name().to_string_lossy());
            let procs = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"]
                .iter()
                .find_map(|root| fs::read_to_string(Path::new(root).join(&name)).ok());
            return procs.expect("a control group").lines().next().expect("a process").to_owned();
        }
    }
    panic!("{id} has no slot");
}
