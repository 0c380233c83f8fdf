//! The state of jobs in a bucket: whose folder is which, and who may claim next.
//!
//! ```text
//! <prefix>/<namespace>/<name>.json          the job's uid, written once by whoever runs it first
//! <prefix>/<namespace>/<name>-<uid>/…       its state
//! ```
//!
//! There is no lock that would end with its holder. Who begins a run claims above whoever claimed before, which ends a
//! run that is still alive: it finds itself fenced, and commits nothing any more.

use crate::checkpoint::store::Store;
use crate::checkpoint::store::s3::{Bucket, Condition, Put, S3Store, Settings};
use crate::failure::{Failure, Result};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;
use weir_protocol::chain::{Claimant, ObjectName, Prefix, decode_claim, parse_name};

/// Attempts to write a job's identity whose outcome is not known.
const ROUNDS: usize = 5;

/// A job's folder in a bucket.
#[derive(Debug, Clone)]
pub struct BucketPlace {
    settings: Settings,
    folder: Folder,
}

#[derive(Debug, Clone)]
enum Folder {
    /// Of the job of this name, whose uid is found in the bucket.
    Of { above: String, name: String },
    /// This one.
    Exactly(String),
}

#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    job: String,
    uid: String,
}

impl BucketPlace {
    /// The state of a job by its namespace and name; `prefix` is what all keys begin with.
    #[must_use]
    pub fn of_job(settings: Settings, prefix: &str, namespace: &str, name: &str) -> Self {
        let above = if prefix.is_empty() { namespace.to_owned() } else { format!("{prefix}/{namespace}") };
        Self { settings, folder: Folder::Of { above, name: name.to_owned() } }
    }

    /// The state in a folder, `<prefix>/<namespace>/<name>-<uid>`.
    #[must_use]
    pub fn exactly(settings: Settings, folder: &str) -> Self {
        Self { settings, folder: Folder::Exactly(folder.trim_matches('/').to_owned()) }
    }

    /// Where the state of the job of this name is, if it is kept beside this one.
    #[must_use]
    pub fn beside(&self, job: &str) -> Self {
        let above = self.above().to_owned();
        Self { settings: self.settings.clone(), folder: Folder::Of { above, name: job.to_owned() } }
    }

    /// The folders beside this one, itself among them, that have a savepoint of this name.
    pub fn holders_of(&self, savepoint: &str) -> Result<Vec<Self>> {
        let bucket = Bucket::open(self.settings.clone())?;
        let above = self.above();
        let prefix = if above.is_empty() { String::new() } else { format!("{above}/") };
        let mut holders = Vec::new();
        for folder in bucket.folders(&prefix)? {
            if bucket.head(&format!("{folder}{}", ObjectName::Savepoint(savepoint.to_owned())))?.is_some() {
                holders.push(Self::exactly(self.settings.clone(), &folder));
            }
        }
        Ok(holders)
    }

    fn above(&self) -> &str {
        match &self.folder {
            Folder::Of { above, .. } => above,
            Folder::Exactly(folder) => folder.rsplit_once('/').map_or("", |(above, _)| above),
        }
    }

    /// The store of a job that is looked at only; `None` when the bucket knows no such job.
    pub fn look(&self) -> Result<Option<S3Store>> {
        let bucket = Bucket::open(self.settings.clone())?;
        match &self.folder {
            Folder::Exactly(folder) => Ok(Some(S3Store::existing(bucket, folder))),
            Folder::Of { above, name } => {
                if let Some(identity) = read(&bucket, &identity_key(above, name))? {
                    return Ok(Some(S3Store::existing(bucket, &job_folder(above, name, &identity.uid))));
                }
                let folder = folder_of(&bucket, above, name)?;
                Ok(folder.map(|folder| S3Store::existing(bucket, &folder)))
            }
        }
    }

    /// Lets the name of a job that was deleted be used for another one.
    pub fn forget(&self) -> Result<()> {
        match &self.folder {
            Folder::Of { above, name } => Bucket::open(self.settings.clone())?.delete(&[identity_key(above, name)]),
            Folder::Exactly(_) => Ok(()),
        }
    }

    /// The store of a job that is to run, and the job's uid; made when the bucket does not know the job. Fails with kind
    /// `User` when the bucket cannot be used.
    pub fn open(&self) -> Result<(S3Store, String)> {
        let bucket = Bucket::open(self.settings.clone())?;
        match &self.folder {
            Folder::Exactly(folder) => Ok((S3Store::open(bucket, folder)?, uid_in(folder)?)),
            Folder::Of { above, name } => {
                // What proves the bucket lies beside the jobs: the uid must rest upon conditional writes too.
                S3Store::open(bucket.clone(), above)?;
                let uid = uid(&bucket, &identity_key(above, name), name)?;
                Ok((S3Store::existing(bucket, &job_folder(above, name, &uid)), uid))
            }
        }
    }
}

impl fmt::Display for BucketPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.folder {
            Folder::Of { above, name } => write!(f, "s3://{}/{above}/{name}", self.settings.bucket),
            Folder::Exactly(folder) => write!(f, "s3://{}/{folder}", self.settings.bucket),
        }
    }
}

/// A claimant that comes after everyone who has claimed in this store.
pub fn next_claimant(store: &dyn Store) -> Result<Claimant> {
    let (revision, attempt) = last_claimant(store)?.map_or((0, 0), |last| (last.revision, last.attempt + 1));
    Ok(Claimant { revision, attempt, pod: format!("local-{}", uuid::Uuid::new_v4()) })
}

/// Who has claimed last in this store.
pub fn last_claimant(store: &dyn Store) -> Result<Option<Claimant>> {
    let names = store.list(Prefix::Generations.as_str())?;
    let newest = names.iter().filter_map(|name| match parse_name(name) {
        Some(ObjectName::Generation(generation)) => Some((generation, name)),
        _ => None,
    });
    let before = match newest.max() {
        Some((generation, name)) => store.get(name)?.and_then(|body| decode_claim(generation, &body).ok()),
        None => None,
    };
    Ok(before.map(|claim| claim.claimant))
}

/// The folder of a job of this name that a cluster gave its uid: the only one there is.
fn folder_of(bucket: &Bucket, above: &str, name: &str) -> Result<Option<String>> {
    let start = format!("{above}/{name}-");
    let mut folders = bucket.folders(&format!("{above}/"))?;
    folders.retain(|folder| {
        let uid = folder.strip_prefix(&start).map(|rest| rest.trim_end_matches('/'));
        uid.is_some_and(|uid| uuid::Uuid::try_parse(uid).is_ok())
    });
    match folders.len() {
        0 | 1 => Ok(folders.pop().map(|folder| folder.trim_end_matches('/').to_owned())),
        _ => {
            let shown = folders.join(", ");
            Err(Failure::user(format!("there have been several jobs named '{name}': name the folder of one, {shown}")))
        }
    }
}

/// The folder of a job below `above`.
fn job_folder(above: &str, name: &str, uid: &str) -> String {
    format!("{above}/{name}-{uid}")
}

fn identity_key(above: &str, name: &str) -> String {
    format!("{above}/{name}.json")
}

/// The uid at the end of a job's folder.
fn uid_in(folder: &str) -> Result<String> {
    let name = folder.rsplit('/').next().unwrap_or(folder);
    let from = name.len().checked_sub(36).filter(|from| name.is_char_boundary(*from));
    let uid = from.map(|from| &name[from..]).filter(|uid| uuid::Uuid::try_parse(uid).is_ok());
    uid.map(str::to_owned).ok_or_else(|| {
        Failure::user(format!("'{folder}' is no folder of a job: those end with the job's name and uid, <name>-<uid>"))
    })
}

fn uid(bucket: &Bucket, key: &str, job: &str) -> Result<String> {
    let identity = Identity { job: job.to_owned(), uid: uuid::Uuid::new_v4().to_string() };
    let body = serde_json::to_vec_pretty(&identity)
        .map_err(|error| Failure::bug("the job's identity could not be written").because(error))?;
    let body = Bytes::from(body);
    for _ in 0..ROUNDS {
        if let Some(known) = read(bucket, key)? {
            return Ok(known.uid);
        }
        match bucket.put(key, body.clone(), Condition::IfAbsent) {
            Put::Done(_) => return Ok(identity.uid),
            Put::Refused => {}
            Put::Failed(failure) => return Err(failure),
            // The next look tells what became of it.
            Put::Unknown(failure) => tracing::warn!(key, error = failure.chain(), "a write of unknown outcome"),
        }
    }
    Err(Failure::transient(format!("s3://{}/{key} could be neither written nor read", bucket.name())))
}

fn read(bucket: &Bucket, key: &str) -> Result<Option<Identity>> {
    let Some(body) = bucket.get(key)? else { return Ok(None) };
    let identity = serde_json::from_slice(&body)
        .map_err(|error| Failure::corrupt(format!("s3://{}/{key} is damaged", bucket.name())).because(error))?;
    Ok(Some(identity))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::checkpoint::store::directory::DirectoryStore;
    use weir_protocol::Generation;
    use weir_protocol::chain::{Claim, encode_claim};

    #[test]
    fn a_folder_ends_with_a_uid() {
        let uid = "0a0b0c0d-0000-4000-8000-000000000001";
        assert_eq!(uid_in(&format!("p/default/my-job-{uid}")).unwrap(), uid);
        for wrong in ["", "p/default/my-job", "é0a0b0c0d-0000-4000-8000-00000000000", "p/default/"] {
            assert!(uid_in(wrong).unwrap_err().to_string().contains("<name>-<uid>"), "{wrong}");
        }
    }

    #[test]
    fn the_next_claimant_comes_after_the_newest_claim() {
        let folder = tempfile::tempdir().unwrap();
        let store = DirectoryStore::open(folder.path()).unwrap();
        assert_eq!(next_claimant(&store).unwrap().attempt, 0);
        for (generation, attempt) in [(1, 7), (2, 3), (10, 4)] {
            let generation = Generation(generation);
            let claimant = Claimant { revision: 5, attempt, pod: "p".into() };
            let claim = Claim { job: "j".into(), generation, claimant, incarnation: "i".into() };
            store.put_if_absent(&ObjectName::Generation(generation).to_string(), &encode_claim(&claim));
        }
        let (one, other) = (next_claimant(&store).unwrap(), next_claimant(&store).unwrap());
        assert_eq!((one.revision, one.attempt), (5, 5));
        assert_ne!(one.pod, other.pod);
    }
}
