//! `weir savepoint`: the checkpoints with a name of a job that stands still.

mod change;
mod show;

use super::exit::{Code, Refusal};
use super::job;
use crate::diagnostic::nearest;
use crate::job::directory::history::History;
use crate::job::directory::place;
use clap::Subcommand;
use std::path::PathBuf;
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
    /// The manifest of the job; - reads standard input. Not needed with --state-dir.
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
        Command::Create { name, place } => change::create(&place.find()?, name),
        Command::Delete { name, place } => change::delete(&place.find()?, name),
    }
}

impl Place {
    fn find(&self) -> Result<Found, Refusal> {
        let manifest = self.file.as_deref().map(Manifest::read).transpose()?;
        let place = match (&manifest, &self.state_dir) {
            (Some(manifest), given) => {
                let bucket = job::bucket_of(&manifest.job, self.secrets.as_deref())?;
                job::place_of(&manifest.job, given.as_deref(), bucket.as_ref())?
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
