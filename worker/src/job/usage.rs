//! What this process has used, as the system counts it.

use std::fs;

/// Ticks of processor time per second in what the kernel tells programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of processor time of all threads so far, those that have ended included; `None` where it cannot be told.
#[must_use]
pub fn cpu_seconds() -> Option<f64> {
    of_stat(&fs::read_to_string("/proc/self/stat").ok()?)
}

/// The most memory that the process has had so far, in bytes; `None` where it cannot be told.
#[must_use]
pub fn peak_memory_bytes() -> Option<u64> {
    of_status(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// The memory that the process has now, in bytes; `None` where it cannot be told.
#[must_use]
pub fn memory_bytes() -> Option<u64> {
    of_status(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// User and system time are the 14th and 15th fields; the second one, the name, may hold blanks and parentheses.
fn of_stat(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

fn of_status(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with(field))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read_whatever_the_process_is_called() {
        let stat = "42 (a) b (c) R 1 42 42 0 -1 4194304 100 0 0 0 250 50 7 8 20 0 3 0 12345";
        assert_eq!(of_stat(stat), Some(3.0));
        assert_eq!(of_stat("42"), None);
        assert_eq!(of_status("VmPeak:\t 9 kB\nVmHWM:\t    2048 kB\n", "VmHWM:"), Some(2048 * 1024));
        assert_eq!(of_status("", "VmRSS:"), None);
    }
}
