//! What a leader can do: the full list.

use super::event::OpId;
use super::look_back::Permit;
use super::notice::{End, Notice};
use crate::chain::{Assignment, Committables, Manifest, ObjectName, Prefix, Start};
use crate::ids::{CheckpointId, Generation};
use crate::key_group::KeyGroupMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Something that the leader wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Send a request to the store and answer it with [`Event::Stored`](super::Event::Stored).
    Store {
        /// The number for the answer.
        op: OpId,
        /// What to do.
        request: Request,
    },
    /// Start all tasks of a generation; answer with [`Event::Deployed`](super::Event::Deployed) or
    /// [`Event::DeployFailed`](super::Event::DeployFailed).
    Deploy {
        /// The generation.
        generation: Generation,
        /// Its start: parallelism, key-group map.
        start: Box<Start>,
        /// The state to begin with; `None` for nothing.
        restore: Option<Box<Restore>>,
    },
    /// Stop all tasks of the generation at once; answer with [`Event::Cancelled`](super::Event::Cancelled).
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
    /// Make committables visible; answer with [`Event::Committed`](super::Event::Committed). May name what has been
    /// committed before.
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
    /// Wait until the workers of an assignment are there, while the job goes on; answer with
    /// [`Event::WorkersReady`](super::Event::WorkersReady). A later one replaces it.
    Gather {
        /// The assignment.
        assignment: Box<Assignment>,
    },
    /// Let the workers of an assignment load the key groups that move to them, while the job goes on; answer with
    /// [`Event::Prepared`](super::Event::Prepared). The leader does not wait for ever. What comes after may differ: it
    /// is an advance, not a promise.
    Prepare {
        /// The assignment's revision.
        revision: u64,
        /// The owners of the key groups as they will be.
        key_groups: Box<KeyGroupMap>,
        /// The last completed checkpoint; `None` when there is none yet.
        restore: Option<Box<Restore>>,
    },
    /// Ask another job's leader to give a savepoint up that this job was forked from; answer with
    /// [`Event::PinReleased`](super::Event::PinReleased). A pin that is not there counts as released.
    ReleasePin {
        /// The other job's folder.
        location: String,
        /// The savepoint's name there.
        pin: String,
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
