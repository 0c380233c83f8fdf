//! `weir savepoint`: the checkpoints with a name of a job that stands still.

mod change;
mod show;

use super::exit::{Code, Refusal};
use super::job;
use crate::diagnostic::nearest;
use crate::job::directory::history::History;
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
    /// Give the newest checkpoint of a stopped job a name.
    ///
    /// A running job takes savepoints itself: POST /v1/savepoints, see weir run --http.
    Create {
        /// The savepoint's name: 1 to 63 of a-z, 0-9 and -, with a letter or a digit first.
        name: String,
        #[command(flatten)]
        place: Place,
        /// A folder of secrets, <DIR>/<name>/<key>; without it secrets come from environment variables NAME_KEY.
        #[arg(long, value_name = "DIR")]
        secrets: Option<PathBuf>,
    },
    /// Delete a savepoint of a stopped job.
    ///
    /// Its files go when nothing else needs them.
    Delete {
        /// The savepoint's name.
        name: String,
        #[command(flatten)]
        place: Place,
        /// A folder of secrets, <DIR>/<name>/<key>; without it secrets come from environment variables NAME_KEY.
        #[arg(long, value_name = "DIR")]
        secrets: Option<PathBuf>,
    },
}

/// Which job.
#[derive(Debug, clap::Args)]
struct Place {
    /// The manifest of the job; - reads standard input. Not needed with --state-dir.
    file: Option<String>,
    /// The directory of the job's state.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// The state that was found.
struct Found {
    directory: PathBuf,
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
        Command::Create { name, place, secrets } => change::create(&place.find()?, name, secrets.as_deref()),
        Command::Delete { name, place, secrets } => change::delete(&place.find()?, name, secrets.as_deref()),
    }
}

impl Place {
    fn find(&self) -> Result<Found, Refusal> {
        let manifest = self.file.as_deref().map(Manifest::read).transpose()?;
        let directory = match (&manifest, &self.state_dir) {
            (Some(manifest), given) => job::directory_of(&manifest.job, given.as_deref())?,
            (None, Some(given)) => given.clone(),
            (None, None) => {
                return Err(Refusal::user("error: which job? give its manifest, or its state with --state-dir"));
            }
        };
        let Some(history) = History::read(&directory)? else {
            return Err(no_state(&directory));
        };
        if let Some(manifest) = manifest.as_ref().filter(|manifest| manifest.job.name != history.job) {
            return Err(Refusal::user(format!(
                "error: the state directory {} belongs to the job '{}', not to '{}': choose another with --state-dir",
                directory.display(),
                history.job,
                manifest.job.name
            )));
        }
        Ok(Found { directory, history, manifest })
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

fn no_state(directory: &Path) -> Refusal {
    Refusal::user(format!(
        "error: {} holds no state of a job\nhint: run the job first, or name its directory with --state-dir",
        directory.display()
    ))
}
