//! The workers that a job runs on, and this process as one of them.

use super::runner::Job;
use crate::checkpoint::store::Store;
use crate::exchange::Exchange;
use std::sync::Arc;
use std::time::Duration;
use weir_protocol::members;

/// Tasks that do not end in this time are given up with their worker.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(30);

/// The user is told which workers are missing after this long.
const TELL_AFTER: Duration = Duration::from_secs(3);

/// The build of this program, its version and its sources: workers of one generation must agree on it.
pub const BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), "-", env!("WEIR_SOURCES"));

/// What a leader does whose job has ended, finished, stopped or failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterEnd {
    /// It tells its workers and ends.
    Leave,
    /// It stays with its workers, says how the job ended, and goes on when something else is assigned.
    Stay,
}

/// The workers that a job runs on.
#[derive(Debug, Clone, Copy)]
pub struct Workers {
    /// How many.
    pub count: u32,
    /// They say something at least this often.
    pub heartbeat: Duration,
    /// So many heartbeats in a row may be missed.
    pub missed_heartbeats: u32,
    /// What their leader does when the job has ended.
    pub after_end: AfterEnd,
}

impl Default for Workers {
    /// One, which is in the same process.
    fn default() -> Self {
        Self { count: 1, heartbeat: Duration::from_secs(1), missed_heartbeats: 3, after_end: AfterEnd::Leave }
    }
}

/// This process as a worker.
pub struct Here {
    /// Its ordinal.
    pub ordinal: u32,
    /// The way to other workers, if there are any.
    pub exchange: Option<Arc<Exchange>>,
    /// Where other workers send it rows; empty when there is no other.
    pub address: String,
    /// Replay event time at this many times its pace.
    pub speed: Option<f64>,
    /// Bytes of state that its tasks together may hold.
    pub state_budget: u64,
    /// A store of its own, such as one that keeps local copies; `None` for the job's.
    pub store: Option<Arc<dyn Store>>,
}

impl Here {
    /// The only worker of a job.
    #[must_use]
    pub fn alone(speed: Option<f64>, state_budget: u64) -> Self {
        Self { ordinal: 0, exchange: None, address: String::new(), speed, state_budget, store: None }
    }
}

/// What the members of a job are told.
#[must_use]
pub(super) fn members_options(job: &Job) -> members::Options {
    members::Options {
        job: job.uid.clone(),
        build: BUILD.to_owned(),
        plan: job.options.plan.fingerprint.clone(),
        code: job.options.direction.code.clone(),
        heartbeat_ms: job.workers.heartbeat.as_millis() as u64,
        missed_heartbeats: job.workers.missed_heartbeats,
        cancel_timeout_ms: CANCEL_TIMEOUT.as_millis() as u64,
        tell_after_ms: TELL_AFTER.as_millis() as u64,
    }
}
