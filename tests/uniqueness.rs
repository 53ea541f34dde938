//! Promise: no two VMs share random numbers, names or a clock, although all wake with the same memory.

use crate::Shared;
use e2e::Site;
use libtest_mimic::Trial;
use time::OffsetDateTime;

pub(crate) fn trials(shared: &Shared) -> Vec<Trial> {
    vec![shared.test("two_clones_share_nothing_that_should_be_their_own", differ)]
}

const LOOK: &str = "cat /proc/sys/kernel/random/uuid /etc/machine-id /etc/hostname; \
     head -c 16 /dev/urandom | od -An -tx1; date +%s.%N";

fn differ(site: &Site) {
    let platform = site.platform();
    let sessions = [platform.create_session(), platform.create_session()];
    let looks: Vec<Vec<String>> = sessions
        .iter()
        .map(|session| {
            let look = platform.bash(session, LOOK);
            let now = OffsetDateTime::now_utc().unix_timestamp();
            let lines: Vec<String> = look.text.lines().map(String::from).collect();
            let clock: f64 = lines[4].parse().expect("seconds");
            assert!((clock - now as f64).abs() < 30.0, "the clock is {clock}, the host's {now}");
            lines
        })
        .collect();
    for (index, what) in ["uuid", "machine id", "host name", "random bytes"].iter().enumerate() {
        assert_ne!(looks[0][index], looks[1][index], "{what}");
    }
    sessions.iter().for_each(|session| platform.archive(session));
    site.quiet();
}
