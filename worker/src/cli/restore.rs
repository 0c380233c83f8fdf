//! What a run begins with: the job's own state, one of its savepoints, or state of another place.

use super::exit::Refusal;
use crate::failure::{Failure, Result};
use crate::job::directory::foreign::{self, Place, Which};
use crate::job::directory::history::History;
use crate::job::settings;
use std::path::{Path, PathBuf};
use weir_crds::{RestoreFrom, ValidatedJob};
use weir_protocol::leader::Resume;

/// What a run of the job whose state is, or will be, in `own` begins with: what `given` on the command line says, else
/// `spec.restoreFrom` unless this value was used before, else where the job was.
pub(super) fn resume(job: &ValidatedJob, own: &Path, given: Option<&str>) -> Result<Resume, Refusal> {
    if given.is_none() && job.restore_from.is_none() {
        return Ok(Resume::Head);
    }
    // A directory that is not there is made by the run.
    let history = if own.join("job.json").exists() { History::read(own)? } else { None };
    match (given, &job.restore_from) {
        (Some(given), _) if is_path(given) => Ok(from_path(given, own)?),
        (Some(name), _) => of_this_job(name, history.as_ref()),
        (None, Some(from)) if !used(history.as_ref(), job) => {
            let outcome = from_manifest(from, own, history.as_ref());
            outcome.map_err(|failure| Refusal::user(format!("error: spec.restoreFrom: {}", failure.chain())))
        }
        (None, _) => Ok(Resume::Head),
    }
}

fn is_path(given: &str) -> bool {
    given.contains('/') || given.starts_with('.')
}

fn used(history: Option<&History>, job: &ValidatedJob) -> bool {
    let start = history.and_then(History::newest_start);
    start.is_some_and(|start| start.restored_from == settings::restored_from(job))
}

/// The leader knows the savepoints; what it cannot know is that a path may have been meant.
fn of_this_job(name: &str, history: Option<&History>) -> Result<Resume, Refusal> {
    let known = history.is_some_and(|history| history.savepoints().contains_key(name));
    if !known && Path::new(name).join("job.json").exists() {
        return Err(Refusal::user(format!(
            "error: there is no savepoint '{name}' of this job\nhint: to begin with the state in the folder: --restore ./{name}"
        )));
    }
    Ok(Resume::Savepoint(name.to_owned()))
}

fn from_manifest(from: &RestoreFrom, own: &Path, history: Option<&History>) -> Result<Resume> {
    let beside = own.parent().unwrap_or(Path::new(""));
    match from {
        RestoreFrom::Path(path) => from_path(path, own),
        RestoreFrom::Job(name) => from_place(&Place { directory: beside.join(name), which: Which::Newest }, own),
        RestoreFrom::Savepoint(name) if history.is_some_and(|own| own.savepoints().contains_key(name)) => {
            Ok(Resume::Savepoint(name.clone()))
        }
        RestoreFrom::Savepoint(name) => {
            let directory = holder_of(name, beside)?;
            from_place(&Place { directory, which: Which::Savepoint(name.clone()) }, own)
        }
    }
}

/// The state directory beside the job's own that has a savepoint of this name.
fn holder_of(name: &str, beside: &Path) -> Result<PathBuf> {
    let folder = if beside.as_os_str().is_empty() { Path::new(".") } else { beside };
    let entries = std::fs::read_dir(folder).map(|entries| entries.flatten().map(|entry| entry.path()).collect());
    let directories: Vec<PathBuf> = entries.unwrap_or_default();
    let has = |directory: &PathBuf| directory.join("savepoints").join(name).is_file();
    let mut holders: Vec<PathBuf> = directories.into_iter().filter(has).collect();
    match holders.len() {
        1 => Ok(holders.remove(0)),
        0 => Err(Failure::user(format!("no job in {} has a savepoint '{name}'", folder.display()))),
        _ => {
            holders.sort();
            let shown: Vec<String> = holders.iter().map(|holder| holder.display().to_string()).collect();
            let message = format!("several jobs have a savepoint '{name}': give its path, {}", shown.join(" or "));
            Err(Failure::user(message))
        }
    }
}

fn from_path(given: &str, own: &Path) -> Result<Resume> {
    let plain = given.strip_prefix("file://").unwrap_or(given);
    if let Some((scheme, _)) = plain.split_once("://") {
        return Err(Failure::user(format!(
            "state on {scheme}:// cannot be read by a job that keeps its own in a directory: give a path of this machine"
        )));
    }
    from_place(&Place::of(Path::new(plain)), own)
}

fn from_place(place: &Place, own: &Path) -> Result<Resume> {
    let same = |left: &Path, right: &Path| std::fs::canonicalize(left).ok().zip(std::fs::canonicalize(right).ok());
    let is_own = same(&place.directory, own).is_some_and(|(left, right)| left == right);
    match &place.which {
        Which::Newest if is_own => return Ok(Resume::Head),
        Which::Savepoint(name) if is_own => return Ok(Resume::Savepoint(name.clone())),
        // What a savepoint needs is kept as long as it is.
        Which::Savepoint(_) => {}
        Which::Newest | Which::Link(_) => foreign::refuse_running(&place.directory)?,
    }
    let found = place.read()?;
    Ok(Resume::Foreign { location: found.location, manifest: Box::new(found.manifest) })
}
