//! Promise: whatever a model's calls do, each ends with a result that says so, and the next one works.

use crate::Shared;
use e2e::Site;
use libtest_mimic::Trial;
use serde_json::{Value, json};

pub(crate) fn trials(shared: &Shared) -> Vec<Trial> {
    vec![shared.test("calls_that_take_all_there_is_leave_the_worker_alive", hostile)]
}

fn bash(command: &str) -> Value {
    json!({ "tool": "bash", "input": { "command": command, "timeout_ms": 60_000 } })
}

fn hostile(site: &Site) {
    let platform = site.platform();
    let session = platform.create_session();
    let fill = "free=$(df --output=avail -B1 . | tail -1); fallocate -l $((free - (32 << 20))) fill; \
        head -c 64M /dev/zero > more";
    let hoard = "python3 -c 'hoard = []\nwhile True: hoard.append(b\"x\" * (8 << 20))'";
    let calls = [
        bash("bomb() { bomb | bomb & }; bomb; sleep 50"),
        bash("echo alive; pgrep -c bash"),
        bash(hoard),
        bash("kill -9 -1; kill -9 $PPID; echo alive"),
        bash(fill),
        json!({ "tool": "write", "input": { "file_path": "text", "content": "x".repeat(100_000) } }),
        bash("rm -f fill more; echo alive"),
        json!({ "tool": "write", "input": { "file_path": "text", "content": "room again" } }),
    ];
    // A turn for each, so that a call that does not end is named.
    let results: Vec<_> =
        calls.iter().map(|call| platform.turn(&session, &json!([call])).remove(0)).collect();
    let [bomb, after_bomb, memory, everybody, full, write_full, freed, write_again] =
        <[_; 8]>::try_from(results).expect("as many results as calls");
    assert!(bomb.is_error && bomb.text.contains("processes at once"), "{bomb:?}");
    assert_eq!(after_bomb.text, "alive\n1", "the shell is fresh and alone");
    assert!(memory.is_error, "{memory:?}");
    assert!(everybody.text.ends_with("alive"), "{everybody:?}");
    assert!(full.is_error && full.text.contains("No space left on device"), "{full:?}");
    assert_eq!(write_full.text, "write: text: no space left on device");
    assert_eq!((freed.text.as_str(), write_again.is_error), ("alive", false));
    assert_eq!(site.vms().len(), 1, "one VM all the time");
    platform.archive(&session);
    site.quiet();
}
