//! Promise: one session runs end to end in a real microVM, on whatever input the user gives it.

use crate::Shared;
use e2e::{Site, eventually};
use libtest_mimic::Trial;
use serde_json::json;

pub(crate) fn trials(shared: &Shared) -> Vec<Trial> {
    vec![
        shared.test("a_session_runs_its_tools_in_a_vm_of_its_own", runs_tools),
        shared.test("later_turns_find_the_same_vm_with_its_files_and_shell", same_vm),
        shared.test("a_message_with_bash_blocks_has_them_run", bash_blocks),
        shared.test("a_session_that_ends_takes_its_vm_with_it", ends),
    ]
}

fn runs_tools(site: &Site) {
    let platform = site.platform();
    let session = platform.create_session();
    let results = platform.turn(
        &session,
        &json!([
            { "tool": "write", "input": { "file_path": "a/b.txt", "content": "one\ntwo\n" } },
            { "tool": "read", "input": { "file_path": "a/b.txt" } },
            { "tool": "edit", "input": { "file_path": "a/b.txt", "old_string": "two", "new_string": "three" } },
            { "tool": "glob", "input": { "pattern": "**/*.txt" } },
            { "tool": "grep", "input": { "pattern": "thr", "path": "a" } },
            { "tool": "bash", "input": { "command": "pwd; uname -s; cat a/b.txt; exit 3" } },
        ]),
    );
    let texts: Vec<&str> = results.iter().map(|r| r.text.as_str()).collect();
    assert_eq!(texts[0], "wrote 8 bytes to a/b.txt");
    assert_eq!(texts[1], "one\ntwo\n");
    assert_eq!(texts[2], "edited a/b.txt (1 replacement(s))");
    assert_eq!(texts[3], "/workspace/a/b.txt");
    assert!(texts[4].contains("three"), "{}", texts[4]);
    assert!(results[5].is_error, "a shell that exits is an error: {:?}", results[5]);
    platform.archive(&session);
    site.quiet();
}

fn same_vm(site: &Site) {
    let platform = site.platform();
    let session = platform.create_session();
    platform.bash(&session, "echo $$ > /tmp/shell; export KEPT=yes; cd /tmp");
    let vm = site.only_vm();
    let second = platform.bash(&session, "cat /tmp/shell; echo $$; echo $KEPT; pwd");
    let lines: Vec<&str> = second.text.lines().collect();
    assert_eq!(lines[0], lines[1], "the shell is the same");
    assert_eq!(lines[2..], ["yes", "/tmp"]);
    assert_eq!(site.only_vm(), vm);
    platform.archive(&session);
    site.quiet();
}

fn bash_blocks(site: &Site) {
    let platform = site.platform();
    let session = platform.create_session();
    let text = "Please run\n```bash\necho first\n```\nand then\n```bash\necho second\n```\n";
    let event = json!({ "type": "user.message", "content": [{ "type": "text", "text": text }] });
    platform.request(
        "POST",
        &format!("/v1/sessions/{session}/events"),
        Some(&json!({ "events": [event] })),
    );
    let results = platform.finish_turn(&session, 2);
    assert_eq!((results[0].text.as_str(), results[1].text.as_str()), ("first", "second"));
    platform.archive(&session);
    site.quiet();
}

fn ends(site: &Site) {
    let platform = site.platform();
    let session = platform.create_session();
    platform.bash(&session, "true");
    let vm = site.only_vm();
    platform.archive(&session);
    site.quiet();
    let all = site.warren(["--json", "ps", "--all"]).run().json_lines();
    let ended = all.iter().find(|row| row["microvm_id"] == vm.as_str()).expect("it stays listed");
    assert_eq!(ended["state"], "TERMINATED");
    assert_eq!(ended["state_reason"], "Success.");
    eventually("an idle platform", 5, || (platform.status(&session) == "terminated").then_some(()));
}
