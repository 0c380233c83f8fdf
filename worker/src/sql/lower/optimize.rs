//! Which of DataFusion's rules run over a plan, and which do not.
//!
//! Binding ends with [`analyze`]: every expression has its type and Flink's casts. [`optimize`] then works on parts
//! without state only, so that no rule can change what is kept in state. Left out are rules that drop or restructure
//! whole inputs, and anything that would evaluate functions of time.

use crate::sql::functions::CastRule;
use datafusion_common::config::ConfigOptions;
use datafusion_common::{DFSchema, Result};
use datafusion_expr::{Expr, LogicalPlan};
use datafusion_optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion_optimizer::common_subexpr_eliminate::CommonSubexprEliminate;
use datafusion_optimizer::optimize_projections::OptimizeProjections;
use datafusion_optimizer::push_down_filter::PushDownFilter;
use datafusion_optimizer::simplify_expressions::SimplifyExpressions;
use datafusion_optimizer::{Analyzer, Optimizer, OptimizerContext, OptimizerRule};
use std::sync::Arc;

/// Passes over the plan; it settles after two or three.
const MAX_PASSES: u8 = 8;

/// Types and casts.
pub(in crate::sql) fn analyze(plan: LogicalPlan) -> Result<LogicalPlan> {
    let analyzer = Analyzer::with_rules(vec![
        Arc::new(CastRule::BeforeCoercion),
        Arc::new(TypeCoercion::new()),
        Arc::new(CastRule::AfterCoercion),
    ]);
    analyzer.execute_and_check(plan, &ConfigOptions::default(), |_, _| {})
}

/// Flink's casts in one expression over `schema`.
pub(in crate::sql) fn with_casts(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    Ok(CastRule::BeforeCoercion.rewrite(expr, schema)?.data)
}

/// Simpler expressions, earlier filters, fewer columns.
pub(super) fn optimize(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> = vec![
        Arc::new(SimplifyExpressions::new()),
        Arc::new(PushDownFilter::new()),
        Arc::new(OptimizeProjections::new()),
        Arc::new(CommonSubexprEliminate::new()),
        Arc::new(OptimizeProjections::new()),
    ];
    let context = OptimizerContext::new_with_config_options(Arc::new(ConfigOptions::default()))
        .without_query_execution_start_time()
        .with_skip_failing_rules(false)
        .with_max_passes(MAX_PASSES);
    Optimizer::with_rules(rules).optimize(plan, &context, |_, _| {})
}
