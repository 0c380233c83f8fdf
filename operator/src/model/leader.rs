//! What leaders say, and what they are asked for.

use serde_json::{Value, json};

/// What one leader's pod says about the job.
#[derive(Clone, Debug, PartialEq)]
pub enum LeaderSeen {
    /// Nothing: it does not listen yet, or not any more.
    Silent {
        /// For humans.
        message: String,
    },
    /// It answers.
    Answers(Box<LeaderReport>),
}

impl LeaderSeen {
    /// What it says, if it says anything.
    #[must_use]
    pub fn report(&self) -> Option<&LeaderReport> {
        match self {
            Self::Answers(report) => Some(report),
            Self::Silent { .. } => None,
        }
    }
}

/// A leader's answers to `GET /v1/job`, `/v1/checkpoints`, `/v1/assignment` and `/v1/savepoints`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeaderReport {
    /// Where it is.
    pub state: LeaderState,
    /// How it has ended, if it has.
    pub ending: Option<Ending>,
    /// The generation that it has claimed.
    pub generation: Option<u64>,
    /// Restarts of generations by this process.
    pub restarts: u64,
    /// Why something failed last.
    pub last_failure: Option<Failure>,
    /// The revision in force; 0 for none.
    pub revision: u64,
    /// With so many subtasks.
    pub parallelism: u32,
    /// On so many workers.
    pub workers: u32,
    /// With this code.
    pub code: String,
    /// The highest revision that it knows.
    pub assigned: u64,
    /// The change under way.
    pub change: Option<Change>,
    /// The revision that the job could not change to, and why.
    pub failed: Option<(u64, String)>,
    /// Checkpoints that this process has completed.
    pub completed: u64,
    /// Failed checkpoints of this process.
    pub failed_checkpoints: u64,
    /// Why the newest checkpoint of this process that has ended failed, if it did.
    pub failing_checkpoint: Option<String>,
    /// The newest checkpoint that is retained.
    pub last_checkpoint: Option<CheckpointSeen>,
    /// Workers that have registered; none if it does not say.
    pub registered: Option<u32>,
    /// The savepoints that it knows.
    pub savepoints: Vec<SavepointReport>,
}

impl LeaderReport {
    /// Whether it has looked at the state of the job: one that cannot even begin, as its SQL is wrong, has not.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.ending != Some(Ending::Failed) || self.generation.is_some() || self.assigned > 0
    }
}

/// `state` of `GET /v1/job`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeaderState {
    /// It has not begun.
    #[default]
    Idle,
    /// It reads the chain, claims and starts.
    Starting,
    /// Its turn has not come.
    Awaiting,
    /// Sinks commit what was left.
    Settling,
    /// Tasks are being started.
    Deploying,
    /// The job runs.
    Running,
    /// The last checkpoint is complete and being committed.
    Stopping,
    /// Tasks are being cancelled.
    Cancelling,
    /// For a restart.
    Waiting,
    /// It has ended; `ending` says how.
    Ended,
}

/// How a leader has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The input has ended.
    Finished,
    /// The job was stopped with a savepoint.
    Stopped,
    /// Another leader goes on.
    HandedOver,
    /// Its assignment cannot be carried out.
    Stalled,
    /// Another leader has taken over.
    Fenced,
    /// The job cannot go on; `last_failure` says why.
    Failed,
}

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What to do about it.
    pub kind: FailureKind,
    /// For humans.
    pub message: String,
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The user must change something.
    User,
    /// Trying again may help.
    Transient,
    /// Something stored is damaged.
    Corrupt,
    /// Another leader works.
    Fenced,
    /// A mistake of ours.
    Bug,
}

/// A change to another revision under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The revision.
    pub revision: u64,
    /// How far it is.
    pub step: SwitchStep,
}

/// How far a leader is with a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchStep {
    /// Workers register.
    Gathering,
    /// They load.
    Preparing,
    /// The job stops.
    Stopping,
}

/// A completed checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointSeen {
    /// Its number.
    pub number: u64,
    /// Its link in the chain.
    pub link: u64,
    /// When it was complete.
    pub completed_unix_ms: i64,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<u64>,
    /// Bytes that it holds.
    pub total_bytes: Option<u64>,
    /// Bytes that it wrote itself.
    pub written_bytes: Option<u64>,
}

/// A savepoint, as `GET /v1/savepoints` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavepointReport {
    /// Its name in the store.
    pub name: String,
    /// The uid of the request.
    pub uid: String,
    /// How far it is.
    pub state: SavepointSeenState,
    /// Why it failed, or what it waits for.
    pub message: Option<String>,
    /// The checkpoint that carries it.
    pub checkpoint: Option<u64>,
    /// When it was complete.
    pub completed_unix_ms: Option<i64>,
    /// Bytes that it holds.
    pub total_bytes: Option<u64>,
}

/// How far a leader is with a savepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SavepointSeenState {
    /// It is to be taken.
    Pending,
    /// It is complete.
    Completed,
    /// It could not be taken.
    Failed,
    /// It is given up.
    Deleting,
}

/// A request for the leader in a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The StreamJob of the pod: this one, or the one that `restoreFrom.job` names.
    pub job: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's address.
    pub address: String,
    /// The request.
    pub request: LeaderRequest,
}

/// What a leader is asked for. Every request may be repeated without effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaderRequest {
    /// `PUT /v1/assignment`.
    Assign(Assign),
    /// `POST /v1/savepoints`.
    TakeSavepoint {
        /// Its name.
        name: String,
        /// Tells requests apart.
        uid: String,
        /// What the job does afterwards.
        then: Then,
    },
    /// `DELETE /v1/savepoints/{name}`.
    ReleaseSavepoint {
        /// Its name.
        name: String,
    },
}

/// What a job does after a savepoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It goes on.
    Continue,
    /// It stops.
    Stop,
}

/// What the job shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assign {
    /// The revision.
    pub revision: u64,
    /// Subtasks of every keyed operator.
    pub parallelism: u32,
    /// Worker processes.
    pub workers: u32,
    /// What runs.
    pub code: String,
    /// Takes over from the last checkpoint, without waiting for a stop.
    pub force: bool,
    /// The code that is taken back.
    pub rollback: Option<String>,
    /// The state to begin with, instead of the job's own.
    pub restore: Option<RestorePoint>,
}

/// A state of the job that an assignment begins with.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RestorePoint {
    /// None: it begins anew.
    Nothing,
    /// A savepoint of this job, by its name in the store.
    Savepoint(String),
}

impl LeaderRequest {
    /// The method and the path.
    #[must_use]
    pub fn route(&self) -> (&'static str, String) {
        match self {
            Self::Assign(_) => ("PUT", "/v1/assignment".to_owned()),
            Self::TakeSavepoint { .. } => ("POST", "/v1/savepoints".to_owned()),
            Self::ReleaseSavepoint { name } => ("DELETE", format!("/v1/savepoints/{name}")),
        }
    }

    /// The body, in JSON; none for requests without.
    #[must_use]
    pub fn body(&self) -> Option<Value> {
        match self {
            Self::Assign(assign) => Some(assign.body()),
            Self::TakeSavepoint { name, uid, then } => {
                let then = match then {
                    Then::Continue => "continue",
                    Then::Stop => "stop",
                };
                Some(json!({"name": name, "requestUid": uid, "then": then}))
            }
            Self::ReleaseSavepoint { .. } => None,
        }
    }

    /// What the request is about: a later one of the same subject takes the place of an earlier one.
    #[must_use]
    pub fn subject(&self) -> String {
        match self {
            Self::Assign(assign) => format!("assignment {}", assign.revision),
            Self::TakeSavepoint { name, .. } | Self::ReleaseSavepoint { name } => format!("savepoint {name}"),
        }
    }
}

impl Assign {
    fn body(&self) -> Value {
        let mut body = json!({
            "revision": self.revision, "parallelism": self.parallelism, "workers": self.workers, "code": self.code,
        });
        if self.force {
            body["force"] = json!(true);
        }
        if let Some(code) = &self.rollback {
            body["rollback"] = json!(code);
        }
        match &self.restore {
            Some(RestorePoint::Nothing) => body["restoreFrom"] = json!("nothing"),
            Some(RestorePoint::Savepoint(name)) => body["restoreFrom"] = json!({"savepoint": name}),
            None => {}
        }
        body
    }
}

/// A request that a leader refused: an answer from 400 to 499, or a savepoint that failed (500).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// [`LeaderRequest::subject`].
    pub subject: String,
    /// The status of the answer.
    pub status: u16,
    /// `error` and `hint` of the answer.
    pub message: String,
    /// When it came.
    pub at: jiff::Timestamp,
}
