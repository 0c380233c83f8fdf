//! A plan for people: its chains with their steps, and how rows get from one chain to the next.
//!
//! The text is for reading and for golden tests; [`dot`] draws the same for Graphviz.

mod dot;
mod step;

pub use dot::dot;

use super::graph::{Edge, Graph, Out, Role, Root, SpreadPlan, StepPlan};
use crate::plan::words::Names;
use crate::plan::{NodeIndex, Plan};
use std::fmt::Write;

/// How the plan is going to run.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// The job's name.
    pub job: &'a str,
    /// Tasks of every chain.
    pub parallelism: u32,
    /// Number of key groups.
    pub max_parallelism: u32,
}

/// The plan as indented text.
#[must_use]
pub fn text(plan: &Plan, frame: &Frame<'_>) -> String {
    let graph = Graph::of(plan);
    let names = Names::of(&plan.nodes);
    let mut page = Page { plan, graph: &graph, names: &names, out: String::new() };
    let chains = counted(graph.chains.len(), "chain");
    let (tasks, groups) =
        (counted(frame.parallelism as usize, "task"), counted(frame.max_parallelism as usize, "key group"));
    page.line(0, &format!("job {}: {chains} of {tasks} each, {groups}, plan {:016x}", frame.job, plan.fingerprint));
    for number in 0..graph.chains.len() {
        page.chain(number);
    }
    page.out
}

/// The tables of keyed state as an operator describes them, a line each.
#[must_use]
pub fn state(schema: &serde_json::Value) -> Vec<String> {
    step::tables(schema)
}

struct Page<'a> {
    plan: &'a Plan,
    graph: &'a Graph,
    names: &'a Names,
    out: String,
}

impl Page<'_> {
    fn line(&mut self, depth: usize, text: &str) {
        writeln!(self.out, "{:indent$}{text}", "", indent = depth * 2).expect("a string takes every text");
    }

    fn chain(&mut self, number: usize) {
        self.out.push('\n');
        match &self.graph.chains[number].root {
            Root::Source { node, next, bad_records } => {
                self.line(0, &format!("chain {number}"));
                self.node(1, *node, Role::Whole);
                if !bad_records.is_empty() {
                    self.line(2, "bad records go to");
                    bad_records.iter().for_each(|out| self.out(3, *node, out));
                }
                self.outs(1, *node, next);
            }
            Root::Edges { step, edges } => {
                let senders: Vec<String> = edges.iter().map(|edge| self.graph.edges[*edge].from.to_string()).collect();
                let word = if senders.len() == 1 { "chain" } else { "chains" };
                self.line(0, &format!("chain {number}, reads {word} {}", senders.join(", ")));
                self.step(1, step);
            }
        }
    }

    fn step(&mut self, depth: usize, step: &StepPlan) {
        self.node(depth, step.node, step.role);
        self.outs(depth, step.node, &step.next);
    }

    fn node(&mut self, depth: usize, node: NodeIndex, role: Role) {
        self.line(depth, &step::headline(self.plan, node, role));
        for (label, text) in step::details(self.plan, self.names, node, role) {
            self.line(depth + 1, &format!("{label}: {text}"));
        }
    }

    fn outs(&mut self, depth: usize, node: NodeIndex, next: &[Out]) {
        match next {
            [] => {}
            [one] => self.out(depth, node, one),
            several => {
                for (place, out) in several.iter().enumerate() {
                    self.line(depth, &format!("branch {} of {}", place + 1, several.len()));
                    self.out(depth + 1, node, out);
                }
            }
        }
    }

    fn out(&mut self, depth: usize, node: NodeIndex, out: &Out) {
        match out {
            Out::Step(step) => self.step(depth, step),
            Out::Edge(edge) => {
                let edge = &self.graph.edges[*edge];
                self.line(depth, &format!("-> chain {}, {}", edge.to, spread(self.names, edge, node)));
            }
        }
    }
}

/// How rows find their task on an edge that leaves `node`.
fn spread(names: &Names, edge: &Edge, node: NodeIndex) -> String {
    let SpreadPlan::Hash(columns) = &edge.spread else {
        return "forward to the task with the same number".to_owned();
    };
    if columns.is_empty() {
        return "all rows to one task".to_owned();
    }
    // What a local part emits begins with the key, as does the output of its node: one schema names both.
    let names: Vec<&str> = columns.iter().map(|column| names.output(node)[*column].as_str()).collect();
    format!("shuffled by key ({})", names.join(", "))
}

fn counted(number: usize, word: &str) -> String {
    if number == 1 { format!("{number} {word}") } else { format!("{number} {word}s") }
}
