//! The old group windows, `GROUP BY k, TUMBLE(ts, …)`, as the window functions of `FROM` that replaced them.
//!
//! `SELECT k, TUMBLE_END(ts, i) FROM t AS a WHERE p GROUP BY k, TUMBLE(ts, i)` becomes
//! `SELECT k, window_end FROM TABLE(TUMBLE((SELECT * FROM t AS a WHERE p), DESCRIPTOR(ts), i)) AS a
//! GROUP BY k, window_start, window_end`: rows are filtered before they make sessions.

use super::position;
use super::rewrite::group_expressions;
use crate::diagnostic::Diagnostic;
use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, GroupByExpr, Ident,
    ObjectName, Query, Select, SelectItem, SetExpr, TableAlias, TableFactor, VisitMut, VisitorMut,
};
use std::ops::ControlFlow;

/// The name of the window function that a rewritten `GROUP BY SESSION(…)` calls: its sessions have the keys of the
/// aggregation above it.
pub(in crate::sql) const GROUPED_SESSION: &str = "$GROUPED_SESSION";

const WINDOWS: [&str; 3] = ["TUMBLE", "HOP", "SESSION"];

/// Rewrites the group window of one `SELECT`, if it has one.
pub(super) fn rewrite(select: &mut Select) -> Result<(), Diagnostic> {
    let Some(window) = take_window(select)? else { return refuse_orphans(select) };
    let function_name = window.name.to_string().to_uppercase();
    let at = position(&window.name);
    let arguments = plain_arguments(&window).filter(|arguments| arguments.len() >= 2);
    let Some(arguments) = arguments else {
        let message = format!("{function_name} in GROUP BY takes a time column and intervals");
        return Err(Diagnostic::new(message).at(at).hint(format!("write {function_name}(ts, INTERVAL '10' SECOND)")));
    };
    rewrite_from(select, &function_name, &arguments);
    let mut rewriter = AuxiliaryFunctions { window: &function_name, arguments: &arguments };
    let mut flow = select.projection.visit(&mut rewriter);
    if flow.is_continue() {
        flow = select.having.visit(&mut rewriter);
    }
    match flow {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(diagnostic) => Err(*diagnostic),
    }
}

/// Takes the window out of `GROUP BY` and puts its bounds there.
fn take_window(select: &mut Select) -> Result<Option<Function>, Diagnostic> {
    let Some(expressions) = group_expressions(select) else { return Ok(None) };
    let is_window =
        |expr: &Expr| matches!(expr, Expr::Function(function) if WINDOWS.contains(&upper_name(function).as_str()));
    let Some(place) = expressions.iter().position(is_window) else { return Ok(None) };
    let Expr::Function(window) = expressions.remove(place) else { return Ok(None) };
    if let Some(second) = expressions.iter().find(|expr| is_window(expr)) {
        let message = "a GROUP BY has one window at most";
        return Err(Diagnostic::new(message)
            .at(position(second))
            .hint("aggregate in two steps, the second one over a view"));
    }
    expressions.extend(["window_start", "window_end", "window_time"].map(identifier));
    Ok(Some(window))
}

fn identifier(name: &str) -> Expr {
    Expr::Identifier(Ident::new(name))
}

fn upper_name(function: &Function) -> String {
    function.name.to_string().to_uppercase()
}

fn plain_arguments(function: &Function) -> Option<Vec<Expr>> {
    let FunctionArguments::List(list) = &function.args else { return None };
    let expr = |argument: &FunctionArg| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
        _ => None,
    };
    list.args.iter().map(expr).collect()
}

/// Puts `FROM … WHERE …` into the window function's argument.
fn rewrite_from(select: &mut Select, window: &str, arguments: &[Expr]) {
    let alias = select.from.first().and_then(|from| relation_alias(&from.relation));
    let inner = Select {
        projection: vec![SelectItem::Wildcard(sqlparser::ast::WildcardAdditionalOptions::default())],
        from: std::mem::take(&mut select.from),
        selection: select.selection.take(),
        distinct: None,
        having: None,
        group_by: GroupByExpr::Expressions(Vec::new(), Vec::new()),
        ..select.clone()
    };
    let subquery = Expr::Subquery(Box::new(plain_query(inner)));
    let name = if window == "SESSION" { GROUPED_SESSION } else { window };
    let descriptor = call("DESCRIPTOR", vec![arguments[0].clone()]);
    let mut all = vec![subquery, Expr::Function(descriptor)];
    all.extend_from_slice(&arguments[1..]);
    let relation = TableFactor::TableFunction { expr: Expr::Function(call(name, all)), alias };
    select.from = vec![sqlparser::ast::TableWithJoins { relation, joins: Vec::new() }];
}

/// What columns of a relation may be qualified with.
fn relation_alias(relation: &TableFactor) -> Option<TableAlias> {
    match relation {
        TableFactor::Table { alias: None, name, .. } => {
            let name = name.0.last()?.as_ident()?.clone();
            Some(TableAlias { explicit: true, name, columns: Vec::new(), at: None })
        }
        TableFactor::Table { alias, .. }
        | TableFactor::Derived { alias, .. }
        | TableFactor::TableFunction { alias, .. } => {
            let mut alias = alias.clone()?;
            alias.columns.clear();
            Some(alias)
        }
        _ => None,
    }
}

fn plain_query(select: Select) -> Query {
    Query {
        with: None,
        body: Box::new(SetExpr::Select(Box::new(select))),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}

fn call(name: &str, arguments: Vec<Expr>) -> Function {
    let args = arguments.into_iter().map(|expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))).collect();
    Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    }
}

/// `TUMBLE_START(ts, i)` and its like become columns of the window function.
struct AuxiliaryFunctions<'a> {
    window: &'a str,
    arguments: &'a [Expr],
}

impl VisitorMut for AuxiliaryFunctions<'_> {
    type Break = Box<Diagnostic>;

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let Some((window, column)) = auxiliary(function) else { return ControlFlow::Continue(()) };
        let at = position(&function.name);
        let Some(column) = column else { return ControlFlow::Break(Box::new(refuse_processing_time(function))) };
        if window != self.window || plain_arguments(function).as_deref() != Some(self.arguments) {
            let given: Vec<String> = self.arguments.iter().map(ToString::to_string).collect();
            let message = format!("{} has no window of its own in GROUP BY", upper_name(function));
            let hint = format!("the window of this GROUP BY is {}({})", self.window, given.join(", "));
            return ControlFlow::Break(Box::new(Diagnostic::new(message).at(at).hint(hint)));
        }
        *expr = identifier(column);
        ControlFlow::Continue(())
    }
}

/// The window and the column that an auxiliary function stands for; no column for processing time.
fn auxiliary(function: &Function) -> Option<(&'static str, Option<&'static str>)> {
    let name = upper_name(function);
    let (window, part) = name.split_once('_')?;
    let window = WINDOWS.into_iter().find(|known| *known == window)?;
    let column = match part {
        "START" => Some("window_start"),
        "END" => Some("window_end"),
        "ROWTIME" => Some("window_time"),
        "PROCTIME" => None,
        _ => return None,
    };
    Some((window, column))
}

fn refuse_processing_time(function: &Function) -> Diagnostic {
    let message = format!("{} (processing time) is not available in this version", upper_name(function));
    Diagnostic::new(message).at(position(&function.name)).hint("declare event time with WATERMARK FOR")
}

/// An auxiliary function without its window.
fn refuse_orphans(select: &mut Select) -> Result<(), Diagnostic> {
    struct Orphans;
    impl VisitorMut for Orphans {
        type Break = Box<Diagnostic>;

        fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
            let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
            let Some((window, column)) = auxiliary(function) else { return ControlFlow::Continue(()) };
            if column.is_none() {
                return ControlFlow::Break(Box::new(refuse_processing_time(function)));
            }
            let message = format!("{} needs {window} in GROUP BY", upper_name(function));
            let hint = format!("add GROUP BY {window}(…) with the same arguments");
            ControlFlow::Break(Box::new(Diagnostic::new(message).at(position(&function.name)).hint(hint)))
        }
    }
    match select.projection.visit(&mut Orphans) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(diagnostic) => Err(*diagnostic),
    }
}
