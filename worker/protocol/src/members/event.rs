//! What [`super::Members`] hears and what it wants done: the full list of both.

use super::placement::Placement;
use crate::ids::{Generation, TaskId};
use crate::leader::{self, ErrorKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// One connection of one worker; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session(pub u64);

/// The process that a worker is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Process {
    /// The leader's own: it is there as long as somebody can ask.
    Own,
    /// Another one, which may die, hang or be cut off.
    Other,
}

/// What a worker says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Registration {
    /// The job's unique id.
    pub job: String,
    /// Its number among the job's workers, from 0.
    pub ordinal: u32,
    /// Its build: different ones do not work together.
    pub build: String,
    /// The fingerprint of its plan.
    pub plan: String,
    /// What runs, as assignments name it.
    pub code: String,
    /// The revision of the job that it was started for.
    pub revision: u64,
    /// The attempt to run this worker: of two for one ordinal the one with the higher (revision, attempt) stays.
    pub attempt: u64,
    /// Where others send it rows.
    pub exchange: String,
}

/// What the workers must agree on, and how patient their leader is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The job's unique id.
    pub job: String,
    /// The leader's build.
    pub build: String,
    /// The fingerprint of the leader's plan.
    pub plan: String,
    /// What the leader runs, as assignments name it.
    pub code: String,
    /// Workers say something at least this often, in milliseconds.
    pub heartbeat_ms: u64,
    /// So many heartbeats in a row may be missed.
    pub missed_heartbeats: u32,
    /// Tasks that do not end within this time are given up with their worker, in milliseconds; those in the leader's own
    /// process get it twice, since it may have stood still.
    pub cancel_timeout_ms: u64,
    /// Say which workers are missing after waiting this long, in milliseconds.
    pub tell_after_ms: u64,
}

impl Options {
    /// A worker that was silent for this long is lost, in milliseconds.
    #[must_use]
    pub fn lost_after_ms(&self) -> u64 {
        self.heartbeat_ms.saturating_mul(u64::from(self.missed_heartbeats.max(1)))
    }
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A worker has connected and says who it is. None of its tasks runs.
    Registered {
        /// Its connection.
        session: Session,
        /// Who it is.
        worker: Registration,
        /// Where it runs.
        process: Process,
    },
    /// Something was heard of a worker.
    Heard {
        /// Its connection.
        session: Session,
    },
    /// A connection is broken.
    Disconnected {
        /// The connection.
        session: Session,
        /// How that was seen.
        message: String,
    },
    /// A worker is about to end: it gets no tasks any more.
    Leaving {
        /// Its connection.
        session: Session,
    },
    /// The leader wants to know when workers are there.
    Gather {
        /// The assignment that needs them.
        revision: u64,
        /// How many: those with ordinals below this number.
        workers: u32,
    },
    /// The leader wants a generation deployed.
    Deploy {
        /// The generation.
        generation: Generation,
        /// Subtasks of every chain.
        parallelism: u32,
        /// Workers that it runs on: those with ordinals below this number.
        workers: u32,
    },
    /// The tasks of a generation run on a worker.
    Deployed {
        /// Its connection.
        session: Session,
        /// The generation.
        generation: Generation,
        /// The worker's tasks.
        tasks: BTreeSet<TaskId>,
        /// Those that read sources.
        sources: BTreeSet<TaskId>,
    },
    /// The tasks of a generation cannot run on a worker.
    DeployFailed {
        /// Its connection.
        session: Session,
        /// The generation.
        generation: Generation,
        /// What to do about it.
        kind: ErrorKind,
        /// For the user.
        message: String,
    },
    /// The leader wants all tasks of a generation ended.
    Cancel {
        /// The generation.
        generation: Generation,
    },
    /// No task of the generation runs on a worker any more.
    Cancelled {
        /// Its connection.
        session: Session,
        /// The generation.
        generation: Generation,
    },
    /// The deadline has come.
    Tick,
}

impl Event {
    /// The registered session that this is a message of, if it is one.
    #[must_use]
    pub(super) fn session(&self) -> Option<Session> {
        match self {
            Self::Heard { session }
            | Self::Leaving { session }
            | Self::Disconnected { session, .. }
            | Self::Deployed { session, .. }
            | Self::DeployFailed { session, .. }
            | Self::Cancelled { session, .. } => Some(*session),
            Self::Registered { .. } | Self::Gather { .. } | Self::Deploy { .. } | Self::Cancel { .. } | Self::Tick => {
                None
            }
        }
    }
}

/// Something to be done.
#[derive(Debug, Clone)]
pub enum Action {
    /// Tell a worker that it is registered.
    Welcome {
        /// Its connection.
        session: Session,
    },
    /// Tell a worker that it cannot take part, and close the connection.
    Refuse {
        /// Its connection.
        session: Session,
        /// For the user.
        reason: String,
    },
    /// Tell a worker that another one has its place, and close the connection.
    Replace {
        /// Its connection.
        session: Session,
        /// For the user.
        reason: String,
    },
    /// Close a connection; nothing that comes over it counts any more.
    Close {
        /// The connection.
        session: Session,
        /// For the log.
        reason: String,
    },
    /// Let a worker start its tasks of a generation.
    Deploy {
        /// Its connection.
        session: Session,
        /// The generation.
        generation: Generation,
        /// Which task runs where.
        placement: Arc<Placement>,
    },
    /// Let a worker end its tasks of a generation.
    Cancel {
        /// Its connection.
        session: Session,
        /// The generation.
        generation: Generation,
    },
    /// Tasks in the leader's own process do not end. Only the end of the process ends them, and whoever starts it next goes
    /// on from the last checkpoint.
    GiveUp {
        /// For the user.
        reason: String,
    },
    /// Tell the user which workers the job waits for.
    TellWaiting {
        /// Their ordinals.
        missing: BTreeSet<u32>,
    },
    /// Tell the leader.
    Tell(leader::Event),
}
