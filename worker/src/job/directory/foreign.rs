//! State of another place that a job begins with: another job's directory, or this job's elsewhere.
//!
//! ```text
//! DIR                    its newest checkpoint
//! DIR/savepoints/NAME    a savepoint
//! DIR/chain/N            the checkpoint in link N
//! ```

use super::history::History;
use super::lock::DirectoryLock;
use crate::checkpoint::store::Store;
use crate::checkpoint::store::directory::DirectoryStore;
use crate::diagnostic::nearest;
use crate::failure::{Failure, Kind, Result};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use weir_protocol::LinkNumber;
use weir_protocol::chain::Manifest;

/// A state directory, and which of its checkpoints is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The directory.
    pub directory: PathBuf,
    /// The checkpoint.
    pub which: Which,
}

/// One of the checkpoints in a state directory.
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

impl Place {
    /// What a path names. Only its form is looked at, unless a folder is called like a part of a state directory.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let newest = || Self { directory: path.to_path_buf(), which: Which::Newest };
        if path.join("job.json").is_file() {
            return newest();
        }
        let folder = path.parent().and_then(|folder| Some((folder.parent()?, folder.file_name()?.to_str()?)));
        let (Some((directory, folder)), Some(name)) = (folder, path.file_name().and_then(|name| name.to_str())) else {
            return newest();
        };
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory }.to_path_buf();
        match (folder, name.parse()) {
            ("savepoints", _) => Self { directory, which: Which::Savepoint(name.to_owned()) },
            ("chain", Ok(number)) => Self { directory, which: Which::Link(LinkNumber(number)) },
            _ => newest(),
        }
    }

    /// Reads the checkpoint. Fails with kind `User` when there is none, or when it may be deleted meanwhile.
    pub fn read(&self) -> Result<Found> {
        let shown = self.directory.display();
        let Some(history) = History::read(&self.directory)? else {
            return Err(Failure::user(format!("{shown} holds no state of a job: name the state directory of a job")));
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
        let location = match location {
            Some(location) => location.to_owned(),
            None => absolute(&self.directory)?,
        };
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
            let message =
                format!("job {} in {} has no savepoint '{name}': {hint}", history.job, self.directory.display());
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
        Failure::user(format!(
            "link {link} in {} is not a checkpoint that is kept; those that are: {kept}",
            self.directory.display()
        ))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.directory.display())?;
        match &self.which {
            Which::Newest => Ok(()),
            Which::Savepoint(name) => write!(f, "/savepoints/{name}"),
            Which::Link(link) => write!(f, "/chain/{link}"),
        }
    }
}

impl Foreign {
    /// Holds the place that a manifest's files are in.
    pub fn open(location: &str) -> Result<Self> {
        files(location)?;
        // One who may not write here, or whose own place it is, reads all the same; so does one who begins with a
        // savepoint of a running job, which that job keeps.
        Ok(Self { _lock: DirectoryLock::take(Path::new(location)).ok() })
    }
}

/// Reads the files of a place.
pub fn files(location: &str) -> Result<Arc<dyn Store>> {
    let gone = |failure: Failure| {
        Failure::new(failure.kind, "the state that the job begins with is gone: begin with another, or --fresh")
            .because(failure)
    };
    Ok(Arc::new(DirectoryStore::existing(location).map_err(gone)?))
}

/// Fails with kind `User` when a job is at work in `directory`: it may delete the checkpoint while it is being read.
pub fn refuse_running(directory: &Path) -> Result<()> {
    match DirectoryLock::holder(directory) {
        None => Ok(()),
        Some(holder) => Err(Failure::new(
            Kind::User,
            format!(
                "the state directory {} is in use by {holder}, which may delete its checkpoints: \
                 stop it, or take a savepoint of it and begin with that",
                directory.display()
            ),
        )),
    }
}

fn absolute(directory: &Path) -> Result<String> {
    let unreadable = |error| Failure::user(format!("{} could not be read", directory.display())).because(error);
    let path = std::fs::canonicalize(directory).map_err(unreadable)?;
    path.into_os_string()
        .into_string()
        .map_err(|path| Failure::user(format!("the name of {} is not UTF-8", Path::new(&path).display())))
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
        ];
        for (path, directory, which) in table {
            let expected = Place { directory: directory.into(), which };
            assert_eq!(Place::of(Path::new(path)), expected, "{path}");
        }
    }
}
