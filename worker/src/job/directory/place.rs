//! Where the state of a job is: a directory of this machine or a folder in a bucket.

use super::bucket::{BucketPlace, last_claimant, next_claimant};
use super::history::History;
use super::lock::DirectoryLock;
use super::state;
use crate::checkpoint::store::Store;
use crate::checkpoint::store::directory::DirectoryStore;
use crate::checkpoint::store::s3::Settings;
use crate::checkpoint::store::s3::meter::Meter;
use crate::failure::{Failure, Result};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use weir_protocol::chain::Claimant;
use weir_protocol::leader::Running;

/// The pod of runs that hold a directory's lock as long as they live.
const LOCAL: &str = "local";

/// Where a job's state is.
#[derive(Debug, Clone)]
pub enum Place {
    /// In a directory.
    Directory(PathBuf),
    /// In a bucket.
    Bucket(Box<BucketPlace>),
}

/// State that is only looked at.
pub struct Seen {
    /// Its objects.
    pub store: Arc<dyn Store>,
    /// The job's name, where the place says it; else its starts do.
    pub job: Option<String>,
    /// A name of the place that another process on another machine understands, if it can reach it at all.
    pub location: String,
}

/// State that this process works on.
pub struct Held {
    /// Its objects.
    pub store: Arc<dyn Store>,
    /// Unique for the job.
    pub uid: String,
    /// As whom to claim.
    pub claimant: Claimant,
    /// What is counted of requests to a bucket.
    pub meter: Option<Arc<Meter>>,
    lock: Option<DirectoryLock>,
}

impl Place {
    /// The place that a user names: a directory, or `s3://BUCKET/FOLDER`, which is reached as `settings` say if they are of
    /// the same bucket, else as the environment says.
    #[must_use]
    pub fn at(given: &Path, settings: Option<&Settings>) -> Self {
        let Some(url) = given.to_str().and_then(|given| given.strip_prefix("s3://")) else {
            return Self::Directory(given.to_path_buf());
        };
        let (bucket, folder) = url.split_once('/').unwrap_or((url, ""));
        let settings = settings.filter(|settings| settings.bucket == bucket);
        let settings = settings.cloned().unwrap_or_else(|| Settings::from_environment(bucket));
        Self::Bucket(Box::new(BucketPlace::exactly(settings, folder)))
    }

    /// Opens the state for one who only looks; `None` when there is none yet. Fails with kind `User` when there is no
    /// such directory or bucket.
    pub fn look(&self) -> Result<Option<Seen>> {
        match self {
            Self::Directory(directory) => {
                let store = DirectoryStore::existing(directory)?;
                let Some(job) = state::job(directory)? else { return Ok(None) };
                Ok(Some(Seen { store: Arc::new(store), job: Some(job), location: absolute(directory)? }))
            }
            Self::Bucket(place) => {
                let store = place.look()?;
                Ok(store.map(|store| Seen { location: store.location(), store: Arc::new(store), job: None }))
            }
        }
    }

    /// True when both are the same, whatever they are called.
    pub fn is_same(&self, other: &Self) -> Result<bool> {
        match (self, other) {
            (Self::Directory(one), Self::Directory(other)) => Ok(fs::canonicalize(one)
                .ok()
                .zip(fs::canonicalize(other).ok())
                .is_some_and(|(one, other)| one == other)),
            (Self::Bucket(_), Self::Bucket(_)) => {
                let location = |place: &Self| Ok::<_, Failure>(place.look()?.map(|seen| seen.location));
                Ok(location(self)?.zip(location(other)?).is_some_and(|(one, other)| one == other))
            }
            _ => Ok(false),
        }
    }

    /// Where the state of the job of this name is, if it is kept beside this one.
    #[must_use]
    pub fn beside(&self, job: &str) -> Self {
        match self {
            Self::Directory(directory) => Self::Directory(directory.parent().unwrap_or(Path::new("")).join(job)),
            Self::Bucket(place) => Self::Bucket(Box::new(place.beside(job))),
        }
    }

    /// The places beside this one, itself among them, whose jobs have a savepoint of this name.
    pub fn holders_of(&self, savepoint: &str) -> Result<Vec<Self>> {
        match self {
            Self::Directory(directory) => {
                let beside = directory.parent().filter(|beside| !beside.as_os_str().is_empty());
                let entries = fs::read_dir(beside.unwrap_or(Path::new(".")));
                let directories = entries.into_iter().flatten().flatten().map(|entry| entry.path());
                let has = |directory: &PathBuf| directory.join("savepoints").join(savepoint).is_file();
                let mut holders: Vec<PathBuf> = directories.filter(has).collect();
                holders.sort();
                Ok(holders.into_iter().map(Self::Directory).collect())
            }
            Self::Bucket(place) => {
                Ok(place.holders_of(savepoint)?.into_iter().map(|place| Self::Bucket(Box::new(place))).collect())
            }
        }
    }

    /// Fails with kind `User` when a job may be at work there: it may delete a checkpoint while it is being read.
    pub fn refuse_running(&self) -> Result<()> {
        let holder = match self {
            Self::Directory(directory) => DirectoryLock::holder(directory),
            Self::Bucket(_) => None,
        };
        let who = match holder {
            Some(holder) => Some(holder),
            None => {
                let history = History::read(self)?;
                let newest = history.as_ref().and_then(History::newest);
                let locked = history.as_ref().and_then(History::newest_start).map(|start| start.claimant.pod == LOCAL);
                let running = newest.is_some_and(|newest| newest.stop().is_none()) && locked != Some(true);
                running.then(|| "a job that was not stopped".to_owned())
            }
        };
        let Some(who) = who else { return Ok(()) };
        Err(Failure::user(format!(
            "the state in {self} is in use by {who}, which may delete its checkpoints: \
             stop it, or take a savepoint of it and begin with that"
        )))
    }

    /// Opens the state of the job of this name to work on it. Fails with kind `User` when another process works on a
    /// directory, and when it is another job's. In a bucket whoever works on it is fenced by the next claim.
    pub fn hold(&self, job: &str) -> Result<Held> {
        match self {
            Self::Directory(directory) => {
                let store = Arc::new(DirectoryStore::open(directory)?);
                let lock = DirectoryLock::take(directory)?;
                store.remove_partial()?;
                Ok(Held { lock: Some(lock), ..self.join(job)? })
            }
            Self::Bucket(_) => {
                let held = self.join(job)?;
                Ok(Held { claimant: next_claimant(held.store.as_ref())?, ..held })
            }
        }
    }

    /// Opens the state of the job of this name as one of its workers: others work on it too, and whose claims come first
    /// is somebody else's to say.
    pub fn join(&self, job: &str) -> Result<Held> {
        // Where a lock sees to it that there is one job at work, each may claim over the one before.
        let claimant = Claimant { revision: 0, attempt: 0, pod: LOCAL.to_owned() };
        match self {
            Self::Directory(directory) => {
                let store = Arc::new(DirectoryStore::open(directory)?);
                let uid = state::uid(directory, job)?;
                Ok(Held { store, uid, claimant, meter: None, lock: None })
            }
            Self::Bucket(place) => {
                let (store, uid) = place.open()?;
                let meter = Some(store.bucket().meter());
                Ok(Held { store: Arc::new(store), uid, claimant, meter, lock: None })
            }
        }
    }
}

impl Held {
    /// As whom to work on the state of a job that stands still, and what to do with one that was not stopped. It claims as
    /// whoever was there last: that stands in nobody's way afterwards.
    pub fn for_upkeep(&self) -> Result<(Claimant, Running)> {
        let last = last_claimant(self.store.as_ref())?.unwrap_or_else(|| self.claimant.clone());
        // Only of those who hold a lock does it tell that they are gone.
        let alone = self.lock.is_some() && last.pod == LOCAL;
        Ok((last, if alone { Running::Fence } else { Running::Refuse }))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(directory) => write!(f, "{}", directory.display()),
            Self::Bucket(place) => write!(f, "{place}"),
        }
    }
}

fn absolute(directory: &Path) -> Result<String> {
    let unreadable = |error| Failure::user(format!("{} could not be read", directory.display())).because(error);
    let path = fs::canonicalize(directory).map_err(unreadable)?;
    path.into_os_string()
        .into_string()
        .map_err(|path| Failure::user(format!("the name of {} is not UTF-8", Path::new(&path).display())))
}
