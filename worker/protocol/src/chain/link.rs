//! What the objects of a chain say.

use super::assignment::Terms;
use crate::ids::{CheckpointId, EdgeId, EventTime, Generation, LinkNumber, OperatorId};
use crate::key_group::{KeyGroupMap, MaxParallelism};
use crate::snapshot::{Committable, InFlightFile, KeyGroupRange, SplitProgress, StateFile};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What waits to be committed, by sink and by the committable's id: a set that grows with each checkpoint and shrinks
/// with each confirmation.
pub type Committables = BTreeMap<OperatorId, BTreeMap<String, Committable>>;

/// Who claims a generation: a lower (revision, attempt) never claims over a higher one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimant {
    /// The assignment's revision that the leader runs.
    pub revision: u64,
    /// Which replacement of the leader's pod it is.
    pub attempt: u64,
    /// The pod's uid, or what stands for it where there are no pods; an equal pair claims only with an equal uid.
    pub pod: String,
}

/// A generation's claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The job's name.
    pub job: String,
    /// The claimed generation.
    pub generation: Generation,
    /// By whom.
    pub claimant: Claimant,
    /// Unique for each run of a leader's process: tells its own claim from another's after an unknown outcome.
    pub incarnation: String,
}

/// One link of the chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Link {
    /// A generation begins.
    Start(Box<Start>),
    /// A checkpoint is complete.
    Checkpoint(Box<Manifest>),
}

/// Why a job stands still although nothing failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stop {
    /// A user asked for it; a newer wish lifts it.
    Suspended,
    /// The input has ended and everything is committed.
    Finished,
    /// The assignment of this revision takes over.
    Assignment(u64),
}

/// A savepoint that spares a link from retention.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The request's uid: the same request is never answered with a second savepoint.
    pub uid: String,
    /// The link that holds the savepoint's manifest.
    pub link: LinkNumber,
}

/// The content of `savepoints/<name>`: for those who look for a savepoint without reading the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    /// The job's name.
    pub job: String,
    /// The savepoint's name.
    pub name: String,
    /// Where it is, and who asked for it.
    pub pin: Pin,
}

/// The state that a generation begins with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Origin {
    /// Nothing: the job begins anew.
    Empty,
    /// The manifest in this link of the same chain.
    Link(LinkNumber),
    /// A manifest of another place, kept here because nothing pins it there for ever. Its committables are not ours.
    Foreign {
        /// The folder that the manifest's files are in.
        location: String,
        /// The manifest.
        manifest: Box<Manifest>,
        /// The savepoint that keeps it there for us.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pin: Option<String>,
    },
}

impl Origin {
    /// False for state whose files lie in another place.
    #[must_use]
    pub fn is_own(&self) -> bool {
        !matches!(self, Self::Foreign { .. })
    }
}

/// A generation begins: its place in the chain, its assignment and its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Start {
    /// The job's name.
    pub job: String,
    /// The link's own number, so that a body in a wrong place is found.
    pub number: LinkNumber,
    /// The generation that begins.
    pub generation: Generation,
    /// Unique in the job's history: whose body it is after an unknown outcome.
    pub attempt: String,
    /// Who claimed the generation.
    pub claimant: Claimant,
    /// When, in milliseconds since 1970.
    pub started_unix_ms: u64,
    /// On whose word the generation runs.
    #[serde(default)]
    pub terms: Terms,
    /// The subtask that owns each key group; derived from the map before, hence stored and never computed again.
    pub key_groups: KeyGroupMap,
    /// Fingerprint of the plan.
    pub plan: String,
    /// The state it begins with.
    pub origin: Origin,
    /// Links that could not be read and that this start goes back behind.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub skipped: BTreeSet<LinkNumber>,
    /// What the head before left uncommitted, whatever the origin.
    pub committables: Committables,
    /// Sinks of the plan that commit. Without one, nothing can have been committed.
    pub sinks: BTreeSet<OperatorId>,
    /// All savepoints of the job, by name.
    pub savepoints: BTreeMap<String, Pin>,
    /// The head's stop flag, copied by a run that only maintains.
    pub stop: Option<Stop>,
    /// The value of `spec.restoreFrom` that was used last: it is not used again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<String>,
    /// Savepoints of other jobs that are kept for this one and not given up yet: their names, and the folders of those
    /// jobs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub holds: BTreeMap<String, String>,
    /// What was left since the last checkpoint because another code was to begin with another state, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<Left>,
}

/// What a code would go on from, had no other one begun with another state: a rollback goes back to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Left {
    /// The code.
    pub code: String,
    /// Its state.
    pub origin: Origin,
    /// The value of `spec.restoreFrom` that it had used last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<String>,
}

/// What a completed checkpoint contains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The job's name.
    pub job: String,
    /// The link's own number, so that a body in a wrong place is found.
    pub number: LinkNumber,
    /// The generation that took it.
    pub generation: Generation,
    /// Unique in the job's history: whose body it is after an unknown outcome.
    pub attempt: String,
    /// The checkpoint's number.
    pub checkpoint: CheckpointId,
    /// When it was complete, in milliseconds since 1970.
    pub completed_unix_ms: u64,
    /// On whose word the generation runs.
    #[serde(default)]
    pub terms: Terms,
    /// Subtasks of every keyed operator.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: MaxParallelism,
    /// The start of its generation, which carries the key-group map.
    pub start: LinkNumber,
    /// The checkpoint that this one goes on from, if it is in the same chain.
    pub previous: Option<LinkNumber>,
    /// Fingerprint of the plan.
    pub plan: String,
    /// The state of every operator.
    pub operators: BTreeMap<OperatorId, OperatorState>,
    /// What its barrier overtook, by the task that it was on its way to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_flight: Vec<InFlightFile>,
    /// What is not confirmed yet, of this checkpoint and of those before.
    pub committables: Committables,
    /// Sinks of the plan that commit. Without one, nothing can have been committed.
    pub sinks: BTreeSet<OperatorId>,
    /// All savepoints of the job, by name, those asked with this checkpoint included.
    pub savepoints: BTreeMap<String, Pin>,
    /// Set when the job stands still after this checkpoint.
    pub stop: Option<Stop>,
    /// Savepoints of other jobs that are kept for this one and not given up yet: their names, and the folders of those
    /// jobs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub holds: BTreeMap<String, String>,
    /// How large it is.
    pub sizes: Sizes,
}

/// How large a checkpoint is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sizes {
    /// Bytes of state that this checkpoint wrote.
    pub written_bytes: u64,
    /// Bytes of all files that it references.
    pub total_bytes: u64,
    /// Number of files that it references.
    pub files: u64,
    /// Bytes of rows that were in flight.
    #[serde(default)]
    pub in_flight_bytes: u64,
}

/// The state of one operator over all of its tasks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperatorState {
    /// What kind of operator it is, in words for a user.
    pub kind: String,
    /// The schema of its state; a plan fits only with an equal one.
    pub schema: serde_json::Value,
    /// What the columns of its state mean, for those who export it; a plan fits whatever it says.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub legend: serde_json::Value,
    /// Files of keyed state, ordered by table, sequence and path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<StateFile>,
    /// Splits with something left to read, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unfinished: BTreeMap<String, SplitProgress>,
    /// Names of the splits that have been read to their ends.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub finished: BTreeSet<String>,
    /// The event time up to which key groups have been handled; sorted, disjoint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watermarks: Vec<(KeyGroupRange, EventTime)>,
    /// What the writers of a sink go on from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writers: Vec<serde_json::Value>,
    /// Counters, summed over tasks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counters: BTreeMap<String, u64>,
}

/// What the protocol needs to know of a plan.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Equal for equal plans of equal builds.
    pub fingerprint: String,
    /// Every operator that takes part in checkpoints.
    pub operators: BTreeMap<OperatorId, OperatorPlan>,
    /// The sinks among them that commit.
    pub sinks: BTreeSet<OperatorId>,
    /// The connections between its chains.
    pub edges: BTreeSet<EdgeId>,
    /// What to do with the state of operators that the plan no longer has.
    pub dropped_state: DroppedState,
}

/// One operator of a plan, as its state describes itself.
#[derive(Debug, Clone, PartialEq)]
pub struct OperatorPlan {
    /// What kind of operator it is, in words for a user.
    pub kind: String,
    /// The schema of its state.
    pub schema: serde_json::Value,
    /// What the columns of its state mean.
    pub legend: serde_json::Value,
}

/// What to do with the state of operators that the plan no longer has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DroppedState {
    /// The plan does not fit the state.
    #[default]
    Refuse,
    /// That state is lost from the next checkpoint on.
    Allow,
}

impl Link {
    /// The link's own number.
    #[must_use]
    pub fn number(&self) -> LinkNumber {
        match self {
            Self::Start(start) => start.number,
            Self::Checkpoint(manifest) => manifest.number,
        }
    }

    /// The job it belongs to.
    #[must_use]
    pub fn job(&self) -> &str {
        match self {
            Self::Start(start) => &start.job,
            Self::Checkpoint(manifest) => &manifest.job,
        }
    }

    /// The generation that wrote it.
    #[must_use]
    pub fn generation(&self) -> Generation {
        match self {
            Self::Start(start) => start.generation,
            Self::Checkpoint(manifest) => manifest.generation,
        }
    }

    /// Whose body it is.
    #[must_use]
    pub fn attempt(&self) -> &str {
        match self {
            Self::Start(start) => &start.attempt,
            Self::Checkpoint(manifest) => &manifest.attempt,
        }
    }

    /// The stop flag.
    #[must_use]
    pub fn stop(&self) -> Option<Stop> {
        match self {
            Self::Start(start) => start.stop,
            Self::Checkpoint(manifest) => manifest.stop,
        }
    }

    /// What is not confirmed as of this link.
    #[must_use]
    pub fn committables(&self) -> &Committables {
        match self {
            Self::Start(start) => &start.committables,
            Self::Checkpoint(manifest) => &manifest.committables,
        }
    }

    /// Sinks that commit, by the plan that wrote the link.
    #[must_use]
    pub fn sinks(&self) -> &BTreeSet<OperatorId> {
        match self {
            Self::Start(start) => &start.sinks,
            Self::Checkpoint(manifest) => &manifest.sinks,
        }
    }

    /// All savepoints of the job as of this link.
    #[must_use]
    pub fn savepoints(&self) -> &BTreeMap<String, Pin> {
        match self {
            Self::Start(start) => &start.savepoints,
            Self::Checkpoint(manifest) => &manifest.savepoints,
        }
    }

    /// On whose word its generation runs.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        match self {
            Self::Start(start) => &start.terms,
            Self::Checkpoint(manifest) => &manifest.terms,
        }
    }

    /// Subtasks of every keyed operator in its generation.
    #[must_use]
    pub fn parallelism(&self) -> u32 {
        match self {
            Self::Start(start) => start.key_groups.parallelism(),
            Self::Checkpoint(manifest) => manifest.parallelism,
        }
    }

    /// Savepoints of other jobs that are kept for this one as of this link.
    #[must_use]
    pub fn holds(&self) -> &BTreeMap<String, String> {
        match self {
            Self::Start(start) => &start.holds,
            Self::Checkpoint(manifest) => &manifest.holds,
        }
    }

    /// What other codes would go on from.
    #[must_use]
    pub fn left(&self) -> &[Left] {
        match self {
            Self::Start(start) => &start.left,
            Self::Checkpoint(_) => &[],
        }
    }

    /// The state that this link stands for: a manifest stands for itself.
    #[must_use]
    pub fn origin(&self) -> Origin {
        match self {
            Self::Start(start) => start.origin.clone(),
            Self::Checkpoint(manifest) => Origin::Link(manifest.number),
        }
    }

    /// The manifest, if it is one.
    #[must_use]
    pub fn manifest(&self) -> Option<&Manifest> {
        match self {
            Self::Start(_) => None,
            Self::Checkpoint(manifest) => Some(manifest),
        }
    }
}

impl Manifest {
    /// All files of keyed state.
    pub fn files(&self) -> impl Iterator<Item = &StateFile> {
        self.operators.values().flat_map(|operator| &operator.files)
    }

    /// The paths of all files that it needs.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        let in_flight = self.in_flight.iter().map(|file| file.path.as_str());
        self.files().map(|file| file.path.as_str()).chain(in_flight)
    }
}
