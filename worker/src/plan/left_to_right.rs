//! `AND` and `OR` as Flink evaluates them: the right side is not looked at for rows that the left side decides, so that
//! `v <> 0 AND 10 / v > 1` never divides by zero.
//!
//! Evaluating both sides of a whole batch is faster, and as good wherever the right side cannot fail. So only those whose
//! right side can are replaced.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::{and_kleene, not, or_kleene, prep_null_mask_filter};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::{ColumnarValue, Operator};
use datafusion_physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NegativeExpr,
    NotExpr, TryCastExpr,
};
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Functions that have a result for every argument.
const NEVER_FAIL: [&str; 20] = [
    "char_length",
    "coalesce",
    "concat",
    "concat_ws",
    "date_format",
    "extract",
    "floor_to",
    "get_field",
    "locate",
    "lower",
    "ltrim",
    "plus_interval",
    "replace",
    "rtrim",
    "split_index",
    "substring",
    "trim",
    "try_cast",
    "upper",
    "*",
];

/// A condition whose right side is evaluated only for rows that its left side leaves open.
#[derive(Debug, Clone, Eq)]
pub(crate) struct LeftToRight {
    /// What decides first.
    pub(crate) left: Arc<dyn PhysicalExpr>,
    /// `And` or `Or`.
    pub(crate) operator: Operator,
    /// What decides the rest.
    pub(crate) right: Arc<dyn PhysicalExpr>,
}

/// The expression with its conditions evaluated from left to right wherever that matters.
pub(crate) fn left_to_right(expression: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
    let replaced = expression.transform_up(|expression| {
        let Some(binary) = expression.downcast_ref::<BinaryExpr>() else { return Ok(Transformed::no(expression)) };
        match binary.op() {
            Operator::And | Operator::Or if can_fail(binary.right()) => Ok(Transformed::yes(Arc::new(LeftToRight {
                left: Arc::clone(binary.left()),
                operator: *binary.op(),
                right: Arc::clone(binary.right()),
            }) as _)),
            _ => Ok(Transformed::no(expression)),
        }
    })?;
    Ok(replaced.data)
}

/// `left AND right`, in this order.
pub(crate) fn and(left: Arc<dyn PhysicalExpr>, right: Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
    match can_fail(&right) {
        true => Arc::new(LeftToRight { left, operator: Operator::And, right }),
        false => Arc::new(BinaryExpr::new(left, Operator::And, right)),
    }
}

/// Whether some value makes the evaluation fail. What is not known to have a result for every value can.
fn can_fail(expression: &Arc<dyn PhysicalExpr>) -> bool {
    itself_can_fail(expression) || expression.children().into_iter().any(can_fail)
}

fn itself_can_fail(expression: &Arc<dyn PhysicalExpr>) -> bool {
    if let Some(binary) = expression.downcast_ref::<BinaryExpr>() {
        return matches!(binary.op(), Operator::Divide | Operator::Modulo) && !is_divisor(binary.right());
    }
    if let Some(call) = expression.downcast_ref::<ScalarFunctionExpr>() {
        return match (call.name(), call.args()) {
            ("mod" | "/" | "%", [_, divisor]) => !is_divisor(divisor),
            ("+" | "-", _) => false,
            (name, _) => !NEVER_FAIL.contains(&name),
        };
    }
    let expression = expression.as_ref();
    let known = expression.is::<Column>()
        || expression.is::<Literal>()
        || expression.is::<IsNullExpr>()
        || expression.is::<IsNotNullExpr>()
        || expression.is::<NotExpr>()
        || expression.is::<NegativeExpr>()
        || expression.is::<LikeExpr>()
        || expression.is::<InListExpr>()
        || expression.is::<CaseExpr>()
        // The planner's own, between numbers; a user's cast is a function.
        || expression.is::<CastExpr>()
        || expression.is::<TryCastExpr>()
        || expression.is::<LeftToRight>();
    !known
}

fn is_divisor(expression: &Arc<dyn PhysicalExpr>) -> bool {
    let value = expression.downcast_ref::<Literal>().map(Literal::value);
    value.is_some_and(|value| ScalarValue::new_zero(&value.data_type()).is_ok_and(|zero| *value != zero))
}

impl PartialEq for LeftToRight {
    fn eq(&self, other: &Self) -> bool {
        self.left.eq(&other.left) && self.operator == other.operator && self.right.eq(&other.right)
    }
}

impl Hash for LeftToRight {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.left.hash(state);
        self.operator.hash(state);
        self.right.hash(state);
    }
}

impl fmt::Display for LeftToRight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} {}, then {})", self.left, self.operator, self.right)
    }
}

impl LeftToRight {
    /// The right side over the rows that are open, null for the others.
    fn rest(&self, batch: &RecordBatch, open: &BooleanArray) -> Result<ArrayRef> {
        let (right, schema, columns) = narrowed(&self.right, batch.schema_ref())?;
        let columns = columns.iter().map(|column| Arc::clone(batch.column(*column))).collect();
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let narrow = RecordBatch::try_new_with_options(schema, columns, &options)?;
        right.evaluate_selection(&narrow, open)?.into_array(batch.num_rows())
    }
}

/// True where it is true, and false where it is false or null.
fn certain(values: BooleanArray) -> BooleanArray {
    if values.nulls().is_some() { prep_null_mask_filter(&values) } else { values }
}

/// The expression over the columns that it reads alone, so that no others are filtered for it.
fn narrowed(
    expression: &Arc<dyn PhysicalExpr>,
    schema: &SchemaRef,
) -> Result<(Arc<dyn PhysicalExpr>, SchemaRef, Vec<usize>)> {
    let mut columns: Vec<usize> = Vec::new();
    let moved = Arc::clone(expression).transform_up(|expression| {
        let Some(column) = expression.downcast_ref::<Column>() else { return Ok(Transformed::no(expression)) };
        let place = columns.iter().position(|known| *known == column.index()).unwrap_or_else(|| {
            columns.push(column.index());
            columns.len() - 1
        });
        Ok(Transformed::yes(Arc::new(Column::new(column.name(), place)) as Arc<dyn PhysicalExpr>))
    })?;
    Ok((moved.data, Arc::new(schema.project(&columns)?), columns))
}

impl PhysicalExpr for LeftToRight {
    fn data_type(&self, _schema: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        Ok(self.left.nullable(schema)? || self.right.nullable(schema)?)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let left = self.left.evaluate(batch)?.into_array(batch.num_rows())?;
        let left = left.as_boolean();
        let open = match self.operator {
            // False decides AND, true decides OR: null leaves both open.
            Operator::And => not(&certain(not(left)?))?,
            _ => not(&certain(left.clone()))?,
        };
        if open.true_count() == 0 {
            return Ok(ColumnarValue::Array(Arc::new(left.clone())));
        }
        let right = self.rest(batch, &open)?;
        let both = match self.operator {
            Operator::And => and_kleene(left, right.as_boolean())?,
            _ => or_kleene(left, right.as_boolean())?,
        };
        Ok(ColumnarValue::Array(Arc::new(both)))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.left, &self.right]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let mut children = children.into_iter();
        match (children.next(), children.next()) {
            (Some(left), Some(right)) => Ok(Arc::new(Self { left, operator: self.operator, right })),
            _ => Ok(self),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.left.fmt_sql(f)?;
        write!(f, " {} ", self.operator)?;
        self.right.fmt_sql(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use arrow::datatypes::Field;
    use datafusion_physical_expr::expressions::{binary, col, lit};

    /// Divides 10 by `v` wherever the left side leaves it open.
    fn check(operator: Operator, left: Operator, divisor: i64, expected: [Option<bool>; 5]) {
        let schema = Arc::new(Schema::new(vec![
            Field::new("other", DataType::Int64, true),
            Field::new("v", DataType::Int64, true),
        ]));
        let v = || col("v", &schema).expect("a column");
        let of = |left, operator, right| binary(left, operator, right, &schema).expect("its types fit");
        let guard = of(v(), left, lit(0_i64));
        let quotient = of(of(lit(10_i64), Operator::Divide, v()), Operator::Gt, lit(divisor));
        let plain = of(guard, operator, quotient);
        let lazy = left_to_right(Arc::clone(&plain)).expect("a condition");
        for all in [vec![Some(0), Some(1), None, Some(5), Some(-2)], vec![Some(0), Some(1)]] {
            let rows = all.len();
            let values: ArrayRef = Arc::new(Int64Array::from(all));
            let columns = vec![Arc::clone(&values), values];
            let batch = RecordBatch::try_new(Arc::clone(&schema), columns).expect("two columns");
            assert!(plain.evaluate(&batch).is_err(), "it would divide by zero");
            let result = lazy.evaluate(&batch).and_then(|value| value.into_array(rows)).expect("it does not");
            assert_eq!(result.as_boolean(), &BooleanArray::from(expected[..rows].to_vec()), "{lazy}");
        }
    }

    #[test]
    fn the_right_side_is_evaluated_only_where_the_left_side_leaves_it_open() {
        let (yes, no) = (Some(true), Some(false));
        check(Operator::And, Operator::NotEq, 3, [no, yes, None, no, no]);
        check(Operator::Or, Operator::Eq, 3, [yes, yes, None, no, no]);
    }

    #[test]
    fn a_right_side_that_cannot_fail_is_left_as_it_is() {
        let schema = Schema::new(vec![Field::new("v", DataType::Int64, true)]);
        let v = || col("v", &schema).expect("a column");
        let of = |left, operator, right| binary(left, operator, right, &schema).expect("its types fit");
        let by = |divisor: Arc<dyn PhysicalExpr>| of(of(v(), Operator::Modulo, divisor), Operator::Eq, lit(0_i64));
        let guard = || of(v(), Operator::NotEq, lit(0_i64));
        for (right, replaced) in [(by(lit(123_i64)), false), (by(lit(0_i64)), true), (by(v()), true), (guard(), false)]
        {
            let whole = left_to_right(of(guard(), Operator::And, right)).expect("a condition");
            assert_eq!(whole.is::<LeftToRight>(), replaced, "{whole}");
        }
    }
}
