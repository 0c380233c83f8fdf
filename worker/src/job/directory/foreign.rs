//! State of another place that a job begins with: another job's, or this job's elsewhere.
//!
//! ```text
//! DIR                    its newest checkpoint; DIR is a directory, or a job's folder s3://BUCKET/…
//! DIR/savepoints/NAME    a savepoint
//! DIR/chain/N            the checkpoint in link N
//! ```

use super::history::History;
use super::lock::DirectoryLock;
use super::place::Place;
use crate::checkpoint::store::Store;
use crate::checkpoint::store::directory::DirectoryStore;
use crate::checkpoint::store::s3::{Bucket, S3Store, Settings};
use crate::diagnostic::nearest;
use crate::failure::{Failure, Result};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use weir_protocol::LinkNumber;
use weir_protocol::chain::Manifest;

/// A place, and which of its checkpoints is meant.
#[derive(Debug, Clone)]
pub struct Point {
    /// The place.
    pub place: Place,
    /// The checkpoint.
    pub which: Which,
}

/// One of the checkpoints in a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The one that a run would go on from.
    Newest,
    /// A savepoint.
    Savepoint(String),
    /// The one in this link.
    Link(LinkNumber),
}

/// A checkpoint of another place.
#[derive(Debug)]
pub struct Found {
    /// The job that took it.
    pub job: String,
    /// The folder that its files are in.
    pub location: String,
    /// What it contains.
    pub manifest: Manifest,
}

/// Another place, held until it is let go: no job that begins there deletes its files meanwhile.
pub struct Foreign {
    _lock: Option<DirectoryLock>,
}

impl Point {
    /// What a path of a user's names; one in the bucket of `settings` is reached as they say.
    #[must_use]
    pub fn named(path: &str, settings: Option<&Settings>) -> Self {
        let plain = path.strip_prefix("file://").unwrap_or(path);
        Self::of(plain.trim_end_matches('/'), |place| Place::at(Path::new(place), settings))
    }

    /// What a path names, where `at` says what place a directory or a folder of a bucket is. Only its form is looked at,
    /// unless a folder is called like a part of a state directory.
    #[must_use]
    pub fn of(path: &str, at: impl Fn(&str) -> Place) -> Self {
        if Path::new(path).join("job.json").is_file() {
            return Self { place: at(path), which: Which::Newest };
        }
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let (directory, folder) = above.rsplit_once('/').unwrap_or((".", above));
        let directory = if directory.is_empty() { "/" } else { directory };
        let (directory, which) = match (folder, name.parse()) {
            ("savepoints", _) => (directory, Which::Savepoint(name.to_owned())),
            ("chain", Ok(number)) => (directory, Which::Link(LinkNumber(number))),
            _ => (path, Which::Newest),
        };
        Self { place: at(directory), which }
    }

    /// Reads the checkpoint. Fails with kind `User` when there is none, or when it may be deleted meanwhile.
    pub fn read(&self) -> Result<Found> {
        let shown = &self.place;
        let Some(history) = History::read(shown)? else {
            return Err(Failure::user(format!("{shown} holds no state of a job: name the state of a job")));
        };
        if history.deleted {
            return Err(Failure::user(format!("the job whose state is in {shown} has been deleted")));
        }
        let standing = history.standing();
        let (manifest, location) = match &self.which {
            Which::Newest => {
                let standing = standing?;
                let manifest = standing.manifest.ok_or_else(|| {
                    Failure::user(format!("job {} in {shown} has no checkpoint yet: let it run first", history.job))
                })?;
                (manifest, standing.location)
            }
            Which::Savepoint(name) => (self.savepoint(&history, name)?, None),
            Which::Link(link) => match history.links.get(link).and_then(|link| link.manifest()) {
                Some(manifest) => (manifest, None),
                None => return Err(self.no_link(&history, *link)),
            },
        };
        let location = location.unwrap_or(&history.location).to_owned();
        Ok(Found { job: history.job.clone(), location, manifest: manifest.clone() })
    }

    fn savepoint<'a>(&self, history: &'a History, name: &str) -> Result<&'a Manifest> {
        let savepoints = history.savepoints();
        let Some(pin) = savepoints.get(name) else {
            let known: Vec<&str> = savepoints.keys().map(String::as_str).collect();
            let hint = match (nearest(name, known.iter().copied()), known.is_empty()) {
                (Some(near), _) => format!("perhaps '{near}' is meant"),
                (None, true) => "it has none".to_owned(),
                (None, false) => format!("it has {}", known.join(", ")),
            };
            let message = format!("job {} in {} has no savepoint '{name}': {hint}", history.job, self.place);
            return Err(Failure::user(message));
        };
        history.manifest(pin.link)
    }

    fn no_link(&self, history: &History, link: LinkNumber) -> Failure {
        if let Some(damage) = history.damaged.get(&link) {
            return Failure::corrupt(damage.clone());
        }
        let kept = history.links.iter().filter(|(_, link)| link.manifest().is_some()).map(|(number, _)| number);
        let kept: Vec<String> = kept.map(ToString::to_string).collect();
        let kept = if kept.is_empty() { "none".to_owned() } else { kept.join(", ") };
        Failure::user(format!("link {link} in {} is not a checkpoint that is kept; those that are: {kept}", self.place))
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place)?;
        match &self.which {
            Which::Newest => Ok(()),
            Which::Savepoint(name) => write!(f, "/savepoints/{name}"),
            Which::Link(link) => write!(f, "/chain/{link}"),
        }
    }
}

impl Foreign {
    /// Holds the place that a manifest's files are in; `own` is the job's own store.
    pub fn open(location: &str, own: &dyn Store) -> Result<Self> {
        files(location, own)?;
        // One who may not write here, or whose own place it is, reads all the same; so does one who begins with a
        // savepoint of a running job, which that job keeps. A bucket has no locks.
        let directory = Some(location).filter(|location| !location.starts_with(BUCKET));
        Ok(Self { _lock: directory.and_then(|directory| DirectoryLock::take(Path::new(directory)).ok()) })
    }
}

/// Locations in a bucket begin with this.
const BUCKET: &str = "s3://";

/// Reads the files of a place, by a job whose own store is `own`.
pub fn files(location: &str, own: &dyn Store) -> Result<Arc<dyn Store>> {
    let gone = |failure: Failure| {
        Failure::new(failure.kind, "the state that the job begins with is gone: begin with another, or --fresh")
            .because(failure)
    };
    if let Some(reached_likewise) = own.at(location) {
        return Ok(reached_likewise);
    }
    match location.strip_prefix(BUCKET) {
        Some(url) => {
            let (bucket, folder) = url.split_once('/').unwrap_or((url, ""));
            let bucket = Bucket::open(Settings::from_environment(bucket)).map_err(gone)?;
            Ok(Arc::new(S3Store::existing(bucket, folder)))
        }
        None => Ok(Arc::new(DirectoryStore::existing(location).map_err(gone)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_directory_or_a_checkpoint_in_it() {
        let table = [
            ("a/b", "a/b", Which::Newest),
            (".", ".", Which::Newest),
            ("a/b/savepoints/x", "a/b", Which::Savepoint("x".into())),
            ("savepoints/x", ".", Which::Savepoint("x".into())),
            ("/a/chain/00000000000000000012", "/a", Which::Link(LinkNumber(12))),
            ("a/chain/7", "a", Which::Link(LinkNumber(7))),
            ("a/chain/x", "a/chain/x", Which::Newest),
            ("a/savepoints", "a/savepoints", Which::Newest),
            ("/savepoints/x", "/", Which::Savepoint("x".into())),
            ("s3://b/p/job-1/savepoints/x", "s3://b/p/job-1", Which::Savepoint("x".into())),
            ("s3://b/p/job-1", "s3://b/p/job-1", Which::Newest),
        ];
        for (path, directory, which) in table {
            let point = Point::of(path, |directory| Place::Directory(directory.into()));
            assert_eq!((point.place.to_string().as_str(), point.which), (directory, which), "{path}");
        }
    }
}
