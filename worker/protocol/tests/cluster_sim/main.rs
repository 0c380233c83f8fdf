//! Seeded histories of leaders, workers that register with them, tasks, a store and an outside world in which everything
//! goes wrong that may.
//!
//! Every source row must be counted exactly once, in what sinks committed and in the final state; no file that a restore
//! needs may be deleted; and the job must end once the faults stop. `WEIR_SIM_HISTORIES` says how many histories and
//! `WEIR_SIM_FIRST` from which seed on; `WEIR_SIM_SEED` runs one and prints what happened.

mod chaos;
mod controller;
mod follower;
mod oracle;
mod process;
mod registration;
mod rng;
mod rules;
mod store;
mod tasks;
mod worker;
mod world;

use weir_protocol::{leader, members};
use world::World;

const HISTORIES: u64 = 10_000;

/// A rule that is switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Leader(leader::Rule),
    Members(members::Rule),
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn history(seed: u64, rule: Option<Rule>) -> Result<(), String> {
    World::new(seed, rule).run()
}

#[test]
fn every_row_counts_exactly_once_in_every_history() {
    if let Some(seed) = number("WEIR_SIM_SEED") {
        let mut world = World::new(seed, None);
        world.log = Some(Vec::new());
        let result = world.run();
        let log = world.log.expect("it was just set").join("\n");
        assert_eq!(result, Ok(()), "seed {seed}:\n{log}");
        return;
    }
    let first = number("WEIR_SIM_FIRST").unwrap_or(0);
    let last = first + number("WEIR_SIM_HISTORIES").unwrap_or(HISTORIES);
    let failures = (first..last).filter_map(|seed| history(seed, None).err().map(|error| (seed, error)));
    let failures: Vec<String> =
        failures.take(12).map(|(seed, error)| format!("WEIR_SIM_SEED={seed}: {error}")).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
