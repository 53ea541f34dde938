//! Promise: an image with an official worker serves sessions like the default one, from webhook or poll to the end.

use crate::Shared;
use e2e::{Site, oracles};
use libtest_mimic::Trial;
use serde_json::json;
use std::{fs, path::Path, time::Duration};

pub(crate) fn trials(shared: &Shared) -> Vec<Trial> {
    vec![shared.test("the_official_typescript_worker_serves_sessions_in_its_vms", node)]
}

/// Copies a tree, without what only compilers and debuggers read.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let unread = [".map", ".d.ts", ".d.mts"].iter().any(|end| name.ends_with(end));
        let (from, to) = (entry.path(), to.join(&name));
        if entry.file_type().unwrap().is_dir() {
            if name != "src" {
                copy(&from, &to);
            }
        } else if !unread {
            fs::copy(&from, &to).unwrap();
        }
    }
}

/// The artifact as a user has it after `npm install`, from what `scripts/oracles` brought.
fn artifact(dir: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("images/node-worker");
    copy(&source, dir);
    for package in [
        "@anthropic-ai",
        "@babel",
        "@opentelemetry",
        "@stablelib",
        "fast-sha256",
        "json-schema-to-ts",
        "standardwebhooks",
        "ts-algebra",
    ] {
        copy(&oracles("node_modules").join(package), &dir.join("node_modules").join(package));
    }
    fs::create_dir_all(dir.join("node_modules/node/bin")).unwrap();
    fs::copy(oracles("node_modules/node/bin/node"), dir.join("node_modules/node/bin/node"))
        .unwrap();
}

fn node(site: &Site) {
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    artifact(dir.path());
    let path = dir.path().to_str().unwrap();
    site.warren(["image", "build", path]).within(Duration::from_secs(600)).run().ok();
    for mode in ["webhook", "poll"] {
        site.restart_up(&[
            ("WARREN_LAUNCHER_IMAGE", "node-worker"),
            ("WARREN_LAUNCHER_MODE", mode),
        ]);
        let platform = site.platform();
        let session = platform.create_session();
        let first = platform.bash(&session, "echo kept > file; ps -o comm= -p $PPID");
        assert!(first.text.contains("node") || first.text.contains("MainThread"), "{first:?}");
        let vm = site.only_vm();
        let calls = json!([
            { "tool": "bash", "input": { "command": "cat file; env | grep -c sk-ant" } },
            { "tool": "read", "input": { "file_path": "file" } },
        ]);
        let results = platform.turn(&session, &calls);
        assert_eq!((results[0].text.as_str(), results[1].text.as_str()), ("kept\n0", "kept\n"));
        assert_eq!(site.only_vm(), vm, "several turns, one VM");
        platform.archive(&session);
        site.quiet();
        let all = site.warren(["--json", "ps", "--all"]).run().json_lines();
        let ended = all.iter().find(|row| row["microvm_id"] == vm.as_str()).expect("it is listed");
        assert_eq!(ended["state_reason"], "Success.", "the worker ended its VM: {ended}");
    }
    site.restart_up(&[]);
}
