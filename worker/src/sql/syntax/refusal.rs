//! What Flink SQL has and this version has not: refused by name and place before anything is planned, so that nothing
//! is dropped silently.

use super::position;
use crate::diagnostic::{Diagnostic, Position};
use sqlparser::ast::{
    Distinct, DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, GroupByExpr, Query,
    Select, SelectItem, SetExpr, SetOperator, SetQuantifier, Spanned, TableFactor, Visit, Visitor,
};
use sqlparser::parser::ParserError;
use std::collections::HashSet;
use std::ops::ControlFlow;

/// Expressions nest no deeper than this, nor do chains of operators.
const MAX_DEPTH: usize = 400;

const AGGREGATES: [&str; 26] = [
    "COLLECT",
    "LISTAGG",
    "FIRST_VALUE",
    "LAST_VALUE",
    "STDDEV",
    "STDDEV_POP",
    "STDDEV_SAMP",
    "VAR_POP",
    "VAR_SAMP",
    "VARIANCE",
    "APPROX_COUNT_DISTINCT",
    "ARRAY_AGG",
    "JSON_OBJECTAGG",
    "JSON_ARRAYAGG",
    "GROUPING",
    "GROUPING_ID",
    "GROUP_ID",
    "PERCENTILE",
    "RANK",
    "DENSE_RANK",
    "ROW_NUMBER",
    "LAG",
    "LEAD",
    "NTILE",
    "CUME_DIST",
    "PERCENT_RANK",
];

/// Refuses what cannot run.
pub(super) fn check(query: &Query) -> Result<(), Diagnostic> {
    match query.visit(&mut Refusal::default()) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(diagnostic) => Err(*diagnostic),
    }
}

/// Refuses what cannot run in an expression of a table's declaration.
pub(super) fn check_expression(expr: &Expr) -> Result<(), ParserError> {
    match expr.visit(&mut Refusal::default()) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(diagnostic) => Err(super::error(&diagnostic.message, diagnostic.position)),
    }
}

#[derive(Default)]
struct Refusal {
    depth: usize,
    /// Queries that are the table of a window function.
    table_arguments: HashSet<*const Query>,
    /// `TABLE x PARTITION BY …` of a window function.
    partitioned_tables: HashSet<*const Expr>,
}

type Flow = ControlFlow<Box<Diagnostic>>;

fn refuse(what: &str, position: Option<Position>, hint: &str) -> Flow {
    ControlFlow::Break(Box::new(
        Diagnostic::new(format!("{what} not available in this version")).at(position).hint(hint),
    ))
}

/// Goes on if `found` is nothing, else refuses it at its place.
fn none<T: Spanned>(found: Option<&T>, what: &str, hint: &str) -> Flow {
    match found {
        Some(found) => refuse(what, position(found), hint),
        None => ControlFlow::Continue(()),
    }
}

const JOIN_HINT: &str = "a query reads one table or view, or a UNION ALL of several";
const STREAM_HINT: &str = "a stream has no end to sort or cut it at";

impl Visitor for Refusal {
    type Break = Box<Diagnostic>;

    fn pre_visit_query(&mut self, query: &Query) -> Flow {
        none(query.order_by.as_ref(), "ORDER BY is", STREAM_HINT)?;
        none(query.limit_clause.as_ref(), "LIMIT is", STREAM_HINT)?;
        none(query.fetch.as_ref(), "FETCH is", STREAM_HINT)?;
        if query.with.as_ref().is_some_and(|with| with.recursive) {
            return refuse("WITH RECURSIVE is", position(query), "write the query without recursion");
        }
        if !query.locks.is_empty() || query.for_clause.is_some() || !query.pipe_operators.is_empty() {
            return refuse("this form of query is", position(query), "write a plain SELECT");
        }
        check_body(&query.body)
    }

    fn pre_visit_select(&mut self, select: &Select) -> Flow {
        check_select(select)?;
        check_from(select)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Flow {
        if let TableFactor::TableFunction { expr: Expr::Function(function), .. } = factor {
            for expr in arguments(function) {
                match expr {
                    Expr::Subquery(query) => {
                        self.table_arguments.insert(&raw const **query);
                    }
                    Expr::Tuple(parts) => {
                        self.partitioned_tables.insert(&raw const *expr);
                        self.partitioned_tables.extend(parts.iter().map(|part| &raw const *part));
                    }
                    _ => {}
                }
            }
        }
        check_factor(factor)
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let message = format!("this expression is nested more than {MAX_DEPTH} levels deep");
            let hint = "split it into several views, or use IN for long lists of alternatives";
            return ControlFlow::Break(Box::new(Diagnostic::new(message).at(position(expr)).hint(hint)));
        }
        self.check_expr(expr)
    }

    fn post_visit_expr(&mut self, _expr: &Expr) -> Flow {
        self.depth -= 1;
        ControlFlow::Continue(())
    }
}

impl Refusal {
    fn check_expr(&self, expr: &Expr) -> Flow {
        let hint = "read the table in FROM instead";
        match expr {
            Expr::Subquery(query) if self.table_arguments.contains(&(&raw const **query)) => ControlFlow::Continue(()),
            Expr::Subquery(query) => refuse("a query as a value is", position(query.as_ref()), hint),
            Expr::InSubquery { subquery, .. } => refuse("IN (SELECT …) is", position(subquery.as_ref()), hint),
            Expr::Exists { subquery, .. } => refuse("EXISTS is", position(subquery.as_ref()), hint),
            Expr::InUnnest { .. } => refuse("UNNEST is", position(expr), hint),
            Expr::AnyOp { .. } => refuse("ANY is", position(expr), "write the comparisons out"),
            Expr::AllOp { .. } => refuse("ALL is", position(expr), "write the comparisons out"),
            Expr::Tuple(_) if !self.partitioned_tables.contains(&(&raw const *expr)) => {
                refuse("a row in brackets is", position(expr), "use its columns one by one")
            }
            Expr::GroupingSets(_) => refuse("GROUPING SETS is", position(expr), "write one query per grouping"),
            Expr::Cube(_) => refuse("CUBE is", position(expr), "write one query per grouping"),
            Expr::Rollup(_) => refuse("ROLLUP is", position(expr), "write one query per grouping"),
            Expr::Function(function) => check_function(function),
            _ => ControlFlow::Continue(()),
        }
    }
}

fn check_body(body: &SetExpr) -> Flow {
    match body {
        SetExpr::SetOperation { op: SetOperator::Union, set_quantifier, right, .. } => match set_quantifier {
            SetQuantifier::All | SetQuantifier::None | SetQuantifier::Distinct => ControlFlow::Continue(()),
            _ => refuse("UNION BY NAME is", position(right.as_ref()), "select the columns in the same order"),
        },
        SetExpr::SetOperation { op, right, .. } => refuse(
            &format!("{} is", op.to_string().to_uppercase()),
            position(right.as_ref()),
            "UNION and UNION ALL are available",
        ),
        SetExpr::Values(_) => {
            refuse("VALUES is", position(body), "select from a table, such as one of the connector 'datagen'")
        }
        SetExpr::Select(_) | SetExpr::Query(_) => ControlFlow::Continue(()),
        _ => refuse("this form of query is", position(body), "write a SELECT"),
    }
}

fn check_select(select: &Select) -> Flow {
    if let Some(Distinct::On(columns)) = &select.distinct {
        return none(columns.first(), "DISTINCT ON is", "SELECT DISTINCT is available");
    }
    none(select.qualify.as_ref(), "QUALIFY is", "use a WHERE around the query")?;
    none(select.named_window.first(), "WINDOW is", "OVER is not available either")?;
    none(select.lateral_views.first(), "LATERAL VIEW is", JOIN_HINT)?;
    none(select.sort_by.first(), "SORT BY is", STREAM_HINT)?;
    none(
        select.cluster_by.first().or(select.distribute_by.first()),
        "CLUSTER BY is",
        "rows are distributed by GROUP BY",
    )?;
    none(select.into.as_ref(), "SELECT INTO is", "use INSERT INTO")?;
    none(select.prewhere.as_ref(), "PREWHERE is", "use WHERE")?;
    if select.top.is_some()
        || !select.connect_by.is_empty()
        || select.value_table_mode.is_some()
        || select.exclude.is_some()
    {
        return refuse("this form of SELECT is", position(select), "write a plain SELECT");
    }
    match &select.group_by {
        GroupByExpr::All(_) => refuse("GROUP BY ALL is", position(&select.group_by), "name the columns"),
        GroupByExpr::Expressions(expressions, modifiers) if !modifiers.is_empty() => {
            none(expressions.first(), "GROUP BY … WITH is", "write one query per grouping")
        }
        GroupByExpr::Expressions(..) => check_projection(select),
    }
}

fn check_projection(select: &Select) -> Flow {
    for item in &select.projection {
        if let SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) = item {
            let plain = options.opt_except.is_none()
                && options.opt_exclude.is_none()
                && options.opt_ilike.is_none()
                && options.opt_rename.is_none()
                && options.opt_replace.is_none();
            if !plain {
                return refuse("a changed * is", position(item), "name the columns");
            }
        }
    }
    ControlFlow::Continue(())
}

fn check_from(select: &Select) -> Flow {
    if select.from.is_empty() {
        return refuse(
            "a SELECT without FROM is",
            position(select),
            "select from a table, such as one of the connector 'datagen'",
        );
    }
    let joined = select.from.iter().flat_map(|from| &from.joins).next();
    if let Some(join) = joined {
        if let TableFactor::UNNEST { .. } = join.relation {
            return refuse("UNNEST is", position(&join.relation), JOIN_HINT);
        }
        if let TableFactor::Table { version: Some(_), .. } = &join.relation {
            return refuse("FOR SYSTEM_TIME AS OF (a temporal join) is", position(&join.relation), JOIN_HINT);
        }
        if is_lateral(&join.relation) {
            return refuse("LATERAL is", position(&join.relation), JOIN_HINT);
        }
        return refuse("JOIN is", position(&join.relation), JOIN_HINT);
    }
    match select.from.get(1) {
        Some(second) if matches!(second.relation, TableFactor::UNNEST { .. }) => {
            refuse("UNNEST is", position(second), JOIN_HINT)
        }
        Some(second) if is_lateral(&second.relation) => refuse("LATERAL is", position(second), JOIN_HINT),
        Some(second) => refuse("a join (several tables in FROM) is", position(second), JOIN_HINT),
        None => ControlFlow::Continue(()),
    }
}

fn is_lateral(factor: &TableFactor) -> bool {
    matches!(factor, TableFactor::Derived { lateral: true, .. } | TableFactor::Function { lateral: true, .. })
}

fn check_factor(factor: &TableFactor) -> Flow {
    let at = position(factor);
    match factor {
        TableFactor::Table { version: Some(_), .. } => refuse("FOR SYSTEM_TIME AS OF is", at, JOIN_HINT),
        TableFactor::Table { args: Some(_), .. } => {
            refuse("a table function outside of TABLE(…) is", at, "write FROM TABLE(f(…))")
        }
        TableFactor::Table { sample: Some(_), .. } | TableFactor::Derived { sample: Some(_), .. } => {
            refuse("TABLESAMPLE is", at, "filter with WHERE")
        }
        TableFactor::Table { name, .. } if name.0.len() > 1 => {
            refuse("a catalog or database before a table's name is", at, "name the table alone")
        }
        TableFactor::Table { with_ordinality: true, .. } => refuse("WITH ORDINALITY is", at, JOIN_HINT),
        TableFactor::Table { .. } | TableFactor::TableFunction { .. } => ControlFlow::Continue(()),
        TableFactor::Derived { lateral: true, .. } | TableFactor::Function { .. } => {
            refuse("LATERAL is", at, JOIN_HINT)
        }
        TableFactor::Derived { .. } => ControlFlow::Continue(()),
        TableFactor::UNNEST { .. } => refuse("UNNEST is", at, JOIN_HINT),
        TableFactor::MatchRecognize { .. } => refuse("MATCH_RECOGNIZE is", at, "patterns of rows cannot be matched"),
        TableFactor::NestedJoin { .. } => refuse("a join in brackets is", at, JOIN_HINT),
        TableFactor::Pivot { .. } | TableFactor::Unpivot { .. } => refuse("PIVOT is", at, "use FILTER with aggregates"),
        _ => refuse("this form of FROM is", at, JOIN_HINT),
    }
}

fn check_function(function: &Function) -> Flow {
    let at = position(&function.name);
    let name = function.name.to_string().to_uppercase();
    if function.over.is_some() {
        let hint =
            if name == "ROW_NUMBER" { "top-N and deduplication come with it" } else { "use GROUP BY with a window" };
        return refuse(&format!("{name}() OVER is"), at, hint);
    }
    if AGGREGATES.contains(&name.as_str()) {
        return refuse(&format!("the aggregate function {name} is"), at, "available are COUNT, SUM, AVG, MIN and MAX");
    }
    if name == "PROCTIME" {
        return refuse("PROCTIME() (processing time) is", at, "declare event time with WATERMARK FOR");
    }
    if name == "UNNEST" {
        return refuse("UNNEST is", at, JOIN_HINT);
    }
    if !function.within_group.is_empty() || function.null_treatment.is_some() {
        return refuse("WITHIN GROUP and IGNORE NULLS are", at, "available are COUNT, SUM, AVG, MIN and MAX");
    }
    if let FunctionArguments::List(list) = &function.args {
        if list.duplicate_treatment == Some(DuplicateTreatment::Distinct) {
            return refuse(
                &format!("{name}(DISTINCT …) is"),
                at,
                "use SELECT DISTINCT in a view and aggregate over it",
            );
        }
        if !list.clauses.is_empty() {
            return refuse("a clause inside of a function's brackets is", at, "give the arguments alone");
        }
    }
    ControlFlow::Continue(())
}

/// The arguments that are expressions.
fn arguments(function: &Function) -> impl Iterator<Item = &Expr> {
    let list = match &function.args {
        FunctionArguments::List(list) => list.args.as_slice(),
        _ => &[],
    };
    list.iter().filter_map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))
        | FunctionArg::Named { arg: FunctionArgExpr::Expr(expr), .. }
        | FunctionArg::ExprNamed { arg: FunctionArgExpr::Expr(expr), .. } => Some(expr),
        _ => None,
    })
}
