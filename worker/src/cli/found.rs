//! The state of a job that a command looks at or works on.

use super::exit::Refusal;
use super::job;
use crate::diagnostic::nearest;
use crate::job::directory::history::History;
use crate::job::directory::place;
use std::path::{Path, PathBuf};
use weir_crds::ValidatedJob;
use weir_protocol::chain::Pin;

/// Which job.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// The manifest of the job; - reads standard input. Or the job's state, as with --state-dir.
    file: Option<String>,
    /// The job's state: its directory, or its folder s3://BUCKET/PREFIX/….
    #[arg(long, value_name = "DIR", env = "WEIR_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// A folder of secrets, <DIR>/<name>/<key>; without it secrets come from environment variables NAME_KEY.
    #[arg(long, value_name = "DIR", env = "WEIR_SECRETS")]
    pub(super) secrets: Option<PathBuf>,
}

/// The state that was found.
pub(super) struct Found {
    /// Where it is.
    pub(super) place: place::Place,
    /// The folder of secrets.
    pub(super) secrets: Option<PathBuf>,
    /// What it says.
    pub(super) history: History,
    /// The job's manifest, if it was given.
    pub(super) manifest: Option<Manifest>,
}

pub(super) struct Manifest {
    pub(super) name: String,
    pub(super) text: String,
    pub(super) job: ValidatedJob,
}

impl Place {
    /// The manifest, if one is given; a name of state is none.
    pub(super) fn manifest(&self) -> Result<Option<Manifest>, Refusal> {
        let file = self.file.as_deref().filter(|file| self.state_dir.is_some() || !is_state(file));
        file.map(Manifest::read).transpose()
    }

    /// Finds the state. Fails where there is none.
    pub(super) fn find(&self) -> Result<Found, Refusal> {
        let (place, manifest) = self.open()?;
        let Some(history) = History::read(&place)? else {
            return Err(no_state(&place));
        };
        if let Some(manifest) = manifest.as_ref().filter(|manifest| manifest.job.name != history.job) {
            return Err(Refusal::user(format!(
                "error: the state in {place} belongs to the job '{}', not to '{}': choose another with --state-dir",
                history.job, manifest.job.name
            )));
        }
        Ok(Found { place, secrets: self.secrets.clone(), history, manifest })
    }

    /// Where the state is, or would be.
    pub(super) fn open(&self) -> Result<(place::Place, Option<Manifest>), Refusal> {
        let manifest = self.manifest()?;
        let state = self.file.as_deref().filter(|_| manifest.is_none()).map(Path::new);
        let place = match (&manifest, self.state_dir.as_deref().or(state)) {
            (Some(manifest), given) => {
                let bucket = job::bucket_of(&manifest.job, self.secrets.as_deref())?;
                job::place_of(&manifest.job, given, bucket.as_ref())?
            }
            (None, Some(given)) => place::Place::at(given, None),
            (None, None) => {
                return Err(Refusal::user("error: which job? give its manifest, or its state with --state-dir"));
            }
        };
        Ok((place, manifest))
    }
}

/// True for a folder of this machine and for one in a bucket.
fn is_state(file: &str) -> bool {
    file.starts_with("s3://") || Path::new(file).is_dir()
}

impl Manifest {
    fn read(file: &str) -> Result<Self, Refusal> {
        let (name, text) = job::read(file)?;
        let job = job::parse(&name, &text)?;
        Ok(Self { name, text, job })
    }
}

impl Found {
    /// The savepoint of this name.
    pub(super) fn pin(&self, name: &str) -> Result<Pin, Refusal> {
        let mut savepoints = self.history.savepoints();
        if let Some(pin) = savepoints.remove(name) {
            return Ok(pin);
        }
        let near = nearest(name, savepoints.keys().map(String::as_str));
        let hint = match (near, savepoints.is_empty()) {
            (Some(near), _) => format!("perhaps '{near}' is meant"),
            (None, true) => "there is none yet".to_owned(),
            (None, false) => {
                format!("there are {}", savepoints.keys().map(String::as_str).collect::<Vec<_>>().join(", "))
            }
        };
        Err(Refusal::user(format!("error: job {} has no savepoint '{name}'\nhint: {hint}", self.history.job)))
    }
}

fn no_state(place: &place::Place) -> Refusal {
    Refusal::user(format!(
        "error: {place} holds no state of a job\nhint: run the job first, or say where its state is with --state-dir"
    ))
}
