//! What somebody wants the job to be: `assignments/<revision>`, stored before anything happens.

use super::link::Manifest;
use serde::{Deserialize, Serialize};

/// How wide and with which code the job is to run. Written once; a higher revision overtakes a lower one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// Orders assignments; from 1 on. 0 is a job that nobody assigned anything.
    pub revision: u64,
    /// Subtasks of every keyed operator.
    pub parallelism: u32,
    /// Worker processes that the generation waits for.
    pub workers: u32,
    /// What runs: equal for equal programs, such as a hash of image, resolved SQL and template. Only a leader of this
    /// code carries the assignment out.
    pub code: String,
    /// A leader of this code takes over at once, from the last checkpoint, without waiting for a stop.
    #[serde(default)]
    pub force: bool,
    /// The code that is taken back: as long as that one is in force, a leader takes over at once if its plan fits the
    /// state, and gives up if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<String>,
    /// The state to begin with instead of the head's; used once, by the first start of this revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_from: Option<RestoreFrom>,
}

/// A state that a job is told to begin with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RestoreFrom {
    /// None: the job begins anew. What the head left uncommitted is committed all the same.
    Nothing,
    /// A savepoint of this job, by name.
    Savepoint(String),
    /// A manifest of another place.
    Foreign {
        /// The folder that the manifest's files are in.
        location: String,
        /// The manifest.
        manifest: Box<Manifest>,
        /// The savepoint that keeps it there for us: given up after the own first checkpoint. `None` when nobody has to
        /// be asked.
        pin: Option<String>,
        /// The words that asked for it; absent where nobody asked by words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        asked: Option<String>,
    },
    /// What these words ask for, which was looked up when they came first. It is only compared with what is known, and
    /// never stored.
    #[serde(skip)]
    Asked(String),
}

impl Assignment {
    /// Whether `again` asks for this assignment once more.
    #[must_use]
    pub fn is_asked_by(&self, again: &Self) -> bool {
        use RestoreFrom::{Asked, Foreign};
        match (&self.restore_from, &again.restore_from) {
            // What the words lead to may be another state by now.
            (Some(Foreign { asked: Some(words), .. }), Some(Foreign { asked: Some(others), .. } | Asked(others))) => {
                words == others && self.is_same_but_for_its_state(again)
            }
            _ => self == again,
        }
    }

    fn is_same_but_for_its_state(&self, other: &Self) -> bool {
        let but_for_it = |one: &Self| Self { restore_from: None, ..one.clone() };
        but_for_it(self) == but_for_it(other)
    }
}

/// On whose word a generation runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Terms {
    /// The assignment in force; 0 for none.
    pub revision: u64,
    /// The highest revision that was known when the link was written: only a higher one lifts its stop flag.
    pub assigned: u64,
    /// What runs; empty in links of a time before there was one.
    pub code: String,
    /// Worker processes that the generation waits for.
    pub workers: u32,
}
