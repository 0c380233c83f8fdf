//! Filters rows and computes columns.

use super::{Operator, Output};
use crate::batch::{self, Batch};
use crate::failure::{Failure, Kind, Result};
use crate::format::clip;
use crate::plan::{Calc, words};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;
use datafusion_common::DataFusionError;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;

/// How much of a row and of an expression a message shows.
const MOST_VALUES: usize = 5;
const LONGEST_VALUE: usize = 100;
const LONGEST_EXPRESSION: usize = 300;

/// The rows of `batch` after a calculation.
pub fn apply(calc: &Calc, batch: Batch) -> Result<Batch> {
    let kept = match &calc.filter {
        None => batch,
        Some(filter) => {
            let keep = evaluate(filter.as_ref(), &batch)?;
            let keep = keep.as_boolean();
            match keep.true_count() {
                all if all == batch.num_rows() => batch,
                0 => return Ok(batch::empty(calc.schema.clone())),
                _ => batch.filter(keep)?,
            }
        }
    };
    let Some(columns) = &calc.columns else { return Ok(kept) };
    let columns = columns.iter().map(|column| evaluate(column.as_ref(), &kept)).collect::<Result<Vec<_>>>()?;
    let computed = batch::from_columns(&calc.schema, columns, kept.num_rows())?;
    Ok(kept.with_rows(computed.rows))
}

fn evaluate(expression: &dyn PhysicalExpr, batch: &Batch) -> Result<ArrayRef> {
    let value = expression.evaluate(&batch.rows).and_then(|value| value.into_array(batch.num_rows()));
    value.map_err(|error| {
        let row = failing_row(expression, &batch.rows);
        // The row's own error names its value; the batch's may be of another row.
        let error = row.as_ref().and_then(|row| expression.evaluate(row).err()).unwrap_or(error);
        failure(error, expression, row.as_ref())
    })
}

/// The first row that the expression fails on; `None` when it fails on none alone.
fn failing_row(expression: &dyn PhysicalExpr, rows: &RecordBatch) -> Option<RecordBatch> {
    let mut rows = rows.clone();
    while rows.num_rows() > 1 {
        let half = rows.num_rows() / 2;
        let first = rows.slice(0, half);
        let fails = expression.evaluate(&first).is_err();
        rows = if fails { first } else { rows.slice(half, rows.num_rows() - half) };
    }
    (rows.num_rows() == 1 && expression.evaluate(&rows).is_err()).then_some(rows)
}

/// What was computed, and from what: `10 / price, where price = 0`.
fn described(expression: &dyn PhysicalExpr, row: &RecordBatch) -> String {
    let schema = row.schema();
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let mut columns = Vec::new();
    read_columns(expression, &mut columns);
    let values = columns.into_iter().take(MOST_VALUES).filter_map(|column| {
        let value = array_value_to_string(row.column(column), 0).ok()?;
        let value = if row.column(column).is_null(0) { "NULL".to_owned() } else { value };
        Some(format!("{} = {}", names[column], clip(&value, LONGEST_VALUE)))
    });
    let values: Vec<String> = values.collect();
    let text = clip(&words::text(expression, &names), LONGEST_EXPRESSION);
    if values.is_empty() { text } else { format!("{text}, where {}", values.join(", ")) }
}

fn read_columns(expression: &dyn PhysicalExpr, columns: &mut Vec<usize>) {
    if let Some(column) = expression.downcast_ref::<Column>()
        && !columns.contains(&column.index())
    {
        columns.push(column.index());
    }
    expression.children().into_iter().for_each(|child| read_columns(child.as_ref(), columns));
}

/// What goes wrong in an expression comes from values: an overflow, a cast, a division by zero.
fn failure(error: DataFusionError, expression: &dyn PhysicalExpr, row: Option<&RecordBatch>) -> Failure {
    let failure = of_expression(error);
    match row.filter(|_| failure.kind == Kind::User) {
        Some(row) => Failure::user(format!("{failure}; in {}", described(expression, row))),
        None => failure,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the error ends here")]
fn of_expression(error: DataFusionError) -> Failure {
    match error.find_root() {
        DataFusionError::Internal(_) | DataFusionError::NotImplemented(_) => {
            Failure::bug(format!("an expression could not be evaluated: {}", error.strip_backtrace()))
        }
        DataFusionError::ArrowError(cause, _) => Failure::user(of_values(cause)),
        DataFusionError::Execution(text) => Failure::user(text.clone()),
        _ => Failure::user(error.strip_backtrace()),
    }
}

/// What was wrong with the values, and what the query can do about it.
fn of_values(error: &ArrowError) -> String {
    match error {
        ArrowError::DivideByZero => "division by zero: write NULLIF(divisor, 0) to get NULL instead".to_owned(),
        ArrowError::CastError(text) => format!("{text}: write TRY_CAST to get NULL instead"),
        ArrowError::ArithmeticOverflow(text) => format!("{text}: CAST to a wider type before calculating"),
        other => other.to_string(),
    }
}

/// [`apply`] as an operator.
pub struct CalcOperator(pub Calc);

impl Operator for CalcOperator {
    fn process(&mut self, _input: usize, batch: Batch, out: &mut dyn Output) -> Result<()> {
        out.emit(apply(&self.0, batch)?)
    }
}

/// Passes everything on: the root of a chain that only brings inputs together.
pub struct Passthrough;

impl Operator for Passthrough {
    fn process(&mut self, _input: usize, batch: Batch, out: &mut dyn Output) -> Result<()> {
        out.emit(batch)
    }
}
