//! The first words of a connection: who speaks, and for which job.

use serde::{Deserialize, Serialize};

/// What a worker says of itself. The generation is in the frame's header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hello {
    pub(super) job: String,
    pub(super) worker: u32,
    pub(super) lane: u32,
}

/// What is wrong with what a peer says first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("it does not say who it is")]
    Malformed,
    #[error("it belongs to job {theirs}, this worker to {ours}: do two jobs share an address?")]
    OtherJob { theirs: String, ours: String },
}

impl Hello {
    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a struct of texts and numbers has a JSON form")
    }

    /// What the peer says, if it is of the same job.
    pub(super) fn decode(bytes: &[u8], job: &str) -> Result<Self, Error> {
        let hello: Self = serde_json::from_slice(bytes).map_err(|_| Error::Malformed)?;
        if hello.job != job {
            return Err(Error::OtherJob { theirs: shortened(hello.job), ours: job.to_owned() });
        }
        Ok(hello)
    }
}

/// Names are for people: what a stranger sends is not put into messages at full length.
fn shortened(text: String) -> String {
    if text.chars().count() <= 100 { text } else { text.chars().take(100).chain(['…']).collect() }
}
