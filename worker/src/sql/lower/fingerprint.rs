//! A number that is equal for plans that do the same.

use crate::plan::{Calc, Node, NodeKind, SourceNode};
use crate::sql::bind::Catalog;
use std::fmt::Write;
use xxhash_rust::xxh3::xxh3_64;

/// The fingerprint of a plan's nodes. Options count as written: a secret may change its value.
pub(super) fn of(nodes: &[Node], catalog: &Catalog) -> u64 {
    let mut text = String::new();
    for node in nodes {
        describe(&mut text, node, catalog).expect("a string takes any text");
    }
    xxh3_64(text.as_bytes())
}

fn describe(text: &mut String, node: &Node, catalog: &Catalog) -> std::fmt::Result {
    let id = node.id.as_ref().map_or("", |id| id.0.as_str());
    writeln!(text, "{id} {} {:?} {:?}", node.name, node.inputs, node.changelog)?;
    for field in node.schema.fields() {
        writeln!(text, "  {} {} {}", field.name(), field.data_type(), field.is_nullable())?;
    }
    match &node.kind {
        NodeKind::Source(source) => {
            describe_source(text, source)?;
            describe_options(text, &source.table.name, catalog)
        }
        NodeKind::Sink(sink) => describe_options(text, &sink.table.name, catalog),
        NodeKind::Calc(calc) => describe_calc(text, calc),
        NodeKind::WindowAssign(assign) => writeln!(text, "  {:?} {}", assign.window, assign.time),
        NodeKind::WindowAggregate(step) => {
            writeln!(text, "  {:?} {} {:?} {:?}", step.window, step.time, step.keys, step.calls)
        }
        NodeKind::GroupAggregate(step) => writeln!(text, "  {:?} {:?} {:?}", step.keys, step.calls, step.state_ttl),
        NodeKind::Union => Ok(()),
    }
}

fn describe_source(text: &mut String, source: &SourceNode) -> std::fmt::Result {
    writeln!(text, "  {:?} {:?}", source.projection, source.bad_records)?;
    if let Some(watermark) = &source.watermark {
        writeln!(text, "  {} {} {:?}", watermark.column, watermark.expression, watermark.idle_timeout)?;
    }
    source.compute.as_ref().map_or(Ok(()), |calc| describe_calc(text, calc))
}

fn describe_calc(text: &mut String, calc: &Calc) -> std::fmt::Result {
    if let Some(filter) = &calc.filter {
        writeln!(text, "  where {filter}")?;
    }
    for column in calc.columns.iter().flatten() {
        writeln!(text, "  {column}")?;
    }
    Ok(())
}

fn describe_options(text: &mut String, table: &str, catalog: &Catalog) -> std::fmt::Result {
    let options = catalog.table(table).map(|table| table.written_options.as_slice()).unwrap_or_default();
    options.iter().try_for_each(|(key, value)| writeln!(text, "  '{key}' = '{value}'"))
}
