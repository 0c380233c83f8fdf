//! The chain of a job as its store has it, for those who only look: nothing is written, no lock is taken.

use super::place::{Place, Seen};
use crate::failure::{Failure, Result};
use std::collections::BTreeMap;
use weir_protocol::LinkNumber;
use weir_protocol::chain::{self, Committables, Link, Manifest, ObjectName, Origin, Pin, Prefix, Start, Stop};

/// A running job deletes links while they are read: the reading begins anew this many times.
const ROUNDS: usize = 10;

/// What a store says about its job.
#[derive(Debug)]
pub struct History {
    /// The job's name.
    pub job: String,
    /// The links that can be read.
    pub links: BTreeMap<LinkNumber, Link>,
    /// What is wrong with each of the others.
    pub damaged: BTreeMap<LinkNumber, String>,
    /// The job was deleted: its state can no longer be used.
    pub deleted: bool,
    /// Where its files are, for one who goes on from them in another place.
    pub location: String,
}

/// Where a job stands.
#[derive(Debug)]
pub struct Standing<'a> {
    /// The state that a run goes on from; `None` for its beginning.
    pub manifest: Option<&'a Manifest>,
    /// The folder of another place that its files are in; `None` for the job's own.
    pub location: Option<&'a str>,
    /// Newer checkpoints that cannot be used.
    pub skipped: Vec<LinkNumber>,
    /// Why the job stands still, if it was not a crash and it does not run.
    pub stop: Option<Stop>,
    /// What waits to be committed.
    pub committables: &'a Committables,
}

impl History {
    /// Reads the state in `place`; `None` when it holds no state yet. Fails with kind `User` when there is no such
    /// directory or bucket.
    pub fn read(place: &Place) -> Result<Option<Self>> {
        let Some(seen) = place.look()? else {
            return Ok(None);
        };
        for _ in 0..ROUNDS {
            if let Some(history) = Self::read_once(&seen)? {
                return Ok(Some(history).filter(|history| history.head().is_some()));
            }
        }
        let message = format!("the checkpoints in {place} change faster than they can be read: try again");
        Err(Failure::transient(message))
    }

    /// `None` when a link went away meanwhile.
    fn read_once(seen: &Seen) -> Result<Option<Self>> {
        let store = seen.store.as_ref();
        let mut history = Self {
            job: seen.job.clone().unwrap_or_default(),
            links: BTreeMap::new(),
            damaged: BTreeMap::new(),
            deleted: store.get(&ObjectName::Deleted.to_string())?.is_some(),
            location: seen.location.clone(),
        };
        for name in store.list(Prefix::Chain.as_str())? {
            let Some(ObjectName::Link(number)) = chain::parse_name(&name) else { continue };
            let Some(body) = store.get(&name)? else {
                return Ok(None);
            };
            match chain::decode_link(number, &body) {
                Ok(link) => {
                    history.links.insert(number, link);
                }
                Err(error) => {
                    history.damaged.insert(number, error.to_string());
                }
            }
        }
        if let (None, Some(start)) = (&seen.job, history.newest_start()) {
            history.job = start.job.clone();
        }
        Ok(Some(history))
    }

    /// The newest link, whether or not it can be read.
    #[must_use]
    pub fn head(&self) -> Option<LinkNumber> {
        self.links.keys().next_back().max(self.damaged.keys().next_back()).copied()
    }

    /// The newest readable link.
    #[must_use]
    pub fn newest(&self) -> Option<&Link> {
        self.links.values().next_back()
    }

    /// The newest readable start.
    #[must_use]
    pub fn newest_start(&self) -> Option<&Start> {
        self.links.values().rev().find_map(|link| match link {
            Link::Start(start) => Some(start.as_ref()),
            Link::Checkpoint(_) => None,
        })
    }

    /// All savepoints by name.
    #[must_use]
    pub fn savepoints(&self) -> BTreeMap<String, Pin> {
        self.newest().map(|link| link.savepoints().clone()).unwrap_or_default()
    }

    /// The manifest in a link.
    pub fn manifest(&self, link: LinkNumber) -> Result<&Manifest> {
        match (self.links.get(&link).and_then(Link::manifest), self.damaged.get(&link)) {
            (Some(manifest), _) => Ok(manifest),
            (None, Some(damage)) => Err(Failure::corrupt(damage.clone())),
            (None, None) => Err(Failure::corrupt(format!("{} is missing", ObjectName::Link(link)))),
        }
    }

    /// Where the job stands: the checkpoint of the head, or the one before it when nothing was let out since. Fails with
    /// kind `Corrupt` when there is no way back.
    pub fn standing(&self) -> Result<Standing<'_>> {
        let no_way = |error: chain::FallbackError| {
            let details: Vec<&str> = self.damaged.values().map(String::as_str).collect();
            Failure::corrupt(format!("{error} ({})", details.join("; ")))
        };
        let empty = || Failure::bug("a history has at least one link");
        let head = self.head().ok_or_else(empty)?;
        let newest = self.newest().ok_or_else(|| no_way(chain::FallbackError::NoOlder { bad: head }))?;
        let mut skipped = Vec::new();
        let mut origin = newest.origin();
        if newest.number() != head {
            skipped.push(head);
            origin = chain::fallback(&self.links, head).map_err(no_way)?;
        }
        while let Origin::Link(number) = origin {
            if self.links.get(&number).and_then(Link::manifest).is_some() {
                break;
            }
            skipped.push(number);
            origin = chain::fallback(&self.links, number).map_err(no_way)?;
        }
        let (manifest, location) = match (origin, newest) {
            (Origin::Link(number), _) => (Some(self.manifest(number)?), None),
            (Origin::Foreign { .. }, Link::Start(start)) => match &start.origin {
                Origin::Foreign { location, manifest, .. } => (Some(manifest.as_ref()), Some(location.as_str())),
                Origin::Empty | Origin::Link(_) => (None, None),
            },
            (Origin::Empty | Origin::Foreign { .. }, _) => (None, None),
        };
        Ok(Standing { manifest, location, skipped, stop: newest.stop(), committables: newest.committables() })
    }
}
