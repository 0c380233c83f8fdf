//! Tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use arrow::array::{Int64Array, StructArray, UInt8Array};
use arrow::datatypes::{Field, Int64Type, Schema};
use datafusion_physical_expr::expressions::{Column, IsNotNullExpr, NotExpr, lit};

type Expression = Arc<dyn PhysicalExpr>;

/// Rows `n = 0, null, 2, null, …` and `m = 0, 10, 20, …`, which change by turns as +I and -D, and a row `r` of both.
fn batch(rows: i64) -> Batch {
    let n: ArrayRef = Arc::new(Int64Array::from_iter((0..rows).map(|row| (row % 2 == 0).then_some(row))));
    let m: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows).map(|row| row * 10)));
    let field = |name: &str| Arc::new(Field::new(name, arrow::datatypes::DataType::Int64, true));
    let r: ArrayRef = Arc::new(StructArray::from(vec![(field("n"), Arc::clone(&n)), (field("m"), Arc::clone(&m))]));
    let columns = [("n", n, true), ("m", m, true), ("r", r, true)];
    let kinds = UInt8Array::from_iter_values((0..rows).map(|row| (row % 2 * 3) as u8));
    Batch::changes(RecordBatch::try_from_iter_with_nullable(columns).unwrap(), kinds)
}

fn column(name: &str, index: usize) -> Expression {
    Arc::new(Column::new(name, index))
}

fn is_set(expression: Expression) -> Expression {
    Arc::new(IsNotNullExpr::new(expression))
}

/// The rows after the calculation, a line each: the kind and the numbers.
fn check(rows: i64, filter: Option<Expression>, columns: Option<Vec<Expression>>, expected: &[&str]) {
    let input = batch(rows);
    let schema = match &columns {
        None => input.schema(),
        Some(columns) => {
            let field = |(place, column): (usize, &Expression)| {
                Field::new(format!("c{place}"), column.data_type(&input.schema()).unwrap(), true)
            };
            Arc::new(Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>()))
        }
    };
    let calc = Calc { filter, input: input.schema(), columns, schema: Arc::clone(&schema) };
    let output = Calculation::new(&calc).unwrap().apply(input).unwrap();
    assert_eq!(output.schema(), schema);
    let number = |column: &ArrayRef, row: usize| match column.as_primitive_opt::<Int64Type>() {
        Some(numbers) if column.is_valid(row) => numbers.value(row).to_string(),
        _ => "-".to_owned(),
    };
    let line = |row: usize| {
        let numbers = output.rows.columns().iter().map(|column| number(column, row));
        std::iter::once(output.kind(row).to_string()).chain(numbers).collect::<Vec<_>>().join(" ")
    };
    assert_eq!((0..output.num_rows()).map(line).collect::<Vec<_>>(), expected);
}

#[test]
fn rows_that_pass_the_filter_keep_their_kinds_and_are_computed() {
    let (n, m) = (|| column("n", 0), || column("m", 1));
    check(3, None, None, &["+I 0 0 -", "-D - 10 -", "+I 2 20 -"]);
    check(3, None, Some(vec![m(), n(), m()]), &["+I 0 0 0", "-D 10 - 10", "+I 20 2 20"]);
    check(3, Some(is_set(n())), None, &["+I 0 0 -", "+I 2 20 -"]);
    check(3, Some(is_set(n())), Some(vec![m()]), &["+I 0", "+I 20"]);
    check(3, Some(Arc::new(NotExpr::new(is_set(n())))), Some(vec![m(), n()]), &["-D 10 -"]);
    check(3, Some(is_set(m())), Some(vec![n()]), &["+I 0", "-D -", "+I 2"]);
    check(2, Some(Arc::new(NotExpr::new(is_set(m())))), Some(vec![n()]), &[]);
}

#[test]
fn a_calculation_that_reads_no_column_keeps_count_of_the_rows() {
    check(2, None, Some(vec![lit(7_i64)]), &["+I 7", "-D 7"]);
    check(3, Some(is_set(column("n", 0))), Some(vec![lit(7_i64)]), &["+I 7", "+I 7"]);
    check(2, Some(lit(true)), Some(vec![lit(7_i64)]), &["+I 7", "-D 7"]);
    check(0, None, Some(vec![lit(7_i64)]), &[]);
}
