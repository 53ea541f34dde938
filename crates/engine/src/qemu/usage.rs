//! What a VM uses of its host, read from the kernel.

use super::Running;
use crate::{
    EngineError, VmUsage, namespace,
    state::{Body, SavedRecord, host_error, read_json},
};
use std::{fs, path::PathBuf};

/// Clock ticks a second in /proc: fixed for every Linux user space.
const TICKS_PER_SECOND: u64 = 100;

/// A VM that does not run uses its disk alone.
pub(super) fn read(running: Option<&Running>, body: &Body) -> Result<VmUsage, EngineError> {
    let mut usage = VmUsage { disk_bytes: body.layers().bytes()?, ..VmUsage::default() };
    let Some(running) = running else {
        let saved: Option<SavedRecord> = read_json(&body.saved().record())?;
        usage.saved_bytes = saved.map_or(0, |saved| saved.memory_bytes);
        return Ok(usage);
    };
    let pid = running.process.pid;
    let proc = |name: &str| {
        let path = PathBuf::from(format!("/proc/{pid}/{name}"));
        fs::read_to_string(&path).map_err(|e| host_error(&path, "read", e))
    };
    let memory = proc("smaps_rollup")?;
    usage.pss_kib = number_after(&memory, "Pss:");
    usage.rss_kib = number_after(&memory, "Rss:");
    usage.private_kib = number_after(&memory, "Anonymous:");
    usage.cpu_ms = cpu_ticks(&proc("stat")?) * 1000 / TICKS_PER_SECOND;
    let io = proc("io")?;
    usage.disk_read_bytes = number_after(&io, "read_bytes:");
    usage.disk_written_bytes = number_after(&io, "write_bytes:");
    (usage.guest_sent_bytes, usage.guest_received_bytes) = namespace::traffic(running.slot)?;
    Ok(usage)
}

fn number_after(text: &str, name: &str) -> u64 {
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
        assert_eq!((number_after(text, "Pss:"), number_after(text, "Swap:")), (400, 0));
        let stat = "7 (a) b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 6 0 1";
        assert_eq!(cpu_ticks(stat), 300);
    }
}
