//! What is to happen to a job: a pure function of what was seen.

use jiff::Timestamp;

use crate::model::{Decision, Observed};

/// What is to happen to a job now.
#[must_use]
pub fn decide(observed: &Observed, now: Timestamp) -> Decision {
    let _ = (observed, now);
    Decision::default()
}

/// Name of the savepoint with which a job holds on to the state of another one that it begins with.
#[must_use]
pub fn fork_name(uid: &str) -> String {
    format!("fork-{uid}")
}
