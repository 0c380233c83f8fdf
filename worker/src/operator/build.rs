//! Makes the operator of a plan's node: the one list of those there are.

use super::calc::CalcOperator;
use super::{Operator, OperatorContext};
use crate::dataflow::graph::Role;
use crate::failure::{Failure, Result};
use crate::plan::{NodeIndex, NodeKind, Plan};

/// The operator that carries out a part of a node. Sources and sinks are no operators.
pub fn operator(plan: &Plan, node: NodeIndex, role: Role, context: OperatorContext) -> Result<Box<dyn Operator>> {
    let _ = (role, context);
    match &plan.nodes[node].kind {
        NodeKind::Calc(calc) => Ok(Box::new(CalcOperator(calc.clone()))),
        _ => Err(Failure::bug("a source or sink was taken for an operator")),
    }
}
