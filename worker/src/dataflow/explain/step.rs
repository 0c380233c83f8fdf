//! One step of a chain in words.

use super::super::graph::Role;
use crate::connector::Assignment;
use crate::operator::build::state_schema;
use crate::plan::words::{Names, duration, is_name, sql};
use crate::plan::{Calc, Changelog, GroupAggregate, Node, NodeIndex, NodeKind, Plan, SinkNode, SourceNode};
use arrow::datatypes::Schema;
use datafusion_physical_expr::expressions::Column;
use serde_json::Value;
use std::time::Duration;

/// A step's name, its part, and the id under which its state is kept.
pub(super) fn headline(plan: &Plan, node: NodeIndex, role: Role) -> String {
    let node = &plan.nodes[node];
    let name = &node.name;
    match (role, &node.id) {
        (Role::Local, _) => format!("{name}, local part"),
        (Role::Global, Some(id)) => format!("{name}, global part [{id}]"),
        (_, Some(id)) => format!("{name} [{id}]"),
        (_, None) => name.clone(),
    }
}

/// What else there is to say, each with its label.
pub(super) fn details(plan: &Plan, names: &Names, index: NodeIndex, role: Role) -> Vec<(&'static str, String)> {
    let node = &plan.nodes[index];
    if role == Role::Local {
        return vec![("keeps", "nothing: combines rows of equal keys before they are sent".to_owned())];
    }
    let mut details = match &node.kind {
        NodeKind::Source(source) => of_source(source, node),
        NodeKind::Sink(sink) => of_sink(sink),
        NodeKind::Calc(calc) => of_calc(calc, names.input(node)),
        NodeKind::GroupAggregate(aggregate) => of_group(aggregate, names.output(index)),
        NodeKind::WindowAssign(assign) => vec![("time", names.input(node)[assign.time].clone())],
        NodeKind::WindowAggregate(aggregate) => {
            let time = names.input(node)[aggregate.time].clone();
            [vec![("time", time)], calls(&names.output(index)[aggregate.keys.len()..], aggregate.calls.len())].concat()
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
        let input: Vec<String> = read_columns(source);
        details.extend(computed(calc, &input));
    }
    if let Some(watermark) = &source.watermark {
        let column = name(&node.schema, watermark.column);
        let idle =
            watermark.idle_timeout.map_or(String::new(), |idle| format!(", a split is idle after {}", duration(idle)));
        let own: Vec<String> = node.schema.fields().iter().map(|field| field.name().clone()).collect();
        details.push(("watermark", format!("{column} AS {}{idle}", sql(&watermark.expression, &own))));
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

/// The columns that a source gives to what is computed: those read, then those about the row.
fn read_columns(source: &SourceNode) -> Vec<String> {
    let read = source.projection.iter().map(|column| name(&source.table.schema, *column));
    read.chain(source.table.metadata.iter().map(|(name, _)| name.clone())).collect()
}

fn of_calc(calc: &Calc, input: &[String]) -> Vec<(&'static str, String)> {
    let mut details = Vec::new();
    details.extend(calc.filter.iter().map(|filter| ("filter", sql(filter, input))));
    let plain = calc.columns.iter().flatten().zip(calc.schema.fields()).filter_map(|(column, field)| {
        let from = &input[column.downcast_ref::<Column>()?.index()];
        Some(if from == field.name() || !is_name(field.name()) {
            from.clone()
        } else {
            format!("{from} AS {}", field.name())
        })
    });
    let plain: Vec<String> = plain.collect();
    if !plain.is_empty() {
        details.push(("columns", plain.join(", ")));
    }
    details.extend(computed(calc, input));
    details
}

fn computed(calc: &Calc, input: &[String]) -> Vec<(&'static str, String)> {
    let columns = calc.columns.iter().flatten().zip(calc.schema.fields());
    let computed = columns.filter(|(column, _)| column.downcast_ref::<Column>().is_none());
    let told = computed.map(|(column, field)| match is_name(field.name()) {
        true => format!("{} AS {}", sql(column, input), field.name()),
        false => sql(column, input),
    });
    told.map(|text| ("computes", text)).collect()
}

fn of_group(aggregate: &GroupAggregate, output: &[String]) -> Vec<(&'static str, String)> {
    let mut details = calls(&output[aggregate.keys.len()..], aggregate.calls.len());
    let forgets = |ttl: Duration| ("forgets", format!("a group that no row touched for {}", duration(ttl)));
    details.extend(aggregate.state_ttl.map(forgets));
    details
}

fn calls(names: &[String], count: usize) -> Vec<(&'static str, String)> {
    let calls = &names[..count.min(names.len())];
    if calls.is_empty() { Vec::new() } else { vec![("computes", calls.join(", "))] }
}

/// The tables of keyed state, as their operator describes them.
/// The state of windows says what the windows are beside its tables.
pub(super) fn tables(schema: &Value) -> Vec<String> {
    let tables = schema.get("tables").unwrap_or(schema);
    tables.as_array().into_iter().flatten().map(table).collect()
}

fn table(table: &Value) -> String {
    let columns: Vec<String> =
        list(table, "columns").filter_map(|column| Some(column.get("name")?.as_str()?.to_owned())).collect();
    let keys = table.get("key_columns").and_then(Value::as_u64).map_or(0, |keys| keys as usize).min(columns.len());
    let gathers = list(table, "accumulators").filter_map(|one| {
        let gathers = one.get("gathers")?.as_str()?;
        Some(format!("{gathers}({})", one.get("argument").and_then(Value::as_str).unwrap_or("*")))
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

/// The names of these columns.
fn names(schema: &Schema, columns: &[usize]) -> String {
    columns.iter().map(|column| name(schema, *column)).collect::<Vec<_>>().join(", ")
}

fn name(schema: &Schema, column: usize) -> String {
    schema.fields().get(column).map_or_else(|| format!("column {column}"), |field| field.name().clone())
}
