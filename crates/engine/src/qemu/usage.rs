//! What a VM uses of its host, read from the kernel.

use crate::{EngineError, VmUsage, namespace, slot::Slot, state::host_error};
use std::{fs, path::PathBuf};

/// Clock ticks a second in /proc: fixed for every Linux user space.
const TICKS_PER_SECOND: u64 = 100;

pub(crate) fn read(pid: i32, slot: Slot) -> Result<VmUsage, EngineError> {
    let proc = |name: &str| {
        let path = PathBuf::from(format!("/proc/{pid}/{name}"));
        fs::read_to_string(&path).map_err(|e| host_error(&path, "read", e))
    };
    let memory = proc("smaps_rollup")?;
    let (guest_sent_bytes, guest_received_bytes) = namespace::traffic(slot)?;
    Ok(VmUsage {
        pss_kib: field_kib(&memory, "Pss:"),
        rss_kib: field_kib(&memory, "Rss:"),
        private_kib: field_kib(&memory, "Anonymous:"),
        cpu_ms: cpu_ticks(&proc("stat")?) * 1000 / TICKS_PER_SECOND,
        guest_sent_bytes,
        guest_received_bytes,
    })
}

fn field_kib(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

/// User and system time; the command's name in parentheses may hold anything.
fn cpu_ticks(stat: &str) -> u64 {
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_text_is_read_by_name_and_place() {
        let text = "5000-7000 ---p 00000000 00:00 0 [rollup]\nRss:  900 kB\nPss:   400 kB\n";
        assert_eq!((field_kib(text, "Pss:"), field_kib(text, "Swap:")), (400, 0));
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 6 0 1";
        assert_eq!(cpu_ticks(stat), 300);
    }
}
