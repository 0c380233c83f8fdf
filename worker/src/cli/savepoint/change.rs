//! Makes and deletes savepoints of a job that does not run.

use super::Found;
use crate::cli::exit::{Code, Refusal};
use crate::cli::job;
use crate::connector::{Committer, CommitterContext};
use crate::failure::{Failure, Kind};
use crate::job::maintain::Maintenance;
use crate::plan::NodeKind;
use std::collections::BTreeMap;
use weir_protocol::OperatorId;
use weir_protocol::leader::{Notice, Operation};
use weir_protocol::name;

/// `weir savepoint create`.
pub(super) fn create(found: &Found, name: &str) -> Result<Code, Refusal> {
    if !name::is_savepoint(name) {
        let rule = name::SAVEPOINT_RULE;
        return Err(Refusal::user(format!("error: {name:?} is no name for a savepoint\nhint: use {rule}")));
    }
    let request = format!("curl --json '{{\"name\": \"{name}\"}}' http://ADDRESS/v1/savepoints");
    let uid = uuid::Uuid::new_v4().to_string();
    let notices = maintain(found, &request, Operation::CreateSavepoint { name: name.to_owned(), uid })?;
    finish(&notices, name)
}

/// `weir savepoint delete`.
pub(super) fn delete(found: &Found, name: &str) -> Result<Code, Refusal> {
    found.pin(name)?;
    let request = format!("curl -X DELETE http://ADDRESS/v1/savepoints/{name}");
    let notices = maintain(found, &request, Operation::DeleteSavepoint { name: name.to_owned() })?;
    finish(&notices, name)
}

fn maintain(found: &Found, request: &str, operation: Operation) -> Result<Vec<Notice>, Refusal> {
    let refused = |failure: Failure| match failure.kind {
        Kind::User => {
            let hint = format!("a running job does this itself, at the address of weir run --http ADDRESS: {request}");
            Refusal::user(format!("error: {}\nhint: {hint}", failure.chain()))
        }
        _ => Refusal::from(failure),
    };
    let state = found.place.hold(&found.history.job).map_err(refused)?;
    let start = found.history.newest_start().ok_or_else(|| {
        Refusal::user(format!(
            "error: no readable start of job {} is left in {}: run the job first",
            found.history.job, found.place
        ))
    })?;
    let maintenance = Maintenance {
        state: &state,
        start,
        retain: found.manifest.as_ref().map(|manifest| manifest.job.checkpoint.retain),
        committers: committers(found, &state.uid)?,
    };
    maintenance.run(operation).map_err(refused)
}

/// Those who commit what the job left: a run that was killed may not have come to it. That takes the job's plan.
fn committers(found: &Found, uid: &str) -> Result<BTreeMap<OperatorId, Box<dyn Committer>>, Refusal> {
    let standing = found.history.standing()?;
    if standing.committables.is_empty() {
        return Ok(BTreeMap::new());
    }
    let Some(manifest) = &found.manifest else {
        return Err(Refusal::user(
            "error: output of the last checkpoint waits for its commit, for which the job's sinks must be known\n\
             hint: give the job's manifest too, or run and stop the job first",
        ));
    };
    let planned = job::plan_text(&manifest.name, &manifest.text, found.secrets.as_deref())?;
    let committers = planned.plan.nodes.iter().filter_map(|node| match (&node.kind, &node.id) {
        (NodeKind::Sink(sink), Some(id)) => {
            Some((id.clone(), sink.sink.committer(CommitterContext { job_uid: uid.to_owned() })?))
        }
        _ => None,
    });
    let committers: BTreeMap<_, _> = committers.collect();
    match standing.committables.keys().find(|sink| !committers.contains_key(sink)) {
        Some(sink) => Err(Refusal::user(format!(
            "error: output of {sink} waits for its commit, but the manifest has no such sink any more\nhint: put the sink back, or run the job with the old manifest"
        ))),
        None => Ok(committers),
    }
}

fn finish(notices: &[Notice], name: &str) -> Result<Code, Refusal> {
    for notice in notices {
        match notice {
            Notice::SavepointFailed { name: of, message, .. } if of == name => {
                return Err(Refusal::user(format!("error: {message}")));
            }
            Notice::SavepointCompleted { name: of, link, .. } if of == name => {
                println!("savepoint '{name}' is complete (link {link})");
                return Ok(Code::Done);
            }
            Notice::SavepointReleased { name: of } if of == name => {
                println!("savepoint '{name}' is deleted");
                return Ok(Code::Done);
            }
            Notice::StoreTrouble { message }
            | Notice::CommitTrouble { message }
            | Notice::LinkUnusable { message, .. } => {
                eprintln!("warning: {message}");
            }
            _ => {}
        }
    }
    Err(Refusal::failed(format!("error: nothing became of savepoint '{name}'")))
}
