//! StreamJob as it is written. The doc comments are what `kubectl explain` shows: they speak to the user.
//!
//! Everything but `pipeline` has a default. Exclusive choices are objects with optional fields of which one is set,
//! as everywhere in Kubernetes; `ValidatedJob` has them as enums.

mod checkpoint;
mod restart;
mod status;
mod storage;
mod worker;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use checkpoint::{CheckpointMode, CheckpointSpec, UnalignedSpec};
pub use restart::{ExponentialDelaySpec, FailureRateSpec, FixedDelaySpec, NoRestartSpec, RestartSpec};
pub use status::{
    ChangeKind, ChangeStatus, ChangeStep, CheckpointStatus, FailureStatus, JobState, SavepointReference,
    StreamJobStatus,
};
pub use storage::{LocalStorageSpec, S3StorageSpec, SecretRef, StorageSpec, VolumeClaimStorageSpec};
pub use worker::{PodTemplateMetadata, PodTemplatePodSpec, PodTemplateSpec, ResourcesSpec, WorkerSpec};

use crate::Duration;
use crate::{rule, schema};

/// What the job computes, how wide it runs, and how it survives failures.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "StreamJob",
    plural = "streamjobs",
    shortname = "sj",
    category = "weir",
    namespaced,
    status = "StreamJobStatus",
    derive = "PartialEq",
    doc = "A continuous SQL query over streams: it reads sources, keeps state, and writes every result exactly once.",
    validation = rule::JOB_NAME_LENGTH.at_root(),
    validation = rule::JOB_NAME_FORM.at_root(),
    scale(
        spec_replicas_path = ".spec.parallelism",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Parallelism", type_ = "integer", json_path = ".spec.parallelism"),
    printcolumn(name = "Workers", type_ = "integer", json_path = ".status.readyWorkers"),
    printcolumn(name = "Checkpoint age", type_ = "date", json_path = ".status.lastCheckpoint.completedAt"),
    printcolumn(name = "Restarts", type_ = "integer", json_path = ".status.restarts"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".status.revision", priority = 1),
    printcolumn(
        name = "State bytes",
        type_ = "integer",
        json_path = ".status.lastCheckpoint.stateBytes",
        priority = 1
    ),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[schemars(
    transform = schema::tidy,
    extend("x-kubernetes-validations" = rule::list(&[&rule::PARALLELISM_WITHIN_MAX, &rule::STORAGE_KEPT]))
)]
pub struct StreamJobSpec {
    /// Number of subtasks of every keyed operator. Change it at any time to scale: `kubectl scale` and a
    /// HorizontalPodAutoscaler act on this field. To stop a job set `state: Suspended` instead.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 32_768))]
    pub parallelism: u32,

    /// Number of key groups, the pieces that keyed state is divided into: the highest `parallelism` that this job can
    /// ever have. Cannot be changed.
    #[serde(default = "max_parallelism")]
    #[schemars(
        range(min = 1, max = 32_768),
        extend("x-kubernetes-validations" = rule::list(&[&rule::MAX_PARALLELISM_FIXED]))
    )]
    pub max_parallelism: u32,

    /// Subtasks that share one worker (a pod). The job has parallelism / slotsPerWorker workers, rounded up.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1_024))]
    pub slots_per_worker: u32,

    /// What the job should be doing.
    #[serde(default)]
    pub state: DesiredState,

    /// Where an upgrade (a change of SQL, image or pod template) takes its state from. It never falls back to
    /// `Stateless` by itself.
    #[serde(default)]
    pub upgrade_mode: UpgradeMode,

    /// State to begin with, other than the job's own. Each new value is used once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_from: Option<RestoreSpec>,

    /// The SQL that the job runs.
    pub pipeline: PipelineSpec,

    /// When and how the job's state is made durable.
    #[serde(default)]
    pub checkpoint: CheckpointSpec,

    /// Where checkpoints and savepoints are kept. A job on a cluster needs it; `weir run` defaults to a directory.
    /// The place cannot be changed later, because the state lies there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageSpec>,

    /// What happens after a failure. Absent: exponentialDelay with its defaults.
    #[serde(default)]
    #[schemars(transform = schema::without_default)]
    pub restart: RestartSpec,

    /// The pods that run the job.
    #[serde(default)]
    pub worker: WorkerSpec,

    /// Whether a failed upgrade is undone.
    #[serde(default)]
    pub rollback: RollbackSpec,

    /// Lets an upgrade drop the state of operators that the new SQL no longer has. Without it such an upgrade is
    /// refused, and the job goes on as it was.
    #[serde(default)]
    pub allow_dropped_state: bool,

    /// What happens to checkpoints and savepoints when this StreamJob is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

fn one() -> u32 {
    1
}

fn max_parallelism() -> u32 {
    128
}

/// What the job should be doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DesiredState {
    /// The job runs.
    #[default]
    Running,
    /// The job stops after a last checkpoint and keeps its state. Set Running to go on from there.
    Suspended,
}

/// Where an upgrade takes its state from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpgradeMode {
    /// Stop with a savepoint and start the new version from it: nothing is processed twice.
    #[default]
    Savepoint,
    /// Stop at once and start from the last completed checkpoint; what came after it is processed again.
    LastCheckpoint,
    /// Start with empty state.
    Stateless,
}

/// What happens to the state of a deleted job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// Everything stays where it is.
    #[default]
    Retain,
    /// A last savepoint is taken and kept, beside the newest `checkpoint.retain` checkpoints.
    Savepoint,
    /// Checkpoints and savepoints are deleted.
    Delete,
}

/// State to begin with: at most one of `savepoint`, `path` and `job`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rule::list(&[&rule::ONE_RESTORE])))]
pub struct RestoreSpec {
    /// Name of a Savepoint in this namespace, of this or of another job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::OBJECT_NAME))]
    pub savepoint: Option<String>,
    /// Path of a savepoint or checkpoint in the store, such as `s3://bucket/prefix/…/savepoints/before-upgrade`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2_048))]
    pub path: Option<String>,
    /// Another job: start from its latest checkpoint (a fork). Both jobs go on independently.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobRef>,
}

/// A StreamJob in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobRef {
    /// Name of the StreamJob.
    #[schemars(length(min = 1, max = 45), regex(pattern = schema::OBJECT_NAME))]
    pub name: String,
}

/// The SQL: exactly one of `sql` and `sqlFrom`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rule::list(&[&rule::ONE_SQL])))]
pub struct PipelineSpec {
    /// Statements in Flink's dialect, separated by semicolons: CREATE TABLE, CREATE VIEW, INSERT INTO. At most 512 KiB.
    /// A secret is written as '${secret:name/key}' in an option of WITH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 524_288))]
    pub sql: Option<String>,
    /// Takes the statements from another object. A change there is an upgrade of the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql_from: Option<SqlFromSpec>,
}

/// An object that holds SQL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SqlFromSpec {
    /// A key of a ConfigMap in this namespace.
    pub config_map_key_ref: ConfigMapKeySpec,
}

/// A key of a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKeySpec {
    /// Name of the ConfigMap.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::OBJECT_NAME))]
    pub name: String,
    /// Key whose value is the SQL.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::CONFIG_KEY))]
    pub key: String,
}

/// Whether a failed upgrade is undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = rule::list(&[&rule::DEADLINE])))]
pub struct RollbackSpec {
    /// Goes back to the last version that ran when an upgrade does not complete its first checkpoint in time.
    pub enabled: bool,
    /// How long an upgrade may take until its first completed checkpoint.
    pub deadline: Duration,
}

impl Default for RollbackSpec {
    fn default() -> Self {
        Self { enabled: true, deadline: Duration::from_secs(300) }
    }
}
