//! Promise: what fails is named, in seconds, where a user looks for it.

use crate::{
    Shared,
    images::{build, run},
};
use e2e::{Site, eventually};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::fs;

pub(crate) fn trials(shared: &Shared) -> Vec<Trial> {
    vec![
        shared.test("a_run_hook_that_times_out_ends_the_vm_with_the_reason", hook_times_out),
        shared.test("an_app_that_ends_is_told_with_its_exit_code", app_ends),
        shared.test("a_guest_that_crashes_is_told_with_its_console", guest_crashes),
        shared.test("a_worker_that_cannot_reach_the_platform_says_so", platform_away),
        shared.test("a_launcher_without_the_right_to_launch_is_named", no_right),
        shared.test("a_session_without_an_image_is_told_what_is_missing", no_image),
    ]
}

const BASE: &str = "FROM public.ecr.aws/lambda/microvms:al2023-minimal\nCOPY app.py /\n";

fn ended(site: &Site, id: &str) -> Value {
    eventually("the VM's end", 40, || {
        let rows = site.warren(["--json", "ps", "--all"]).run().json_lines();
        rows.into_iter().find(|row| row["microvm_id"] == id && row["state"] == "TERMINATED")
    })
}

fn hook_times_out(site: &Site) {
    let slow = format!(
        "{BASE}RUN sed -i 's/def answer(self, name):/def answer(self, name):\\n        import time; time.sleep(60 if name == \"run\" else 0)/' /app.py\nCMD [\"python3\", \"/app.py\"]\n"
    );
    build(site, "e2e-slow", &slow).ok();
    let vm = run(site, "e2e-slow", &[], "TERMINATED");
    let reason = vm["stateReason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("Run lifecycle hook timed out"), "{reason}");
    site.quiet();
}

fn app_ends(site: &Site) {
    let platform = site.platform();
    let session = platform.create_session();
    platform.bash(&session, "true");
    let vm = site.only_vm();
    site.warren(["exec", &vm, "--", "pkill", "-9", "warren-worker"]).run();
    assert_eq!(ended(site, &vm)["state_reason"], "Container Stopped with Exit Code: 137");
    platform.archive(&session);
    site.quiet();
}

fn guest_crashes(site: &Site) {
    let platform = site.platform();
    let session = platform.create_session();
    platform.bash(&session, "true");
    let vm = site.only_vm();
    site.warren(["exec", &vm, "--", "sh", "-c", "echo c > /proc/sysrq-trigger"]).run();
    let reason = ended(site, &vm)["state_reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason.contains("kernel panicked"), "{reason}");
    let logs = site.warren(["logs", &vm]).run().ok();
    assert!(logs.contains("Kernel panic"), "the console's tail is in the VM's log: {logs}");
    platform.archive(&session);
    site.quiet();
}

fn platform_away(site: &Site) {
    let session = json!({
        "ANTHROPIC_SESSION_ID": "sesn_away",
        "ANTHROPIC_ENVIRONMENT_ID": site.environment_id,
        "AWS_REGION": "us-east-1",
        "ENVIRONMENT_KEY_SECRET_ID": "warren/environment-key",
        "ANTHROPIC_BASE_URL": "http://10.0.0.1:9",
    });
    let payload = json!({ "version": "1", "session": session }).to_string();
    let role = "arn:aws:iam::000000000000:role/warren-execution";
    let more = ["--run-hook-payload", &payload, "--execution-role-arn", role];
    let vm = run(site, "claude-worker", &more, "TERMINATED");
    let id = vm["microvmId"].as_str().unwrap();
    let logs = site.warren(["logs", id]).run().ok();
    assert!(logs.contains("http://10.0.0.1:9"), "the worker names what it cannot reach: {logs}");
    site.quiet();
}

fn no_right(site: &Site) {
    let file = site.data_dir().join("deny.json");
    let statement = json!([
        { "Effect": "Allow", "Action": "*", "Resource": "*" },
        { "Effect": "Deny", "Action": "lambda:RunMicrovm", "Resource": "*" },
    ]);
    let policy = json!({ "Version": "2012-10-17", "Statement": statement });
    let trust = json!([{ "Effect": "Allow", "Principal": { "Service": "lambda.amazonaws.com" }, "Action": "sts:AssumeRole" }]);
    let trust = json!({ "Version": "2012-10-17", "Statement": trust });
    let role = json!({ "name": "warren-launcher", "trust_policy": trust, "policies": [policy] });
    fs::write(&file, json!({ "roles": [role] }).to_string()).unwrap();
    site.restart_up(&[("WARREN_IAM_FILES", file.to_str().unwrap())]);
    let platform = site.platform();
    let session = platform.create_session();
    platform.start_turn(&session, &json!([{ "tool": "bash", "input": { "command": "true" } }]));
    let log = eventually("the refusal in the log", 30, || {
        let log = site.up_log();
        log.contains("not authorized to perform: lambda:RunMicrovm").then_some(log)
    });
    assert!(log.contains("warren-launcher"), "it names who may not");
    assert!(site.vms().is_empty());
    site.restart_up(&[]);
    fs::remove_file(&file).unwrap();
    // The platform tries again, and now it may.
    platform.finish_turn(&session, 1);
    platform.archive(&session);
    site.quiet();
}

fn no_image(site: &Site) {
    site.restart_up(&[("WARREN_LAUNCHER_IMAGE", "no-such-image")]);
    let platform = site.platform();
    let session = platform.create_session();
    platform.start_turn(&session, &json!([{ "tool": "bash", "input": { "command": "true" } }]));
    eventually("the missing image in the log", 30, || {
        let said = "is there an image no-such-image";
        site.up_log().contains(said).then_some(())
    });
    site.restart_up(&[]);
    platform.finish_turn(&session, 1);
    platform.archive(&session);
    site.quiet();
}
