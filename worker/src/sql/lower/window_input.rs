//! What a `GROUP BY window_start, window_end` aggregates: the rows below the window function, or rows that already
//! carry their window.
//!
//! In the usual case the window function stands right below, and nothing between looks at the window: the operator
//! assigns windows itself, sharing panes. Otherwise (a filter on `window_start`, an aggregation of window results) each
//! row has one window by then. Such rows are grouped by their window's bounds as plain keys, in tumbling windows of
//! event time `window_end - 1 ms` that are just as fine as windows can end: they fire when their window does.

use super::steps::{as_timestamp, window_column};
use crate::diagnostic::Diagnostic;
use crate::operator::window::Window;
use crate::sql::bind::attributes::{Attribute, attributes, of_expr};
use crate::sql::bind::windows::{Sessions, WindowTable};
use crate::sql::errors;
use arrow::datatypes::DataType;
use datafusion_common::{Column, Result, TableReference};
use datafusion_expr::{
    Aggregate, Expr, ExprSchemable, Filter, LogicalPlan, Operator, Projection, SubqueryAlias, binary_expr, cast, lit,
};
use std::sync::Arc;

/// The column that carries event time through projections.
const TIME: &str = "$time";

/// The input of a window aggregation.
pub(super) struct WindowedInput {
    /// Not cut yet.
    pub(super) plan: LogicalPlan,
    pub(super) window: Window,
    /// TIMESTAMP(3).
    pub(super) time: Expr,
    pub(super) keys: Vec<Expr>,
    /// For each expression of the `GROUP BY`, where its value is in the operator's output.
    places: Vec<Place>,
}

#[derive(Clone, Copy)]
enum Place {
    Key(usize),
    /// Counted from the first of the window's columns.
    WindowColumn(usize),
}

impl WindowedInput {
    /// The place in an output of `width` columns of a `GROUP BY` expression.
    pub(super) fn output_place(&self, group: usize, width: usize) -> usize {
        match self.places[group] {
            Place::Key(place) => place,
            Place::WindowColumn(column) => width - 3 + column,
        }
    }
}

/// Decides how a windowed aggregation reads its rows.
pub(super) fn choose(aggregate: &Aggregate, groups: &[Attribute], window: Window) -> Result<WindowedInput> {
    match direct(aggregate, groups)? {
        Some(input) => Ok(input),
        None => attached(aggregate, groups, window),
    }
}

/// The window function right below, if nothing else looks at the window.
fn direct(aggregate: &Aggregate, groups: &[Attribute]) -> Result<Option<WindowedInput>> {
    let Some(below) = Below::find(&aggregate.input)? else { return Ok(None) };
    let input = attributes(&aggregate.input);
    let looks = |expr: &Expr| of_expr(expr, &aggregate.input, &input).is_of_window();
    let calls_look = aggregate
        .aggr_expr
        .iter()
        .any(|call| call.column_refs().into_iter().any(|column| looks(&Expr::Column(column.clone()))));
    if calls_look || groups.contains(&Attribute::FromWindow) {
        return refuse_session(below.window, "an expression over the session's window").map(|()| None);
    }
    let mut keys = Vec::new();
    let mut places = Vec::new();
    for (expr, attribute) in aggregate.group_expr.iter().zip(groups) {
        places.push(match window_column(*attribute) {
            Some(column) => Place::WindowColumn(column),
            None => {
                keys.push(expr.clone());
                Place::Key(keys.len() - 1)
            }
        });
    }
    check_sessions(aggregate, &below, &keys)?;
    let time_type = below.time.get_type(below.plan.schema())?;
    let time = as_timestamp(below.time, &time_type);
    Ok(Some(WindowedInput { plan: below.plan, window: below.window.window, time, keys, places }))
}

/// Rows that carry their window.
fn attached(aggregate: &Aggregate, groups: &[Attribute], window: Window) -> Result<WindowedInput> {
    let end =
        aggregate.group_expr.iter().zip(groups).find(|(_, attribute)| matches!(attribute, Attribute::WindowEnd(_)));
    let (end, _) = end.expect("an aggregation is windowed when it groups by window_end");
    let end = end.clone().unalias();
    let milliseconds = cast(end, DataType::Int64);
    let last = binary_expr(milliseconds, Operator::Minus, lit(1_i64));
    let (size_ms, offset_ms) = match window {
        Window::Tumble { size_ms, offset_ms } => (size_ms, offset_ms),
        Window::Hop { slide_ms, offset_ms, .. } => (slide_ms, offset_ms),
        Window::Cumulate { step_ms, offset_ms, .. } => (step_ms, offset_ms),
        Window::Session { .. } => (1, 0),
    };
    Ok(WindowedInput {
        plan: aggregate.input.as_ref().clone(),
        window: Window::Tumble { size_ms, offset_ms },
        time: cast(last, crate::sql::bind::types::TIMESTAMP_3),
        keys: aggregate.group_expr.clone(),
        places: (0..aggregate.group_expr.len()).map(Place::Key).collect(),
    })
}

/// The plan below an aggregation without the window function and its columns.
struct Below<'a> {
    window: &'a WindowTable,
    plan: LogicalPlan,
    time: Expr,
    filtered: bool,
}

impl<'a> Below<'a> {
    fn find(plan: &'a LogicalPlan) -> Result<Option<Self>> {
        match plan {
            LogicalPlan::Extension(extension) => {
                let window = extension.node.as_any().downcast_ref::<WindowTable>();
                Ok(window.map(|window| Self {
                    window,
                    plan: window.input.clone(),
                    time: window.time.clone(),
                    filtered: false,
                }))
            }
            LogicalPlan::SubqueryAlias(alias) => {
                let Some(below) = Self::find(&alias.input)? else { return Ok(None) };
                let Expr::Column(time) = &below.time else { return Ok(None) };
                let time = Expr::Column(Column::new(Some(alias.alias.clone()), &time.name));
                let plan = SubqueryAlias::try_new(Arc::new(below.plan), alias.alias.clone())?;
                Ok(Some(Self { plan: LogicalPlan::SubqueryAlias(plan), time, ..below }))
            }
            LogicalPlan::Projection(projection) => Self::through_projection(projection),
            LogicalPlan::Filter(filter) => {
                let Some(below) = Self::find(&filter.input)? else { return Ok(None) };
                let input = attributes(&filter.input);
                if of_expr(&filter.predicate, &filter.input, &input).is_of_window() {
                    return refuse_session(below.window, "a filter on the session's window").map(|()| None);
                }
                let plan = Filter::try_new(filter.predicate.clone(), Arc::new(below.plan))?;
                Ok(Some(Self { plan: LogicalPlan::Filter(plan), filtered: true, ..below }))
            }
            _ => Ok(None),
        }
    }

    fn through_projection(projection: &'a Projection) -> Result<Option<Self>> {
        let Some(below) = Self::find(&projection.input)? else { return Ok(None) };
        let input = attributes(&projection.input);
        let stays = |expr: &&Expr| !of_expr(expr, &projection.input, &input).is_of_window();
        let mut exprs: Vec<Expr> = projection.expr.iter().filter(stays).cloned().collect();
        exprs.push(below.time.alias_qualified(None::<TableReference>, TIME));
        let plan = Projection::try_new(exprs, Arc::new(below.plan))?;
        let time = Expr::Column(Column::new_unqualified(TIME));
        Ok(Some(Self { plan: LogicalPlan::Projection(plan), time, window: below.window, filtered: below.filtered }))
    }
}

fn refuse_session(window: &WindowTable, what: &str) -> Result<()> {
    if !matches!(window.window, Window::Session { .. }) {
        return Ok(());
    }
    let diagnostic = Diagnostic::new(format!("{what} below its GROUP BY is not available in this version"))
        .at(window.place.0)
        .hint("group by window_start and window_end alone in a view, and go on from its result");
    Err(errors::to_datafusion(diagnostic))
}

/// Sessions are kept apart by the keys of the aggregation, or not at all.
fn check_sessions(aggregate: &Aggregate, below: &Below, keys: &[Expr]) -> Result<()> {
    let (Window::Session { .. }, Sessions::By(partition)) = (below.window.window, &below.window.sessions) else {
        return Ok(());
    };
    let refuse = |message: &str, hint: &str| {
        Err(errors::to_datafusion(Diagnostic::new(message.to_owned()).at(below.window.place.0).hint(hint)))
    };
    if below.filtered {
        let hint = "put the filter into a view and make the sessions over it";
        return refuse("a filter between SESSION and its GROUP BY is not available in this version", hint);
    }
    let origins: Vec<Option<Expr>> = keys.iter().map(|key| origin(&aggregate.input, key)).collect();
    let wanted = partition.iter().all(|key| origins.contains(&Some(key.clone())));
    if wanted && origins.iter().all(|origin| origin.as_ref().is_some_and(|origin| partition.contains(origin))) {
        return Ok(());
    }
    let hint = "group by exactly the columns of PARTITION BY, window_start and window_end";
    refuse("GROUP BY over SESSION with other keys than its PARTITION BY is not available in this version", hint)
}

/// The expression over the window function's input that a column above it stands for.
fn origin(plan: &LogicalPlan, expr: &Expr) -> Option<Expr> {
    let expr = expr.clone().unalias();
    match plan {
        LogicalPlan::Extension(_) => Some(expr),
        LogicalPlan::Filter(filter) => origin(&filter.input, &expr),
        LogicalPlan::SubqueryAlias(alias) => {
            let Expr::Column(column) = &expr else { return None };
            let place = alias.schema.maybe_index_of_column(column)?;
            origin(&alias.input, &Expr::Column(alias.input.schema().columns().swap_remove(place)))
        }
        LogicalPlan::Projection(projection) => {
            let Expr::Column(column) = &expr else { return None };
            let place = projection.schema.maybe_index_of_column(column)?;
            origin(&projection.input, &projection.expr[place])
        }
        _ => None,
    }
}
