//! Where the state of a job is: a directory of this machine or a folder in a bucket.

use super::bucket::{BucketPlace, next_claimant};
use super::lock::DirectoryLock;
use super::state;
use crate::checkpoint::store::Store;
use crate::checkpoint::store::directory::DirectoryStore;
use crate::checkpoint::store::s3::meter::Meter;
use crate::failure::Result;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use weir_protocol::chain::Claimant;

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
    /// Opens the state for one who only looks; `None` when there is none yet. Fails with kind `User` when there is no
    /// such directory or bucket.
    pub fn look(&self) -> Result<Option<Seen>> {
        match self {
            Self::Directory(directory) => {
                let store = DirectoryStore::existing(directory)?;
                let job = state::job(directory)?;
                Ok(job.map(|job| Seen { store: Arc::new(store), job: Some(job) }))
            }
            Self::Bucket(place) => Ok(place.look()?.map(|store| Seen { store: Arc::new(store), job: None })),
        }
    }

    /// Opens the state of the job of this name to work on it. Fails with kind `User` when another process works on a
    /// directory, and when it is another job's. In a bucket whoever works on it is fenced by the next claim.
    pub fn hold(&self, job: &str) -> Result<Held> {
        match self {
            Self::Directory(directory) => {
                let store = Arc::new(DirectoryStore::open(directory)?);
                let lock = DirectoryLock::take(directory)?;
                store.remove_partial()?;
                let uid = state::uid(directory, job)?;
                // The lock sees to it that there is one process: it may claim over the one before.
                let claimant = Claimant { revision: 0, attempt: 0, pod: "local".to_owned() };
                Ok(Held { store, uid, claimant, meter: None, lock: Some(lock) })
            }
            Self::Bucket(place) => {
                let (store, uid) = place.open()?;
                let claimant = next_claimant(&store)?;
                let meter = Some(store.bucket().meter());
                Ok(Held { store: Arc::new(store), uid, claimant, meter, lock: None })
            }
        }
    }
}

impl Held {
    /// True when nobody else can be at work on the state.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.lock.is_some()
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
