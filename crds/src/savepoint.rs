//! Savepoint as it is written: it asks for a savepoint of a running job, and tracks it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{JobRef, rule, schema};

/// Which job to save, and what becomes of the saved state.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "Savepoint",
    plural = "savepoints",
    shortname = "svp",
    category = "weir",
    namespaced,
    status = "SavepointStatus",
    derive = "PartialEq",
    doc = "A named, complete copy of a job's state, taken once when this object is created and kept until it is deleted.",
    validation = rule::SAVEPOINT_NAME_LENGTH.at_root(),
    printcolumn(name = "Job", type_ = "string", json_path = ".spec.jobRef.name"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Checkpoint", type_ = "integer", json_path = ".status.checkpoint"),
    printcolumn(name = "Bytes", type_ = "integer", json_path = ".status.stateBytes"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Path", type_ = "string", json_path = ".status.path", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::tidy)]
pub struct SavepointSpec {
    /// The job to save, in this namespace. Cannot be changed.
    #[schemars(extend("x-kubernetes-validations" = rule::list(&[&rule::JOB_REF_FIXED])))]
    pub job_ref: JobRef,
    /// What happens to the saved state when this Savepoint is deleted.
    #[serde(default)]
    pub deletion_policy: SavepointDeletionPolicy,
}

/// What happens to the state of a deleted Savepoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SavepointDeletionPolicy {
    /// It stays in the store and can be restored by its path.
    #[default]
    Retain,
    /// It is deleted from the store.
    Delete,
}

/// How far the savepoint is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(transform = schema::tidy)]
pub struct SavepointStatus {
    /// Generation of the spec that this status is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<SavepointState>,
    /// Why it failed or what it waits for, for humans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Number of the checkpoint that carries this savepoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<u64>,
    /// Where it lies in the store; `spec.restoreFrom.path` of a StreamJob takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Size of the state that it holds, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_bytes: Option<u64>,
    /// When it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it was complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// Ready, Reconciling and Stalled, with a reason and a message each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("maxItems" = 16, "x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// How far a savepoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SavepointState {
    /// It waits until the job runs.
    Pending,
    /// The job is taking it.
    InProgress,
    /// It is complete and can be restored.
    Completed,
    /// It could not be taken; the message says why. Create another one.
    Failed,
}
