//! The objects of a job: a pure function of what was decided.

use crate::model::{Decision, Observed, Write};

/// The writes that a decision becomes, in order.
#[must_use]
pub fn build(observed: &Observed, decision: &Decision) -> Vec<Write> {
    let _ = (observed, decision);
    Vec::new()
}

/// The Secrets that the pods of the job mount: named by its SQL (`'${secret:name/key}'`) and by its storage.
#[must_use]
pub fn secrets(observed: &Observed) -> Vec<String> {
    let _ = observed;
    Vec::new()
}

/// The folder of a job's state, as paths name it; none for a storage that other jobs cannot read.
#[must_use]
pub fn place(job: &weir_crds::StreamJob) -> Option<String> {
    let _ = job;
    None
}
