//! `weir check`: whether a job can run, and whether it can go on from a state.

use super::exit::{Code, Refusal};
use super::fit;
use super::job::{self, Planned};
use crate::dataflow::graph::Graph;
use crate::job::directory::history::History;
use crate::job::directory::place::Place;
use crate::job::settings;
use crate::plan::{NodeKind, Plan};
use std::path::PathBuf;
use weir_protocol::chain::{ObjectName, Stop};

/// Check a manifest and its SQL without running anything.
///
/// Every mistake is told with its place. With --against, also tells whether the job can go on from a state, which is only
/// read; the job may be running meanwhile.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  weir check job.yaml
  weir check changed.yaml --against .weir/bids-per-auction
  weir check changed.yaml --against s3://states/weir/default/bids-per-auction-UID

Exit code 2 when the job cannot run or does not fit the state.")]
pub(super) struct Arguments {
    /// The manifest: a StreamJob in YAML; - reads standard input.
    file: String,
    /// A job's state: its directory, or its folder s3://BUCKET/PREFIX/….
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,
    /// A folder of secrets, <DIR>/<name>/<key>; without it secrets come from environment variables NAME_KEY.
    #[arg(long, value_name = "DIR")]
    secrets: Option<PathBuf>,
}

/// Checks the job.
pub(super) fn run(arguments: &Arguments) -> Result<Code, Refusal> {
    let planned = job::plan(&arguments.file, arguments.secrets.as_deref())?;
    for warning in &planned.plan.warnings {
        eprintln!("warning: {warning}");
    }
    let fits = match &arguments.against {
        Some(given) => {
            let bucket = job::bucket_of(&planned.job, arguments.secrets.as_deref())?;
            against(&planned, &job::place_at(given, bucket.as_ref()))?
        }
        None => Vec::new(),
    };
    println!("ok: job {}: {}", planned.job.name, summary(&planned.plan));
    fits.iter().for_each(|line| println!("{line}"));
    Ok(Code::Done)
}

fn summary(plan: &Plan) -> String {
    let count = |wanted: fn(&NodeKind) -> bool| plan.nodes.iter().filter(|node| wanted(&node.kind)).count();
    let parts = [
        (count(|kind| matches!(kind, NodeKind::Source(_))), "source"),
        (count(|kind| matches!(kind, NodeKind::WindowAggregate(_) | NodeKind::GroupAggregate(_))), "aggregation"),
        (count(|kind| matches!(kind, NodeKind::Sink(_))), "sink"),
        (Graph::of(plan).chains.len(), "chain"),
    ];
    let parts = parts.map(|(number, word)| if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") });
    parts.join(", ")
}

/// What there is to say about a state that fits.
fn against(planned: &Planned, shown: &Place) -> Result<Vec<String>, Refusal> {
    let Some(history) = History::read(shown)? else {
        return Ok(vec![format!("{shown} holds no state: the job begins at its beginning")]);
    };
    if history.job != planned.job.name {
        return Err(Refusal::user(format!(
            "error: the state in {shown} belongs to the job '{}', not to '{}'\nhint: name the state directory of this job",
            history.job, planned.job.name
        )));
    }
    if history.deleted {
        return Err(Refusal::user(format!(
            "error: the job whose state is in {shown} has been deleted: its state can no longer be used"
        )));
    }
    let standing = history.standing()?;
    let mut lines: Vec<String> = standing.skipped.iter().map(|link| damage(&history, *link)).collect();
    let Some(manifest) = standing.manifest else {
        lines.push(format!("{shown} holds no checkpoint: the job begins at its beginning"));
        return Ok(lines);
    };
    fit::check(planned, manifest, &fit::name_of(manifest, shown))?;
    let plan = settings::plan_of(&planned.plan, planned.job.allow_dropped_state);
    lines.push(format!("fits {}", fit::name_of(manifest, shown)));
    for (id, _) in manifest.operators.iter().filter(|(id, _)| !plan.operators.contains_key(id)) {
        lines.push(format!("note: the state of {id} will be lost (allowDroppedState)"));
    }
    for id in plan.operators.keys().filter(|id| !manifest.operators.contains_key(id)) {
        lines.push(format!("note: {id} is new and begins empty"));
    }
    if manifest.parallelism != planned.job.parallelism {
        let (old, new) = (manifest.parallelism, planned.job.parallelism);
        lines.push(format!("note: the state was written at parallelism {old}, the job goes on with {new}"));
    }
    lines.extend(
        (standing.stop == Some(Stop::Finished))
            .then(|| "note: the job has finished: a run only says so, --fresh begins anew".to_owned()),
    );
    Ok(lines)
}

fn damage(history: &History, link: weir_protocol::LinkNumber) -> String {
    let damage =
        history.damaged.get(&link).cloned().unwrap_or_else(|| format!("{} is missing", ObjectName::Link(link)));
    format!("warning: {damage}; a run goes on from the checkpoint before it, from which on nothing was committed")
}
