//! Filters rows and computes columns.

mod leaves;

use super::{Operator, Output};
use crate::batch::{self, Batch};
use crate::failure::{Failure, Result};
use crate::plan::Calc;
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use datafusion_common::DataFusionError;
use datafusion_physical_expr::PhysicalExpr;
use leaves::{Leaves, Narrowing};
use std::sync::Arc;

/// A calculation made ready to be carried out.
pub struct Calculation {
    /// Batches are narrowed first to what is read of them: to what columns are computed from, then to what the filter
    /// alone looks at.
    narrowing: Narrowing,
    read_by_columns: usize,
    filter: Option<Arc<dyn PhysicalExpr>>,
    columns: Option<Vec<Arc<dyn PhysicalExpr>>>,
    schema: SchemaRef,
}

impl Calculation {
    /// Makes a calculation ready. It fails for expressions that do not fit their input, which no plan has.
    pub fn new(calc: &Calc) -> Result<Self> {
        Self::of(calc).map_err(failure)
    }

    fn of(calc: &Calc) -> std::result::Result<Self, DataFusionError> {
        let mut leaves = Leaves::of(Arc::clone(&calc.input));
        let gather = |columns: &Vec<_>| columns.iter().map(|column| leaves.gather(column)).collect();
        let columns = calc.columns.as_ref().map(gather).transpose()?;
        let read_by_columns = leaves.len();
        let filter = calc.filter.as_ref().map(|filter| leaves.gather(filter)).transpose()?;
        let schema = Arc::clone(&calc.schema);
        Ok(Self { narrowing: leaves.narrowing()?, read_by_columns, filter, columns, schema })
    }

    /// The rows of `batch` after the calculation.
    pub fn apply(&self, batch: Batch) -> Result<Batch> {
        let narrow = self.narrowing.apply(&batch.rows).map_err(failure)?;
        let keep = self.filter.as_ref().map(|filter| evaluate(filter.as_ref(), &narrow)).transpose()?;
        let keep = keep.as_ref().map(AsArray::as_boolean);
        let Some(columns) = &self.columns else {
            return match keep {
                Some(keep) if keep.true_count() < batch.num_rows() => Ok(batch.filter(keep)?),
                _ => Ok(batch),
            };
        };
        let kept = match keep.map(|keep| (keep, keep.true_count())) {
            Some((_, 0)) => return Ok(batch::empty(Arc::clone(&self.schema))),
            Some((keep, count)) if count < batch.num_rows() => {
                let read = narrow.project(&(0..self.read_by_columns).collect::<Vec<_>>())?;
                batch.with_rows(read).filter(keep)?
            }
            _ => batch.with_rows(narrow),
        };
        let columns = columns.iter().map(|column| evaluate(column.as_ref(), &kept.rows)).collect::<Result<Vec<_>>>()?;
        let computed = batch::from_columns(&self.schema, columns, kept.num_rows())?;
        Ok(kept.with_rows(computed.rows))
    }
}

fn evaluate(expression: &dyn PhysicalExpr, rows: &RecordBatch) -> Result<ArrayRef> {
    expression.evaluate(rows).and_then(|value| value.into_array(rows.num_rows())).map_err(failure)
}

/// What goes wrong in an expression comes from values: an overflow, a cast, a division by zero.
#[expect(clippy::needless_pass_by_value, reason = "it maps errors")]
fn failure(error: DataFusionError) -> Failure {
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
