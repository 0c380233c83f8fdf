//! Which worker runs which subtask.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which worker runs which subtask, and where to reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Subtasks of every chain.
    parallelism: u32,
    /// By ordinal: where a worker takes rows.
    addresses: BTreeMap<u32, String>,
}

impl Placement {
    /// Spreads the subtasks of every chain over workers, all chains alike, in runs whose lengths differ by at most one.
    ///
    /// # Panics
    /// Without a worker.
    #[must_use]
    pub fn new(parallelism: u32, addresses: BTreeMap<u32, String>) -> Self {
        assert!(!addresses.is_empty(), "tasks need a worker");
        Self { parallelism, addresses }
    }

    /// Over workers with ordinals below `workers`, wherever they are.
    #[must_use]
    pub fn over(parallelism: u32, workers: u32) -> Self {
        Self::new(parallelism, (0..workers.max(1)).map(|worker| (worker, String::new())).collect())
    }

    /// Everything on the one worker that there is.
    #[must_use]
    pub fn alone(parallelism: u32) -> Self {
        Self::new(parallelism, BTreeMap::from([(0, String::new())]))
    }

    /// Subtasks of every chain.
    #[must_use]
    pub fn parallelism(&self) -> u32 {
        self.parallelism
    }

    /// The ordinal of the worker that runs a subtask.
    #[must_use]
    pub fn worker_of(&self, subtask: u32) -> u32 {
        let workers = self.addresses.len() as u64;
        let place = (u64::from(subtask) * workers / u64::from(self.parallelism.max(1))).min(workers - 1);
        let ordinal = self.addresses.keys().nth(place as usize);
        *ordinal.expect("the place is below the number of workers")
    }

    /// Where a worker takes rows.
    #[must_use]
    pub fn address_of(&self, worker: u32) -> Option<&str> {
        self.addresses.get(&worker).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subtasks_are_spread_evenly_in_runs() {
        for (parallelism, workers, expected) in [
            (4, 2, vec![0, 0, 1, 1]),
            (3, 2, vec![0, 0, 1]),
            (2, 2, vec![0, 1]),
            (1, 3, vec![0]),
            (4, 3, vec![0, 0, 1, 2]),
        ] {
            let placement = Placement::new(parallelism, (0..workers).map(|worker| (worker, String::new())).collect());
            let on: Vec<u32> = (0..parallelism).map(|subtask| placement.worker_of(subtask)).collect();
            assert_eq!(on, expected, "{parallelism} subtasks on {workers} workers");
        }
    }
}
