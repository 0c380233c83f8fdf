//! Filters rows and computes columns.

use super::{Operator, Output};
use crate::batch::{self, Batch};
use crate::failure::{Failure, Result};
use crate::plan::Calc;
use arrow::array::{ArrayRef, AsArray};
use arrow::error::ArrowError;
use datafusion_common::DataFusionError;
use datafusion_physical_expr::PhysicalExpr;

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
    expression.evaluate(&batch.rows).and_then(|value| value.into_array(batch.num_rows())).map_err(failure)
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
