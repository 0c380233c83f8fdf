//! A Savepoint object as it was seen.

use jiff::Timestamp;
use weir_crds::{Savepoint, SavepointDeletionPolicy, SavepointStatus};

use super::name;

/// A Savepoint of the job.
#[derive(Clone, Debug, PartialEq)]
pub struct SavepointSeen {
    /// Name of the object, and of the savepoint in the store.
    pub name: String,
    /// Uid of the object.
    pub uid: String,
    /// Generation of its spec.
    pub generation: Option<i64>,
    /// Since when it is being deleted, if it is.
    pub deleted: Option<Timestamp>,
    /// Whether it has our finalizer.
    pub finalizer: bool,
    /// What becomes of the state when it is deleted.
    pub policy: SavepointDeletionPolicy,
    /// How far it was.
    pub status: SavepointStatus,
}

impl SavepointSeen {
    /// Where it lies, to follow other words; empty if that is not known.
    #[must_use]
    pub fn at(&self) -> String {
        self.status.path.as_ref().map_or_else(String::new, |path| format!(" at {path}"))
    }

    /// What is seen of an object.
    #[must_use]
    pub fn of(object: &Savepoint) -> Self {
        let meta = &object.metadata;
        Self {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            generation: meta.generation,
            deleted: meta.deletion_timestamp.as_ref().map(|time| time.0),
            finalizer: meta.finalizers.iter().flatten().any(|finalizer| finalizer == name::SAVEPOINT_FINALIZER),
            policy: object.spec.deletion_policy,
            status: object.status.clone().unwrap_or_default(),
        }
    }
}
