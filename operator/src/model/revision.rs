//! Revisions: immutable objects, one for each thing that the job was ever told to be.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::ControllerRevision;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{RestorePoint, name};

/// A revision of the job: an assignment of the same number, and the program that its pods run.
#[derive(Clone, Debug, PartialEq)]
pub struct RevisionSeen {
    /// Name of the object.
    pub name: String,
    /// Uid of the object.
    pub uid: String,
    /// From 1 on; orders revisions.
    pub number: u64,
    /// When it was made.
    pub created: Timestamp,
    /// What it says; never changes.
    pub content: Content,
    /// What became of it.
    pub marks: Vec<Mark>,
}

/// What a revision says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// What of the user's wish it came from, as a hash; a wish of the same hash that failed is not tried again.
    pub key: String,
    /// What runs, as a hash: equal for equal programs.
    pub code: String,
    /// The revision whose pods and ConfigMap it uses: itself, or an earlier one of the same program.
    pub program: u64,
    /// Subtasks of every keyed operator.
    pub parallelism: u32,
    /// Worker pods.
    pub workers: u32,
    /// It takes over from the last checkpoint, without waiting for a stop.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// The failed upgrade that it undoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes_back: Option<TakesBack>,
    /// The state that it begins with, instead of the job's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestorePoint>,
    /// The value of `spec.restoreFrom` that counts as used with it, as a hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<String>,
    /// The image of its pods.
    #[serde(default)]
    pub image: String,
    /// The value of the annotation `weir.dev/restart`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<String>,
    /// The StreamJob that its workers read, with its SQL. Only where `program` is the revision itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Value>,
}

/// The path that a program's manifest says to begin with. It is recorded only where it has not been used before.
#[must_use]
pub fn restore_path(manifest: &Value) -> Option<&str> {
    manifest["spec"]["restoreFrom"]["path"].as_str()
}

/// A failed upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TakesBack {
    /// Its revision.
    pub revision: u64,
    /// Its code.
    pub code: String,
}

/// What became of a revision: an annotation that is set once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It has completed a checkpoint.
    Stable,
    /// It is not tried again.
    Failed {
        /// The condition's reason.
        reason: String,
        /// For humans.
        message: String,
    },
    /// It was stopped because the user wanted it.
    Suspended,
    /// It has reached the end of its input.
    Finished,
}

impl Mark {
    /// The annotation.
    #[must_use]
    pub fn annotation(&self) -> (&'static str, String) {
        match self {
            Self::Stable => (name::MARK_STABLE, "true".to_owned()),
            Self::Failed { reason, message } => (name::MARK_FAILED, format!("{reason}: {message}")),
            Self::Suspended => (name::MARK_SUSPENDED, "true".to_owned()),
            Self::Finished => (name::MARK_FINISHED, "true".to_owned()),
        }
    }

    fn read(name: &str, value: &str) -> Option<Self> {
        match name {
            name::MARK_STABLE => Some(Self::Stable),
            name::MARK_SUSPENDED => Some(Self::Suspended),
            name::MARK_FINISHED => Some(Self::Finished),
            name::MARK_FAILED => {
                let (reason, message) = value.split_once(": ").unwrap_or(("UpgradeFailed", value));
                Some(Self::Failed { reason: reason.to_owned(), message: message.to_owned() })
            }
            _ => None,
        }
    }
}

impl RevisionSeen {
    /// Reads a revision object; none if it is not one of ours.
    #[must_use]
    pub fn of(object: &ControllerRevision) -> Option<Self> {
        let meta = &object.metadata;
        let annotations = meta.annotations.iter().flatten();
        Some(Self {
            name: meta.name.clone()?,
            uid: meta.uid.clone().unwrap_or_default(),
            number: u64::try_from(object.revision?).ok().filter(|number| *number > 0)?,
            created: meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            content: serde_json::from_value(object.data.0.clone()).ok()?,
            marks: annotations.filter_map(|(name, value)| Mark::read(name, value)).collect(),
        })
    }

    /// Whether it has completed a checkpoint.
    #[must_use]
    pub fn is_stable(&self) -> bool {
        self.marks.contains(&Mark::Stable)
    }

    /// Why it is not tried again: a condition's reason, and a message.
    #[must_use]
    pub fn failed(&self) -> Option<(&str, &str)> {
        self.marks.iter().find_map(|mark| match mark {
            Mark::Failed { reason, message } => Some((reason.as_str(), message.as_str())),
            _ => None,
        })
    }
}
