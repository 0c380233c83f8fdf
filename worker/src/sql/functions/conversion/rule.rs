//! The rule that gives a plan Flink's casts and literals.

use super::super::planner::literal;
use super::super::typing::engine_type;
use super::flink_cast;
use arrow::datatypes::{DataType, FieldRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, Result};
use datafusion_expr::expr::{Cast, TryCast};
use datafusion_expr::expr_rewriter::NamePreserver;
use datafusion_expr::utils::merge_schema;
use datafusion_expr::{Expr, ExprSchemable, LogicalPlan};
use datafusion_optimizer::analyzer::AnalyzerRule;
use std::sync::Arc;

/// Replaces casts that Flink does otherwise, and types literals.
///
/// It runs twice: before type coercion for what the user wrote, and after it for the casts that it added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CastRule {
    /// Casts of the user, to the engine's types; literals.
    BeforeCoercion,
    /// Casts that type coercion added, to just the types it asked for.
    AfterCoercion,
}

impl AnalyzerRule for CastRule {
    fn name(&self) -> &str {
        match self {
            Self::BeforeCoercion => "flink_casts",
            Self::AfterCoercion => "flink_casts_after_coercion",
        }
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        Ok(plan.transform_up_with_subqueries(|plan| self.rewrite_node(plan))?.data)
    }
}

impl CastRule {
    fn rewrite_node(self, plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        if matches!(plan, LogicalPlan::Limit(_)) {
            return Ok(Transformed::no(plan));
        }
        let mut schema = merge_schema(&plan.inputs());
        if let LogicalPlan::TableScan(scan) = &plan {
            schema.merge(&DFSchema::try_from_qualified_schema(scan.table_name.clone(), &scan.source.schema())?);
        }
        let names = NamePreserver::new(&plan);
        let rewritten = plan.map_expressions(|expr| {
            let name = names.save(&expr);
            Ok(self.rewrite(expr, &schema)?.update_data(|expr| name.restore(expr)))
        })?;
        rewritten.map_data(LogicalPlan::recompute_schema)
    }

    /// The expression with Flink's casts; `schema` has the columns it refers to.
    pub fn rewrite(self, expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        let typed = match self {
            Self::BeforeCoercion => expr.transform_down(|expr| Ok(type_literal(expr)))?,
            Self::AfterCoercion => Transformed::no(expr),
        };
        typed.transform_data(|expr| expr.transform_up(|expr| self.replace(expr, schema)))
    }

    fn replace(self, expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        let (inner, field, strict) = match &expr {
            Expr::Cast(cast) => (&cast.expr, &cast.field, true),
            Expr::TryCast(cast) => (&cast.expr, &cast.field, false),
            _ => return Ok(Transformed::no(expr)),
        };
        let from = inner.get_type(schema)?;
        if self == Self::AfterCoercion && !differs(&from, field.data_type()) {
            return Ok(Transformed::no(expr));
        }
        let target = engine_type(field.data_type());
        let replaced = flink_cast(inner, &from, field, strict)?;
        let exact = self == Self::BeforeCoercion || target == *field.data_type();
        Ok(match replaced {
            Some(cast) if exact => Transformed::yes(cast),
            Some(cast) => Transformed::yes(datafusion_expr::cast(cast, field.data_type().clone())),
            None if exact && target != *field.data_type() => Transformed::yes(plain(expr, target)),
            None => Transformed::no(expr),
        })
    }
}

/// Type coercion also casts between forms of one type, which is nobody's meaning.
fn differs(from: &DataType, to: &DataType) -> bool {
    engine_type(from) != engine_type(to)
}

/// The same cast to another Arrow type.
fn plain(expr: Expr, target: DataType) -> Expr {
    let with_type = |field: FieldRef| Arc::new(field.as_ref().clone().with_data_type(target));
    match expr {
        Expr::Cast(cast) => Expr::Cast(Cast::new_from_field(cast.expr, with_type(cast.field))),
        Expr::TryCast(cast) => Expr::TryCast(TryCast::new_from_field(cast.expr, with_type(cast.field))),
        other => other,
    }
}

/// Arguments that only count, as in COUNT(1), stay what they are, as do those of window functions.
fn type_literal(expr: Expr) -> Transformed<Expr> {
    let skip = match &expr {
        Expr::AggregateFunction(call) => call.params.args.iter().all(|argument| matches!(argument, Expr::Literal(..))),
        Expr::WindowFunction(_) => true,
        _ => false,
    };
    if skip {
        return Transformed::new(expr, false, TreeNodeRecursion::Jump);
    }
    match expr {
        Expr::Literal(..) => {
            let typed = literal(expr.clone());
            if typed == expr { Transformed::no(expr) } else { Transformed::yes(typed) }
        }
        other => Transformed::no(other),
    }
}
