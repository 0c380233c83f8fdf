//! What the leader's side of a job and the workers' sides tell each other.

use crate::dataflow::splits::SplitAnswer;
use crate::plan::NodeIndex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use weir_protocol::chain::{Manifest, Start};
use weir_protocol::follower::Concern;
use weir_protocol::key_group::KeyGroupMap;
use weir_protocol::leader::{BarrierKind, DeclineCause, ErrorKind, Restore};
use weir_protocol::members::Placement;
use weir_protocol::snapshot::TaskSnapshot;
use weir_protocol::{CheckpointId, Generation, TaskId};

/// What a worker is told to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// Start the tasks of a generation that are placed on it.
    Deploy(Box<Deploy>),
    /// Bring near the state of key groups that move here, while the job goes on; answer with [`Report::Prepared`].
    Prepare {
        /// The assignment that moves them.
        revision: u64,
        /// The subtask that owns each key group.
        key_groups: KeyGroupMap,
        /// Workers that it runs on: those with ordinals below this number.
        workers: u32,
        /// The last completed checkpoint.
        manifest: Box<Manifest>,
    },
    /// End all tasks of a generation.
    Cancel {
        /// The generation.
        generation: Generation,
    },
    /// Let sources emit a barrier.
    Inject {
        /// The generation.
        generation: Generation,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// What the barrier asks for.
        kind: BarrierKind,
        /// It overtakes what waits before it after this many milliseconds; `None`: never.
        overtakes_after_ms: Option<u64>,
    },
    /// A checkpoint will not be complete.
    Aborted {
        /// The generation.
        generation: Generation,
        /// The checkpoint.
        checkpoint: CheckpointId,
    },
    /// A checkpoint is complete.
    Completed {
        /// The generation.
        generation: Generation,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The attempt id of its link.
        attempt: String,
    },
    /// These objects of the store are removed: copies of them are of no use.
    Forget {
        /// Their names.
        keys: Vec<String>,
    },
    /// Splits for a source task that asked for some.
    Splits {
        /// The generation.
        generation: Generation,
        /// The source.
        node: NodeIndex,
        /// The task's subtask.
        subtask: u32,
        /// What it gets.
        answer: SplitAnswer,
    },
}

impl Command {
    /// What it is about.
    #[must_use]
    pub fn concern(&self) -> Concern {
        match self {
            Self::Deploy(deploy) => Concern::Deploy(deploy.generation),
            Self::Cancel { generation } => Concern::Cancel(*generation),
            Self::Inject { generation, .. } | Self::Aborted { generation, .. } | Self::Splits { generation, .. } => {
                Concern::Tasks(*generation)
            }
            // A worker that has no tasks yet needs to know what is complete, too.
            Self::Completed { .. } | Self::Prepare { .. } | Self::Forget { .. } => Concern::Worker,
        }
    }
}

/// A generation to start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deploy {
    /// The generation.
    pub generation: Generation,
    /// Its start: the key-group map.
    pub start: Start,
    /// The state to begin with; `None` for nothing.
    pub restore: Option<Restore>,
    /// Which task runs where.
    pub placement: Placement,
}

/// What a worker tells.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Report {
    /// Its tasks of a generation run.
    Deployed {
        /// The generation.
        generation: Generation,
        /// The tasks.
        tasks: BTreeSet<TaskId>,
        /// Those that read sources.
        sources: BTreeSet<TaskId>,
    },
    /// Its tasks of a generation cannot run.
    DeployFailed {
        /// The generation.
        generation: Generation,
        /// What to do about it.
        kind: ErrorKind,
        /// For the user.
        message: String,
    },
    /// None of its tasks of a generation runs any more.
    Cancelled {
        /// The generation.
        generation: Generation,
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
    /// A task has failed.
    TaskFailed {
        /// The generation.
        generation: Generation,
        /// The task.
        task: TaskId,
        /// What to do about it.
        kind: ErrorKind,
        /// For the user.
        message: String,
    },
    /// The way to another worker is lost, whose tasks may run on.
    PeerLost {
        /// The generation.
        generation: Generation,
        /// The other worker's ordinal, where it is known.
        worker: Option<u32>,
        /// For the user.
        message: String,
    },
    /// A source task has read all its input.
    SourceEnded {
        /// The generation.
        generation: Generation,
        /// The task.
        task: TaskId,
    },
    /// The state that an assignment moves here is near, as far as that could be done.
    Prepared {
        /// The assignment.
        revision: u64,
    },
    /// The worker is about to end and wants its tasks to go on elsewhere.
    Leaving,
    /// It has no tasks any more and ends.
    Left,
    /// A source task wants splits.
    AskSplits {
        /// The generation.
        generation: Generation,
        /// The source.
        node: NodeIndex,
        /// The task's subtask.
        subtask: u32,
    },
}
