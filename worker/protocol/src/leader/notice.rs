//! What a leader tells the user, and how it ends.

use super::event::ErrorKind;
use crate::ids::{CheckpointId, Generation, LinkNumber, TaskId};

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
    /// The job goes on as this revision, with a leader of its code.
    HandedOver {
        /// The assignment's revision.
        revision: u64,
    },
    /// The assignment of this leader cannot be carried out, and nothing else is assigned to its code: somebody must
    /// assign something else.
    Stalled {
        /// The assignment's revision.
        revision: u64,
        /// For the user.
        message: String,
    },
    /// Another leader has taken over.
    Fenced {
        /// How that was seen.
        message: String,
    },
    /// Tasks of this process do not end: it must end, and whoever starts it again goes on from the last checkpoint.
    GivenUp {
        /// For the user.
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
    /// A savepoint is not taken, because it was withdrawn.
    SavepointWithdrawn {
        /// Its name.
        name: String,
        /// The request's uid.
        uid: String,
    },
    /// The answer to a request for an assignment.
    AssignmentAnswered {
        /// The request.
        request: String,
        /// The assignment's revision.
        revision: u64,
        /// What became of it.
        answer: AssignmentAnswer,
    },
    /// The job could not change to an assignment and goes on as it was. Asking for the same assignment again tries
    /// again.
    AssignmentFailed {
        /// The assignment's revision.
        revision: u64,
        /// For the user.
        message: String,
    },
    /// The leader may not begin yet; it looks again and again.
    Awaiting {
        /// What it waits for, for the user.
        message: String,
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

/// What became of a request for an assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssignmentAnswer {
    /// It is stored, now or since earlier.
    Accepted,
    /// A higher revision is known.
    Stale {
        /// The highest one.
        highest: u64,
    },
    /// The revision is stored with another content.
    Conflict,
    /// More subtasks than key groups.
    TooLargeParallelism {
        /// The number of key groups.
        max_parallelism: u32,
    },
    /// The savepoint to begin from does not exist.
    UnknownRestorePoint {
        /// For the user.
        message: String,
    },
    /// It says nothing that could be done.
    Invalid {
        /// For the user.
        message: String,
    },
    /// Too many requests wait: ask again.
    Busy,
    /// The store did not take it: ask again.
    NotStored {
        /// For the user.
        message: String,
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
    /// Nobody wanted it any more.
    Withdrawn,
}
