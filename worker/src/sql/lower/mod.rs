//! From bound logical plans to the streaming plan.
//!
//! `steps` cuts the plans at their stateful operators and optimises what lies between; `nodes` turns the pieces into
//! nodes of the plan, each table read once with the columns that anything needs.

mod fingerprint;
mod fuse;
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
use crate::plan::words::{self, Names};
use crate::plan::{Node, NodeKind, Plan};
use datafusion_expr::LogicalPlan;
use errors::Located;
use std::collections::{BTreeMap, BTreeSet};
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
    mistakes.extend(of_unused(&builder.nodes, catalog, config));
    if !mistakes.is_empty() {
        mistakes.dedup();
        return Err(mistakes);
    }
    let nodes = fuse::fuse(builder.nodes).map_err(|error| vec![errors::from_datafusion(&error, catalog)])?;
    let nodes = named(nodes);
    let fingerprint = fingerprint::of(&nodes, catalog);
    Ok(Plan { nodes, fingerprint, warnings: Vec::new() })
}

/// Stateful steps are called by what they do, in the words of the script.
fn named(mut nodes: Vec<Node>) -> Vec<Node> {
    let names = Names::of(&nodes);
    for (index, node) in nodes.iter_mut().enumerate() {
        if let Some(title) = words::title(&names, index, node) {
            node.name = title;
        }
    }
    nodes
}

/// What is wrong with the options of tables that are in no node.
fn of_unused(nodes: &[Node], catalog: &Catalog, config: &PlanConfig) -> Vec<Diagnostic> {
    let table_of = |node: &Node| match &node.kind {
        NodeKind::Source(source) => Some(source.table.name.clone()),
        NodeKind::Sink(sink) => Some(sink.table.name.clone()),
        _ => None,
    };
    let used: BTreeSet<String> = nodes.iter().filter_map(table_of).collect();
    let unused = catalog.tables().filter(|table| !used.contains(&table.shape.name));
    unused.filter_map(|table| config.connectors.unused(&table.options(), &table.shape).err()).flatten().collect()
}
