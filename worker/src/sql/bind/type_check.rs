//! Operators whose sides do not go together, refused while the place of the sides is known.

use super::types::sql_name;
use crate::diagnostic::Diagnostic;
use crate::sql::errors;
use datafusion_common::{DFSchema, Result};
use datafusion_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion_expr::{ExprSchemable, Operator};
use sqlparser::ast::BinaryOperator;

/// Comes after the planners that give operators their meaning.
#[derive(Debug)]
pub(super) struct TypeCheck;

impl ExprPlanner for TypeCheck {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let (Ok(left), Ok(right), Some(operator)) =
            (expr.left.get_type(schema), expr.right.get_type(schema), operator(&expr.op))
        else {
            return Ok(PlannerResult::Original(expr));
        };
        if BinaryTypeCoercer::new(&left, &operator, &right).get_input_types().is_ok() {
            return Ok(PlannerResult::Original(expr));
        }
        let message = format!("{} {operator} {} has no meaning", sql_name(&left), sql_name(&right));
        let position = errors::position_of(&expr.left).or_else(|| errors::position_of(&expr.right));
        Err(errors::to_datafusion(Diagnostic::new(message).at(position).hint("CAST one of the sides")))
    }
}

fn operator(operator: &BinaryOperator) -> Option<Operator> {
    Some(match operator {
        BinaryOperator::Plus => Operator::Plus,
        BinaryOperator::Minus => Operator::Minus,
        BinaryOperator::Multiply => Operator::Multiply,
        BinaryOperator::Divide => Operator::Divide,
        BinaryOperator::Modulo => Operator::Modulo,
        BinaryOperator::Eq => Operator::Eq,
        BinaryOperator::NotEq => Operator::NotEq,
        BinaryOperator::Lt => Operator::Lt,
        BinaryOperator::LtEq => Operator::LtEq,
        BinaryOperator::Gt => Operator::Gt,
        BinaryOperator::GtEq => Operator::GtEq,
        BinaryOperator::And => Operator::And,
        BinaryOperator::Or => Operator::Or,
        _ => return None,
    })
}
