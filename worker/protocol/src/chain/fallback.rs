//! What to do when the newest checkpoint cannot be read.
//!
//! Going back one checkpoint repeats the rows since then. That is right only if none of them has left the job: sinks
//! commit what a manifest lists, so the question is whether the lost manifest could have let a sink commit.

use super::link::{Committables, Link, Manifest, Origin};
use crate::ids::LinkNumber;
use std::collections::BTreeMap;

/// Why there is nothing to go back to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FallbackError {
    /// No older checkpoint is kept.
    #[error(
        "checkpoint link {bad} cannot be used and no older checkpoint is kept: \
             restore the object from a backup, restore a savepoint, or begin anew"
    )]
    NoOlder {
        /// The link that cannot be used.
        bad: LinkNumber,
    },
    /// Links in between are gone or damaged too, and nobody knows what they said.
    #[error(
        "checkpoint link {bad} cannot be used, nor the links between it and link {older}: \
             restore the objects from a backup, restore a savepoint, or begin anew"
    )]
    Gap {
        /// The link that cannot be used.
        bad: LinkNumber,
        /// The newest one that can be read.
        older: LinkNumber,
    },
    /// Going back would repeat what sinks have made visible.
    #[error(
        "checkpoint link {bad} cannot be used, and sinks may have committed after link {older}: \
             going back would repeat their output; restore the object from a backup, restore a savepoint, or begin anew"
    )]
    Committed {
        /// The link that cannot be used.
        bad: LinkNumber,
        /// The newest one that can be read.
        older: LinkNumber,
    },
}

/// The state to go on from instead of the one of link `bad`.
///
/// `links` are the links that could be read. When `bad` itself is among them (its files are damaged, not its manifest)
/// its committables are known; otherwise the sinks of the plan that wrote the link before it decide: an unreadable link
/// right behind is a checkpoint of the same generation, or a start, which lets nothing new out.
///
/// # Errors
/// When there is none, or when a sink may have committed since.
pub fn fallback(links: &BTreeMap<LinkNumber, Link>, bad: LinkNumber) -> Result<Origin, FallbackError> {
    let (&older, link) = links.range(..bad).next_back().ok_or(FallbackError::NoOlder { bad })?;
    let nothing_left_the_job = match links.get(&bad).and_then(Link::manifest) {
        Some(manifest) => commits_nothing_new(manifest, link.committables()),
        None => link.sinks().is_empty(),
    };
    if !nothing_left_the_job {
        return Err(FallbackError::Committed { bad, older });
    }
    if older.0 + 1 != bad.0 {
        return Err(FallbackError::Gap { bad, older });
    }
    match link.origin() {
        Origin::Link(number) if links.get(&number).and_then(Link::manifest).is_none() => {
            Err(FallbackError::NoOlder { bad })
        }
        // After the own first checkpoint nobody keeps the state of another place for this job.
        Origin::Foreign { .. } => Err(FallbackError::NoOlder { bad }),
        origin => Ok(origin),
    }
}

/// Whether all that `manifest` lists was listed before: then going back repeats nothing that it let out.
fn commits_nothing_new(manifest: &Manifest, before: &Committables) -> bool {
    manifest.committables.iter().all(|(sink, listed)| {
        let before = before.get(sink);
        listed.keys().all(|id| before.is_some_and(|before| before.contains_key(id)))
    })
}
