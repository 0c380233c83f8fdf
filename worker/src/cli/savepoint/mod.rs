//! `weir savepoint`: the checkpoints with a name of a job that stands still.

mod change;
mod export;
mod show;

use super::exit::{Code, Refusal};
use super::found::Place;
use super::upkeep::ClaimAs;
use clap::Subcommand;

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
        #[command(flatten)]
        claim: ClaimAs,
        /// Tells requests apart: the same one again takes no second savepoint, another one for the same name is refused.
        #[arg(long, value_name = "UID", env = "WEIR_REQUEST")]
        request: Option<String>,
    },
    /// Delete a savepoint of a stopped job.
    ///
    /// Its files go when nothing else needs them.
    Delete {
        /// The savepoint's name.
        name: String,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        claim: ClaimAs,
    },
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> Result<Code, Refusal> {
    match &arguments.command {
        Command::List { place, json } => show::list(&place.find()?, *json),
        Command::Inspect { name, place, json } => show::inspect(&place.find()?, name, *json),
        Command::Export { name, place, to } => export::run(name, place, to),
        Command::Create { name, place, claim, request } => {
            change::create(&place.find()?, claim, name, request.as_deref())
        }
        Command::Delete { name, place, claim } => change::delete(&place.find()?, claim, name),
    }
}
