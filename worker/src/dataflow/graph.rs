//! Cuts a plan into chains of operators and the edges between them.
//!
//! A chain ends where rows must change their task: before a keyed operator, and where several inputs come together. An
//! aggregate over rows that are only inserted is cut in two: a local part that ends the chain before the shuffle and
//! combines rows of equal keys, and a global one behind it.

use crate::operator::build;
use crate::plan::{Changelog, NodeIndex, NodeKind, Plan};
use std::collections::BTreeMap;
use std::fmt::Write;
use weir_protocol::EdgeId;
use xxhash_rust::xxh3::xxh3_64;

/// The chains and edges of a plan. Chains are in topological order.
pub struct Graph {
    /// By number.
    pub chains: Vec<Chain>,
    /// By number.
    pub edges: Vec<Edge>,
}

/// A chain of operators: one task per subtask.
pub struct Chain {
    /// What feeds it.
    pub root: Root,
}

/// What feeds a chain.
pub enum Root {
    /// A source.
    Source {
        /// The source's node.
        node: NodeIndex,
        /// Where its rows go.
        next: Vec<Out>,
        /// Where its bad records go.
        bad_records: Vec<Out>,
    },
    /// Other chains.
    Edges {
        /// The first step.
        step: StepPlan,
        /// The edges that lead here.
        edges: Vec<usize>,
    },
}

/// A step of a chain.
pub struct StepPlan {
    /// The node that it carries out.
    pub node: NodeIndex,
    /// Which part of it.
    pub role: Role,
    /// Where its output goes.
    pub next: Vec<Out>,
}

/// Which part of a node a step carries out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// All of it, on rows.
    Whole,
    /// Combines rows before the shuffle.
    Local,
    /// Takes what the local part combined.
    Global,
}

/// Where a step's output goes.
pub enum Out {
    /// To a step of the same chain.
    Step(StepPlan),
    /// Over an edge.
    Edge(usize),
}

/// A connection of two chains.
pub struct Edge {
    /// The sending chain.
    pub from: usize,
    /// The receiving chain.
    pub to: usize,
    /// Which input of the receiving chain's first step it is, by the places of its inputs in the plan.
    pub input: usize,
    /// How rows find their task.
    pub spread: SpreadPlan,
}

/// How rows find their task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpreadPlan {
    /// To the task with the same number.
    Forward,
    /// By the key in these columns.
    Hash(Vec<usize>),
}

impl Graph {
    /// Cuts a plan.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        let mut builder = Builder { plan, chain_of: vec![None; plan.nodes.len()], chains: 0, edges: Vec::new() };
        let roots: Vec<NodeIndex> = (0..plan.nodes.len()).filter(|node| builder.begins_chain(*node)).collect();
        for node in &roots {
            builder.chain_of[*node] = Some(builder.chains);
            builder.chains += 1;
        }
        let mut chains: Vec<Root> = roots.iter().map(|node| builder.root(*node)).collect();
        for (chain, root) in chains.iter_mut().enumerate() {
            if let Root::Edges { edges, .. } = root {
                edges.extend((0..builder.edges.len()).filter(|edge| builder.edges[*edge].to == chain));
            }
        }
        Self { chains: chains.into_iter().map(|root| Chain { root }).collect(), edges: builder.edges }
    }
}

impl Graph {
    /// The id of each edge: equal in two plans only if rows that one sent over the edge mean the same to the other.
    #[must_use]
    pub fn edge_ids(&self, plan: &Plan) -> Vec<EdgeId> {
        let mut times: BTreeMap<(String, String), u32> = BTreeMap::new();
        let id = |edge: &Edge| {
            let ends = (self.chains[edge.from].root.id(plan), self.chains[edge.to].root.id(plan));
            let time = times.entry(ends.clone()).or_default();
            *time += 1;
            let form = xxh3_64(self.form(edge, plan).as_bytes());
            EdgeId(format!("{} -> {} #{time} {form:016x}", ends.0, ends.1))
        };
        self.edges.iter().map(id).collect()
    }

    /// What the rows of an edge look like and how they find their task.
    fn form(&self, edge: &Edge, plan: &Plan) -> String {
        let (node, role) = self.chains[edge.to].root.first();
        let node = &plan.nodes[node];
        let mut text = format!("{:?} {role:?} {}\n", edge.spread, build::state_schema(plan, node));
        for input in &node.inputs {
            let input = &plan.nodes[*input];
            let types = input.schema.fields().iter().map(|field| (field.data_type(), field.is_nullable()));
            writeln!(text, "{:?} {:?}", input.changelog, types.collect::<Vec<_>>()).expect("a string takes any text");
        }
        text
    }
}

impl Root {
    /// The first step's node and role.
    #[must_use]
    pub fn first(&self) -> (NodeIndex, Role) {
        match self {
            Self::Source { node, .. } => (*node, Role::Whole),
            Self::Edges { step, .. } => (step.node, step.role),
        }
    }

    /// The id of the first step's node, or its name.
    fn id(&self, plan: &Plan) -> String {
        let node = &plan.nodes[self.first().0];
        node.id.as_ref().map_or_else(|| node.name.clone(), |id| id.0.clone())
    }
}

impl Chain {
    /// The chain's steps with their nodes and roles, depth first.
    #[must_use]
    pub fn steps(&self) -> Vec<(NodeIndex, Role)> {
        let mut steps = Vec::new();
        match &self.root {
            Root::Source { node, next, bad_records } => {
                steps.push((*node, Role::Whole));
                collect(next, &mut steps);
                collect(bad_records, &mut steps);
            }
            Root::Edges { step, .. } => {
                steps.push((step.node, step.role));
                collect(&step.next, &mut steps);
            }
        }
        steps
    }

    /// The names of the chain's steps, for people.
    #[must_use]
    pub fn name(&self, plan: &Plan) -> String {
        let names = self.steps().into_iter().map(|(node, role)| {
            let name = &plan.nodes[node].name;
            if role == Role::Local { format!("local {name}") } else { name.clone() }
        });
        names.collect::<Vec<_>>().join(" -> ")
    }
}

fn collect(outs: &[Out], steps: &mut Vec<(NodeIndex, Role)>) {
    for out in outs {
        if let Out::Step(step) = out {
            steps.push((step.node, step.role));
            collect(&step.next, steps);
        }
    }
}

struct Builder<'a> {
    plan: &'a Plan,
    chain_of: Vec<Option<usize>>,
    chains: usize,
    edges: Vec<Edge>,
}

impl Builder<'_> {
    fn begins_chain(&self, node: NodeIndex) -> bool {
        use NodeKind as K;
        matches!(self.plan.nodes[node].kind, K::Source(_) | K::WindowAggregate(_) | K::GroupAggregate(_) | K::Union)
    }

    fn root(&mut self, node: NodeIndex) -> Root {
        let chain = self.chain_of[node].expect("a root has its chain");
        let next = self.outs(node, chain);
        if let NodeKind::Source(source) = &self.plan.nodes[node].kind {
            let bad_records = source.bad_records.map(|sink| self.whole(sink, chain)).into_iter().collect();
            return Root::Source { node, next, bad_records };
        }
        let role = if self.is_split(node) { Role::Global } else { Role::Whole };
        Root::Edges { step: StepPlan { node, role, next }, edges: Vec::new() }
    }

    /// Where the output of `node`, which runs in `chain`, goes.
    fn outs(&mut self, node: NodeIndex, chain: usize) -> Vec<Out> {
        let plan = self.plan;
        let mut outs = Vec::new();
        for (reader, candidate) in plan.nodes.iter().enumerate() {
            let is_bad_records_sink =
                matches!(&plan.nodes[node].kind, NodeKind::Source(s) if s.bad_records == Some(reader));
            for (input, of) in candidate.inputs.iter().enumerate() {
                if *of == node && !is_bad_records_sink {
                    outs.push(self.out((reader, input), chain));
                }
            }
        }
        outs
    }

    /// The way from a chain to an input of a node.
    fn out(&mut self, (reader, input): (NodeIndex, usize), chain: usize) -> Out {
        match &self.plan.nodes[reader].kind {
            NodeKind::Union => self.edge(chain, (reader, input), SpreadPlan::Forward),
            NodeKind::WindowAggregate(aggregate) => self.keyed((reader, input), chain, &aggregate.keys),
            NodeKind::GroupAggregate(aggregate) => self.keyed((reader, input), chain, &aggregate.keys),
            _ => self.whole(reader, chain),
        }
    }

    fn whole(&mut self, node: NodeIndex, chain: usize) -> Out {
        let next = self.outs(node, chain);
        Out::Step(StepPlan { node, role: Role::Whole, next })
    }

    /// The output of a local part begins with the key's columns.
    fn keyed(&mut self, (reader, input): (NodeIndex, usize), chain: usize, keys: &[usize]) -> Out {
        if !self.is_split(reader) {
            return self.edge(chain, (reader, input), SpreadPlan::Hash(keys.to_vec()));
        }
        let edge = self.edge(chain, (reader, input), SpreadPlan::Hash((0..keys.len()).collect()));
        Out::Step(StepPlan { node: reader, role: Role::Local, next: vec![edge] })
    }

    fn edge(&mut self, from: usize, (to, input): (NodeIndex, usize), spread: SpreadPlan) -> Out {
        let to = self.chain_of[to].expect("what an edge leads to is the root of a chain");
        self.edges.push(Edge { from, to, input, spread });
        Out::Edge(self.edges.len() - 1)
    }

    /// Retractions cannot be combined before the shuffle without their group's state.
    fn is_split(&self, node: NodeIndex) -> bool {
        let input = &self.plan.nodes[self.plan.nodes[node].inputs[0]];
        let aggregates =
            matches!(self.plan.nodes[node].kind, NodeKind::WindowAggregate(_) | NodeKind::GroupAggregate(_));
        aggregates && input.changelog == Changelog::Append
    }
}
