//! What this process takes, from `/proc`; nothing where there is none.

use std::fs;

/// Memory and processor time of this process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Usage {
    /// Resident memory in bytes.
    pub(super) resident_bytes: Option<u64>,
    /// Processor time in seconds, of all threads.
    pub(super) cpu_seconds: Option<f64>,
}

/// The unit of times in `/proc`: the kernel shows hundredths of a second, whatever its own clock ticks.
const TICKS_PER_SECOND: f64 = 100.0;

impl Usage {
    pub(super) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        Self { resident_bytes: resident_bytes(&status), cpu_seconds: cpu_seconds(&stat) }
    }
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The process's name, in parentheses, may hold spaces and parentheses: fields are counted from its end.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_ascii_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_from_what_the_kernel_shows() {
        assert_eq!(resident_bytes("Name:\tweir\nVmRSS:\t   2048 kB\n"), Some(2_097_152));
        assert_eq!(resident_bytes(""), None);
        let stat = "17 (a) b (c)) S 1 17 17 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 5 1 1";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("17 (weir"), None);
    }
}
