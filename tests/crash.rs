//! Promise: a VM outlives the control plane, which may be killed at any moment and finds it again.

use crate::Shared;
use e2e::{Site, eventually};
use libtest_mimic::Trial;
use serde_json::json;
use std::{thread::sleep, time::Duration};

pub(crate) fn trials(shared: &Shared) -> Vec<Trial> {
    vec![
        shared.test(
            "a_session_goes_on_when_warren_is_killed_in_the_middle_of_a_call",
            killed_in_a_call,
        ),
        shared.test("after_a_kill_a_vm_waits_for_the_next_session_again", standby),
        shared.test("a_vm_that_died_while_warren_was_away_is_cleared_away", died_meanwhile),
    ]
}

fn killed_in_a_call(site: &Site) {
    let platform = site.platform();
    let session = platform.create_session();
    platform.bash(&session, "echo before > kept");
    let vm = site.only_vm();
    platform.start_turn(
        &session,
        &json!([
            { "tool": "bash", "input": { "command": "sleep 4; cat kept" } },
            { "tool": "bash", "input": { "command": "echo after" } },
        ]),
    );
    sleep(Duration::from_secs(1));
    site.kill_up();
    sleep(Duration::from_secs(1));
    site.start_up();
    let results = platform.finish_turn(&session, 3);
    let texts: Vec<&str> = results.iter().map(|result| result.text.as_str()).collect();
    assert_eq!(texts, ["(no output)", "before", "after"]);
    assert_eq!(site.only_vm(), vm, "the same VM, and no other");
    let output = site.warren(["exec", &vm, "--", "cat", "/workspace/kept"]).run().ok();
    assert_eq!(output, "before\n", "it can be reached as before");
    platform.archive(&session);
    site.quiet();
}

fn standby(site: &Site) {
    site.kill_up();
    site.start_up();
    // The one of before the kill is not used again, and does not stay.
    let waiting = || {
        let all = e2e::Program::new("pgrep").args(["-fc", "guest=engine-standby"]).run();
        all.stdout.trim().parse::<usize>().unwrap_or_default()
    };
    eventually("one VM on standby", 60, || (waiting() == 1).then_some(()));
    let platform = site.platform();
    // What pgrep sees may not be restored yet: then the first launch is a clone, and the second is not.
    let paths = [(); 2].map(|()| {
        let session = platform.create_session();
        platform.bash(&session, "true");
        let path = site.vms()[0]["launch"]["path"].clone();
        platform.archive(&session);
        site.quiet();
        eventually("one VM on standby", 60, || (waiting() == 1).then_some(()));
        path
    });
    assert_eq!(paths[1], "standby", "{paths:?}");
}

fn died_meanwhile(site: &Site) {
    let platform = site.platform();
    let session = platform.create_session();
    platform.bash(&session, "true");
    let vm = site.only_vm();
    site.kill_up();
    let killed = e2e::Program::new("pkill").args(["-9", "-f", "qemu-system-x86_64.*guest="]).run();
    assert_eq!(killed.code, 0, "there was a VMM to kill");
    site.start_up();
    site.quiet();
    let all = site.warren(["--json", "ps", "--all"]).run().json_lines();
    let row = all.iter().find(|row| row["microvm_id"] == vm.as_str()).expect("it stays listed");
    assert_eq!(row["state"], "TERMINATED");
    assert!(
        row["state_reason"].as_str().is_some_and(|reason| !reason.is_empty()),
        "with a reason: {row}"
    );
    // The session's next turn gets a new VM.
    eventually("a new VM serves the session", 60, || {
        (platform.status(&session) == "idle").then_some(())
    });
    platform.archive(&session);
    site.quiet();
}
