//! `status` of a StreamJob: a report. The truth about a job is its leader's and its checkpoints'.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Duration, schema};

/// What the controller last saw of the job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::tidy)]
pub struct StreamJobStatus {
    /// Generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What the job is doing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<JobState>,
    /// Why the job is in this state, for humans: the text of the last error, say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Parallelism with which the job runs now; the scale subresource reads it.
    pub replicas: u32,
    /// Label selector of the pods that run the job; a HorizontalPodAutoscaler reads it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Workers that the job should have.
    pub workers: u32,
    /// Workers that have joined the running generation.
    pub ready_workers: u32,
    /// Attempt to run the job, counted up with every start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_generation: Option<u64>,
    /// Revision (parallelism, workers and code) that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// Restarts after failures since the job was created.
    pub restarts: u64,
    /// The last completed checkpoint; written at most once a minute while nothing else changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_checkpoint: Option<CheckpointStatus>,
    /// The newest savepoint of the job that the controller knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_savepoint: Option<SavepointReference>,
    /// What the job would go on from if it were started again now, for humans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restores_from: Option<String>,
    /// The last failure of the job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<FailureStatus>,
    /// The change (rescale, upgrade, suspension) that is being carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<ChangeStatus>,
    /// Value of spec.restoreFrom that was used last, as a hash: it is not used again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<String>,
    /// What was asked for and failed, as a hash: it is not tried again until image, SQL, template or the way to
    /// upgrade change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_code: Option<String>,
    /// Ready, Reconciling and Stalled, with a reason and a message each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 16, "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What a job is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum JobState {
    /// Accepted; its pods are being made.
    Pending,
    /// Its workers load state and connect.
    Starting,
    /// It processes records.
    Running,
    /// A failure ended the last generation; the next one is on its way.
    Restarting,
    /// It changes its parallelism.
    Rescaling,
    /// It changes its code.
    Upgrading,
    /// It goes back to the code that ran before a failed upgrade.
    RollingBack,
    /// It takes a last checkpoint before it stops.
    Suspending,
    /// It has stopped and keeps its state.
    Suspended,
    /// Its bounded input has ended and all results are committed.
    Finished,
    /// It has stopped for good: the restart strategy is exhausted, or a human must change something.
    Failed,
    /// It is being deleted.
    Deleting,
}

/// A completed checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CheckpointStatus {
    /// Its number in the chain of checkpoints.
    pub number: u64,
    /// When it was complete.
    pub completed_at: Time,
    /// How long it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Duration>,
    /// Size of the state that it holds, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_bytes: Option<u64>,
    /// What it wrote itself, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_bytes: Option<u64>,
}

/// A savepoint of the job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SavepointReference {
    /// Its name in the store.
    pub name: String,
    /// Number of the checkpoint that carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<u64>,
    /// When it was complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
}

/// A failure of the job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailureStatus {
    /// User (change something), Transient (it is tried again), Corrupt (stored state is damaged), Fenced (another
    /// leader works) or Bug.
    pub kind: String,
    /// What happened, and what to do about it.
    pub message: String,
}

/// A change that is being carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChangeStatus {
    /// What kind of change it is.
    pub kind: ChangeKind,
    /// Revision that the job changes to.
    pub revision: u64,
    /// What is being done, or is about to be.
    pub step: ChangeStep,
    /// What it waits for, or what stopped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it began.
    pub started_at: Time,
    /// When the revision came into force: from then on rollback.deadline counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_force_since: Option<Time>,
}

/// What kind of change a job goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ChangeKind {
    /// The first start.
    Start,
    /// Another parallelism.
    Rescale,
    /// Another image, SQL or template; or a restart that was asked for.
    Upgrade,
    /// Back to what ran before a failed upgrade.
    Rollback,
    /// A stop that was asked for.
    Suspend,
    /// A start after that.
    Resume,
    /// The state is looked after before the job is gone.
    Delete,
}

/// How far a change is. Each step is written down before it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ChangeStep {
    /// What `restoreFrom` names is looked for, or pinned where it lies.
    Finding,
    /// The revision is written down.
    Recording,
    /// A pod of the new version tells whether it fits the state.
    Checking,
    /// New pods are made.
    Starting,
    /// The leader is told; it lets its workers load and stops the job with a savepoint.
    Assigning,
    /// The new version has begun; its first checkpoint is awaited.
    Proving,
    /// The job takes its last savepoint.
    Stopping,
    /// A pod works on the state of the stopped job.
    Maintaining,
}
