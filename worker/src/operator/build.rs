//! Makes the operator of a plan's node: the one list of those there are.

use super::aggregate::{GroupAggregate, InputForm, LocalGroupAggregate, window};
use super::calc::{CalcOperator, Passthrough};
use super::{Operator, OperatorContext};
use crate::dataflow::graph::Role;
use crate::failure::{Failure, Result};
use crate::plan::{self, Changelog, Node, NodeIndex, NodeKind, Plan};
use serde_json::{Value, json};
use weir_protocol::OperatorId;
use weir_protocol::key_group::MaxParallelism;

/// The operator that carries out a part of a node. Sources and sinks are no operators.
pub fn operator(plan: &Plan, node: NodeIndex, role: Role, context: OperatorContext) -> Result<Box<dyn Operator>> {
    let of = &plan.nodes[node];
    match &of.kind {
        NodeKind::Calc(calc) => Ok(Box::new(CalcOperator(calc.clone()))),
        NodeKind::Union => Ok(Box::new(Passthrough)),
        NodeKind::GroupAggregate(aggregate) if role == Role::Local => {
            Ok(Box::new(LocalGroupAggregate::new(aggregate, &plan.nodes[of.inputs[0]].schema, &context)?))
        }
        NodeKind::GroupAggregate(aggregate) => Ok(Box::new(group(plan, of, aggregate, role, &context)?)),
        NodeKind::WindowAggregate(aggregate) if role == Role::Local => {
            window::local(aggregate, &plan.nodes[of.inputs[0]].schema, &context)
        }
        NodeKind::WindowAggregate(aggregate) => {
            let input = &plan.nodes[of.inputs[0]];
            window::keyed(aggregate, form(role, input.changelog), &input.schema, of.schema.clone(), &context)
        }
        NodeKind::Source(_) | NodeKind::Sink(_) => Err(Failure::bug("a source or sink was taken for an operator")),
        NodeKind::WindowAssign(assign) => Ok(Box::new(window::WindowAssign::new(assign, of.schema.clone())?)),
    }
}

/// What an operator's state looks like: a changed query goes on from it only if it is equal.
#[must_use]
pub fn state_schema(plan: &Plan, node: &Node) -> Value {
    let context = OperatorContext {
        operator: OperatorId(String::new()),
        key_groups: Vec::new(),
        max_parallelism: MaxParallelism::new(1).expect("one key group is enough"),
        late_rows: super::Counter::default(),
        state_ttl: None,
    };
    match &node.kind {
        NodeKind::Source(source) => {
            json!({ "source": source.options.entries().get("connector").map(|entry| &entry.value) })
        }
        NodeKind::GroupAggregate(aggregate) => {
            group(plan, node, aggregate, Role::Global, &context).map_or(Value::Null, |operator| operator.state_schema())
        }
        NodeKind::WindowAggregate(aggregate) => {
            let input = &plan.nodes[node.inputs[0]].schema;
            window::state_schema(aggregate, input, node.schema.clone(), &context).unwrap_or(Value::Null)
        }
        _ => Value::Null,
    }
}

fn form(role: Role, input: Changelog) -> InputForm {
    match (role, input) {
        (_, Changelog::Retract) => InputForm::Changes,
        (Role::Global, Changelog::Append) => InputForm::Partials,
        (_, Changelog::Append) => InputForm::Rows,
    }
}

fn group(
    plan: &Plan,
    node: &Node,
    aggregate: &plan::GroupAggregate,
    role: Role,
    context: &OperatorContext,
) -> Result<GroupAggregate> {
    let input = &plan.nodes[node.inputs[0]];
    GroupAggregate::new(aggregate, form(role, input.changelog), &input.schema, node.schema.clone(), context)
}
