//! `weir state`: the state of a job as a whole.

use super::exit::{Code, Refusal, done};
use super::found::{Found, Place};
use super::upkeep::{ClaimAs, maintain};
use crate::checkpoint::store::{Put, Store};
use crate::failure::{Failure, Result as Outcome};
use crate::job::directory::history::History;
use crate::job::directory::place;
use clap::Subcommand;
use weir_protocol::Generation;
use weir_protocol::chain::{ObjectName, Prefix, encode_mark};
use weir_protocol::leader::Operation;

/// A job writes no more once it is marked as deleted; what was under way may still land once.
const ROUNDS: usize = 3;

/// Look after the state of a job as a whole.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Delete the state of a stopped job, with its checkpoints and savepoints.
    ///
    /// Output that the job has prepared is committed first. Only a mark stays behind, and who has claimed the job: a worker
    /// that comes back from somewhere sees that it has nothing to do there any more.
    Delete {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        claim: ClaimAs,
    },
}

/// Runs the command.
pub(super) fn run(arguments: &Arguments) -> Result<Code, Refusal> {
    let Command::Delete { place, claim } = &arguments.command;
    Ok(done(&delete(place, claim)?))
}

fn delete(given: &Place, claim: &ClaimAs) -> Result<String, Refusal> {
    let (place, _) = given.open()?;
    let Some(seen) = place.look()? else { return Ok(format!("{place} holds no state")) };
    let store = seen.store.as_ref();
    match History::read(&place)? {
        Some(history) if !history.deleted => {
            let found: Found = given.find()?;
            let hint = "stop it with POST /v1/savepoints and \"then\": \"stop\"";
            maintain(&found, claim, hint, Operation::DeleteJob)?;
        }
        Some(_) => {}
        None => mark(store)?,
    }
    remove(store)?;
    if let place::Place::Bucket(bucket) = &place {
        bucket.forget()?;
    }
    Ok(format!("the state in {place} is deleted"))
}

/// Nobody has begun there, and nobody shall.
fn mark(store: &dyn Store) -> Outcome<()> {
    match store.put_if_absent(&ObjectName::Deleted.to_string(), &encode_mark("", Generation(0))) {
        Put::Done | Put::Exists => Ok(()),
        Put::Failed(failure) | Put::Unknown(failure) => Err(failure),
    }
}

/// Removes everything but the mark and the claims. Links go first, so that none that can be read lacks a file.
fn remove(store: &dyn Store) -> Outcome<()> {
    for _ in 0..ROUNDS {
        let mut left = false;
        for prefix in [Prefix::Chain, Prefix::Assignments, Prefix::Savepoints, Prefix::State] {
            let names = store.list(prefix.as_str())?;
            left |= !names.is_empty();
            store.delete(&names)?;
        }
        if !left {
            return store.remove_unfinished(Generation(u64::MAX));
        }
    }
    Err(Failure::transient("something is still being written there: stop the job, then try again"))
}
