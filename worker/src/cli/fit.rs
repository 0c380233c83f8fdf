//! Whether a job fits a state, told operator by operator.

use super::exit::Refusal;
use super::job::Planned;
use super::time;
use crate::dataflow::explain;
use crate::job::settings;
use serde_json::Value;
use std::fmt::Display;
use weir_protocol::chain::{Manifest, Misfit, Plan, check_fit};
use weir_protocol::key_group::MaxParallelism;

/// Refuses a job that cannot go on from `manifest`, which is called `name`.
pub(super) fn check(planned: &Planned, manifest: &Manifest, name: &str) -> Result<(), Refusal> {
    let max_parallelism =
        MaxParallelism::new(planned.job.max_parallelism).map_err(|error| Refusal::user(format!("error: {error}")))?;
    let plan = settings::plan_of(&planned.plan, planned.job.allow_dropped_state);
    let misfits = check_fit(manifest, &plan, max_parallelism);
    if misfits.is_empty() {
        return Ok(());
    }
    let mut text = format!("error: job {} does not fit {name}", planned.job.name);
    for misfit in &misfits {
        text.push_str("\n  ");
        text.push_str(&told(misfit));
    }
    text.push_str(&added(manifest, &plan));
    text.push_str(
        "\nhint: change the job back; or give up the old state with weir run --fresh; \
         or begin with a state that fits, weir run --restore",
    );
    Err(Refusal::user(text))
}

/// A checkpoint and where it is.
pub(super) fn name_of(manifest: &Manifest, place: impl Display) -> String {
    let time = time::of_unix_ms(manifest.completed_unix_ms);
    format!("checkpoint {} of {time} in {place}", manifest.checkpoint)
}

fn told(misfit: &Misfit) -> String {
    match misfit {
        Misfit::MaxParallelism { .. } => format!("spec.maxParallelism: {misfit}"),
        Misfit::Dropped { .. } | Misfit::InFlight { .. } => misfit.to_string(),
        Misfit::Changed { operator, old_kind, old_schema, new_kind, new_schema } => {
            let (old, new) = (state(old_schema), state(new_schema));
            // What does not show in the words is told as it is written.
            let (old, new) = if old == new { (old_schema.to_string(), new_schema.to_string()) } else { (old, new) };
            format!(
                "the state of operator {operator} does not fit\n    old: {old_kind}, {old}\n    new: {new_kind}, {new}"
            )
        }
    }
}

fn state(schema: &Value) -> String {
    let tables = explain::state(schema);
    if tables.is_empty() { schema.to_string() } else { tables.join("; ") }
}

/// What the plan has that the state does not know, which may be what became of the operators that are missed.
fn added(manifest: &Manifest, plan: &Plan) -> String {
    let new = plan.operators.iter().filter(|(id, _)| !manifest.operators.contains_key(id));
    let new: Vec<String> = new.map(|(id, operator)| format!("{id} ({})", operator.kind)).collect();
    if new.is_empty() { String::new() } else { format!("\n  new in the plan: {}", new.join(", ")) }
}
