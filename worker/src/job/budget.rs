//! How much memory state may take.

use std::fs;

/// Of the memory that the process may use, this share is for state; the rest is for batches under way and for reading and
/// writing. Snapshots count as state until they are stored.
const SHARE_PERCENT: u64 = 60;

/// The budget that follows from the memory of the control group, or of the machine.
#[must_use]
pub fn of_this_machine() -> u64 {
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let group = limits.iter().find_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let memory = group.into_iter().chain(machine).min().unwrap_or(1 << 30);
    memory / 100 * SHARE_PERCENT
}

fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_memory() {
        assert_eq!(total("MemTotal:       24576 kB\nMemFree: 1 kB"), Some(24576 * 1024));
        assert!(of_this_machine() > 0);
    }
}
