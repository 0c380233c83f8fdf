//! Filters rows and computes columns.

mod leaves;

use super::{Operator, Output};
use crate::batch::{self, Batch};
use crate::failure::{Failure, Kind, Result};
use crate::format::clip;
use crate::plan::choice::with_choices;
use crate::plan::{Calc, words};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;
use datafusion_common::DataFusionError;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use leaves::{Leaves, Narrowing};
use std::sync::Arc;

/// How much of a row and of an expression a message shows.
const MOST_VALUES: usize = 5;
const LONGEST_VALUE: usize = 100;
const LONGEST_EXPRESSION: usize = 300;

/// A calculation made ready to be carried out.
pub struct Calculation {
    /// As it is planned: what messages speak of.
    planned: Calc,
    /// Batches are narrowed first to what is read of them: to what columns are computed from, then to what the filter
    /// alone looks at.
    narrowing: Narrowing,
    read_by_columns: usize,
    filter: Option<Arc<dyn PhysicalExpr>>,
    columns: Option<Vec<Arc<dyn PhysicalExpr>>>,
}

impl Calculation {
    /// Makes a calculation ready. It fails for expressions that do not fit their input, which no plan has.
    pub fn new(calc: &Calc) -> Result<Self> {
        Self::of(calc).map_err(of_expression)
    }

    fn of(calc: &Calc) -> std::result::Result<Self, DataFusionError> {
        let mut leaves = Leaves::of(Arc::clone(&calc.input));
        let mut ready = |expression: &Arc<dyn PhysicalExpr>| leaves.gather(&with_choices(Arc::clone(expression))?);
        let columns = calc.columns.as_ref().map(|columns| columns.iter().map(&mut ready).collect()).transpose()?;
        let read_by_columns = leaves.len();
        let mut ready = |expression: &Arc<dyn PhysicalExpr>| leaves.gather(&with_choices(Arc::clone(expression))?);
        let filter = calc.filter.as_ref().map(&mut ready).transpose()?;
        Ok(Self { planned: calc.clone(), narrowing: leaves.narrowing()?, read_by_columns, filter, columns })
    }

    /// The rows of `batch` after the calculation.
    pub fn apply(&self, batch: Batch) -> Result<Batch> {
        let narrow = self.narrowing.apply(&batch.rows).map_err(of_expression)?;
        let keep = self.filter.as_ref().map(|filter| {
            evaluate(filter, &narrow).map_err(|error| self.wrong(error, self.planned.filter.as_ref(), &batch.rows))
        });
        let keep = keep.transpose()?;
        let keep = keep.as_ref().map(AsArray::as_boolean).filter(|keep| keep.true_count() < batch.num_rows());
        match (&self.columns, keep) {
            (None, None) => Ok(batch),
            (None, Some(keep)) => Ok(batch.filter(keep)?),
            (Some(_), Some(keep)) if keep.true_count() == 0 => Ok(batch::empty(Arc::clone(&self.planned.schema))),
            (Some(columns), Some(keep)) => {
                let read = narrow.project(&(0..self.read_by_columns).collect::<Vec<_>>())?;
                let kept = batch.with_rows(read).filter(keep)?;
                self.compute(columns, &kept, || Ok(batch.filter(keep)?.rows))
            }
            (Some(columns), None) => {
                let whole = batch.rows.clone();
                self.compute(columns, &batch.with_rows(narrow), || Ok(whole))
            }
        }
    }

    /// The columns out of what is read; `whole` are the same rows as they came.
    fn compute(
        &self,
        columns: &[Arc<dyn PhysicalExpr>],
        read: &Batch,
        whole: impl FnOnce() -> Result<RecordBatch>,
    ) -> Result<Batch> {
        let mut computed = Vec::with_capacity(columns.len());
        for (place, column) in columns.iter().enumerate() {
            match evaluate(column, &read.rows) {
                Ok(values) => computed.push(values),
                Err(error) => {
                    let planned = self.planned.columns.as_ref().and_then(|planned| planned.get(place));
                    return Err(self.wrong(error, planned, &whole()?));
                }
            }
        }
        let rows = batch::from_columns(&self.planned.schema, computed, read.num_rows())?.rows;
        Ok(read.with_rows(rows))
    }

    /// Says which row of the input is wrong, and what was computed from it.
    fn wrong(&self, error: DataFusionError, planned: Option<&Arc<dyn PhysicalExpr>>, rows: &RecordBatch) -> Failure {
        let Some(expression) = planned else { return of_expression(error) };
        let row = failing_row(expression.as_ref(), rows);
        // The row's own error names its value; the batch's may be of another row.
        let error = row.as_ref().and_then(|row| expression.evaluate(row).err()).unwrap_or(error);
        failure(error, expression.as_ref(), row.as_ref())
    }
}

fn evaluate(expression: &Arc<dyn PhysicalExpr>, rows: &RecordBatch) -> std::result::Result<ArrayRef, DataFusionError> {
    expression.evaluate(rows).and_then(|value| value.into_array(rows.num_rows()))
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

/// A [`Calculation`] as an operator.
pub struct CalcOperator(pub Calculation);

impl Operator for CalcOperator {
    fn process(&mut self, _input: usize, batch: Batch, out: &mut dyn Output) -> Result<()> {
        out.emit(self.0.apply(batch)?)
    }
}

/// Passes everything on: the root of a chain that only brings inputs together.
pub struct Passthrough;

impl Operator for Passthrough {
    fn process(&mut self, _input: usize, batch: Batch, out: &mut dyn Output) -> Result<()> {
        out.emit(batch)
    }
}

#[cfg(test)]
mod tests;
