//! `/v1/job/plan`: the job's dataflow and how it is cut into tasks.
//!
//! Options of tables are not shown, apart from the connector's name: they may hold secrets.

use super::Site;
use crate::connector::options::Options;
use crate::dataflow::graph::{Chain, Graph, Role, SpreadPlan};
use crate::operator::window::Window;
use crate::plan::{Changelog, Node, NodeKind, Plan, SourceNode};
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) async fn show(State(site): State<Arc<Site>>) -> Json<Value> {
    let board = &site.view.board;
    let readings = board.readings();
    let tasks = |chain: usize| readings.iter().filter(|reading| reading.task.chain as usize == chain).count();
    let (plan, graph) = (&board.plan, &board.graph);
    let chains = graph.chains.iter().enumerate();
    Json(json!({
        "fingerprint": format!("{:016x}", plan.fingerprint),
        "nodes": plan.nodes.iter().enumerate().map(|(place, node)| self::node(place, node)).collect::<Vec<_>>(),
        "chains": chains.map(|(place, chain)| self::chain(place, chain, tasks(place), plan)).collect::<Vec<_>>(),
        "edges": edges(graph),
    }))
}

fn node(place: usize, node: &Node) -> Value {
    let columns = node.schema.fields().iter();
    let mut value = json!({
        "node": place,
        "name": node.name,
        "kind": kind(&node.kind),
        "operatorId": node.id.as_ref().map(|id| &id.0),
        "inputs": node.inputs,
        "changelog": match node.changelog {
            Changelog::Append => "append",
            Changelog::Retract => "retract",
        },
        "columns": columns.map(|column| json!({
            "name": column.name(),
            "type": column.data_type().to_string(),
            "nullable": column.is_nullable(),
        })).collect::<Vec<_>>(),
    });
    let details = details(node);
    if let (Some(value), Value::Object(details)) = (value.as_object_mut(), details) {
        value.extend(details);
    }
    value
}

fn kind(kind: &NodeKind) -> &'static str {
    match kind {
        NodeKind::Source(_) => "source",
        NodeKind::Calc(_) => "calc",
        NodeKind::WindowAssign(_) => "windowAssign",
        NodeKind::WindowAggregate(_) => "windowAggregate",
        NodeKind::GroupAggregate(_) => "groupAggregate",
        NodeKind::Union => "union",
        NodeKind::Sink(_) => "sink",
    }
}

fn details(node: &Node) -> Value {
    match &node.kind {
        NodeKind::Source(source) => json!({
            "table": source.table.name,
            "connector": connector(&source.options),
            "bounded": source.source.is_bounded(),
            "badRecords": source.bad_records,
            "watermark": watermark(node, source),
        }),
        NodeKind::WindowAssign(assign) => json!({"window": window(assign.window)}),
        NodeKind::WindowAggregate(aggregate) => json!({"window": window(aggregate.window)}),
        NodeKind::GroupAggregate(aggregate) => {
            json!({"stateTtlMs": aggregate.state_ttl.map(|ttl| ttl.as_millis() as u64)})
        }
        NodeKind::Sink(sink) => json!({
            "table": sink.table.name,
            "connector": connector(&sink.options),
            "commits": sink.sink.commits(),
        }),
        NodeKind::Calc(calc) => json!({"filters": calc.filter.is_some()}),
        NodeKind::Union => json!({}),
    }
}

fn connector(options: &Options) -> Option<&str> {
    options.entries().get("connector").map(|option| option.value.as_str())
}

fn watermark(node: &Node, source: &SourceNode) -> Option<Value> {
    let watermark = source.watermark.as_ref()?;
    Some(json!({
        "column": node.schema.fields().get(watermark.column).map(|column| column.name()),
        "expression": watermark.expression.to_string(),
        "idleTimeoutMs": watermark.idle_timeout.map(|timeout| timeout.as_millis() as u64),
    }))
}

fn window(window: Window) -> Value {
    match window {
        Window::Tumble { size_ms, offset_ms } => json!({"kind": "tumble", "sizeMs": size_ms, "offsetMs": offset_ms}),
        Window::Hop { slide_ms, size_ms, offset_ms } => {
            json!({"kind": "hop", "slideMs": slide_ms, "sizeMs": size_ms, "offsetMs": offset_ms})
        }
        Window::Cumulate { step_ms, size_ms, offset_ms } => {
            json!({"kind": "cumulate", "stepMs": step_ms, "sizeMs": size_ms, "offsetMs": offset_ms})
        }
        Window::Session { gap_ms } => json!({"kind": "session", "gapMs": gap_ms}),
    }
}

fn chain(place: usize, chain: &Chain, tasks: usize, plan: &Plan) -> Value {
    let steps = chain.steps().into_iter().map(|(node, role)| {
        let role = match role {
            Role::Whole => "whole",
            Role::Local => "local",
            Role::Global => "global",
        };
        json!({"node": node, "part": role})
    });
    json!({"chain": place, "name": chain.name(plan), "tasks": tasks, "steps": steps.collect::<Vec<_>>()})
}

fn edges(graph: &Graph) -> Vec<Value> {
    let edges = graph.edges.iter().map(|edge| match &edge.spread {
        SpreadPlan::Forward => json!({"from": edge.from, "to": edge.to, "spread": "forward"}),
        SpreadPlan::Hash(columns) => json!({"from": edge.from, "to": edge.to, "spread": "hash", "keys": columns}),
    });
    edges.collect()
}
