#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod plans;
mod refusals;
mod robustness;

use super::{Connectors, PlanConfig};
use crate::connector::options::Options;
use crate::connector::{
    Assignment, Enumerator, ReaderContext, Sink, SinkWriter, Source, SourceReader, TableShape, WriterContext,
};
use crate::diagnostic::Diagnostic;
use crate::failure::{Failure, Result};
use crate::plan::{Changelog, Node, NodeKind, Plan};
use std::fmt::Write;
use std::sync::Arc;

/// Connectors that are only there to be planned with.
struct FakeConnectors;

struct FakeSource;
struct FakeSink {
    takes_changelog: bool,
}

impl Source for FakeSource {
    fn assignment(&self) -> Assignment {
        Assignment::Concurrent
    }
    fn is_bounded(&self) -> bool {
        true
    }
    fn enumerator(&self) -> Result<Box<dyn Enumerator>> {
        Err(Failure::bug("only planned"))
    }
    fn reader(&self, _context: ReaderContext) -> Result<Box<dyn SourceReader>> {
        Err(Failure::bug("only planned"))
    }
}

impl Sink for FakeSink {
    fn takes_changelog(&self) -> bool {
        self.takes_changelog
    }
    fn writer(&self, _context: WriterContext) -> Result<Box<dyn SinkWriter>> {
        Err(Failure::bug("only planned"))
    }
}

impl Connectors for FakeConnectors {
    fn unused(&self, _options: &Options, _shape: &TableShape) -> Result<(), Vec<Diagnostic>> {
        Ok(())
    }

    fn source(&self, options: &Options, _shape: &TableShape) -> std::result::Result<Arc<dyn Source>, Vec<Diagnostic>> {
        check_options(options, &["nexmark", "files"])?;
        Ok(Arc::new(FakeSource))
    }

    fn sink(&self, options: &Options, _shape: &TableShape) -> std::result::Result<Arc<dyn Sink>, Vec<Diagnostic>> {
        check_options(options, &["blackhole", "files"])?;
        Ok(Arc::new(FakeSink { takes_changelog: options.text("connector").as_deref() == Some("blackhole") }))
    }
}

fn check_options(options: &Options, known: &[&str]) -> std::result::Result<(), Vec<Diagnostic>> {
    let connector = options.choice("connector", &known.iter().map(|name| (*name, ())).collect::<Vec<_>>());
    if connector.is_none() && options.entries().is_empty() {
        let _ = options.required("connector");
    }
    let _ = options.choice("format", &[("json", ()), ("csv", ())]);
    let _ = (
        options.text("path"),
        options.text("password"),
        options.text("bad-records.table"),
        options.text("bad-records"),
    );
    options.finish()
}

fn plan(script: &str) -> std::result::Result<Plan, Vec<Diagnostic>> {
    let secrets = |name: &str, key: &str| match (name, key) {
        ("db", "password") => Ok("hunter2".to_owned()),
        _ => Err(format!("there is no secret {name}/{key}")),
    };
    super::plan(script, &PlanConfig { connectors: &FakeConnectors, secrets: &secrets, state_ttl: None })
}

const TABLES: &str = "CREATE TABLE bids (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, ts TIMESTAMP(3), extra STRING,
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'files');
CREATE TABLE plain (id INT, amount DECIMAL(10, 2), at TIMESTAMP(3), flag BOOLEAN, items ARRAY<INT>) WITH ('connector' = 'files');
";

/// The plan's nodes as text.
fn draw(plan: &Plan) -> String {
    let mut text = String::new();
    for (place, node) in plan.nodes.iter().enumerate() {
        draw_node(&mut text, place, node).unwrap();
    }
    text
}

fn draw_node(text: &mut String, place: usize, node: &Node) -> std::fmt::Result {
    let changes = if node.changelog == Changelog::Retract { " (changes)" } else { "" };
    writeln!(text, "{place} {} <- {:?}{changes}", node.name, node.inputs)?;
    match &node.kind {
        NodeKind::Source(source) => {
            writeln!(text, "    reads {:?}", source.projection)?;
            for expr in source.compute.iter().flat_map(|calc| calc.columns.iter().flatten()) {
                writeln!(text, "    computes {expr}")?;
            }
            if let Some(watermark) = &source.watermark {
                writeln!(text, "    watermark {} as {}", watermark.column, watermark.expression)?;
            }
        }
        NodeKind::Calc(calc) => {
            if let Some(filter) = &calc.filter {
                writeln!(text, "    where {filter}")?;
            }
            let exprs: Vec<String> = calc.columns.iter().flatten().map(ToString::to_string).collect();
            writeln!(text, "    select {}", exprs.join(", "))?;
        }
        NodeKind::WindowAssign(assign) => writeln!(text, "    {:?} of {}", assign.window, assign.time)?,
        NodeKind::WindowAggregate(step) => {
            writeln!(text, "    {:?} of {}, keys {:?}", step.window, step.time, step.keys)?;
            draw_calls(text, &step.calls)?;
        }
        NodeKind::GroupAggregate(step) => {
            writeln!(text, "    keys {:?} ttl {:?}", step.keys, step.state_ttl)?;
            draw_calls(text, &step.calls)?;
        }
        NodeKind::Union | NodeKind::Sink(_) => {}
    }
    let fields: Vec<String> = node
        .schema
        .fields()
        .iter()
        .map(|field| {
            let null = if field.is_nullable() { "" } else { " NOT NULL" };
            format!("{} {}{null}", field.name(), super::bind::types::sql_name(field.data_type()))
        })
        .collect();
    writeln!(text, "    : {}", fields.join(", "))
}

fn draw_calls(text: &mut String, calls: &[crate::operator::aggregate::call::Call]) -> std::fmt::Result {
    for call in calls {
        let argument = call.argument.map_or("*".to_owned(), |place| place.to_string());
        let filter = call.filter.map_or(String::new(), |place| format!(" where {place}"));
        writeln!(
            text,
            "    {:?}({argument}){filter}: {}",
            call.function,
            super::bind::types::sql_name(&call.result_type)
        )?;
    }
    Ok(())
}
