//! Who belongs to a job: an authority of the job's own, and a certificate for each role.
//!
//! Three Secrets: `<job>-ca` holds the authority with its key and is never mounted in a pod; `<job>-worker-tls` is
//! mounted in every worker; `<job>-controller-tls` is what the controller shows to the leader. Certificates name roles
//! (`worker.weir`, `controller.weir`), not addresses; the leader lets only `controller.weir` change anything.
//!
//! An authority is replaced in three steps, each at least [`Terms::overlap`] after the one before, so that every process
//! has read the files of one step before the next is taken:
//!
//! ```text
//!                 two thirds of its life            overlap                        overlap
//!   signs: A ──────────────────────────▶ signs: A ───────────▶ signs: B ───────────────────▶ signs: B
//!  trusts: A                            trusts: A, B          trusts: B, A                  trusts: B
//! ```
//!
//! A lost authority (somebody deleted `<job>-ca`) goes the same way: its certificates stay trusted, and in use, until all
//! trust the new one. Where a step has been written and the next Secret has not, the next look writes it: what the leaf
//! Secrets must say follows from the authority's Secret alone.
//!
//! No Kubernetes client here: [`plan`] says what to write, [`crate::apply`] writes it, the authority first.

mod authority;
mod leaf;
#[cfg(test)]
mod tests;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

pub use authority::Authorities;
pub use leaf::{Credentials, Role};

/// How long things last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Life of an authority; it is replaced after two thirds.
    pub authority: Duration,
    /// Life of a certificate; it is replaced after two thirds.
    pub leaf: Duration,
    /// Time between two steps of a replacement: longer than mounted Secrets take to change everywhere.
    pub overlap: Duration,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for Terms {
    fn default() -> Self {
        Self { authority: DAY * 365, leaf: DAY * 90, overlap: Duration::from_secs(60 * 60) }
    }
}

/// Why certificates could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The library refused to make a key or a certificate.
    #[error("a certificate could not be made")]
    Unmade(#[source] rcgen::Error),
    /// What is stored is no certificate, and it was just made.
    #[error("a certificate that was just made cannot be read")]
    Unreadable,
}

/// The three Secrets of a job, as they are stored.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// `<job>-ca`.
    pub authority: Option<Secret>,
    /// `<job>-worker-tls`.
    pub worker: Option<Secret>,
    /// `<job>-controller-tls`.
    pub controller: Option<Secret>,
}

/// What the Secrets of a job must say.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Data of `<job>-ca`, if it must be written.
    pub authority: Option<Authorities>,
    /// Data of `<job>-worker-tls`, if it must be written.
    pub worker: Option<Credentials>,
    /// Data of `<job>-controller-tls`, if it must be written.
    pub controller: Option<Credentials>,
    /// What the controller shows to the leader from now on.
    pub identity: Credentials,
    /// When to look again at the latest.
    pub look_again: Timestamp,
}

/// Name of the Secret with the authority.
#[must_use]
pub fn authority_name(job: &str) -> String {
    format!("{job}-ca")
}

/// What must be written now, so that each role has a certificate that the others trust.
pub fn plan(now: Timestamp, terms: &Terms, stored: &Stored) -> Result<Plan, Error> {
    let before = stored.authority.as_ref().and_then(Authorities::read);
    let worker = stored.worker.as_ref().and_then(Credentials::read);
    let controller = stored.controller.as_ref().and_then(Credentials::read);
    let authorities = match &before {
        Some(authorities) => authorities.advanced(now, terms)?,
        None => Authorities::anew(now, terms, worker.as_ref())?,
    };
    let next_worker = leaf::renewed(Role::Worker, now, terms, &authorities, worker.as_ref())?;
    let next_controller = leaf::renewed(Role::Controller, now, terms, &authorities, controller.as_ref())?;
    let look_again = authorities.due(terms).min(next_worker.due()).min(next_controller.due());
    Ok(Plan {
        worker: (worker.as_ref() != Some(&next_worker)).then_some(next_worker),
        controller: (controller.as_ref() != Some(&next_controller)).then(|| next_controller.clone()),
        authority: (before.as_ref() != Some(&authorities)).then_some(authorities),
        identity: next_controller,
        look_again,
    })
}

/// The text under a key of a Secret.
fn text(secret: &Secret, key: &str) -> Option<String> {
    let bytes = &secret.data.as_ref()?.get(key)?.0;
    String::from_utf8(bytes.clone()).ok()
}
