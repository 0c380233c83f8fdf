//! What a leader hears: the full list.

use super::options::Options;
use crate::chain::Assignment;
use crate::ids::{CheckpointId, Generation, TaskId};
use crate::snapshot::TaskSnapshot;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// One request to the store; its answer carries the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// Something that happened. Whatever names a generation or a checkpoint of the past is ignored.
#[derive(Debug, Clone)]
pub enum Event {
    /// The first event.
    Begin(Box<Options>),
    /// A request to the store has an answer.
    Stored {
        /// The request.
        op: OpId,
        /// What became of it.
        outcome: Outcome,
    },
    /// All tasks of the generation run.
    Deployed {
        /// The generation.
        generation: Generation,
        /// All tasks: each acknowledges every checkpoint.
        tasks: BTreeSet<TaskId>,
        /// Those that read sources; when all have ended, the job is about to finish.
        sources: BTreeSet<TaskId>,
    },
    /// The generation cannot run. The tasks that do are cancelled.
    DeployFailed {
        /// The generation.
        generation: Generation,
        /// What to do about it. `Corrupt` says that the restored checkpoint is not usable.
        kind: ErrorKind,
        /// For the user.
        message: String,
    },
    /// A task has taken its part of a checkpoint and stored it.
    Acked {
        /// The generation.
        generation: Generation,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// All that no completed checkpoint contains yet.
        snapshot: Box<TaskSnapshot>,
    },
    /// A task cannot take its part of a checkpoint.
    Declined {
        /// The generation.
        generation: Generation,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The task.
        task: TaskId,
        /// Whose fault it is.
        cause: DeclineCause,
        /// For the user.
        message: String,
    },
    /// A worker with tasks of the generation is gone: they may or may not go on, and are not waited for.
    WorkerLost {
        /// The generation.
        generation: Generation,
        /// The worker's ordinal.
        worker: u32,
        /// For the user.
        message: String,
    },
    /// A task has failed.
    TaskFailed {
        /// The generation.
        generation: Generation,
        /// The task.
        task: TaskId,
        /// What to do about it. `Corrupt` before the generation's first checkpoint says that the restored checkpoint
        /// is not usable.
        kind: ErrorKind,
        /// For the user.
        message: String,
    },
    /// A source task has read all its input and sent its last watermark. It goes on acknowledging checkpoints.
    SourceEnded {
        /// The generation.
        generation: Generation,
        /// The task.
        task: TaskId,
    },
    /// No task of the generation runs any more.
    Cancelled {
        /// The generation.
        generation: Generation,
    },
    /// Committables have been tried.
    Committed {
        /// What became of each, by id.
        results: BTreeMap<String, CommitResult>,
    },
    /// A user wants a savepoint.
    SavepointRequested {
        /// Its name.
        name: String,
        /// The request's uid: repeating a request changes nothing.
        uid: String,
        /// What the job does after it.
        then: Then,
    },
    /// A user gives a savepoint up.
    SavepointReleased {
        /// Its name.
        name: String,
    },
    /// A savepoint that was asked is no longer wanted. Nothing happens when its manifest is under way already.
    SavepointWithdrawn {
        /// Its name.
        name: String,
        /// The request's uid.
        uid: String,
    },
    /// A user wants the job suspended.
    StopRequested,
    /// Somebody says what the job shall be from now on; answered by
    /// [`Notice::AssignmentAnswered`](super::Notice::AssignmentAnswered).
    AssignmentRequested {
        /// Names the request in its answer; repeating a request changes nothing.
        request: String,
        /// What is wanted.
        assignment: Box<Assignment>,
    },
    /// As many workers as [`Action::Gather`](super::Action::Gather) asked for are there.
    WorkersReady {
        /// The assignment's revision.
        revision: u64,
    },
    /// What [`Action::Prepare`](super::Action::Prepare) asked for is done, or is not worth waiting for.
    Prepared {
        /// The assignment's revision.
        revision: u64,
    },
    /// A worker is about to leave: the job stops with a checkpoint and begins again at once, so that nothing is read
    /// twice.
    DrainRequested,
    /// A savepoint of another job is given up, as [`Action::ReleasePin`](super::Action::ReleasePin) asked.
    PinReleased {
        /// Its name there.
        pin: String,
    },
    /// The deadline has come.
    Tick,
}

/// What became of a request to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is done.
    Done,
    /// Nothing was put: the object was there already.
    Exists,
    /// There is no such object.
    NotFound,
    /// The content of an object.
    Body(Vec<u8>),
    /// The names below a prefix, relative to the job's folder: all of them, as of one moment.
    Listed(Vec<String>),
    /// It may or may not have been done, or may yet be.
    Unknown {
        /// For the log.
        message: String,
    },
    /// It was not done and never will be.
    Failed {
        /// `Transient` errors are tried again, others end the leader.
        kind: ErrorKind,
        /// For the user.
        message: String,
    },
}

/// What an error asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ErrorKind {
    /// The user must change something.
    User,
    /// It may work the next time.
    Transient,
    /// Stored data is not what was written.
    Corrupt,
    /// Another leader has taken over.
    Fenced,
    /// The engine contradicts itself.
    Bug,
}

/// Why a task declined a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeclineCause {
    /// The store did not take the state: no reason to end a generation.
    Store,
    /// Anything else: counts towards the tolerable failures.
    Task,
}

/// What became of a committable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitResult {
    /// It is visible, now or since earlier.
    Done,
    /// Not now; it is tried again.
    Retry {
        /// For the user.
        message: String,
    },
    /// Not before the user has changed something: the job fails, and another run tries again.
    Refused {
        /// For the user.
        message: String,
    },
    /// It can never be committed: rows are lost, and the job fails loudly.
    Lost {
        /// For the user.
        message: String,
    },
}

/// What a job does after a savepoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It goes on.
    Continue,
    /// It is suspended.
    Stop,
}
