//! Promise: what has ended leaves nothing on its host: no process, namespace, link, mount, cgroup or file.

use crate::Shared;
use e2e::{Remains, Site, eventually};
use libtest_mimic::Trial;

pub(crate) fn trials(shared: &Shared) -> Vec<Trial> {
    vec![
        shared.test("a_vm_that_ended_leaves_nothing_on_its_host", after_a_vm),
        shared.test("warren_down_leaves_nothing_on_its_host", after_down),
    ]
}

fn after_a_vm(site: &Site) {
    let data_dir = site.data_dir();
    let before = Remains::look(&data_dir);
    let platform = site.platform();
    let session = platform.create_session();
    platform.bash(&session, "true");
    let during = Remains::look(&data_dir);
    assert!(
        during.processes.len() > before.processes.len(),
        "the count sees a VM that is there: {during:?}"
    );
    assert!(during.namespaces.len() > before.namespaces.len(), "{during:?}");
    assert!(during.cgroups.len() > before.cgroups.len(), "{during:?}");
    platform.archive(&session);
    site.quiet();
    eventually("the VM's last remains", 20, || {
        let after = Remains::look(&data_dir);
        // What is on standby comes and goes by itself; there are never more of them.
        (after.files.len() <= before.files.len().max(1) && after.slots.len() == after.files.len())
            .then_some(())
    });
}

fn after_down(site: &Site) {
    let platform = site.platform();
    let session = platform.create_session();
    platform.bash(&session, "true");
    site.down();
    let after = Remains::look(&site.data_dir());
    assert!(after.is_empty(), "{after:?}");
    site.start_up();
}
