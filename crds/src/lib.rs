//! StreamJob and Savepoint: the resources a Weir user writes.
//!
//! Three things live here and nothing else: the types as they are written ([`StreamJob`], [`Savepoint`]; their doc
//! comments are the text of `kubectl explain`), the CRDs generated from them with their CEL rules, and the one check
//! that turns a manifest into a [`ValidatedJob`]. Invariants:
//!
//! - The shape that [`parse`] accepts is read from the generated CRD schema, so it cannot drift from the types.
//! - Whatever a CEL rule refuses, [`validate`] (or [`validate_update`] for a change) refuses too, with a field path.
//! - Nobody behind [`validate`] looks at the raw resource again to find out what was meant.
//!
//! No I/O, no Kubernetes client.

mod duration;
mod job;
mod manifest;
mod reason;
mod rule;
mod savepoint;
mod schema;
mod streamjob;
mod validate;

pub use duration::{Duration, DurationError};
pub use job::{
    Checkpointing, ConfigMapKey, Position, RestartStrategy, RestoreFrom, Rollback, Sql, Storage, ValidatedJob,
};
pub use reason::Reason;
pub use savepoint::{Savepoint, SavepointDeletionPolicy, SavepointSpec, SavepointState, SavepointStatus};
pub use schema::definitions;
pub use streamjob::{
    ChangeKind, ChangeStatus, ChangeStep, CheckpointMode, CheckpointSpec, CheckpointStatus, ConfigMapKeySpec,
    DeletionPolicy, DesiredState, ExponentialDelaySpec, FailureRateSpec, FailureStatus, FixedDelaySpec, JobRef,
    JobState, LocalStorageSpec, NoRestartSpec, PipelineSpec, PodTemplateMetadata, PodTemplatePodSpec, PodTemplateSpec,
    ResourcesSpec, RestartSpec, RestoreSpec, RollbackSpec, S3StorageSpec, SavepointReference, SecretRef, SqlFromSpec,
    StorageSpec, StreamJob, StreamJobSpec, StreamJobStatus, UnalignedSpec, UpgradeMode, VolumeClaimStorageSpec,
    WorkerSpec,
};
pub use validate::{Mistake, parse, validate, validate_update};

/// API group of every resource of Weir.
pub const GROUP: &str = "weir.dev";
/// API version of every resource of Weir.
pub const VERSION: &str = "v1alpha1";
/// Longest name of a StreamJob in bytes: what is left of a DNS label (63) after the suffixes of its pods and services.
pub const MAX_JOB_NAME: usize = 45;
/// Most key groups a job can have, and so the highest parallelism.
pub const MAX_PARALLELISM: u32 = 32_768;
