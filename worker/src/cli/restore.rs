//! What a run begins with: the job's own state, one of its savepoints, or state of another place.

use super::exit::Refusal;
use super::fit;
use super::job::Planned;
use crate::checkpoint::store::s3::Settings;
use crate::failure::{Failure, Result};
use crate::job::directory::foreign::{Point, Which};
use crate::job::directory::history::History;
use crate::job::directory::place::Place;
use crate::job::settings;
use std::path::Path;
use weir_crds::{RestoreFrom, ValidatedJob};
use weir_protocol::chain::Stop;
use weir_protocol::leader::Resume;

/// What a run of the job whose state is, or will be, in `own` begins with: what `given` on the command line says, else
/// `spec.restoreFrom` unless this value was used before, else where the job was. Paths in the manifest's bucket are
/// reached as `bucket` says.
pub(super) fn resume(
    job: &ValidatedJob,
    own: &Place,
    given: Option<&str>,
    bucket: Option<&Settings>,
) -> Result<Resume, Refusal> {
    if given.is_none() && job.restore_from.is_none() {
        return Ok(Resume::Head);
    }
    let history = history_of(own)?;
    let point = |path: &str| point(path, bucket);
    match (given, &job.restore_from) {
        (Some(given), _) if is_path(given) => Ok(from_point(&point(given), own)?),
        (Some(name), _) => of_this_job(name, own, history.as_ref()),
        (None, Some(from)) if !used(history.as_ref(), job) => {
            let outcome = match from {
                RestoreFrom::Path(path) => from_point(&point(path), own),
                RestoreFrom::Job(name) => from_point(&Point { place: own.beside(name), which: Which::Newest }, own),
                RestoreFrom::Savepoint(name) => from_savepoint(name, own, history.as_ref()),
            };
            outcome.map_err(|failure| Refusal::user(format!("error: spec.restoreFrom: {}", failure.chain())))
        }
        (None, _) => Ok(Resume::Head),
    }
}

/// Refuses a job that does not fit what it is to begin with. What cannot be read is left to the leader, which may pass
/// it over.
pub(super) fn check(planned: &Planned, own: &Place, resume: &Resume) -> Result<(), Refusal> {
    match resume {
        Resume::Empty => Ok(()),
        Resume::Foreign { location, manifest, .. } => fit::check(planned, manifest, &fit::name_of(manifest, location)),
        Resume::Savepoint(name) => {
            let history = history_of(own)?;
            let pin = history.as_ref().and_then(|history| history.savepoints().remove(name));
            match history.as_ref().zip(pin).and_then(|(history, pin)| history.manifest(pin.link).ok()) {
                Some(manifest) => fit::check(planned, manifest, &format!("savepoint '{name}'")),
                None => Ok(()),
            }
        }
        Resume::Head => {
            let history = history_of(own)?;
            let standing = history.as_ref().and_then(|history| history.standing().ok());
            // A finished job does not run, so nothing has to fit.
            let standing = standing.filter(|standing| standing.stop != Some(Stop::Finished));
            match standing.and_then(|standing| standing.manifest) {
                Some(manifest) => fit::check(planned, manifest, &fit::name_of(manifest, own)),
                None => Ok(()),
            }
        }
    }
}

/// What there is to say of the state that a run with `--restore` would begin with, if it is there and fits.
pub(super) fn fits(
    planned: &Planned,
    own: &Place,
    given: &str,
    bucket: Option<&Settings>,
) -> Result<Vec<String>, Refusal> {
    let resume = resume(&planned.job, own, Some(given), bucket)?;
    let name = match &resume {
        Resume::Savepoint(name) => {
            let known = history_of(own)?.is_some_and(|history| history.savepoints().contains_key(name));
            if !known {
                return Err(Refusal::user(format!(
                    "error: job {} has no savepoint '{name}' in {own}",
                    planned.job.name
                )));
            }
            format!("savepoint '{name}'")
        }
        Resume::Foreign { location, manifest, .. } => fit::name_of(manifest, location),
        Resume::Head | Resume::Empty => format!("the job's own state in {own}"),
    };
    check(planned, own, &resume)?;
    Ok(vec![format!("fits {name}")])
}

fn history_of(own: &Place) -> Result<Option<History>> {
    match own {
        // A directory that is not there is made by the run.
        Place::Directory(directory) if !directory.join("job.json").exists() => Ok(None),
        own => History::read(own),
    }
}

/// What a path names; one in the manifest's bucket is reached as `bucket` says.
pub(super) fn point(path: &str, bucket: Option<&Settings>) -> Point {
    Point::named(path, bucket)
}

/// True for a path: a value that is no name.
pub(super) fn is_path(given: &str) -> bool {
    given.contains('/') || given.starts_with('.')
}

fn used(history: Option<&History>, job: &ValidatedJob) -> bool {
    let start = history.and_then(History::newest_start);
    start.is_some_and(|start| start.restored_from == settings::restored_from(job))
}

/// The leader knows the savepoints; what it cannot know is that a path may have been meant.
fn of_this_job(name: &str, own: &Place, history: Option<&History>) -> Result<Resume, Refusal> {
    let known = history.is_some_and(|history| history.savepoints().contains_key(name));
    let folders = [Place::Directory(Path::new(".").join(name)), own.beside(name)];
    let has_state = |place: &&Place| match place {
        Place::Directory(folder) => folder.join("job.json").exists(),
        Place::Bucket(_) => false,
    };
    match folders.iter().find(|folder| !known && has_state(folder)) {
        Some(folder) => Err(Refusal::user(format!(
            "error: there is no savepoint '{name}' of this job\nhint: to begin with the state in a folder: --restore {folder}"
        ))),
        None => Ok(Resume::Savepoint(name.to_owned())),
    }
}

fn from_savepoint(name: &str, own: &Place, history: Option<&History>) -> Result<Resume> {
    if history.is_some_and(|own| own.savepoints().contains_key(name)) {
        return Ok(Resume::Savepoint(name.to_owned()));
    }
    let mut holders = own.holders_of(name)?;
    match holders.len() {
        1 => from_point(&Point { place: holders.remove(0), which: Which::Savepoint(name.to_owned()) }, own),
        0 => Err(Failure::user(format!("no job beside {own} has a savepoint '{name}'"))),
        _ => {
            let shown: Vec<String> = holders.iter().map(ToString::to_string).collect();
            let message = format!("several jobs have a savepoint '{name}': give its path, {}", shown.join(" or "));
            Err(Failure::user(message))
        }
    }
}

fn from_point(point: &Point, own: &Place) -> Result<Resume> {
    let is_own = point.place.is_same(own)?;
    match &point.which {
        Which::Newest if is_own => return Ok(Resume::Head),
        Which::Savepoint(name) if is_own => return Ok(Resume::Savepoint(name.clone())),
        // What a savepoint needs is kept as long as it is.
        Which::Savepoint(_) => {}
        Which::Newest | Which::Link(_) => point.place.refuse_running()?,
    }
    let found = point.read()?;
    Ok(Resume::Foreign { location: found.location, manifest: Box::new(found.manifest), pin: None })
}
