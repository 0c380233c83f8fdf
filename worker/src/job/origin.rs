//! State of other jobs that this one begins with: found, kept there as long as it is needed, and let go.
//!
//! A savepoint of the other job keeps its state. Whoever says which one may ask for its release; of a job that stands still
//! the newest checkpoint gets a name of ours first. A savepoint is deleted by its own job's leader, or, while that job
//! stands still, by a run that claims as whoever was there last and so stands in nobody's way afterwards.

use super::directory::foreign::{Point, Which, files};
use super::directory::history::History;
use super::directory::place::Place;
use super::maintain::Maintenance;
use super::message::{Handle, Message};
use crate::checkpoint::store::Store;
use crate::checkpoint::store::s3::Settings;
use crate::failure::{Failure, Result};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir_protocol::chain::{Manifest, ObjectName, RestoreFrom};
use weir_protocol::leader::{Event, Operation};

/// A savepoint that could not be let go is looked at again after this long.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// Which state is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// That at a path, as [`Point`] reads them.
    Path {
        /// The path.
        path: String,
        /// Whether the savepoint that it names is for this job alone: it is given up after the own first checkpoint.
        release: bool,
    },
    /// The newest of the job of this name, which is kept beside this one.
    Job(String),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path { path, release: false } => write!(f, "path {path}"),
            Self::Path { path, release: true } => write!(f, "path {path}, released"),
            Self::Job(job) => write!(f, "job {job}"),
        }
    }
}

/// The way to other jobs' state.
pub struct Origins {
    /// The job's own place.
    pub own: Place,
    /// How to reach the bucket of the job's manifest.
    pub bucket: Option<Settings>,
    /// The job's own store.
    pub store: Arc<dyn Store>,
    /// The job's uid.
    pub uid: String,
}

impl Origins {
    /// Finds the state, for an assignment of this revision. Fails with kind `User` when there is none, or when it is not
    /// kept for us.
    pub fn find(&self, wanted: &Wanted, revision: u64) -> Result<RestoreFrom> {
        let mut found = self.look_up(wanted, revision)?;
        if let RestoreFrom::Foreign { asked, .. } = &mut found {
            *asked = Some(wanted.to_string());
        }
        Ok(found)
    }

    fn look_up(&self, wanted: &Wanted, revision: u64) -> Result<RestoreFrom> {
        let (point, release) = match wanted {
            Wanted::Path { path, release } => (Point::named(path, self.bucket.as_ref()), *release),
            Wanted::Job(name) => (Point { place: self.own.beside(name), which: Which::Newest }, false),
        };
        let is_own = point.place.is_same(&self.own)?;
        match point.which.clone() {
            Which::Savepoint(name) if is_own => Ok(RestoreFrom::Savepoint(name)),
            _ if is_own => Err(Failure::user(format!("{point} is the job's own state: it goes on from there anyway"))),
            Which::Savepoint(name) => foreign(&point, release.then_some(name)),
            Which::Link(_) => {
                point.place.refuse_running()?;
                foreign(&point, None)
            }
            Which::Newest => self.newest(&point, revision),
        }
    }

    /// The newest checkpoint of a job that stands still, under a name of ours.
    fn newest(&self, point: &Point, revision: u64) -> Result<RestoreFrom> {
        let short = self.uid.get(..8).unwrap_or(&self.uid);
        let name = format!("fork-{short}-{revision}");
        let known = History::read(&point.place)?.is_some_and(|history| history.savepoints().contains_key(&name));
        if !known {
            point.place.refuse_running()?;
            let uid = format!("{}-{revision}", self.uid);
            maintain(&point.place, Operation::CreateSavepoint { name: name.clone(), uid })?;
        }
        foreign(&Point { place: point.place.clone(), which: Which::Savepoint(name.clone()) }, Some(name))
    }

    /// Gives a savepoint of another job up; false when somebody else has to, because that job runs.
    pub fn release(&self, location: &str, pin: &str) -> Result<bool> {
        let pointer = ObjectName::Savepoint(pin.to_owned()).to_string();
        let is_there = || Ok::<_, Failure>(files(location, self.store.as_ref())?.get(&pointer)?.is_some());
        if !is_there()? {
            return Ok(true);
        }
        let place = Place::at(Path::new(location), self.bucket.as_ref());
        if place.refuse_running().is_err() {
            return Ok(false);
        }
        maintain(&place, Operation::DeleteSavepoint { name: pin.to_owned() })?;
        Ok(!is_there()?)
    }
}

fn foreign(point: &Point, pin: Option<String>) -> Result<RestoreFrom> {
    let found = point.read()?;
    let manifest: Box<Manifest> = Box::new(found.manifest);
    Ok(RestoreFrom::Foreign { location: found.location, manifest, pin, asked: None })
}

/// Works on the state of another job that stands still.
fn maintain(place: &Place, operation: Operation) -> Result<()> {
    let gone = || Failure::user(format!("{place} holds no state of a job"));
    let history = History::read(place)?.ok_or_else(gone)?;
    let start = history.newest_start().ok_or_else(gone)?;
    let state = place.hold(&history.job)?;
    let (claimant, running) = state.for_upkeep()?;
    let maintenance =
        Maintenance { state: &state, start, claimant, running, retain: None, committers: BTreeMap::new() };
    maintenance.run(operation).map(drop)
}

/// Savepoints of other jobs that are to be given up: beside the job, which does not wait for them.
pub(super) fn releases(origins: Arc<Origins>, job: Handle) -> super::beside::Side<(String, String)> {
    let mut tried: BTreeMap<String, Instant> = BTreeMap::new();
    super::beside::Side::start("pins", move |(location, pin): (String, String)| {
        if tried.get(&pin).is_some_and(|at| at.elapsed() < LOOK_AGAIN) {
            return;
        }
        tried.insert(pin.clone(), Instant::now());
        match origins.release(&location, &pin) {
            Ok(true) => {
                let _ = job.tell(Message::Leader(Event::PinReleased { pin }));
            }
            Ok(false) => tracing::info!(pin, location, "a savepoint waits for its own job to give it up"),
            Err(failure) => tracing::warn!(pin, location, error = failure.chain(), "a savepoint is not given up yet"),
        }
    })
}
