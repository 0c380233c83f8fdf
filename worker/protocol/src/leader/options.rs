//! What a leader is told when it begins.

use crate::chain::{Claimant, Manifest, Plan};
use crate::key_group::MaxParallelism;
use crate::restart::Strategy;

/// Everything that a leader needs to know of its job and of itself.
#[derive(Debug, Clone)]
pub struct Options {
    /// The job's name: state of another job is refused.
    pub job: String,
    /// Who claims.
    pub claimant: Claimant,
    /// Unique for each run of a leader's process, such as a random uuid. Attempt ids begin with it.
    pub incarnation: String,
    /// The wall clock at this moment, in milliseconds since 1970; later times follow from the moments of the events.
    pub unix_ms: u64,
    /// Subtasks of every keyed operator, where no assignment says otherwise.
    pub parallelism: u32,
    /// What runs, and who says how wide.
    pub direction: Direction,
    /// Number of key groups.
    pub max_parallelism: MaxParallelism,
    /// What is to run.
    pub plan: Plan,
    /// Run the job, or only look after its state.
    pub mode: Mode,
    /// The value of `spec.restoreFrom` that counts as used once this run has begun; each start keeps it.
    pub restored_from: Option<String>,
    /// When and how checkpoints are taken.
    pub checkpoint: CheckpointOptions,
    /// What follows a failure.
    pub restart: Strategy,
    /// Where nothing else tells it, it looks this often whether another leader has replaced it, in milliseconds.
    pub watch_ms: u64,
}

/// What runs, and who says how wide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Direction {
    /// Who says how wide the job runs.
    pub guide: Guide,
    /// The own code, as assignments name it.
    pub code: String,
    /// Worker processes, where no assignment says otherwise.
    pub workers: u32,
    /// How long the workers of an assignment may load key groups before the job stops for it, in milliseconds.
    pub prepare_limit_ms: u64,
}

impl Default for Direction {
    /// A run by hand in one process.
    fn default() -> Self {
        Self { guide: Guide::Hand, code: String::new(), workers: 1, prepare_limit_ms: 30_000 }
    }
}

/// Who says how wide the job runs, and whether this leader may begin at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guide {
    /// These options, whatever was assigned before; it claims as the highest revision that is known. Assignments that
    /// come while it runs are followed.
    Hand,
    /// The highest assignment of the own code; where nobody has ever assigned anything, these options as the revision
    /// of the claimant.
    Assignments,
    /// The highest assignment of the own code, if its revision is above this one: it waits for one. What was assigned
    /// up to here has failed, or has come to its end.
    AssignmentsAbove(u64),
}

impl Guide {
    /// Whether assignments say how wide the job runs.
    pub(super) fn is_assigned(self) -> bool {
        matches!(self, Self::Assignments | Self::AssignmentsAbove(_))
    }
}

/// What a leader is for.
#[derive(Debug, Clone)]
pub enum Mode {
    /// It runs the job.
    Run {
        /// From which state.
        resume: Resume,
        /// What a job that was suspended does.
        stops: Stops,
    },
    /// It works on the state of a job that stands still, and ends.
    Maintain {
        /// What to do, in this order.
        operations: Vec<Operation>,
        /// What to do with a job that has no stop flag: a crashed one, or one that still runs.
        running: Running,
    },
}

/// The state that a job begins with.
#[derive(Debug, Clone)]
pub enum Resume {
    /// Where it was.
    Head,
    /// Nothing; what the head left uncommitted is committed all the same.
    Empty,
    /// A savepoint of this job.
    Savepoint(String),
    /// A manifest of another place.
    Foreign {
        /// The folder that the manifest's files are in.
        location: String,
        /// The manifest.
        manifest: Box<Manifest>,
        /// The savepoint that keeps it there for us: given up after the own first checkpoint.
        pin: Option<String>,
    },
}

/// What a job that was suspended, or left for an assignment, does. Only an explicit state lifts Finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stops {
    /// It stays so.
    Obey,
    /// It goes on.
    Lift,
}

/// What maintenance does with a job that has no stop flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Running {
    /// Refuse: a leader may be at work.
    Refuse,
    /// Go ahead, because the caller knows that none is; one that was would be fenced.
    Fence,
}

/// Work on the state of a job that stands still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Give the newest state a name.
    CreateSavepoint {
        /// The savepoint's name.
        name: String,
        /// The request's uid.
        uid: String,
    },
    /// Give a savepoint up.
    DeleteSavepoint {
        /// The savepoint's name.
        name: String,
    },
    /// Mark the job as deleted: nobody goes on with its state any more. What its head left uncommitted is committed
    /// first; its objects are the caller's to remove once the mark stands.
    DeleteJob,
}

/// When and how checkpoints are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointOptions {
    /// From the begin of one to the begin of the next, in milliseconds; `None`: only when asked and at the end.
    pub interval_ms: Option<u64>,
    /// At least this long after the end of one, in milliseconds.
    pub min_pause_ms: u64,
    /// A checkpoint that takes longer is aborted, in milliseconds.
    pub timeout_ms: u64,
    /// Barriers overtake what waits before them this long after the begin, in milliseconds; `None`: never.
    pub unaligned_after_ms: Option<u64>,
    /// This many may fail in a row; one more ends the generation.
    pub tolerable_failures: u32,
    /// This many completed checkpoints are kept.
    pub retain: u32,
}
