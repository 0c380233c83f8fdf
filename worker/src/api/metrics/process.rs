//! What the system counts about the process.

use crate::job::usage;
use crate::numbers::{Family, Numbers};

/// Shows the memory and the processor time of this process, where the system tells them.
pub struct ProcessNumbers;

impl Numbers for ProcessNumbers {
    fn families(&self) -> Vec<Family> {
        let memory = Family::gauge("process_resident_memory_bytes", "Resident memory of the process.");
        let cpu = Family::counter("process_cpu_seconds_total", "Processor time of the process, of all threads.");
        vec![memory.of(usage::memory_bytes().map(|bytes| bytes as f64)), cpu.of(usage::cpu_seconds())]
    }
}
