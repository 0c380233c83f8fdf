//! What a leader answers. Fields that this controller does not know are skipped: leaders may be newer.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The longest text of a leader's that is passed on.
const LONGEST_MESSAGE: usize = 2_000;

/// `GET /v1/job`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobReport {
    /// Where the leader is: `running`, `waiting`, `ended` and so on.
    pub state: String,
    /// Attempt to run the job.
    pub generation: Option<u64>,
    /// Restarts of this run.
    pub restarts: u64,
    /// The last failure.
    pub last_failure: Option<LastFailure>,
    /// The tasks.
    pub tasks: Vec<TaskReport>,
    /// How it has ended.
    pub ending: Option<String>,
    /// Workers that have registered.
    pub registered: Option<u32>,
}

/// Why the job failed last.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LastFailure {
    /// `user`, `transient`, `corrupt`, `fenced` or `bug`.
    pub kind: String,
    /// The text for humans.
    pub message: String,
}

/// One task; only what the controller needs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TaskReport {
    /// Whether it runs.
    pub running: bool,
}

/// `GET /v1/checkpoints`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckpointsReport {
    /// Completed by this run.
    pub completed: u64,
    /// Failed in this run, by cause.
    pub failed: BTreeMap<String, u64>,
    /// The newest ones of this run.
    pub history: Vec<Progress>,
    /// What can be restored, newest first.
    pub retained: Vec<Retained>,
}

/// A checkpoint of this run.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// Its number.
    pub checkpoint: u64,
    /// `inProgress`, `completed` or `failed`.
    pub outcome: String,
    /// How long it took.
    #[serde(default)]
    pub duration_ms: Option<u64>,
    /// What went wrong.
    #[serde(default)]
    pub message: Option<String>,
}

/// A checkpoint that can be restored.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retained {
    /// Its link in the chain.
    pub link: u64,
    /// Its number.
    pub checkpoint: u64,
    /// When it was complete, in milliseconds since 1970.
    pub completed_unix_ms: i64,
    /// How large it is.
    #[serde(default)]
    pub sizes: Sizes,
}

/// Sizes of a checkpoint, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sizes {
    /// What it wrote itself.
    pub written_bytes: u64,
    /// All of the state that it holds.
    pub total_bytes: u64,
}

/// `GET /v1/assignment`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AssignmentReport {
    /// Revision that is in force; 0 before the first.
    pub revision: u64,
    /// Its parallelism.
    pub parallelism: u32,
    /// Its workers.
    pub workers: u32,
    /// Its code.
    pub code: String,
    /// The highest revision that was assigned.
    pub assigned: Option<u64>,
    /// The change that is under way.
    pub change: Option<ChangeReport>,
    /// The change that could not be carried out.
    pub failed: Option<FailedChange>,
}

/// A change that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ChangeReport {
    /// Its revision.
    pub revision: u64,
    /// `gathering`, `preparing` or `stopping`.
    pub step: String,
}

/// A change that could not be carried out; the job goes on as it was.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct FailedChange {
    /// Its revision.
    pub revision: u64,
    /// Why.
    pub message: String,
}

#[derive(Deserialize)]
pub(super) struct Savepoints {
    pub(super) savepoints: Vec<SavepointReport>,
}

/// One savepoint.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavepointReport {
    /// Its name.
    pub name: String,
    /// Who asked for it.
    #[serde(default)]
    pub request_uid: Option<String>,
    /// `pending`, `completed`, `failed` or `deleting`.
    pub state: String,
    /// What it waits for, or why it failed.
    #[serde(default)]
    pub message: Option<String>,
    /// Its link in the chain.
    #[serde(default)]
    pub link: Option<u64>,
    /// Its checkpoint.
    #[serde(default)]
    pub checkpoint: Option<u64>,
    /// When it was complete, in milliseconds since 1970.
    #[serde(default)]
    pub completed_unix_ms: Option<i64>,
    /// How large it is.
    #[serde(default)]
    pub sizes: Option<Sizes>,
}

/// What a refusal says: its error and its hint, or its text as it is.
pub(super) fn refusal(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
        #[serde(default)]
        hint: Option<String>,
    }
    let text = match serde_json::from_slice::<Refusal>(body) {
        Ok(Refusal { error, hint: Some(hint) }) => format!("{error}; {hint}"),
        Ok(Refusal { error, hint: None }) => error,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    text.chars().take(LONGEST_MESSAGE).collect()
}
