//! What a short pod says of its work when it ends.

use serde::Deserialize;

use crate::model::Exit;

/// The words of a pod that has come to an end with its work.
#[derive(Deserialize)]
pub(super) struct Said {
    pub(super) verdict: Verdict,
    /// For humans; empty if it said no more.
    #[serde(default)]
    pub(super) message: String,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) enum Verdict {
    /// A check: the state fits.
    Fits,
    /// A check: it does not.
    Misfit,
    /// A check could not look.
    Unknown,
    /// Maintenance: what it was made for is done.
    Done,
}

impl Said {
    /// Only words count: an image may hold any program, and that one may end with any code.
    pub(super) fn of(exit: &Exit) -> Option<Self> {
        serde_json::from_str(exit.message.trim()).ok()
    }
}
