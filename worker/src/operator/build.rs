//! Makes the operator of a plan's node: the one list of those there are.

use super::aggregate::{GroupAggregate, InputForm, LocalGroupAggregate, window};
use super::calc::{CalcOperator, Calculation, Passthrough};
use super::legend::Legend;
use super::{Counter, Operator, OperatorContext};
use crate::dataflow::graph::Role;
use crate::failure::{Failure, Result};
use crate::plan::{Changelog, Node, NodeIndex, NodeKind, Plan};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use weir_protocol::OperatorId;
use weir_protocol::key_group::MaxParallelism;

/// The operator that carries out a part of a node. Sources and sinks are no operators.
pub fn operator(plan: &Plan, node: NodeIndex, role: Role, context: &OperatorContext) -> Result<Box<dyn Operator>> {
    of_node(plan, &plan.nodes[node], role, context)
}

/// What an operator's state looks like: a changed query goes on from it only if it is equal.
#[must_use]
pub fn state_schema(plan: &Plan, node: &Node) -> Value {
    let context = nowhere(None);
    match &node.kind {
        NodeKind::Source(source) => {
            json!({ "connector": source.options.entries().get("connector").map(|entry| &entry.value) })
        }
        NodeKind::GroupAggregate(spec) => {
            let input = &plan.nodes[node.inputs[0]];
            let form = form(Role::Global, input.changelog);
            // What cannot be made is told when the job starts.
            let operator = GroupAggregate::new(spec, form, &input.schema, Arc::clone(&node.schema), &context);
            operator.map_or(Value::Null, |operator| operator.state_schema())
        }
        NodeKind::WindowAggregate(spec) => {
            let input = &plan.nodes[node.inputs[0]].schema;
            window::state_schema(spec, input, Arc::clone(&node.schema), &context).unwrap_or(Value::Null)
        }
        NodeKind::Calc(_) | NodeKind::Union | NodeKind::WindowAssign(_) | NodeKind::Sink(_) => Value::Null,
    }
}

/// What the columns of an operator's state mean, table by table: for people, and no part of whether a query fits.
#[must_use]
pub fn legends(plan: &Plan, node: &Node) -> Vec<Legend> {
    let input = || &plan.nodes[node.inputs[0]];
    let output = Arc::clone(&node.schema);
    let legends = match &node.kind {
        NodeKind::GroupAggregate(spec) => {
            let (form, context) = (form(Role::Global, input().changelog), nowhere(spec.state_ttl));
            let operator = GroupAggregate::new(spec, form, &input().schema, output, &context);
            operator.map(|operator| operator.legends())
        }
        NodeKind::WindowAggregate(spec) => {
            window::legend(spec, &input().schema, output, &nowhere(None)).map(|legend| vec![legend])
        }
        _ => return Vec::new(),
    };
    // What cannot be made is told when the job starts.
    legends.unwrap_or_default()
}

/// The context of an operator that is only asked what it is.
fn nowhere(state_ttl: Option<Duration>) -> OperatorContext {
    OperatorContext {
        operator: OperatorId(String::new()),
        key_groups: Vec::new(),
        max_parallelism: MaxParallelism::new(1).expect("one key group is enough"),
        late_rows: Counter::default(),
        state_ttl,
    }
}

fn of_node(plan: &Plan, node: &Node, role: Role, context: &OperatorContext) -> Result<Box<dyn Operator>> {
    let output = || Arc::clone(&node.schema);
    let input = || &plan.nodes[node.inputs[0]];
    match &node.kind {
        NodeKind::Calc(calc) => Ok(Box::new(CalcOperator(Calculation::new(calc)?))),
        NodeKind::Union => Ok(Box::new(Passthrough)),
        NodeKind::WindowAssign(assign) => Ok(Box::new(window::WindowAssign::new(assign, output())?)),
        NodeKind::WindowAggregate(spec) if role == Role::Local => window::local(spec, &input().schema, context),
        NodeKind::WindowAggregate(spec) => {
            window::keyed(spec, form(role, input().changelog), &input().schema, output(), context)
        }
        NodeKind::GroupAggregate(spec) if role == Role::Local => {
            Ok(Box::new(LocalGroupAggregate::new(spec, &input().schema, context)?))
        }
        NodeKind::GroupAggregate(spec) => {
            let form = form(role, input().changelog);
            Ok(Box::new(GroupAggregate::new(spec, form, &input().schema, output(), context)?))
        }
        NodeKind::Source(_) | NodeKind::Sink(_) => Err(Failure::bug("a source or sink was taken for an operator")),
    }
}

fn form(role: Role, input: Changelog) -> InputForm {
    match (role, input) {
        (_, Changelog::Retract) => InputForm::Changes,
        (Role::Global, Changelog::Append) => InputForm::Partials,
        (_, Changelog::Append) => InputForm::Rows,
    }
}
