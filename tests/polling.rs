//! Promise: with `launcher.mode = "poll"` sessions are found without any webhook, and the environment key
//! stays on the host.

use crate::Shared;
use e2e::Site;
use libtest_mimic::Trial;
use serde_json::json;

/// Sessions that begin together. From inside their VMs they would hide each other's items.
const TOGETHER: usize = 4;

pub(crate) fn trials(shared: &Shared) -> Vec<Trial> {
    vec![shared.test("sessions_that_begin_together_are_found_by_polling", together)]
}

fn together(site: &Site) {
    site.restart_up(&[("WARREN_LAUNCHER_MODE", "poll")]);
    let platform = site.platform();
    let sessions: Vec<String> = (0..TOGETHER).map(|_| platform.create_session()).collect();
    let call =
        json!([{ "tool": "bash", "input": { "command": "env | grep -c sk-ant; echo served" } }]);
    for session in &sessions {
        platform.start_turn(session, &call);
    }
    for session in &sessions {
        let results = platform.finish_turn(session, 1);
        assert_eq!(results[0].text, "0\nserved");
    }
    assert_eq!(site.vms().len(), TOGETHER);
    // A later turn finds the same VM and its files.
    let first = &sessions[0];
    platform.bash(first, "echo kept > /workspace/file");
    assert_eq!(platform.bash(first, "cat /workspace/file").text, "kept");
    assert_eq!(site.vms().len(), TOGETHER);
    for session in &sessions {
        platform.archive(session);
    }
    site.quiet();
    site.restart_up(&[]);
}
