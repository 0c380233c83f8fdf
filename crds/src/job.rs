//! A job as the engine and the controller read it: every choice an enum, every default filled in.

use std::time::Duration;

use crate::{
    CheckpointMode, DeletionPolicy, DesiredState, LocalStorageSpec, S3StorageSpec, StreamJob, UpgradeMode,
    VolumeClaimStorageSpec, WorkerSpec,
};

/// A line and a column of the manifest's text, both from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// A StreamJob that passed [`crate::parse`] or [`crate::validate`].
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedJob {
    /// Name of the job: at most 45 of `a-z 0-9 -`, beginning with a letter. Safe as a file name.
    pub name: String,
    /// Namespace; `default` if none was written.
    pub namespace: String,
    /// Subtasks of every keyed operator; 1 to `max_parallelism`.
    pub parallelism: u32,
    /// Key groups; at most [`crate::MAX_PARALLELISM`].
    pub max_parallelism: u32,
    /// Subtasks that share one worker; at least 1.
    pub slots_per_worker: u32,
    /// What the job should be doing.
    pub state: DesiredState,
    /// Where an upgrade takes its state from.
    pub upgrade_mode: UpgradeMode,
    /// State to begin with, other than the job's own.
    pub restore_from: Option<RestoreFrom>,
    /// The SQL, or where it is.
    pub sql: Sql,
    /// Where the first line of inline SQL begins in the text that was parsed. None if the SQL's lines are not lines of
    /// that text (folded or escaped), is elsewhere, or was not read from text.
    pub sql_position: Option<Position>,
    /// When and how state is made durable.
    pub checkpoint: Checkpointing,
    /// Where state is kept; none: wherever the place that runs the job keeps it.
    pub storage: Option<Storage>,
    /// What happens after a failure.
    pub restart: RestartStrategy,
    /// The worker pods.
    pub worker: WorkerSpec,
    /// Whether a failed upgrade is undone.
    pub rollback: Rollback,
    /// Whether an upgrade may drop state of operators that the new SQL no longer has.
    pub allow_dropped_state: bool,
    /// What happens to the state of a deleted job.
    pub deletion_policy: DeletionPolicy,
    /// The resource as it was written, with defaults.
    pub raw: StreamJob,
}

impl ValidatedJob {
    /// Number of workers: parallelism by slots, rounded up.
    #[must_use]
    pub fn workers(&self) -> u32 {
        self.parallelism.div_ceil(self.slots_per_worker)
    }
}

/// Where the SQL comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sql {
    /// It stands in the manifest.
    Inline(String),
    /// It is the value of a key of a ConfigMap in the job's namespace.
    ConfigMap(ConfigMapKey),
}

/// A key of a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMapKey {
    /// Name of the ConfigMap.
    pub name: String,
    /// The key.
    pub key: String,
}

/// State to begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreFrom {
    /// A Savepoint of the job's namespace, by name.
    Savepoint(String),
    /// A savepoint or checkpoint in the store, by path.
    Path(String),
    /// The latest checkpoint of another job of the namespace, by the job's name.
    Job(String),
}

/// When and how state is made durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpointing {
    /// From the start of one checkpoint to the start of the next; at least 10 ms.
    pub interval: Duration,
    /// After this a checkpoint is given up; at least 10 ms.
    pub timeout: Duration,
    /// Least time between the end of one and the start of the next.
    pub min_pause: Duration,
    /// What it guarantees.
    pub mode: CheckpointMode,
    /// After this a checkpoint overtakes waiting data; less than `timeout`. None: never.
    pub unaligned_after: Option<Duration>,
    /// Failed checkpoints in a row that the job survives.
    pub tolerable_failures: u32,
    /// Completed checkpoints to keep; at least 1.
    pub retain: u32,
}

/// Where state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// A bucket.
    S3(S3StorageSpec),
    /// A directory.
    Local(LocalStorageSpec),
    /// A volume that all workers mount.
    PersistentVolumeClaim(VolumeClaimStorageSpec),
}

/// What happens after a failure.
#[derive(Clone, Debug, PartialEq)]
pub enum RestartStrategy {
    /// Restart for ever, waiting longer each time.
    ExponentialDelay {
        /// First wait; not zero.
        initial: Duration,
        /// Longest wait; not below `initial`.
        max: Duration,
        /// Growth of the wait, 1 to 100.
        multiplier: f64,
        /// Random share of the wait, 0 to 1.
        jitter: f64,
        /// Time without failure after which the wait is `initial` again.
        reset_after: Duration,
    },
    /// Restart `attempts` times.
    FixedDelay {
        /// Restarts before the job is failed; at least 1.
        attempts: u32,
        /// Wait before each.
        delay: Duration,
    },
    /// Restart until more than `max_failures` fall into `window`.
    FailureRate {
        /// Failures within the window that are survived; at least 1.
        max_failures: u32,
        /// Time over which failures are counted; not zero.
        window: Duration,
        /// Wait before each restart.
        delay: Duration,
    },
    /// Never restart.
    None,
}

/// Whether a failed upgrade is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollback {
    /// Whether it is.
    pub enabled: bool,
    /// How long an upgrade may take until its first checkpoint; not zero.
    pub deadline: Duration,
}
