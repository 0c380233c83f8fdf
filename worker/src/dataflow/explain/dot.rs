//! A plan as a drawing for Graphviz: a box for each chain, an arrow for each way that rows take.

use super::super::graph::{Graph, Out, Role, Root, StepPlan};
use super::{Frame, spread, step};
use crate::plan::words::Names;
use crate::plan::{NodeIndex, Plan};
use std::fmt::Write;

/// The plan in Graphviz's language: `weir explain job.yaml --dot | dot -Tsvg > job.svg`.
#[must_use]
pub fn dot(plan: &Plan, frame: &Frame<'_>) -> String {
    let graph = Graph::of(plan);
    let names = Names::of(&plan.nodes);
    let mut drawing = Drawing {
        names: &names,
        plan,
        graph: &graph,
        steps: 0,
        roots: vec![0; graph.chains.len()],
        arrows: Vec::new(),
        out: String::new(),
    };
    drawing.line(&format!("digraph {} {{", quoted(frame.job)));
    drawing.line("  rankdir=LR;\n  node [shape=box, fontname=\"monospace\"];\n  edge [fontname=\"monospace\"];");
    for number in 0..graph.chains.len() {
        drawing.chain(number, frame.parallelism);
    }
    drawing.arrows();
    drawing.line("}");
    drawing.out
}

struct Drawing<'a> {
    names: &'a Names,
    plan: &'a Plan,
    graph: &'a Graph,
    steps: usize,
    /// The first step of each chain.
    roots: Vec<usize>,
    arrows: Vec<Arrow>,
    out: String,
}

struct Arrow {
    from: usize,
    to: Target,
    label: String,
}

enum Target {
    Step(usize),
    Chain(usize),
}

impl Drawing<'_> {
    fn line(&mut self, text: &str) {
        writeln!(self.out, "{text}").expect("a string takes every text");
    }

    fn chain(&mut self, number: usize, parallelism: u32) {
        self.line(&format!(
            "  subgraph cluster_{number} {{\n    label={};",
            quoted(&format!("chain {number} × {parallelism}"))
        ));
        self.roots[number] = self.steps;
        match &self.graph.chains[number].root {
            Root::Source { node, next, bad_records } => {
                let from = self.node(*node, Role::Whole);
                self.outs(from, *node, next, "");
                self.outs(from, *node, bad_records, "bad records");
            }
            Root::Edges { step, .. } => {
                self.step(step);
            }
        }
        self.line("  }");
    }

    fn step(&mut self, step: &StepPlan) -> usize {
        let place = self.node(step.node, step.role);
        self.outs(place, step.node, &step.next, "");
        place
    }

    fn node(&mut self, node: NodeIndex, role: Role) -> usize {
        let place = self.steps;
        self.steps += 1;
        let mut lines = vec![step::headline(self.plan, node, role)];
        let shown = step::details(self.plan, self.names, node, role)
            .into_iter()
            .filter(|(label, _)| matches!(*label, "connector" | "watermark" | "keeps" | "emits"));
        lines.extend(shown.map(|(label, text)| format!("{label}: {text}")));
        let label: String = lines.iter().map(|line| format!("{}\\l", escaped(line))).collect();
        self.line(&format!("    s{place} [label=\"{label}\"];"));
        place
    }

    fn outs(&mut self, from: usize, sender: NodeIndex, next: &[Out], label: &str) {
        for out in next {
            let (to, label) = match out {
                Out::Step(step) => (Target::Step(self.step(step)), label.to_owned()),
                Out::Edge(edge) => {
                    let edge = &self.graph.edges[*edge];
                    (Target::Chain(edge.to), spread(self.names, edge, sender))
                }
            };
            self.arrows.push(Arrow { from, to, label });
        }
    }

    fn arrows(&mut self) {
        for Arrow { from, to, label } in std::mem::take(&mut self.arrows) {
            let to = match to {
                Target::Step(step) => step,
                Target::Chain(chain) => self.roots[chain],
            };
            let label = if label.is_empty() { String::new() } else { format!(" [label={}]", quoted(&label)) };
            self.line(&format!("  s{from} -> s{to}{label};"));
        }
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
