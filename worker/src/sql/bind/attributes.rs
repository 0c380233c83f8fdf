//! What a bound plan says of its columns and rows: which columns are event time or the bounds of a window, and whether
//! rows are only added.

use super::table::BoundTable;
use super::windows::WindowTable;
use crate::operator::window::Window;
use datafusion_common::Column;
use datafusion_expr::{Aggregate, Expr, LogicalPlan, Projection};

/// What a column is besides its type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sql) enum Attribute {
    /// Nothing more.
    Plain,
    /// Plain, but computed from a window's bounds.
    FromWindow,
    /// Event time: its watermark runs with the stream.
    EventTime,
    /// `window_start`.
    WindowStart(Window),
    /// `window_end`.
    WindowEnd(Window),
    /// `window_time`, event time too.
    WindowTime(Window),
}

impl Attribute {
    /// True for columns that windows can be made over.
    pub(in crate::sql) fn is_event_time(self) -> bool {
        matches!(self, Self::EventTime | Self::WindowTime(_))
    }

    /// True for what exists only once rows are in windows.
    pub(in crate::sql) fn is_of_window(self) -> bool {
        !matches!(self, Self::Plain | Self::EventTime)
    }
}

/// The attributes of a plan's columns, in order.
pub(in crate::sql) fn attributes(plan: &LogicalPlan) -> Vec<Attribute> {
    let plain = || vec![Attribute::Plain; plan.schema().fields().len()];
    match plan {
        LogicalPlan::TableScan(scan) => {
            let event_time = scan.source.downcast_ref::<BoundTable>().and_then(|table| table.0.watermark.as_ref());
            let mut attributes = plain();
            if let Some(watermark) = event_time {
                attributes[watermark.column] = Attribute::EventTime;
            }
            attributes
        }
        LogicalPlan::Projection(projection) => of_projection(projection),
        LogicalPlan::Filter(filter) => attributes(&filter.input),
        LogicalPlan::SubqueryAlias(alias) => attributes(&alias.input),
        LogicalPlan::Aggregate(aggregate) => of_aggregate(aggregate).unwrap_or_else(plain),
        LogicalPlan::Union(union) => {
            let inputs: Vec<Vec<Attribute>> = union.inputs.iter().map(|input| attributes(input)).collect();
            let merge = |column: usize| {
                let first = inputs[0][column];
                let equal = inputs.iter().all(|input| input[column] == first);
                let event_time = inputs.iter().all(|input| input[column].is_event_time());
                match (equal, event_time) {
                    (true, _) => first,
                    (false, true) => Attribute::EventTime,
                    (false, false) => Attribute::Plain,
                }
            };
            (0..plan.schema().fields().len()).map(merge).collect()
        }
        LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<WindowTable>() {
            Some(node) => {
                let mut attributes = vec![Attribute::Plain; node.input.schema().fields().len()];
                let window = node.window;
                attributes.extend([
                    Attribute::WindowStart(window),
                    Attribute::WindowEnd(window),
                    Attribute::WindowTime(window),
                ]);
                attributes
            }
            None => plain(),
        },
        _ => plain(),
    }
}

fn of_projection(projection: &Projection) -> Vec<Attribute> {
    let input = attributes(&projection.input);
    projection.expr.iter().map(|expr| of_expr(expr, &projection.input, &input)).collect()
}

/// The attribute of an expression over `input`, whose columns have `attributes`.
pub(in crate::sql) fn of_expr(expr: &Expr, input: &LogicalPlan, attributes: &[Attribute]) -> Attribute {
    let of_column = |column: &Column| {
        input.schema().maybe_index_of_column(column).map_or(Attribute::Plain, |place| attributes[place])
    };
    match expr {
        Expr::Column(column) => of_column(column),
        Expr::Alias(alias) => of_expr(&alias.expr, input, attributes),
        other => match other.column_refs().into_iter().any(|column| of_column(column).is_of_window()) {
            true => Attribute::FromWindow,
            false => Attribute::Plain,
        },
    }
}

fn of_aggregate(aggregate: &Aggregate) -> Option<Vec<Attribute>> {
    let groups = group_attributes(aggregate);
    window_of(&groups)?;
    let calls = vec![Attribute::Plain; aggregate.aggr_expr.len()];
    let keep = |attribute: Attribute| match attribute {
        Attribute::FromWindow | Attribute::EventTime => Attribute::Plain,
        other => other,
    };
    Some(groups.into_iter().map(keep).chain(calls).collect())
}

/// The attributes of an aggregation's `GROUP BY`.
pub(in crate::sql) fn group_attributes(aggregate: &Aggregate) -> Vec<Attribute> {
    let input = attributes(&aggregate.input);
    aggregate.group_expr.iter().map(|expr| of_expr(expr, &aggregate.input, &input)).collect()
}

/// The window whose start and end are both grouped by.
pub(in crate::sql) fn window_of(groups: &[Attribute]) -> Option<Window> {
    groups.iter().find_map(|attribute| match attribute {
        Attribute::WindowStart(window) if groups.contains(&Attribute::WindowEnd(*window)) => Some(*window),
        _ => None,
    })
}

/// True when the plan's rows may be changed later.
pub(in crate::sql) fn is_updating(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::Aggregate(aggregate) => {
            let windowed = window_of(&group_attributes(aggregate)).is_some();
            !windowed && (!aggregate.aggr_expr.is_empty() || is_updating(&aggregate.input))
        }
        other => other.inputs().into_iter().any(is_updating),
    }
}
