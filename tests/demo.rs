//! Promise: `warren demo` runs one session through the whole chain and tells the truth about it.

use crate::Shared;
use e2e::{Finished, Program, Site, binary};
use libtest_mimic::Trial;
use serde_json::Value;
use std::{fs, path::PathBuf, time::Duration};

pub(crate) fn trials(shared: &Shared) -> Vec<Trial> {
    vec![
        shared.test("the_default_demo_mends_a_bug_with_all_six_tools", default_script),
        shared.test("the_demo_plays_my_script_on_my_workspace", own_script),
        shared.test("a_kept_demo_can_be_looked_at_until_it_is_interrupted", kept),
    ]
}

/// The demo has a platform and a Warren of its own, in a directory of its own.
fn demo(site: &Site, args: &[&str]) -> Finished {
    program(site, args).run()
}

fn program(site: &Site, args: &[&str]) -> Program {
    let data_dir = data_dir(site);
    Program::new(binary())
        .args(["--json", "demo"])
        .args(args.iter().copied())
        .env("WARREN_DATA_DIR", data_dir.to_str().unwrap())
        .env("WARREN_API_LISTEN", "127.0.0.1:0")
        .env("WARREN_PLATFORM_LISTEN", "127.0.0.1:0")
        .within(Duration::from_secs(600))
}

fn data_dir(site: &Site) -> PathBuf {
    site.data_dir().with_file_name("demo")
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().filter_map(|event| event["event"].as_str()).collect()
}

fn default_script(site: &Site) {
    let events = demo(site, &[]).json_lines();
    let seen = names(&events);
    let order = [
        "webhook_received",
        "webhook_verified",
        "run_microvm_accepted",
        "vm_restored",
        "run_hook_answered",
        "session_claimed",
        "tool_result",
        "session_idle",
        "microvm_terminated",
        "done",
    ];
    let places: Vec<usize> = order
        .iter()
        .map(|name| {
            seen.iter().position(|s| s == name).unwrap_or_else(|| panic!("no {name} in {seen:?}"))
        })
        .collect();
    assert!(places.is_sorted(), "{seen:?}");
    let results: Vec<&Value> =
        events.iter().filter(|event| event["event"] == "tool_result").collect();
    for tool in ["bash", "read", "write", "edit", "glob", "grep"] {
        assert!(results.iter().any(|result| result["tool"] == tool), "{tool} was not called");
    }
    assert!(results.iter().any(|result| result["is_error"] == true), "one call fails on purpose");
    assert!(
        results
            .iter()
            .all(|result| result["output"].is_string() && result["duration_ms"].is_number())
    );
    assert!(events.iter().all(|event| event["t_ms"].is_number()), "{events:?}");
    let done = events.last().unwrap();
    assert_eq!(done["ok"], true);
    for figure in ["launch_ms", "cold_boot_ms", "pss_kib"] {
        assert!(done[figure].as_f64().is_some_and(|n| n > 0.0), "{figure} in {done}");
    }
}

fn own_script(site: &Site) {
    let folder = tempfile::tempdir().unwrap();
    let workspace = folder.path().join("project");
    fs::create_dir_all(workspace.join("deep/er")).unwrap();
    fs::write(workspace.join("deep/er/note.txt"), "from the host\n").unwrap();
    let script = folder.path().join("script.json");
    fs::write(
        &script,
        r#"{"turns":[{"message":"look","calls":[{"tool":"bash","input":{"command":"cat deep/er/note.txt; echo two > new"}}]},
                     {"message":"again","calls":[{"tool":"read","input":{"file_path":"new"}},
                                                 {"tool":"read","input":{"file_path":"missing"}}]}]}"#,
    )
    .unwrap();
    let args = ["--script", script.to_str().unwrap(), "--workspace", workspace.to_str().unwrap()];
    let events = demo(site, &args).json_lines();
    let results: Vec<&Value> =
        events.iter().filter(|event| event["event"] == "tool_result").collect();
    assert_eq!(results.len(), 3);
    assert_eq!(results[0]["output"], "from the host");
    assert_eq!(results[1]["output"], "two\n");
    assert_eq!(
        (&results[2]["is_error"], results[2]["output"].as_str()),
        (&Value::Bool(true), Some("read: missing: no such file or directory"))
    );
    let seen = names(&events);
    assert_eq!(
        seen.iter().filter(|name| **name == "session_idle").count(),
        2,
        "one for each turn: {seen:?}"
    );
    assert_eq!(
        seen.iter().filter(|name| **name == "run_microvm_accepted").count(),
        1,
        "one VM: {seen:?}"
    );
    assert_eq!(events.last().unwrap()["ok"], true);
}

fn kept(site: &Site) {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script.json");
    let call = r#"{"tool":"bash","input":{"command":"echo kept > /workspace/note"}}"#;
    fs::write(&script, format!(r#"{{"turns":[{{"message":"go","calls":[{call}]}}]}}"#)).unwrap();
    let address = format!("127.0.0.1:{}", e2e::free_port());
    let running = program(site, &["--keep", "--script", script.to_str().unwrap()])
        .env("WARREN_API_LISTEN", &address)
        .start();
    let done: Value = serde_json::from_str(&running.line(r#""event":"done""#)).unwrap();
    assert_eq!(done["ok"], true, "{done}");
    let data_dir = data_dir(site);
    let warren = |args: &[&str]| {
        let data_dir = ["--data-dir", data_dir.to_str().unwrap()];
        let program = Program::new(binary()).env("WARREN_API_LISTEN", &address);
        program.args(data_dir).args(args.iter().copied()).run()
    };
    let vms = warren(&["--json", "ps"]).json_lines();
    let vm = vms[0]["microvm_id"].as_str().expect("its VM is there");
    assert_eq!(warren(&["exec", vm, "--", "cat", "/workspace/note"]).ok(), "kept\n");
    assert_eq!(running.interrupt(), 0);
    site.quiet();
    let left = fs::read_dir(data_dir.join("engine/vms")).unwrap().count();
    assert_eq!(left, 0, "nothing of its VM is left");
}
