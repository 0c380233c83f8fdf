//! `weir check`: whether a job can run, and whether it can go on from a state.

use super::exit::{Code, Refusal, note, shortened};
use super::fit;
use super::job::{self, Planned};
use super::restore;
use crate::dataflow::graph::Graph;
use crate::job::directory::history::History;
use crate::job::directory::place::Place;
use crate::job::settings;
use crate::plan::{NodeKind, Plan};
use serde_json::json;
use std::path::PathBuf;
use weir_protocol::chain::{ObjectName, Stop};

/// Check a manifest and its SQL without running anything.
///
/// Every mistake is told with its place. With --against, also tells whether the job can go on from a state, with --restore
/// whether it can begin with one. The state is only read; the job may be running meanwhile.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  weir check job.yaml
  weir check changed.yaml --against .weir/bids-per-auction
  weir check changed.yaml --against s3://states/weir/default/bids-per-auction-UID
  weir check changed.yaml --against own --json
  weir check changed.yaml --restore before-upgrade

Exit code 2 when the job cannot run or does not fit the state.")]
pub(super) struct Arguments {
    /// The manifest: a StreamJob in YAML; - reads standard input.
    file: String,
    /// A job's state: its directory, or its folder s3://BUCKET/PREFIX/….; own for the job's own, where its manifest says.
    #[arg(long, value_name = "DIR")]
    against: Option<PathBuf>,
    /// What the job is to begin with: a savepoint of its own, or a path to state of another place, as with weir run.
    #[arg(long, value_name = "NAME|PATH", conflicts_with = "against")]
    restore: Option<String>,
    /// Where the job's own state is, instead of spec.storage.
    #[arg(long, value_name = "DIR", env = "WEIR_STATE_DIR", hide = true)]
    state_dir: Option<PathBuf>,
    /// A folder of secrets, <DIR>/<name>/<key>; without it secrets come from environment variables NAME_KEY.
    #[arg(long, value_name = "DIR", env = "WEIR_SECRETS")]
    secrets: Option<PathBuf>,
    /// Print the verdict as JSON.
    #[arg(long)]
    json: bool,
}

/// The longest message of a verdict in JSON, in bytes: with everything around it, it must fit where a pod's end is noted.
const LONGEST_MESSAGE: usize = 1_900;

/// Checks the job.
pub(super) fn run(arguments: &Arguments) -> Result<Code, Refusal> {
    let checked = check(arguments);
    if arguments.json {
        let verdict = verdict(&checked);
        println!("{verdict}");
        note(&verdict);
        return Ok(checked.map_or_else(|refusal| refusal.code, |_| Code::Done));
    }
    let (planned, fits) = checked?;
    for warning in &planned.plan.warnings {
        eprintln!("warning: {warning}");
    }
    println!("ok: job {}: {}", planned.job.name, summary(&planned.plan));
    fits.iter().for_each(|line| println!("{line}"));
    Ok(Code::Done)
}

fn check(arguments: &Arguments) -> Result<(Planned, Vec<String>), Refusal> {
    let planned = job::plan(&arguments.file, arguments.secrets.as_deref())?;
    if arguments.against.is_none() && arguments.restore.is_none() {
        return Ok((planned, Vec::new()));
    }
    let bucket = job::bucket_of(&planned.job, arguments.secrets.as_deref())?;
    let own = || job::place_of(&planned.job, arguments.state_dir.as_deref(), bucket.as_ref());
    if let Some(given) = &arguments.restore {
        let fits = restore::fits(&planned, &own()?, given, bucket.as_ref())?;
        return Ok((planned, fits));
    }
    let Some(given) = &arguments.against else { return Ok((planned, Vec::new())) };
    let place = match given.to_str() {
        Some("own") => own()?,
        _ => Place::at(given, bucket.as_ref()),
    };
    let fits = match &place {
        // A directory that is not there yet is made by the first run.
        Place::Directory(directory) if given.as_os_str() == "own" && !directory.exists() => {
            vec![format!("{place} holds no state: the job begins at its beginning")]
        }
        place => against(&planned, place)?,
    };
    Ok((planned, fits))
}

/// What was found, for programs: always one whole object.
fn verdict(checked: &Result<(Planned, Vec<String>), Refusal>) -> String {
    let verdict = match checked {
        Ok((planned, fits)) => {
            let warnings = planned.plan.warnings.iter().map(ToString::to_string);
            let notes: Vec<String> = fits.iter().cloned().chain(warnings).collect();
            json!({"verdict": "fits", "job": planned.job.name, "message": shortened(&notes.join("\n"), LONGEST_MESSAGE)})
        }
        Err(refusal) => {
            let verdict = if refusal.code == Code::UserError { "misfit" } else { "unknown" };
            json!({"verdict": verdict, "message": shortened(&refusal.to_string(), LONGEST_MESSAGE)})
        }
    };
    verdict.to_string()
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
