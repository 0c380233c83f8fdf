//! Work on the state of a job that does not run, for the commands that do such.

use super::exit::Refusal;
use super::found::Found;
use super::job;
use crate::connector::{Committer, CommitterContext};
use crate::failure::{Failure, Kind, Result as Outcome};
use crate::job::directory::place::Held;
use crate::job::maintain::Maintenance;
use crate::plan::NodeKind;
use std::collections::BTreeMap;
use weir_protocol::OperatorId;
use weir_protocol::chain::Claimant;
use weir_protocol::leader::{Notice, Operation, Running};

/// As whom a command claims the job's state, where somebody else says that the job does not run.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ClaimAs {
    /// The revision of the job that this belongs to.
    #[arg(long, value_name = "N", env = "WEIR_REVISION", hide = true)]
    revision: Option<u64>,
    /// A lower attempt never takes the state from a higher one.
    #[arg(long, value_name = "N", env = "WEIR_ATTEMPT", hide = true)]
    attempt: Option<u64>,
    /// Unique for the place where this runs, such as the pod's uid.
    #[arg(long, value_name = "ID", env = "WEIR_POD", hide = true)]
    pod: Option<String>,
}

impl ClaimAs {
    /// Whether somebody else says as whom to claim.
    pub(super) fn is_given(&self) -> bool {
        self.revision.is_some() || self.attempt.is_some() || self.pod.is_some()
    }

    /// As whom to claim, and what to do with a job that was not stopped. Who is not told claims as whoever was there last:
    /// that stands in nobody's way afterwards.
    fn claimant(&self, state: &Held) -> Outcome<(Claimant, Running)> {
        if self.is_given() {
            let pod = self.pod.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
            let (revision, attempt) = (self.revision.unwrap_or_default(), self.attempt.unwrap_or_default());
            return Ok((Claimant { revision, attempt, pod }, Running::Fence));
        }
        state.for_upkeep()
    }
}

/// Carries an operation out; `request` is how a running job is asked for the same.
pub(super) fn maintain(
    found: &Found,
    claim: &ClaimAs,
    request: &str,
    operation: Operation,
) -> Result<Vec<Notice>, Refusal> {
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
    let (claimant, running) = claim.claimant(&state)?;
    let maintenance = Maintenance {
        state: &state,
        start,
        claimant,
        running,
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
