//! `spec.storage`: where checkpoints and savepoints are kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{rule, schema};

/// Where checkpoints and savepoints are kept: exactly one of `s3`, `local` and `persistentVolumeClaim`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = rule::list(&[&rule::ONE_STORAGE, &rule::STORAGE_KIND_FIXED])))]
pub struct StorageSpec {
    /// A bucket of S3 or of a store with its interface. The store must honour conditional writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3StorageSpec>,
    /// A directory, for `weir run`. On a cluster it must be that of a volume which `worker.podTemplate` mounts into all
    /// workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<LocalStorageSpec>,
    /// A volume that all workers mount (ReadWriteMany, unless there is one worker).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent_volume_claim: Option<VolumeClaimStorageSpec>,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct S3StorageSpec {
    /// Name of the bucket. Cannot be changed.
    #[schemars(
        length(min = 3, max = 63),
        regex(pattern = schema::BUCKET),
        extend("x-kubernetes-validations" = rule::list(&[&rule::PLACE_FIXED]))
    )]
    pub bucket: String,
    /// What all keys begin with, without a slash at either end; the job's folder `<namespace>/<name>-<uid>` follows.
    /// Cannot be changed.
    #[serde(default)]
    #[schemars(
        length(max = 512),
        regex(pattern = schema::PREFIX),
        extend("x-kubernetes-validations" = rule::list(&[&rule::PLACE_FIXED]))
    )]
    pub prefix: String,
    /// Address of the store, such as `https://minio.example:9000`. Absent: AWS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 512), regex(pattern = schema::ENDPOINT))]
    pub endpoint: Option<String>,
    /// Region of the bucket. Absent: from the environment of the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub region: Option<String>,
    /// Writes the bucket into the path of a request, not into the host name; most stores other than AWS need it.
    #[serde(default)]
    pub force_path_style: bool,
    /// Secret in this namespace with the keys `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, and `AWS_SESSION_TOKEN`
    /// for temporary ones. Absent: the pod's identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretRef>,
}

/// A Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::OBJECT_NAME))]
    pub name: String,
}

/// A directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalStorageSpec {
    /// Path of the directory; it is made when it is missing. Cannot be changed.
    #[schemars(
        length(min = 1, max = 1_024),
        extend("x-kubernetes-validations" = rule::list(&[&rule::PLACE_FIXED]))
    )]
    pub path: String,
}

/// A PersistentVolumeClaim in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VolumeClaimStorageSpec {
    /// Name of the claim. Cannot be changed.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = schema::OBJECT_NAME),
        extend("x-kubernetes-validations" = rule::list(&[&rule::PLACE_FIXED]))
    )]
    pub claim_name: String,
    /// Folder of the volume, relative to its root. Cannot be changed.
    #[serde(default)]
    #[schemars(
        length(max = 512),
        extend("x-kubernetes-validations" = rule::list(&[&rule::SUB_PATH, &rule::PLACE_FIXED]))
    )]
    pub sub_path: String,
}
