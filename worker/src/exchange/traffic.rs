//! What is counted about each other worker.

use crate::operator::Counter;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What went to and came from one other worker.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Bytes sent, headers and barriers included, before encryption.
    pub bytes_out: Counter,
    /// Batches sent.
    pub batches_out: Counter,
    /// Bytes received.
    pub bytes_in: Counter,
    /// Batches received.
    pub batches_in: Counter,
    /// Nanoseconds that sending tasks waited for credits.
    pub credit_wait_ns: Counter,
}

/// The traffic with all workers.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<BTreeMap<u32, Arc<Traffic>>>);

/// More numbers of workers than any job has; what peers say beyond is counted as one.
const MOST_WORKERS: usize = 4096;

impl Ledger {
    /// The traffic with one worker.
    pub(super) fn with(&self, worker: u32) -> Arc<Traffic> {
        let mut all = self.0.lock();
        let worker = if all.len() < MOST_WORKERS || all.contains_key(&worker) { worker } else { u32::MAX };
        Arc::clone(all.entry(worker).or_default())
    }

    pub(super) fn all(&self) -> BTreeMap<u32, Arc<Traffic>> {
        self.0.lock().clone()
    }
}
