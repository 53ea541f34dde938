//! Promise: a VM's whole life: suspended and resumed with all that is in it, forked, kept as a
//! checkpoint, ended at its time; in whatever order, and over a kill of Warren.

use crate::{Shared, images};
use e2e::{Remains, Site, eventually};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

pub(crate) fn trials(shared: &Shared) -> Vec<Trial> {
    vec![
        shared.test("processes_memory_and_files_live_on_over_suspend_and_resume", lives_on),
        shared.test("a_suspended_vm_uses_no_memory_and_no_process", rests),
        shared.test("a_fork_is_another_vm_with_the_same_processes", fork),
        shared.test("a_checkpoint_brings_the_workspace_back", checkpoint),
        shared.test("the_aws_cli_suspends_and_resumes", aws_cli),
        shared.test("timers_hold_over_a_kill_of_warren", timers),
        shared.test("a_suspended_session_is_resumed_by_its_next_turn", session_resumes),
        shared.test("a_session_comes_back_from_its_checkpoint", session_comes_back),
        shared.test("files_are_copied_both_ways", copies),
        shared.test("every_step_of_a_life_is_shown", shown),
        shared.test("random_lives_leave_nothing_behind", chaos),
    ]
}

/// An image whose app answers every hook and does nothing else.
const IMAGE: &str = "life";

fn run(site: &Site) -> String {
    run_with(site, &[])
}

fn run_with(site: &Site, options: &[&str]) -> String {
    let images = site.warren(["--json", "image", "ls"]).run().json_lines();
    if images.iter().all(|image| image["name"] != IMAGE) {
        let dockerfile = "FROM localhost/warren/base:bookworm\nCOPY app.py /app.py\n\
            CMD [\"python3\", \"/app.py\"]\n";
        images::build(site, IMAGE, dockerfile).ok();
    }
    let base = ["run", IMAGE].into_iter().chain(options.iter().copied());
    site.warren(base).run().ok().trim().to_owned()
}

fn exec(site: &Site, vm: &str, script: &str) -> String {
    site.warren(["exec", vm, "--", "sh", "-c", script]).run().ok()
}

fn state(site: &Site, vm: &str) -> String {
    let all = site.warren(["--json", "ps", "--all"]).run().json_lines();
    let row = all.iter().find(|row| row["microvm_id"] == vm);
    row.map_or_else(|| "GONE".into(), |row| row["state"].as_str().unwrap_or_default().into())
}

fn terminate(site: &Site, vms: &[&str]) {
    for vm in vms {
        site.warren(["rm", vm]).run().ok();
    }
    site.quiet();
}

/// A process that counts in memory, a file, a listening socket.
const WORK: &str = "mkdir -p /workspace; cd /workspace; echo kept > file; echo in-memory > /dev/shm/note; \
    nohup sh -c 'n=0; while :; do n=$((n+1)); echo $n > /workspace/count; sleep 0.05; done' \
    >/dev/null 2>&1 & echo $! > /workspace/pid; \
    nohup python3 -m http.server 8123 --directory /workspace >/dev/null 2>&1 & \
    for i in $(seq 100); do python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 8123))' \
    2>/dev/null && break; sleep 0.1; done";

fn lives_on(site: &Site) {
    let vm = run(site);
    exec(site, &vm, WORK);
    let before =
        exec(site, &vm, "cat /workspace/pid /proc/sys/kernel/random/boot_id /etc/machine-id");
    site.warren(["suspend", &vm]).run().ok();
    assert_eq!(state(site, &vm), "SUSPENDED");
    let refused = site.warren(["exec", &vm, "--", "true"]).run().refused();
    assert!(refused.contains("SUSPENDED"), "{refused}");
    std::thread::sleep(Duration::from_millis(1500));
    site.warren(["resume", &vm]).run().ok();
    let after =
        exec(site, &vm, "cat /workspace/pid /proc/sys/kernel/random/boot_id /etc/machine-id");
    assert_eq!(after, before, "the same machine");
    let look = "cat /workspace/file /dev/shm/note; kill -0 $(cat /workspace/pid) && echo alive; \
        python3 -c 'import urllib.request; \
        print(urllib.request.urlopen(\"http://127.0.0.1:8123/file\").read().decode())'";
    let found = exec(site, &vm, look);
    assert_eq!(found.trim(), "kept\nin-memory\nalive\nkept");
    let counted = || exec(site, &vm, "cat /workspace/count").trim().to_owned();
    let first = counted();
    eventually("it counts on", 20, || (counted() != first).then_some(()));
    let clock: u64 = exec(site, &vm, "date +%s").trim().parse().expect("seconds");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    assert!(clock.abs_diff(now.as_secs()) <= 5, "its clock is {clock}, ours {}", now.as_secs());
    terminate(site, &[&vm]);
}

fn rests(site: &Site) {
    let before = Remains::look(&site.data_dir()).processes.len();
    let vm = run(site);
    site.warren(["suspend", &vm]).run().ok();
    eventually("only what is on standby runs", 30, || {
        (Remains::look(&site.data_dir()).processes.len() <= before.max(1)).then_some(())
    });
    terminate(site, &[&vm]);
}

const IDENTITY: &str = "cat /etc/hostname /etc/machine-id; head -c 16 /dev/urandom | od -An -tx1";

fn fork(site: &Site) {
    let vm = run(site);
    exec(site, &vm, WORK);
    let forks = site.warren(["fork", &vm, "-n", "2"]).run().ok();
    let mut all: Vec<&str> = forks.lines().collect();
    assert_eq!(all.len(), 2, "{forks}");
    all.push(&vm);
    let identities: BTreeSet<String> = all.iter().map(|vm| exec(site, vm, IDENTITY)).collect();
    assert_eq!(identities.len(), 3, "{identities:?}");
    for id in &all {
        assert_eq!(exec(site, id, "hostname").trim(), *id);
        let alive = exec(site, id, "kill -0 $(cat /workspace/pid) && cat /workspace/file");
        assert_eq!(alive.trim(), "kept");
    }
    // Each goes its own way.
    exec(site, all[0], "echo other > /workspace/file");
    assert_eq!(exec(site, &vm, "cat /workspace/file").trim(), "kept");
    let left = site.warren(["--json", "checkpoint", "ls"]).run().json_lines();
    assert!(left.is_empty(), "a fork's checkpoint goes by itself: {left:?}");
    let all: Vec<String> = all.into_iter().map(String::from).collect();
    terminate(site, &all.iter().map(String::as_str).collect::<Vec<_>>());
}

fn checkpoint(site: &Site) {
    let vm = run(site);
    exec(
        site,
        &vm,
        "mkdir -p /workspace; cd /workspace; echo one > kept; echo two > changed; echo three > lost",
    );
    site.warren(["checkpoint", &vm, "before"]).run().ok();
    exec(site, &vm, "cd /workspace; echo two-and-a-half > changed; rm lost; echo four > new");
    site.warren(["checkpoint", &vm, "after"]).run().ok();
    let again = site.warren(["checkpoint", &vm, "after"]).run().refused();
    assert!(again.contains("exists already"), "{again}");
    terminate(site, &[&vm]);
    let changes =
        site.warren(["--json", "checkpoint", "diff", "before", "after"]).run().json_lines();
    let changed = |path: &str| {
        let found = changes.iter().find(|change| change["path"] == format!("/workspace/{path}"));
        found.map(|change| change["change"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(changed("new").as_deref(), Some("added"), "{changes:?}");
    assert_eq!(changed("changed").as_deref(), Some("modified"), "{changes:?}");
    assert_eq!(changed("lost").as_deref(), Some("removed"), "{changes:?}");
    assert_eq!(changed("kept"), None, "{changes:?}");
    let back = site.warren(["run", "--from", "before"]).run().ok();
    let back = back.trim();
    assert_ne!(back, vm);
    assert_eq!(exec(site, back, "cd /workspace; cat kept changed lost").trim(), "one\ntwo\nthree");
    let listed = site.warren(["--json", "checkpoint", "ls"]).run().json_lines();
    assert_eq!(listed.len(), 2, "{listed:?}");
    for checkpoint in &listed {
        let bytes = |member: &str| checkpoint[member].as_u64().expect("a size");
        let size = bytes("memory_bytes") + bytes("disk_bytes");
        assert!(size < 200 << 20, "only what differs is stored: {checkpoint}");
    }
    site.warren(["checkpoint", "rm", "before", "after"]).run().ok();
    assert_eq!(exec(site, back, "cat /workspace/kept").trim(), "one", "it goes on");
    terminate(site, &[back]);
}

fn aws_cli(site: &Site) {
    let vm = run(site);
    let call = |operation: &str| {
        site.aws(["lambda-microvms", operation, "--microvm-identifier", &vm]).run()
    };
    let read = || -> Value { serde_json::from_str(&call("get-microvm").ok()).expect("JSON") };
    let started = read()["startedAt"].clone();
    call("suspend-microvm").ok();
    eventually("SUSPENDED", 30, || (read()["state"] == "SUSPENDED").then_some(()));
    call("suspend-microvm").ok();
    call("resume-microvm").ok();
    eventually("RUNNING", 30, || (read()["state"] == "RUNNING").then_some(()));
    assert_eq!(read()["startedAt"], started);
    call("terminate-microvm").ok();
    eventually("TERMINATED", 30, || (read()["state"] == "TERMINATED").then_some(()));
    let refused = call("suspend-microvm").refused();
    assert!(refused.contains("has been terminated and its state cannot be changed"), "{refused}");
    site.quiet();
}

fn timers(site: &Site) {
    let ends = run_with(site, &["--max-duration", "12"]);
    let stays = run(site);
    site.warren(["suspend", &stays]).run().ok();
    site.kill_up();
    std::thread::sleep(Duration::from_secs(2));
    site.start_up();
    assert_eq!(state(site, &stays), "SUSPENDED", "it is found again");
    eventually("its end at its time", 30, || (state(site, &ends) == "TERMINATED").then_some(()));
    let found = site.warren(["--json", "inspect", &ends]).run().json_lines();
    assert_eq!(found[0]["state_reason"], "MicroVM exceeded maximum lifetime.");
    site.warren(["resume", &stays]).run().ok();
    assert_eq!(exec(site, &stays, "echo here").trim(), "here");
    terminate(site, &[&stays]);
}

fn session_resumes(site: &Site) {
    let platform = site.platform();
    let session = platform.create_session();
    platform.bash(&session, "echo kept > file; cd /tmp");
    let vm = site.only_vm();
    let row = site.vms().pop().expect("one VM");
    assert_eq!(row["session_id"], session.as_str(), "ps shows the session: {row}");
    site.warren(["suspend", &vm]).run().ok();
    let again = platform.bash(&session, "pwd; cat /workspace/file");
    assert_eq!(again.text.trim(), "/tmp\nkept", "the shell is the same");
    assert_eq!(site.only_vm(), vm);
    platform.archive(&session);
    site.quiet();
}

fn session_comes_back(site: &Site) {
    site.restart_up(&[("WARREN_LAUNCHER_AT_END", "checkpoint")]);
    let platform = site.platform();
    let session = platform.create_session();
    platform.bash(&session, "echo kept > file");
    let vm = site.only_vm();
    // As its worker does after some minutes without work.
    site.warren(["suspend", &vm]).run().ok();
    eventually("its end", 60, || (state(site, &vm) == "TERMINATED").then_some(()));
    let name = format!("session-{session}");
    let listed = site.warren(["--json", "checkpoint", "ls"]).run().json_lines();
    assert!(listed.iter().any(|checkpoint| checkpoint["name"] == name), "{listed:?}");
    // The item of the first turn is its worker's until its lease is lost, which takes minutes: what is looked
    // at is the VM that the next turn gets.
    platform.start_turn(&session, &json!([{ "tool": "bash", "input": { "command": "true" } }]));
    let again = eventually("a VM for the next turn", 60, || {
        let vms = site.vms();
        let row = vms.iter().find(|row| row["state"] == "RUNNING")?;
        row["microvm_id"].as_str().map(String::from)
    });
    assert_ne!(again, vm);
    assert_eq!(exec(site, &again, "cat /workspace/file"), "kept\n");
    platform.archive(&session);
    terminate(site, &[&again]);
    site.warren(["checkpoint", "rm", &name]).run().ok();
    site.restart_up(&[]);
}

fn copies(site: &Site) {
    let vm = run(site);
    let dir = tempfile::tempdir().expect("a directory");
    let at = |path: &str| dir.path().join(path).display().to_string();
    std::fs::create_dir_all(at("data/sub")).expect("made");
    let big: Vec<u8> = (0..5_000_000u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(at("data/sub/big"), &big).expect("written");
    site.warren(["cp", &at("data"), &format!("{vm}:/tmp")]).run().ok();
    let size = exec(site, &vm, "stat -c %s /tmp/data/sub/big");
    assert_eq!(size.trim(), "5000000");
    site.warren(["cp", &format!("{vm}:/tmp/data/sub/big"), &at("back")]).run().ok();
    assert!(std::fs::read(at("back")).expect("read") == big, "it came back as it was");
    site.warren(["cp", &format!("{vm}:/tmp/data"), &at("")]).run().ok();
    let refused = site.warren(["cp", &at("absent"), &format!("{vm}:/tmp")]).run().refused();
    assert!(refused.contains("absent"), "{refused}");
    let refused = site.warren(["cp", &format!("{vm}:/nowhere"), &at("x")]).run().refused();
    assert!(refused.contains("nowhere"), "{refused}");
    terminate(site, &[&vm]);
}

fn shown(site: &Site) {
    let following = site.warren(["events", "-f", "--since", "0"]).start();
    let vm = run(site);
    site.warren(["suspend", &vm]).run().ok();
    site.warren(["resume", &vm]).run().ok();
    following.line("resumed");
    following.interrupt();
    let past = site.warren(["--json", "events", &vm]).run().json_lines();
    let told: Vec<&str> = past.iter().filter_map(|event| event["event"].as_str()).collect();
    for event in
        ["accepted", "restored", "running", "suspending", "suspended", "resuming", "resumed"]
    {
        assert!(told.contains(&event), "{event} is missing: {told:?}");
    }
    let inspected = site.warren(["inspect", &vm]).run().ok();
    assert!(inspected.contains("endpoint") && inspected.contains("suspended"), "{inspected}");
    let top = site.warren(["top", "-n", "1"]).run().ok();
    assert!(top.contains(&vm) && top.contains("WRITTEN/S"), "{top}");
    let console = site.warren(["attach", "--no-follow", &vm]).run();
    assert_eq!(console.code, 0, "{console:?}");
    terminate(site, &[&vm]);
}

/// Life sequences of the chaos test, unless the environment says more.
const LIVES: u64 = 12;

/// At once on the host.
const VMS_MAX: usize = 4;

/// A small generator (xorshift) with a seed that is told, so that a failure can be played again.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }
}

/// A test's own idea of what there is.
#[derive(Default)]
struct World {
    running: Vec<String>,
    suspended: Vec<String>,
    checkpoints: Vec<String>,
    made: usize,
}

fn chaos(site: &Site) {
    let lives = std::env::var("WARREN_CHAOS_LIVES").ok().and_then(|n| n.parse().ok());
    let seed = std::env::var("WARREN_CHAOS_SEED").ok().and_then(|n| n.parse().ok());
    let (lives, seed) = (lives.unwrap_or(LIVES), seed.unwrap_or(0x5eed_u64));
    let before = Remains::look(&site.data_dir());
    let mut random = Random(seed.max(1));
    let mut world = World::default();
    for life in 0..lives {
        act(site, &mut world, &mut random);
        agree(site, &world, &format!("after step {life} of seed {seed}"));
    }
    site.warren(["rm", "--all"]).run().ok();
    for name in &world.checkpoints {
        site.warren(["checkpoint", "rm", name]).run().ok();
    }
    site.quiet();
    eventually("nothing left of random lives", 60, || {
        let after = Remains::look(&site.data_dir());
        let rest = before.files.len().max(1);
        (after.files.len() <= rest && after.slots.len() <= before.slots.len().max(1)).then_some(())
    });
    let left = site.warren(["--json", "checkpoint", "ls"]).run().json_lines();
    assert!(left.is_empty(), "{left:?}");
}

fn act(site: &Site, world: &mut World, random: &mut Random) {
    let vms = world.running.len() + world.suspended.len();
    let pick = |list: &mut Vec<String>, random: &mut Random| {
        let at = random.below(list.len());
        (!list.is_empty()).then(|| list.swap_remove(at))
    };
    match random.below(8) {
        0 | 1 if vms < VMS_MAX => world.running.push(run(site)),
        2 => {
            if let Some(vm) = pick(&mut world.running, random) {
                site.warren(["suspend", &vm]).run().ok();
                world.suspended.push(vm);
            }
        }
        3 => {
            if let Some(vm) = pick(&mut world.suspended, random) {
                site.warren(["resume", &vm]).run().ok();
                world.running.push(vm);
            }
        }
        4 if vms < VMS_MAX && vms > 0 => {
            let all: Vec<&String> = world.running.iter().chain(&world.suspended).collect();
            let vm = all[random.below(all.len())].clone();
            let fork = site.warren(["fork", &vm]).run().ok();
            world.running.push(fork.trim().to_owned());
        }
        5 if vms > 0 => {
            let all: Vec<&String> = world.running.iter().chain(&world.suspended).collect();
            let vm = all[random.below(all.len())].clone();
            world.made += 1;
            let name = format!("chaos-{}", world.made);
            site.warren(["checkpoint", &vm, &name]).run().ok();
            world.checkpoints.push(name);
        }
        6 if vms < VMS_MAX && !world.checkpoints.is_empty() => {
            let name = &world.checkpoints[random.below(world.checkpoints.len())];
            let vm = site.warren(["run", "--from", name]).run().ok();
            world.running.push(vm.trim().to_owned());
        }
        7 => {
            let list = if random.below(2) == 0 { &mut world.running } else { &mut world.suspended };
            if let Some(vm) = pick(list, random) {
                site.warren(["rm", &vm]).run().ok();
                eventually("its end", 60, || (state(site, &vm) == "TERMINATED").then_some(()));
            }
        }
        _ => {
            if vms == 0 {
                world.running.push(run(site));
            }
        }
    }
}

/// What Warren says there is, is what there should be, and every guest that should answer does.
fn agree(site: &Site, world: &World, when: &str) {
    let vms = site.vms();
    let of = |wanted: &str| -> BTreeSet<String> {
        let id = |vm: &Value| vm["microvm_id"].as_str().unwrap_or_default().to_owned();
        vms.iter().filter(|vm| vm["state"] == wanted).map(id).collect()
    };
    assert_eq!(of("RUNNING"), world.running.iter().cloned().collect(), "{when}: {vms:?}");
    assert_eq!(of("SUSPENDED"), world.suspended.iter().cloned().collect(), "{when}: {vms:?}");
    for vm in &world.running {
        assert_eq!(exec(site, vm, "hostname").trim(), vm, "{when}");
    }
}
