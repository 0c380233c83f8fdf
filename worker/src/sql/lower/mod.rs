//! From bound logical plans to the streaming plan.
//!
//! `steps` cuts the plans at their stateful operators and optimises what lies between; `nodes` turns the pieces into
//! nodes of the plan, each table read once with the columns that anything needs.

mod choice;
mod fingerprint;
mod nodes;
pub(super) mod not_null;
mod operator_id;
pub(super) mod optimize;
mod source;
mod steps;
mod window_input;

use super::bind::{BoundInsert, Catalog};
use super::{PlanConfig, errors};
use crate::diagnostic::Diagnostic;
use crate::plan::Plan;
use datafusion_expr::LogicalPlan;
use errors::Located;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use steps::Steps;

/// What the script's settings say beside its tables and queries.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Settings {
    pub(super) state_ttl: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
}

/// An `INSERT INTO`, cut and optimised.
struct SinkInput {
    insert: BoundInsert,
    plan: LogicalPlan,
}

/// Makes the streaming plan of all insertions.
pub(super) fn lower(
    inserts: Vec<BoundInsert>,
    catalog: &Catalog,
    settings: Settings,
    config: &PlanConfig,
) -> Result<Plan, Vec<Diagnostic>> {
    let mut steps = Steps::default();
    let mut sinks: BTreeMap<usize, Vec<SinkInput>> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    let mut mistakes = Vec::new();
    for insert in inserts {
        let name = insert.table.shape.name.clone();
        match steps.cut(&insert.plan, &name) {
            Ok(plan) => {
                let place = order.iter().position(|known| *known == name).unwrap_or_else(|| {
                    order.push(name);
                    order.len() - 1
                });
                sinks.entry(place).or_default().push(SinkInput { insert, plan });
            }
            Err(error) => mistakes.push(errors::from_datafusion(&error, catalog).at_if_unknown(insert.position)),
        }
    }
    if !mistakes.is_empty() {
        return Err(mistakes);
    }
    let mut builder = nodes::Builder::new(catalog, settings, config, &steps.steps);
    builder.find_columns(sinks.values().flatten().map(|sink| &sink.plan));
    for inputs in sinks.into_values() {
        let table = Arc::clone(&inputs[0].insert.table);
        if let Err(found) = builder.sink(&table, &inputs) {
            mistakes.extend(found);
        }
    }
    if !mistakes.is_empty() {
        mistakes.dedup();
        return Err(mistakes);
    }
    let nodes = builder.nodes;
    let fingerprint = fingerprint::of(&nodes, catalog);
    Ok(Plan { nodes, fingerprint, warnings: Vec::new() })
}
