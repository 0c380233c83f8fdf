//! `weir savepoint`: the checkpoints with a name of a job that stands still.

mod change;
mod export;
mod show;

use super::exit::{Code, Refusal};
use super::job;
use crate::diagnostic::nearest;
use crate::job::directory::history::History;
use crate::job::directory::place;
use clap::Subcommand;
use std::path::{Path, PathBuf};
use weir_crds::ValidatedJob;
use weir_protocol::chain::Pin;

/// Look after savepoints: checkpoints with a name, which are kept until they are deleted.
///
/// `weir run FILE --restore NAME` begins with one.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the savepoints of a job.
    List {
        #[command(flatten)]
        place: Place,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show what a savepoint contains.
    Inspect {
        /// The savepoint's name; latest for the newest checkpoint.
        name: String,
        #[command(flatten)]
        place: Place,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write a savepoint as Parquet files with readable columns, which need nothing else.
    ///
    /// One file per table of each operator's state, or one per range of key groups where a table is large, and
    /// index.json, which says what is in them.
    Export {
        /// The savepoint's name; latest for the newest checkpoint of a stopped job. Or a path: DIR/savepoints/NAME,
        /// DIR/chain/N, or DIR itself.
        name: String,
        #[command(flatten)]
        place: Place,
        /// Where to: a folder that is not there yet, or s3://BUCKET/PREFIX.
        #[arg(long, value_name = "DIR")]
        to: String,
    },
    /// Give the newest checkpoint of a stopped job a name.
    ///
    /// A running job takes savepoints itself: POST /v1/savepoints, see weir run --http.
    Create {
        /// The savepoint's name: 1 to 63 of a-z, 0-9 and -, with a letter or a digit first.
        name: String,
        #[command(flatten)]
        place: Place,
    },
    /// Delete a savepoint of a stopped job.
    ///
    /// Its files go when nothing else needs them.
    Delete {
        /// The savepoint's name.
        name: String,
        #[command(flatten)]
        place: Place,
    },
}

/// Which job.
#[derive(Debug, clap::Args)]
struct Place {
    /// The manifest of the job; - reads standard input. Or the job's state, as with --state-dir.
    file: Option<String>,
    /// The job's state: its directory, or its folder s3://BUCKET/PREFIX/….
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// A folder of secrets, <DIR>/<name>/<key>; without it secrets come from environment variables NAME_KEY.
    #[arg(long, value_name = "DIR")]
    secrets: Option<PathBuf>,
}

/// The state that was found.
struct Found {
    place: place::Place,
    secrets: Option<PathBuf>,
    history: History,
    manifest: Option<Manifest>,
}

struct Manifest {
    name: String,
    text: String,
    job: ValidatedJob,
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> Result<Code, Refusal> {
    match &arguments.command {
        Command::List { place, json } => show::list(&place.find()?, *json),
        Command::Inspect { name, place, json } => show::inspect(&place.find()?, name, *json),
        Command::Export { name, place, to } => export::run(name, place, to),
        Command::Create { name, place } => change::create(&place.find()?, name),
        Command::Delete { name, place } => change::delete(&place.find()?, name),
    }
}

impl Place {
    /// The manifest, if one is given; a name of state is none.
    fn manifest(&self) -> Result<Option<Manifest>, Refusal> {
        let file = self.file.as_deref().filter(|file| self.state_dir.is_some() || !is_state(file));
        file.map(Manifest::read).transpose()
    }

    fn find(&self) -> Result<Found, Refusal> {
        let manifest = self.manifest()?;
        let state = self.file.as_deref().filter(|_| manifest.is_none()).map(Path::new);
        let place = match (&manifest, self.state_dir.as_deref().or(state)) {
            (Some(manifest), given) => {
                let bucket = job::bucket_of(&manifest.job, self.secrets.as_deref())?;
                job::place_of(&manifest.job, given, bucket.as_ref())?
            }
            (None, Some(given)) => job::place_at(given, None),
            (None, None) => {
                return Err(Refusal::user("error: which job? give its manifest, or its state with --state-dir"));
            }
        };
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
    fn pin(&self, name: &str) -> Result<Pin, Refusal> {
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
