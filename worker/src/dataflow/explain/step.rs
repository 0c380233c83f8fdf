//! One step of a chain in words.

use super::super::graph::Role;
use crate::connector::Assignment;
use crate::operator::build::state_schema;
use crate::plan::{Calc, Changelog, GroupAggregate, Node, NodeIndex, NodeKind, Plan, SinkNode, SourceNode};
use arrow::datatypes::Schema;
use datafusion_physical_expr::expressions::{Column, Literal};
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

/// A step's name, its part, and the id under which its state is kept.
pub(super) fn headline(plan: &Plan, node: NodeIndex, role: Role) -> String {
    let node = &plan.nodes[node];
    match (role, &node.id) {
        (Role::Local, _) => format!("{}, local part", node.name),
        (Role::Global, Some(id)) => format!("{}, global part [{id}]", node.name),
        (_, Some(id)) => format!("{} [{id}]", node.name),
        (_, None) => node.name.clone(),
    }
}

/// What else there is to say, each with its label.
pub(super) fn details(plan: &Plan, index: NodeIndex, role: Role) -> Vec<(&'static str, String)> {
    let node = &plan.nodes[index];
    if role == Role::Local {
        return vec![("keeps", "nothing: combines rows of equal keys before they are sent".to_owned())];
    }
    let mut details = match &node.kind {
        NodeKind::Source(source) => of_source(source, node),
        NodeKind::Sink(sink) => of_sink(sink),
        NodeKind::Calc(calc) => of_calc(calc, &plan.nodes[node.inputs[0]].schema),
        NodeKind::GroupAggregate(aggregate) => of_group(aggregate),
        NodeKind::WindowAssign(assign) => vec![("time", name(&plan.nodes[node.inputs[0]].schema, assign.time))],
        NodeKind::WindowAggregate(aggregate) => {
            vec![("time", name(&plan.nodes[node.inputs[0]].schema, aggregate.time))]
        }
        NodeKind::Union => Vec::new(),
    };
    details.extend(tables(&state_schema(plan, node)).into_iter().map(|table| ("keeps", table)));
    let label = if matches!(node.kind, NodeKind::Sink(_)) { "takes" } else { "emits" };
    details.push((label, changelog(node.changelog).to_owned()));
    details
}

fn changelog(mode: Changelog) -> &'static str {
    match mode {
        Changelog::Append => "new rows only (+I)",
        Changelog::Retract => "changes (+I -U +U -D)",
    }
}

fn of_source(source: &SourceNode, node: &Node) -> Vec<(&'static str, String)> {
    let splits = match source.source.assignment() {
        Assignment::Concurrent => "splits read at the same time",
        Assignment::Ordered => "splits read in order",
    };
    let end = if source.source.is_bounded() { "bounded" } else { "without end" };
    let mut details = vec![
        ("connector", format!("{}, {end}, {splits}", connector(&source.options))),
        ("reads", names(&source.table.schema, &source.projection)),
    ];
    if let Some(calc) = &source.compute {
        details.extend(computed(calc));
    }
    if let Some(watermark) = &source.watermark {
        let column = name(&node.schema, watermark.column);
        let idle = watermark
            .idle_timeout
            .map_or(String::new(), |idle| format!(", a split is idle after {} ms", idle.as_millis()));
        details.push(("watermark", format!("{column} AS {}{idle}", expression(&watermark.expression))));
    }
    details.push(("keeps", "how far each split is read, and its watermark".to_owned()));
    details
}

fn of_sink(sink: &SinkNode) -> Vec<(&'static str, String)> {
    let all: Vec<usize> = (0..sink.table.schema.fields().len()).collect();
    let keeps = match sink.sink.commits() {
        true => "what waits for its commit; rows are visible from the checkpoint on that contains them",
        false => "nothing: rows are visible at once, and again after a crash",
    };
    vec![
        ("connector", connector(&sink.options)),
        ("writes", names(&sink.table.schema, &all)),
        ("keeps", keeps.to_owned()),
    ]
}

fn connector(options: &crate::connector::options::Options) -> String {
    options.entries().get("connector").map_or_else(|| "unknown".to_owned(), |entry| entry.value.clone())
}

fn of_calc(calc: &Calc, input: &Schema) -> Vec<(&'static str, String)> {
    let mut details = Vec::new();
    details.extend(calc.filter.iter().map(|filter| ("filter", expression(filter))));
    let plain = calc.columns.iter().flatten().zip(calc.schema.fields()).filter_map(|(column, field)| {
        let column = column.downcast_ref::<Column>()?;
        let from = name(input, column.index());
        Some(if &from == field.name() { from } else { format!("{from} AS {}", field.name()) })
    });
    let plain: Vec<String> = plain.collect();
    if !plain.is_empty() {
        details.push(("columns", plain.join(", ")));
    }
    details.extend(computed(calc));
    details
}

fn computed(calc: &Calc) -> Vec<(&'static str, String)> {
    let columns = calc.columns.iter().flatten().zip(calc.schema.fields());
    let computed = columns.filter(|(column, _)| column.downcast_ref::<Column>().is_none());
    computed.map(|(column, field)| ("computes", format!("{} AS {}", expression(column), field.name()))).collect()
}

fn of_group(aggregate: &GroupAggregate) -> Vec<(&'static str, String)> {
    let forgets =
        |ttl: std::time::Duration| ("forgets", format!("a group that no row touched for {} ms", ttl.as_millis()));
    aggregate.state_ttl.map(forgets).into_iter().collect()
}

/// The tables of keyed state, as their operator describes them.
/// The state of windows says what the windows are beside its tables.
fn tables(schema: &Value) -> Vec<String> {
    let tables = schema.get("tables").unwrap_or(schema);
    tables.as_array().into_iter().flatten().map(table).collect()
}

fn table(table: &Value) -> String {
    let columns: Vec<String> =
        list(table, "columns").filter_map(|column| Some(column.get("name")?.as_str()?.to_owned())).collect();
    let keys = table.get("key_columns").and_then(Value::as_u64).map_or(0, |keys| keys as usize).min(columns.len());
    let gathers = list(table, "accumulators").filter_map(|one| {
        let gathers = one.get("gathers")?.as_str()?;
        Some(
            one.get("argument")
                .and_then(Value::as_str)
                .map_or_else(|| gathers.to_owned(), |of| format!("{gathers} of {of}")),
        )
    });
    let mut values: Vec<String> = gathers.collect();
    if values.is_empty() {
        values = columns[keys..].to_vec();
    }
    let by = if keys == 0 { "one row".to_owned() } else { format!("by ({})", columns[..keys].join(", ")) };
    let expires = table
        .get("expires")
        .and_then(Value::as_str)
        .map_or(String::new(), |column| format!("; a row ends at its {column}"));
    format!(
        "table {} {by}: {}{expires}",
        table.get("table").and_then(Value::as_str).unwrap_or("state"),
        values.join(", ")
    )
}

fn list<'a>(table: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    table.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn expression(expression: &Arc<dyn PhysicalExpr>) -> String {
    moved(expression).unwrap_or_else(|| Sql(expression.as_ref()).to_string())
}

/// A moment moved by a constant interval, as it is written in SQL: most watermarks are such.
fn moved(expression: &Arc<dyn PhysicalExpr>) -> Option<String> {
    let call = expression.downcast_ref::<ScalarFunctionExpr>().filter(|call| call.fun().name() == "plus_interval")?;
    let [moment, interval] = call.args() else { return None };
    let micros: i64 = interval.downcast_ref::<Literal>()?.value().to_string().parse().ok()?;
    let sign = if micros < 0 { '-' } else { '+' };
    let (seconds, rest) = (micros.unsigned_abs() / 1_000_000, micros.unsigned_abs() % 1_000_000);
    let fraction = if rest == 0 { String::new() } else { format!(".{rest:06}").trim_end_matches('0').to_owned() };
    Some(format!("{} {sign} INTERVAL '{seconds}{fraction}' SECOND", Sql(moment.as_ref())))
}

struct Sql<'a>(&'a dyn PhysicalExpr);

impl fmt::Display for Sql<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_sql(f)
    }
}

/// The names of these columns.
pub(super) fn names(schema: &Schema, columns: &[usize]) -> String {
    columns.iter().map(|column| name(schema, *column)).collect::<Vec<_>>().join(", ")
}

fn name(schema: &Schema, column: usize) -> String {
    schema.fields().get(column).map_or_else(|| format!("column {column}"), |field| field.name().clone())
}
