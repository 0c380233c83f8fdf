//! The state directory of a job, beyond its objects: whose it is.

use crate::failure::{Failure, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

#[derive(Serialize, Deserialize)]
struct Identity {
    job: String,
    uid: String,
}

/// The uid of the job whose state lies in `directory`; made when the directory is new. Fails with kind `User` when it
/// is another job's.
pub fn uid(directory: &Path, job: &str) -> Result<String> {
    match read(directory)? {
        None => {
            create(directory, job)?;
            uid(directory, job)
        }
        Some(identity) if identity.job == job => Ok(identity.uid),
        Some(identity) => Err(Failure::user(format!(
            "the state directory {} belongs to the job '{}', not to '{job}': choose another with --state-dir",
            directory.display(),
            identity.job
        ))),
    }
}

/// The name of the job whose state lies in `directory`; `None` when there is none.
pub fn job(directory: &Path) -> Result<Option<String>> {
    Ok(read(directory)?.map(|identity| identity.job))
}

fn read(directory: &Path) -> Result<Option<Identity>> {
    let path = directory.join("job.json");
    match fs::read(&path) {
        Ok(body) => serde_json::from_slice(&body)
            .map(Some)
            .map_err(|error| Failure::corrupt(format!("{} is damaged", path.display())).because(error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::user(format!("{} could not be read", path.display())).because(error)),
    }
}

/// Several processes of a job may come at the same time: the first one's uid stands.
fn create(directory: &Path, job: &str) -> Result<()> {
    let identity = Identity { job: job.to_owned(), uid: uuid::Uuid::new_v4().to_string() };
    let failure = |error: std::io::Error| {
        Failure::user(format!("{} could not be written", directory.join("job.json").display())).because(error)
    };
    let body = serde_json::to_vec_pretty(&identity)
        .map_err(|error| Failure::bug("the job's identity could not be written").because(error))?;
    let partial = directory.join(format!(".partial-{}", identity.uid));
    let linked = fs::write(&partial, body)
        .and_then(|()| fs::File::open(&partial)?.sync_all())
        .and_then(|()| fs::hard_link(&partial, directory.join("job.json")));
    let _ = fs::remove_file(&partial);
    match linked {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(failure(error)),
        _ => fs::File::open(directory).and_then(|folder| folder.sync_all()).map_err(failure),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_directory_belongs_to_one_job() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(job(folder.path()).unwrap(), None);
        let first = uid(folder.path(), "one").unwrap();
        assert_eq!(uid(folder.path(), "one").unwrap(), first);
        assert_eq!(job(folder.path()).unwrap().as_deref(), Some("one"));
        let refused = uid(folder.path(), "two").unwrap_err().to_string();
        assert!(refused.contains("belongs to the job 'one', not to 'two'"), "{refused}");
        let fresh = tempfile::tempdir().unwrap();
        let uids = std::thread::scope(|scope| {
            let come = || scope.spawn(|| uid(fresh.path(), "one").unwrap());
            [come(), come(), come(), come()].map(|one| one.join().unwrap())
        });
        assert!(uids.iter().all(|uid| *uid == uids[0]), "those who come at the same time agree: {uids:?}");
        fs::write(folder.path().join("job.json"), "{").unwrap();
        assert!(job(folder.path()).unwrap_err().to_string().contains("job.json is damaged"));
    }
}
