//! `INSERT INTO`: which column goes where, and whether its type may.

use super::attributes::is_updating;
use super::catalog::Catalog;
use super::table::Table;
use super::types::{casts_implicitly, sql_name};
use crate::diagnostic::Diagnostic;
use crate::sql::errors::{self, Located};
use crate::sql::lower::{not_null, optimize};
use crate::sql::syntax::{self, Insert};
use arrow::datatypes::FieldRef;
use datafusion_common::{Column, ScalarValue};
use datafusion_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast};
use sqlparser::ast::{Ident, Query, SelectItem, SetExpr};
use std::sync::Arc;

/// An `INSERT INTO` whose plan has the columns of its table.
pub(in crate::sql) struct BoundInsert {
    pub(in crate::sql) table: Arc<Table>,
    pub(in crate::sql) plan: LogicalPlan,
    pub(in crate::sql) position: Option<crate::diagnostic::Position>,
    /// True when rows change later.
    pub(in crate::sql) updating: bool,
}

type Result<T> = std::result::Result<T, Diagnostic>;

/// Binds an `INSERT INTO`.
pub(in crate::sql) fn bind(insert: &Insert, catalog: &Catalog) -> Result<BoundInsert> {
    let name = insert.table.value.as_str();
    let at = syntax::name_position(&insert.table);
    let Some(table) = catalog.table(name) else {
        if catalog.is_view(name) {
            let message = format!("'{name}' is a view: nothing can be inserted into it");
            return Err(Diagnostic::new(message).at(at).hint("insert into a table"));
        }
        return Err(errors::unknown_table(name, catalog).at(at));
    };
    let bound = catalog.query(&insert.query)?;
    let plan = optimize::analyze(bound).map_err(|error| catalog.locate(&error, insert.query.as_ref()))?;
    let updating = is_updating(&plan);
    let targets = targets(insert, table)?;
    check_count(insert, table, &targets, &plan)?;
    let plan = convert(insert, table, &targets, plan, catalog)?;
    Ok(BoundInsert { table: table.clone(), plan, position: insert.position, updating })
}

/// For each column of the query, the column of the table that it goes to.
fn targets(insert: &Insert, table: &Table) -> Result<Vec<usize>> {
    let fields = table.shape.schema.fields();
    if insert.columns.is_empty() {
        return Ok((0..fields.len()).collect());
    }
    let mut targets = Vec::new();
    for column in &insert.columns {
        let at = syntax::name_position(column);
        let Some(place) = fields.iter().position(|field| *field.name() == column.value) else {
            let known: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
            return Err(errors::unknown_column(&column.value, &known).at(at));
        };
        if targets.contains(&place) {
            return Err(Diagnostic::new(format!("the column '{}' is named twice", column.value))
                .at(at)
                .hint("name it once"));
        }
        targets.push(place);
    }
    let missing = fields.iter().enumerate().find(|(place, field)| !field.is_nullable() && !targets.contains(place));
    if let Some((_, field)) = missing {
        let message = format!(
            "the column '{}' of table '{}' is NOT NULL and is not among the columns given",
            field.name(),
            table.shape.name
        );
        return Err(Diagnostic::new(message).at(syntax::name_position(&insert.table)).hint("add it to the list"));
    }
    Ok(targets)
}

fn check_count(insert: &Insert, table: &Table, targets: &[usize], plan: &LogicalPlan) -> Result<()> {
    let found = plan.schema().fields().len();
    if found == targets.len() {
        return Ok(());
    }
    let describe = |fields: &mut dyn Iterator<Item = &FieldRef>| {
        let columns: Vec<String> =
            fields.map(|field| format!("{} {}", field.name(), sql_name(field.data_type()))).collect();
        columns.join(", ")
    };
    let fields = table.shape.schema.fields();
    let query = describe(&mut plan.schema().fields().iter());
    let wanted = describe(&mut targets.iter().map(|place| &fields[*place]));
    let columns = if found == 1 { "1 column".to_owned() } else { format!("{found} columns") };
    let message = format!("the query has {columns}, but table '{}' takes {}", table.shape.name, targets.len());
    let at = syntax::name_position(&insert.table);
    Err(Diagnostic::new(message).at(at).hint(format!("the query has ({query}), the table ({wanted})")))
}

/// Puts a projection on the plan that gives each column of the table its value.
fn convert(
    insert: &Insert,
    table: &Table,
    targets: &[usize],
    plan: LogicalPlan,
    catalog: &Catalog,
) -> Result<LogicalPlan> {
    let columns = plan.schema().columns();
    let mut values = Vec::new();
    for (place, field) in table.shape.schema.fields().iter().enumerate() {
        let value = match targets.iter().position(|target| *target == place) {
            Some(source) => {
                let from = plan.schema().field(source);
                if !casts_implicitly(from.data_type(), field.data_type()) {
                    return Err(mismatch(insert, table, source, from, field));
                }
                let column = Expr::Column(columns[source].clone());
                let value = if from.data_type() == field.data_type() {
                    column
                } else {
                    cast(column, field.data_type().clone())
                };
                if from.is_nullable() && !field.is_nullable() {
                    not_null::checked(value, field.name(), &table.shape.name)
                } else {
                    value
                }
            }
            None => cast(Expr::Literal(ScalarValue::Null, None), field.data_type().clone()),
        };
        values.push(value.alias(field.name()));
    }
    let fail = |error| errors::from_datafusion(&error, catalog).at_if_unknown(insert.position);
    let schema = plan.schema().clone();
    let values = values
        .into_iter()
        .map(|value| optimize::with_casts(value, &schema))
        .collect::<datafusion_common::Result<Vec<_>>>();
    LogicalPlanBuilder::from(plan).project(values.map_err(fail)?).and_then(LogicalPlanBuilder::build).map_err(fail)
}

fn mismatch(insert: &Insert, table: &Table, source: usize, from: &FieldRef, to: &FieldRef) -> Diagnostic {
    let (have, want) = (sql_name(from.data_type()), sql_name(to.data_type()));
    let message =
        format!("the column '{}' of table '{}' is {want}, but the query gives {have}", to.name(), table.shape.name);
    let at = select_item(&insert.query, source).and_then(syntax::position).or(syntax::name_position(&insert.table));
    Diagnostic::new(message)
        .at(at)
        .hint(format!("write CAST(… AS {want}) in the query, or declare the column as {have}"))
}

/// The expression of a query's column, if it is written out.
fn select_item(query: &Query, place: usize) -> Option<&SelectItem> {
    let mut body = query.body.as_ref();
    loop {
        match body {
            SetExpr::Select(select) => {
                let wild =
                    |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
                let plain = !select.projection.iter().any(wild);
                return select.projection.get(place).filter(|_| plain);
            }
            SetExpr::Query(query) => body = query.body.as_ref(),
            SetExpr::SetOperation { left, .. } => body = left.as_ref(),
            _ => return None,
        }
    }
}

/// Gives a plan's columns other names.
pub(super) fn rename(plan: LogicalPlan, names: &[Ident], catalog: &Catalog) -> Result<LogicalPlan> {
    let columns: Vec<Column> = plan.schema().columns();
    if columns.len() != names.len() {
        let message = format!("the view names {} columns, but its query has {}", names.len(), columns.len());
        let at = names.first().and_then(syntax::name_position);
        return Err(Diagnostic::new(message).at(at).hint("name each of the query's columns, or none"));
    }
    let renamed = columns.into_iter().zip(names).map(|(column, name)| Expr::Column(column).alias(&name.value));
    let plan = LogicalPlanBuilder::from(plan).project(renamed.collect::<Vec<_>>()).and_then(LogicalPlanBuilder::build);
    plan.map_err(|error| errors::from_datafusion(&error, catalog))
}
