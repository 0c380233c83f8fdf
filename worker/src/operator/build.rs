//! Makes the operator of a plan's node: the one list of those there are.

use super::aggregate::{GroupAggregate, InputForm, LocalGroupAggregate, window};
use super::calc::CalcOperator;
use super::{Operator, OperatorContext};
use crate::dataflow::graph::Role;
use crate::failure::{Failure, Result};
use crate::plan::{NodeIndex, NodeKind, Plan};
use std::sync::Arc;

/// The operator that carries out a part of a node. Sources and sinks are no operators.
pub fn operator(plan: &Plan, node: NodeIndex, role: Role, context: OperatorContext) -> Result<Box<dyn Operator>> {
    let output = || Arc::clone(&plan.nodes[node].schema);
    let input = || &plan.nodes[plan.nodes[node].inputs[0]];
    match &plan.nodes[node].kind {
        NodeKind::WindowAggregate(spec) if role == Role::Local => window::local(spec, &input().schema, &context),
        NodeKind::WindowAggregate(spec) => {
            let form = InputForm::of(role, input().changelog);
            window::keyed(spec, form, &input().schema, output(), &context)
        }
        NodeKind::GroupAggregate(spec) if role == Role::Local => {
            Ok(Box::new(LocalGroupAggregate::new(spec, &input().schema, &context)?))
        }
        NodeKind::GroupAggregate(spec) => {
            let form = InputForm::of(role, input().changelog);
            Ok(Box::new(GroupAggregate::new(spec, form, &input().schema, output(), &context)?))
        }
        NodeKind::Calc(calc) => Ok(Box::new(CalcOperator(calc.clone()))),
        _ => Err(Failure::bug("a source or sink was taken for an operator")),
    }
}
