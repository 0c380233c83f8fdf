//! What a leader hears and what it can do: the full list of both.

use super::look_back::Permit;
use super::options::Options;
use crate::chain::{Committables, Manifest, ObjectName, Prefix, Start};
use crate::ids::{CheckpointId, Generation, LinkNumber, TaskId};
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
    /// A user wants the job suspended.
    StopRequested,
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

/// Something that the leader wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Send a request to the store and answer it with [`Event::Stored`].
    Store {
        /// The number for the answer.
        op: OpId,
        /// What to do.
        request: Request,
    },
    /// Start all tasks of a generation; answer with [`Event::Deployed`] or [`Event::DeployFailed`].
    Deploy {
        /// The generation.
        generation: Generation,
        /// Its start: parallelism, key-group map.
        start: Box<Start>,
        /// The state to begin with; `None` for nothing.
        restore: Option<Box<Restore>>,
    },
    /// Stop all tasks of the generation at once; answer with [`Event::Cancelled`].
    Cancel {
        /// The generation.
        generation: Generation,
    },
    /// Let all sources emit a barrier.
    InjectBarrier {
        /// The generation.
        generation: Generation,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// What the barrier asks for.
        kind: BarrierKind,
    },
    /// Tell all tasks that a checkpoint will not be complete: what they handed over for it stays pending, and sources
    /// that a [`BarrierKind::Stop`] stopped go on. It must arrive; a barrier that comes after it is to be ignored.
    NotifyAborted {
        /// The generation.
        generation: Generation,
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// Tell all tasks that a checkpoint is complete: what they handed over for it is no longer pending.
    NotifyCompleted {
        /// The generation.
        generation: Generation,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The attempt id of its link.
        attempt: String,
    },
    /// Make committables visible; answer with [`Event::Committed`]. May name what has been committed before.
    Commit {
        /// The right to do so.
        permit: Permit,
        /// What to commit.
        committables: Committables,
    },
    /// Abort what earlier generations left in the outside world, such as unfinished uploads.
    AbortLeftovers {
        /// The right to do so.
        permit: Permit,
        /// Only of generations below this one.
        before: Generation,
        /// What must stay besides what the writers' states of the restored manifest name.
        keep: BTreeSet<String>,
    },
    /// Abort committables by id. No rule of the protocol does so for its own generation.
    #[doc(hidden)]
    AbortCommittables {
        /// The ids.
        ids: BTreeSet<String>,
    },
    /// Tell the user.
    Report(Notice),
    /// The last action: no task may go on, nothing more is committed.
    End(End),
}

/// A request to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Put an object if there is none of this name.
    PutIfAbsent {
        /// Its name.
        key: ObjectName,
        /// Its content.
        body: Vec<u8>,
    },
    /// Get an object.
    Get {
        /// Its name.
        key: ObjectName,
    },
    /// List all names below a prefix.
    List {
        /// The prefix.
        prefix: Prefix,
    },
    /// Delete objects; those that are not there count as deleted.
    Delete {
        /// The right to do so.
        permit: Permit,
        /// Their names below the job's folder.
        keys: BTreeSet<String>,
    },
}

/// What a barrier asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BarrierKind {
    /// A snapshot.
    Checkpoint,
    /// An aligned snapshot.
    Savepoint,
    /// An aligned snapshot; sources emit nothing after it until they hear that it was aborted.
    Stop,
    /// An aligned snapshot after the end of all input.
    Final,
}

/// The state that a generation begins with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Restore {
    /// The manifest.
    pub manifest: Manifest,
    /// The folder of another place that its files are in; `None` for the job's own. From another place, tasks hand over
    /// all of their state as new in the first checkpoint.
    pub location: Option<String>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The input has ended and everything is committed.
    Finished {
        /// The last checkpoint.
        checkpoint: CheckpointId,
        /// Whether it was so already when the leader began.
        already: Already,
    },
    /// The job was stopped and a later run goes on where it was.
    Stopped {
        /// The last checkpoint, if there is one.
        checkpoint: Option<CheckpointId>,
        /// Whether it was so already when the leader began.
        already: Already,
    },
    /// Maintenance is done.
    Maintained,
    /// Another leader has taken over.
    Fenced {
        /// How that was seen.
        message: String,
    },
    /// The job cannot go on.
    Failed {
        /// What to do about it.
        kind: ErrorKind,
        /// For the user.
        message: String,
    },
}

/// Whether a job was at its end before this leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Already {
    /// It ran, and now it has ended.
    No,
    /// Nothing ran.
    Yes,
}

/// Something that a user may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A generation begins.
    Started {
        /// The generation.
        generation: Generation,
        /// The checkpoint it begins from; `None` for nothing.
        restored: Option<CheckpointId>,
    },
    /// A checkpoint is complete.
    CheckpointCompleted {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Its link.
        link: LinkNumber,
        /// From its trigger, in milliseconds.
        duration_ms: u64,
    },
    /// A checkpoint has failed; the job goes on.
    CheckpointFailed {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Why.
        cause: FailureCause,
        /// For the user.
        message: String,
    },
    /// A link cannot be used.
    LinkUnusable {
        /// The link.
        link: LinkNumber,
        /// For the user.
        message: String,
    },
    /// A request to the store is tried again.
    StoreTrouble {
        /// For the user.
        message: String,
    },
    /// Sinks could not commit; they are tried again.
    CommitTrouble {
        /// For the user.
        message: String,
    },
    /// A savepoint is complete.
    SavepointCompleted {
        /// Its name.
        name: String,
        /// The request's uid.
        uid: String,
        /// Where it is.
        link: LinkNumber,
    },
    /// A savepoint is not taken.
    SavepointFailed {
        /// Its name.
        name: String,
        /// The request's uid; empty for a release.
        uid: String,
        /// For the user.
        message: String,
    },
    /// A savepoint is given up; retention may delete it.
    SavepointReleased {
        /// Its name.
        name: String,
    },
    /// The job could not be stopped and goes on.
    StopFailed {
        /// For the user.
        message: String,
    },
    /// A generation has failed.
    GenerationFailed {
        /// The generation.
        generation: Generation,
        /// The task, if it was one.
        task: Option<TaskId>,
        /// What to do about it.
        kind: ErrorKind,
        /// For the user.
        message: String,
        /// Milliseconds until the next one; `None` when there is none.
        restart_in_ms: Option<u64>,
    },
}

/// Why a checkpoint failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FailureCause {
    /// It took too long.
    Timeout,
    /// A task declined.
    Declined,
    /// The store did not take it.
    Store,
    /// The generation ended.
    Generation,
}
