//! `CASE` between values that are already there.
//!
//! DataFusion evaluates a branch of `CASE` only on the rows that take it, and copies all columns that the other branches
//! read for the rows that are left: right for values that are dear or can fail, many times too dear where a branch is no
//! more than a column or a field of a row. Such a `CASE` becomes a [`Choice`], which looks at all rows of all branches.

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray, RecordBatch, downcast_primitive,
    new_null_array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::kernels::zip::zip;
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use datafusion_common::Result;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_expr::{ColumnarValue, Operator};
use datafusion_physical_expr::expressions::{
    BinaryExpr, CaseExpr, Column, IsNotNullExpr, IsNullExpr, Literal, NotExpr,
};
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use std::fmt;
use std::sync::Arc;

type Expression = Arc<dyn PhysicalExpr>;

/// The first branch whose condition is true, computed on all rows. Conditions and values cannot fail.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Choice {
    /// Conditions with their values.
    branches: Vec<(Expression, Expression)>,
    otherwise: Option<Expression>,
}

/// The same expression with a [`Choice`] for each `CASE` that can be one.
pub(crate) fn with_choices(expression: Expression) -> Result<Expression> {
    let changed = expression.transform_up(|node| {
        Ok(match node.downcast_ref::<CaseExpr>().and_then(Choice::of) {
            Some(choice) => Transformed::yes(Arc::new(choice) as Expression),
            None => Transformed::no(node),
        })
    });
    changed.map(|changed| changed.data)
}

impl Choice {
    fn of(case: &CaseExpr) -> Option<Self> {
        let values = || case.when_then_expr().iter().map(|(_, value)| value).chain(case.else_expr());
        let is_plain = case.expr().is_none()
            && case.when_then_expr().iter().all(|(condition, _)| is_plain(condition))
            && values().all(is_plain)
            // Constants alone are looked up, which needs no columns of them.
            && values().any(|value| !value.is::<Literal>());
        let branches = || case.when_then_expr().to_vec();
        is_plain.then(|| Self { branches: branches(), otherwise: case.else_expr().cloned() })
    }
}

/// True for what costs next to nothing a row and never fails.
fn is_plain(expression: &Expression) -> bool {
    let is_test = |operator: &Operator| {
        use Operator::{And, Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq, Or};
        matches!(operator, And | Eq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom | Lt | LtEq | NotEq | Or)
    };
    let itself = expression.is::<Column>()
        || expression.is::<Literal>()
        || expression.is::<IsNullExpr>()
        || expression.is::<IsNotNullExpr>()
        || expression.is::<NotExpr>()
        || expression.downcast_ref::<BinaryExpr>().is_some_and(|binary| is_test(binary.op()))
        || expression.downcast_ref::<ScalarFunctionExpr>().is_some_and(|call| call.fun().name() == "get_field");
    itself && expression.children().into_iter().all(is_plain)
}

impl PhysicalExpr for Choice {
    fn data_type(&self, input: &Schema) -> Result<DataType> {
        let types = self.branches.iter().map(|(_, value)| value).chain(&self.otherwise);
        let mut types = types.map(|value| value.data_type(input));
        let first = types.next().unwrap_or(Ok(DataType::Null))?;
        // NULL has no type of its own; the planner has made all others equal.
        if first == DataType::Null {
            types.find(|found| !matches!(found, Ok(DataType::Null))).unwrap_or(Ok(first))
        } else {
            Ok(first)
        }
    }

    fn nullable(&self, input: &Schema) -> Result<bool> {
        let Some(otherwise) = &self.otherwise else { return Ok(true) };
        for value in self.branches.iter().map(|(_, value)| value).chain([otherwise]) {
            if value.nullable(input)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let data_type = self.data_type(batch.schema_ref())?;
        let of = |value: &Expression| -> Result<ArrayRef> {
            let values = value.evaluate(batch)?.into_array(batch.num_rows())?;
            let is_null = values.data_type() == &DataType::Null;
            Ok(if is_null { new_null_array(&data_type, batch.num_rows()) } else { values })
        };
        let mut chosen: Option<ArrayRef> = None;
        for (condition, value) in self.branches.iter().rev() {
            let holds = condition.evaluate(batch)?.into_array(batch.num_rows())?;
            let holds = truths(holds.as_boolean());
            match holds.count_set_bits() {
                0 => {}
                all if all == batch.num_rows() => chosen = Some(of(value)?),
                _ => {
                    let others = match (chosen.take(), &self.otherwise) {
                        (Some(others), _) => others,
                        (None, Some(otherwise)) => of(otherwise)?,
                        (None, None) => new_null_array(&data_type, batch.num_rows()),
                    };
                    chosen = Some(choose(&holds, &of(value)?, &others)?);
                }
            }
        }
        let chosen = match (chosen, &self.otherwise) {
            (Some(chosen), _) => chosen,
            (None, Some(otherwise)) => of(otherwise)?,
            (None, None) => new_null_array(&data_type, batch.num_rows()),
        };
        Ok(ColumnarValue::Array(chosen))
    }

    fn children(&self) -> Vec<&Expression> {
        self.branches.iter().flat_map(|(condition, value)| [condition, value]).chain(&self.otherwise).collect()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Expression>) -> Result<Expression> {
        let (pairs, rest) = children.as_chunks::<2>();
        let branches = pairs.iter().map(|[condition, value]| (Arc::clone(condition), Arc::clone(value))).collect();
        Ok(Arc::new(Self { branches, otherwise: rest.first().cloned() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CASE ")?;
        for (condition, value) in &self.branches {
            write!(f, "WHEN {condition} THEN {value} ")?;
        }
        if let Some(otherwise) = &self.otherwise {
            write!(f, "ELSE {otherwise} ")?;
        }
        write!(f, "END")
    }
}

/// Null is not true.
fn truths(condition: &BooleanArray) -> BooleanBuffer {
    match condition.nulls() {
        Some(nulls) => condition.values() & nulls.inner(),
        None => condition.values().clone(),
    }
}

/// The values of `yes` where `holds`, of `no` elsewhere. All have the same length, the values the same type.
fn choose(holds: &BooleanBuffer, yes: &ArrayRef, no: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    macro_rules! primitives {
        ($type:ty) => {
            Ok(Arc::new(choose_primitives::<$type>(holds, yes.as_primitive(), no.as_primitive())))
        };
    }
    downcast_primitive! {
        yes.data_type() => (primitives),
        _ => zip(&BooleanArray::new(holds.clone(), None), yes, no)
    }
}

fn choose_primitives<T: ArrowPrimitiveType>(
    holds: &BooleanBuffer,
    yes: &PrimitiveArray<T>,
    no: &PrimitiveArray<T>,
) -> PrimitiveArray<T> {
    let mut values = no.values().to_vec();
    for (start, end) in holds.set_slices() {
        values[start..end].copy_from_slice(&yes.values()[start..end]);
    }
    let nulls = match (yes.nulls(), no.nulls()) {
        (None, None) => None,
        (Some(yes), None) => Some(yes.inner() | &!holds),
        (None, Some(no)) => Some(no.inner() | holds),
        (Some(yes), Some(no)) => Some(&(yes.inner() & holds) | &(no.inner() & &!holds)),
    };
    PrimitiveArray::new(values.into(), nulls.map(NullBuffer::new)).with_data_type(yes.data_type().clone())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use arrow::array::{Int64Array, StringViewArray, TimestampMillisecondArray};
    use arrow::datatypes::TimeUnit;
    use datafusion_common::{DFSchema, ScalarValue};
    use datafusion_expr::execution_props::ExecutionProps;
    use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
    use datafusion_expr::{Expr, col, lit, when};
    use datafusion_physical_expr::create_physical_expr;
    use proptest::prelude::*;

    /// `n`, `m` numbers, `t` a time, `s` text, `b` a condition.
    fn batch(rows: &[(Option<i64>, Option<i64>, Option<bool>)]) -> RecordBatch {
        let n: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|(n, _, _)| *n)));
        let m: ArrayRef = Arc::new(Int64Array::from_iter(rows.iter().map(|(_, m, _)| *m)));
        let t: ArrayRef =
            Arc::new(TimestampMillisecondArray::from_iter(rows.iter().map(|(n, _, _)| *n)).with_timezone("UTC"));
        let s: ArrayRef = Arc::new(StringViewArray::from_iter(
            rows.iter().map(|(_, m, _)| m.map(|m| format!("a text longer than a view {m}"))),
        ));
        let b: ArrayRef = Arc::new(BooleanArray::from_iter(rows.iter().map(|(_, _, b)| *b)));
        let columns = [("n", n), ("m", m), ("t", t), ("s", s), ("b", b)];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    }

    fn physical(case: &Expr, batch: &RecordBatch) -> Expression {
        let schema = DFSchema::try_from(batch.schema()).unwrap();
        create_physical_expr(case, &schema, &ExecutionProps::new(), &PhysicalPlanningContext::default()).unwrap()
    }

    fn cases() -> Vec<Expr> {
        let null = |data_type: &DataType| Expr::Literal(ScalarValue::try_from(data_type).unwrap(), None);
        let utc = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        vec![
            when(col("b"), col("n")).otherwise(col("m")).unwrap(),
            when(col("b"), col("n")).when(col("n").gt(lit(3_i64)), col("m")).end().unwrap(),
            when(col("n").lt(col("m")), col("m")).when(col("b"), lit(7_i64)).otherwise(col("n")).unwrap(),
            when(col("n").eq(col("m")), col("t")).end().unwrap(),
            when(col("b").and(col("m").is_not_null()), col("t")).otherwise(null(&utc)).unwrap(),
            when(col("b"), col("s")).otherwise(lit(ScalarValue::Utf8View(Some("another".into())))).unwrap(),
            when(lit(true), col("n")).otherwise(col("m")).unwrap(),
            when(col("n").eq(lit(i64::MAX)), col("n")).end().unwrap(),
        ]
    }

    proptest! {
        #[test]
        fn a_choice_is_what_case_says(rows: Vec<(Option<i8>, Option<i8>, Option<bool>)>) {
            let rows: Vec<_> = rows.iter().map(|(n, m, b)| (n.map(|n| i64::from(n) % 8), m.map(i64::from), *b)).collect();
            let batch = batch(&rows);
            for case in cases() {
                let case = physical(&case, &batch);
                let choice = with_choices(Arc::clone(&case)).unwrap();
                prop_assert!(choice.is::<Choice>(), "{choice}");
                prop_assert_eq!(choice.to_string(), case.to_string());
                prop_assert_eq!(choice.data_type(&batch.schema()).unwrap(), case.data_type(&batch.schema()).unwrap());
                let of = |expression: &Expression| expression.evaluate(&batch).unwrap().into_array(rows.len()).unwrap();
                prop_assert_eq!(&of(&choice), &of(&case), "{}", case);
            }
        }
    }

    #[test]
    fn what_can_fail_is_evaluated_only_where_it_is_wanted() {
        let batch = batch(&[(Some(0), Some(1), Some(true)), (Some(2), Some(8), Some(false))]);
        let case = when(col("n").eq(lit(0_i64)), lit(0_i64)).otherwise(col("m") / col("n")).unwrap();
        let expression = with_choices(physical(&case, &batch)).unwrap();
        assert!(expression.is::<CaseExpr>());
        let values = expression.evaluate(&batch).unwrap().into_array(2).unwrap();
        assert_eq!(values.as_primitive::<arrow::datatypes::Int64Type>().values().to_vec(), [0, 4]);
        // One that chooses among columns is found inside another.
        let inner = when(col("b"), col("n")).otherwise(col("m")).unwrap();
        let outer = with_choices(physical(&(inner + lit(1_i64)), &batch)).unwrap();
        assert!(outer.children()[0].is::<Choice>());
    }
}
