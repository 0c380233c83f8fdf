//! What a status page shows.

use super::notice::FailureCause;
use crate::chain::{Manifest, Pin, Sizes, Stop, Terms};
use crate::ids::{CheckpointId, Generation, LinkNumber, Now};
use std::collections::BTreeMap;

/// Where a leader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has not begun.
    Idle,
    /// It reads the chain, claims and starts a generation.
    Starting,
    /// It may not begin yet: nothing is assigned to its code, or the job still runs with another one.
    Awaiting,
    /// It waits until sinks have committed what was left.
    Settling,
    /// Tasks are being started.
    Deploying,
    /// The job runs.
    Running,
    /// The last checkpoint is complete, its commits are not.
    Stopping,
    /// Tasks are being cancelled.
    Cancelling,
    /// It waits until a restart is due.
    Waiting,
    /// It works on the state of a stopped job.
    Maintaining,
    /// It has ended.
    Ended,
}

/// A completed checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completed {
    /// Its number.
    pub checkpoint: CheckpointId,
    /// Its link.
    pub link: LinkNumber,
    /// The wall clock at its end, in milliseconds since 1970.
    pub completed_unix_ms: u64,
    /// The moment of its end.
    pub completed: Now,
    /// From its trigger, in milliseconds.
    pub duration_ms: u64,
    /// How large it is.
    pub sizes: Sizes,
    /// Its stop flag.
    pub stop: Option<Stop>,
}

/// A checkpoint on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InProgress {
    /// Its number.
    pub checkpoint: CheckpointId,
    /// When it was triggered.
    pub begun: Now,
    /// Tasks that have acknowledged.
    pub acknowledged: usize,
    /// All tasks.
    pub tasks: usize,
}

/// A link that holds a state which can be restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retained {
    /// The link.
    pub link: LinkNumber,
    /// The checkpoint's number.
    pub checkpoint: CheckpointId,
    /// The wall clock at its end, in milliseconds since 1970.
    pub completed_unix_ms: u64,
    /// How large it is.
    pub sizes: Sizes,
    /// The savepoints that pin it.
    pub savepoints: Vec<String>,
}

/// On whose word the job runs, and what it is about to become.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Course {
    /// On whose word the generation runs.
    pub terms: Terms,
    /// Subtasks of every keyed operator; 0 before the first start.
    pub parallelism: u32,
    /// The highest revision that is assigned.
    pub assigned: u64,
    /// The change under way.
    pub switching: Option<Switching>,
}

/// A change to another assignment on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switching {
    /// It waits for the workers of the assignment of this revision.
    Gathering(u64),
    /// Those workers load key groups.
    Preparing(u64),
    /// The job stops for it.
    Stopping(u64),
}

/// What a status page shows of a leader.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// Where it is.
    pub state: State,
    /// The claimed generation.
    pub generation: Option<Generation>,
    /// On whose word the job runs.
    pub course: Course,
    /// The newest checkpoint that this leader completed.
    pub last: Option<Completed>,
    /// The checkpoint on its way.
    pub in_progress: Option<InProgress>,
    /// Checkpoints that this leader completed.
    pub completed: u64,
    /// Checkpoints that failed, by cause.
    pub failed: BTreeMap<FailureCause, u64>,
    /// Generations that this leader started again.
    pub restarts: u64,
    /// What can be restored, oldest first.
    pub retained: Vec<Retained>,
    /// Committables that are not confirmed.
    pub unconfirmed: usize,
    /// All savepoints of the job, by name.
    pub savepoints: BTreeMap<String, Pin>,
    /// The names of the savepoints that are asked but not taken.
    pub savepoints_pending: Vec<String>,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) last: Option<Completed>,
    pub(super) completed: u64,
    pub(super) failed: BTreeMap<FailureCause, u64>,
    pub(super) restarts: u64,
}

impl Counts {
    pub(super) fn completed(&mut self, manifest: &Manifest, duration_ms: u64, now: Now) {
        self.completed += 1;
        self.last = Some(Completed {
            checkpoint: manifest.checkpoint,
            link: manifest.number,
            completed_unix_ms: manifest.completed_unix_ms,
            completed: now,
            duration_ms,
            sizes: manifest.sizes,
            stop: manifest.stop,
        });
    }

    pub(super) fn failed(&mut self, cause: FailureCause) {
        *self.failed.entry(cause).or_default() += 1;
    }
}
