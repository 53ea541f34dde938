//! Promise: the stock AWS CLI drives Warren with nothing but an endpoint.

use crate::Shared;
use e2e::{Site, eventually};
use libtest_mimic::Trial;
use serde_json::{Value, json};
use std::{
    io::Read,
    path::Path,
    process::{Command, Stdio},
};

pub(crate) fn trials(shared: &Shared) -> Vec<Trial> {
    vec![
        shared.test("list_microvms_prints_its_table_as_the_readme_has_it", table),
        shared.test("a_microvm_is_run_read_and_terminated", run_get_terminate),
        shared.test("logs_tail_follow_shows_what_the_application_prints", tail),
        shared.test("secrets_and_identity_are_served", secrets_and_identity),
        shared.test("an_unknown_operation_is_answered_as_aws_does", unknown),
    ]
}

fn value(output: String) -> Value {
    serde_json::from_str(&output).unwrap_or_else(|e| panic!("{e}: {output}"))
}

fn table(site: &Site) {
    let platform = site.platform();
    let session = platform.create_session();
    platform.bash(&session, "true");
    let vm = site.only_vm();
    let output = site
        .aws([
            "lambda-microvms",
            "list-microvms",
            "--image-identifier",
            "claude-worker",
            "--query",
            "items[].[microvmId,state,startedAt]",
            "--output",
            "table",
        ])
        .run()
        .ok();
    let row = output.lines().find(|line| line.contains(&vm)).unwrap_or_else(|| panic!("{output}"));
    assert!(row.contains("RUNNING"), "{row}");
    platform.archive(&session);
    site.quiet();
}

fn run_get_terminate(site: &Site) {
    let payload = json!({ "version": "1", "session": {} }).to_string();
    // A payload that names no session is refused by the worker's /run, so the VM ends with the reason.
    let run = site
        .aws([
            "lambda-microvms",
            "run-microvm",
            "--image-identifier",
            "claude-worker",
            "--run-hook-payload",
            &payload,
        ])
        .run()
        .ok();
    let run = value(run);
    let id = run["microvmId"].as_str().expect("an id").to_owned();
    assert_eq!(run["state"], "PENDING");
    let ended = eventually("the refused VM's end", 30, || {
        let got = value(
            site.aws(["lambda-microvms", "get-microvm", "--microvm-identifier", &id]).run().ok(),
        );
        (got["state"] == "TERMINATED").then_some(got)
    });
    let reason = ended["stateReason"].as_str().unwrap_or_default();
    assert_eq!(
        reason,
        "Run lifecycle hook returned HTTP status 400. Please check your hook endpoint and application logs for more details."
    );
    // Ending what has ended is no error; what never was is one, in AWS's words.
    site.aws(["lambda-microvms", "terminate-microvm", "--microvm-identifier", &id]).run().ok();
    let missing = "microvm-00000000-0000-4000-8000-000000000000";
    let refused = site
        .aws(["lambda-microvms", "get-microvm", "--microvm-identifier", missing])
        .run()
        .refused();
    assert!(refused.contains("ResourceNotFoundException"), "{refused}");
    assert!(refused.contains(&format!("MicroVM not found: {missing}")), "{refused}");
}

fn tail(site: &Site) {
    let platform = site.platform();
    let session = platform.create_session();
    platform.bash(&session, "true");
    // Debian's CLI, version 2: the one that has `logs tail`, and that knows no AWS_ENDPOINT_URL yet.
    let mut tail = site
        .aws_environment()
        .into_iter()
        .fold(&mut Command::new(debian_aws()), |command, (name, value)| command.env(name, value))
        .args(["--endpoint-url", &format!("http://127.0.0.1:{}", site.api_port)])
        .args(["logs", "tail", "/aws/lambda-microvms/claude-worker", "--follow", "--since", "10m"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let vm = site.only_vm();
    site.warren(["exec", &vm, "--", "sh", "-c", "echo hello-from-inside > /proc/83/fd/1 || true"])
        .run();
    let mut stdout = tail.stdout.take().expect("piped");
    let (sender, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(n @ 1..) = stdout.read(&mut piece) {
            let _ = sender.send(String::from_utf8_lossy(&piece[..n]).into_owned());
        }
    });
    let mut seen = String::new();
    eventually("the worker's own log lines", 30, || {
        seen.extend(lines.try_iter());
        // The stream is named for the VM, and the worker says which session it serves.
        (seen.contains(&vm) && seen.contains(&session)).then_some(())
    });
    tail.kill().unwrap();
    tail.wait().unwrap();
    platform.archive(&session);
    site.quiet();
}

fn debian_aws() -> String {
    let path = std::env::var("WARREN_AWSCLI2").unwrap_or_else(|_| "/usr/bin/aws".into());
    assert!(Path::new(&path).exists(), "{path} is not there: run `scripts/setup --tests`");
    path
}

fn secrets_and_identity(site: &Site) {
    let name = "e2e/secret";
    site.aws(["secretsmanager", "create-secret", "--name", name, "--secret-string", "first"])
        .run()
        .ok();
    site.aws([
        "secretsmanager",
        "put-secret-value",
        "--secret-id",
        name,
        "--secret-string",
        "second",
    ])
    .run()
    .ok();
    let got =
        value(site.aws(["secretsmanager", "get-secret-value", "--secret-id", name]).run().ok());
    assert_eq!(got["SecretString"], "second");
    // Nothing of it lies on the disk in the clear.
    let grep = e2e::Program::new("grep")
        .args(["-rlF", "second", site.data_dir().join("control.db").to_str().unwrap()])
        .run();
    assert_eq!(grep.stdout, "", "the secret is stored in the clear");
    let caller = value(site.aws(["sts", "get-caller-identity"]).run().ok());
    assert_eq!(caller["Account"], "000000000000");
}

fn unknown(site: &Site) {
    let refused = site.aws(["lambda", "list-functions"]).run().refused();
    assert!(!refused.contains("<html") && refused.contains("An error occurred ("), "{refused}");
    let refused = site.aws(["dynamodb", "list-tables"]).run().refused();
    assert!(!refused.contains("<html") && refused.contains("An error occurred ("), "{refused}");
}
