//! Flink's meaning of operators and special syntax, while DataFusion plans expressions.

use super::decimal;
use super::temporal::calendar::DAY;
use super::typing::{DecimalOperator, decimal_of, engine_type, is_float, is_numeric, is_temporal, is_text};
use super::{arithmetic, string, temporal};
use arrow::datatypes::DataType;
use datafusion_common::{DFSchema, Result, ScalarValue, plan_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion_expr::{Expr, ExprSchemable, ScalarUDF, cast};
use sqlparser::ast::BinaryOperator;
use std::sync::Arc;

/// Plans what Flink types or means differently from DataFusion. It comes before DataFusion's planners.
#[derive(Debug, Default)]
pub struct FlinkPlanner;

impl ExprPlanner for FlinkPlanner {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let RawBinaryExpr { op, left, right } = expr;
        let (left, right) = (literal(left), literal(right));
        let (Ok(left_type), Ok(right_type)) = (left.get_type(schema), right.get_type(schema)) else {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        };
        if op == BinaryOperator::Minus && is_temporal(&left_type) && is_temporal(&right_type) {
            return plan_err!("a difference of times is written TIMESTAMPDIFF(SECOND, earlier, later)");
        }
        let typed = Typed { left, right, left_type, right_type };
        Ok(match (arithmetic_operator(&op), is_comparison(&op)) {
            (Some(operator), _) => typed.arithmetic(op, operator),
            (None, true) => PlannerResult::Original(typed.comparison(op)),
            (None, false) => PlannerResult::Original(RawBinaryExpr { op, left: typed.left, right: typed.right }),
        })
    }

    fn plan_extract(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(call(temporal::udf("extract"), args.into_iter().map(literal).collect()))
    }

    fn plan_substring(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(call(string::udf("substring"), args))
    }

    fn plan_overlay(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(call(string::udf("overlay"), args))
    }

    fn plan_position(&self, mut args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        // They come as (whole, part), LOCATE takes the part first.
        args.reverse();
        Ok(call(string::udf("locate"), args))
    }
}

fn call<T>(udf: Arc<ScalarUDF>, args: Vec<Expr>) -> PlannerResult<T> {
    PlannerResult::Planned(Expr::ScalarFunction(ScalarFunction::new_udf(udf, args)))
}

/// A literal with its type in Flink: an integer is INT if it fits, a decimal counts the zero before its point,
/// text is text of the engine.
pub(super) fn literal(expr: Expr) -> Expr {
    let Expr::Literal(value, metadata) = expr else { return expr };
    let value = match value {
        ScalarValue::Int64(Some(value)) => {
            i32::try_from(value).map_or(ScalarValue::Int64(Some(value)), |value| ScalarValue::Int32(Some(value)))
        }
        ScalarValue::UInt64(Some(value)) => match i128::from(value) {
            small if small <= i128::from(i64::MAX) => ScalarValue::Int64(Some(value as i64)),
            large => ScalarValue::Decimal128(Some(large), 20, 0),
        },
        ScalarValue::Decimal128(value, precision, scale)
            if i16::from(precision) <= i16::from(scale) && precision < super::typing::MAX_PRECISION =>
        {
            ScalarValue::Decimal128(value, scale.unsigned_abs() + 1, scale)
        }
        ScalarValue::Utf8(text) => ScalarValue::Utf8View(text),
        other => other,
    };
    Expr::Literal(value, metadata)
}

fn arithmetic_operator(op: &BinaryOperator) -> Option<DecimalOperator> {
    Some(match op {
        BinaryOperator::Plus => DecimalOperator::Add,
        BinaryOperator::Minus => DecimalOperator::Subtract,
        BinaryOperator::Multiply => DecimalOperator::Multiply,
        BinaryOperator::Divide => DecimalOperator::Divide,
        BinaryOperator::Modulo => DecimalOperator::Modulo,
        _ => return None,
    })
}

fn is_comparison(op: &BinaryOperator) -> bool {
    use BinaryOperator as B;
    matches!(op, B::Eq | B::NotEq | B::Lt | B::LtEq | B::Gt | B::GtEq)
}

struct Typed {
    left: Expr,
    right: Expr,
    left_type: DataType,
    right_type: DataType,
}

impl Typed {
    fn arithmetic(self, op: BinaryOperator, operator: DecimalOperator) -> PlannerResult<RawBinaryExpr> {
        let Self { left, right, left_type, right_type } = self;
        let is_decimal = |data_type: &DataType| matches!(data_type, DataType::Decimal128(..));
        let exact = decimal_of(&left_type).is_some() && decimal_of(&right_type).is_some();
        if exact && (is_decimal(&left_type) || is_decimal(&right_type)) {
            let planned = decimal::arithmetic(operator, left, right, (&left_type, &right_type));
            return PlannerResult::Planned(planned.expect("both sides are exact numbers"));
        }
        if exact && operator == DecimalOperator::Modulo {
            return call(arithmetic::udf("mod"), vec![left, right]);
        }
        if exact && operator == DecimalOperator::Divide {
            return call(arithmetic::udf("/"), vec![left, right]);
        }
        if let Some(shifted) = shift(operator, &left, &right, &left_type, &right_type) {
            return PlannerResult::Planned(shifted);
        }
        let double =
            |side: Expr, data_type: &DataType| if is_decimal(data_type) { cast(side, DataType::Float64) } else { side };
        if is_float(&left_type) || is_float(&right_type) {
            let (left, right) = (double(left, &left_type), double(right, &right_type));
            return PlannerResult::Original(RawBinaryExpr { op, left, right });
        }
        PlannerResult::Original(RawBinaryExpr { op, left, right })
    }

    /// Text that is compared with something else is read as that.
    fn comparison(self, op: BinaryOperator) -> RawBinaryExpr {
        let Self { left, right, left_type, right_type } = self;
        let readable = |other: &DataType| is_numeric(other) || is_temporal(other) || *other == DataType::Boolean;
        let (left, right) = if is_text(&left_type) && readable(&right_type) {
            (cast(left, engine_type(&right_type)), right)
        } else if is_text(&right_type) && readable(&left_type) {
            (left, cast(right, engine_type(&left_type)))
        } else {
            (left, right)
        };
        RawBinaryExpr { op, left, right }
    }
}

/// `moment ± INTERVAL` of days and shorter units as an addition of microseconds.
fn shift(
    operator: DecimalOperator,
    left: &Expr,
    right: &Expr,
    left_type: &DataType,
    right_type: &DataType,
) -> Option<Expr> {
    let (moment, interval, sign) = match operator {
        DecimalOperator::Add if is_temporal(left_type) => (left, right, 1),
        DecimalOperator::Add if is_temporal(right_type) => (right, left, 1),
        DecimalOperator::Subtract if is_temporal(left_type) => (left, right, -1),
        _ => return None,
    };
    let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) = interval else { return None };
    if interval.months != 0 || interval.nanoseconds % 1000 != 0 {
        return None;
    }
    let micros = i64::from(interval.days).checked_mul(DAY)?.checked_add(interval.nanoseconds / 1000)?;
    let micros = Expr::Literal(ScalarValue::Int64(Some(micros.checked_mul(sign)?)), None);
    Some(Expr::ScalarFunction(ScalarFunction::new_udf(temporal::udf("plus_interval"), vec![moment.clone(), micros])))
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;

    #[test]
    fn operators_have_flinks_types() {
        check(
            "1 + 1 -> INT 2
             1 + CAST(1 AS BIGINT) -> BIGINT 2
             2147483647 + 1 -> INT -2147483648
             5 / 2 -> INT 2
             5 / CAST(2 AS BIGINT) -> BIGINT 2
             CAST(-128 AS TINYINT) / CAST(-1 AS TINYINT) -> TINYINT -128
             5 / CAST(NULL AS INT) -> INT NULL
             -5 / 2 -> INT -2
             1 / 0 -> error zero
             1e0 / 0 -> DOUBLE inf
             0.908 * CAST(100 AS BIGINT) -> DECIMAL(24, 3) 90.800
             CAST(1 AS DECIMAL(30, 20)) * CAST(2 AS DECIMAL(30, 20)) -> DECIMAL(38, 17) 2.00000000000000000
             1.5 + 2.25 -> DECIMAL(4, 2) 3.75
             1.5 - 2 -> DECIMAL(12, 1) -0.5
             10.0 / 3 -> DECIMAL(14, 12) 3.333333333333
             2.0 / 3.0 -> DECIMAL(8, 6) 0.666667
             -2.0 / 3.0 -> DECIMAL(8, 6) -0.666667
             1.0 / 0 -> error by zero
             7.5 % 2 -> DECIMAL(2, 1) 1.5
             CAST(1 AS DECIMAL(38, 10)) * CAST(2.5 AS DECIMAL(38, 10)) -> DECIMAL(38, 6) 2.500000
             CAST(99999999999999999999999999999999999999 AS DECIMAL(38, 0)) + 1 -> DECIMAL(38, 0) NULL
             1.5 * 2e0 -> DOUBLE 3.0
             CAST(1 AS FLOAT) + 1 -> FLOAT 2.0
             'a' || 'b' -> STRING ab
             'a' || CAST(NULL AS VARCHAR) -> STRING NULL
             '10' = 10 -> BOOLEAN true
             TIMESTAMP '2020-01-01 00:00:00' < '2020-01-01 00:00:01' -> BOOLEAN true
             DATE '2020-01-01' = '2020-01-01' -> BOOLEAN true
             TIMESTAMP '2020-01-01 00:00:10' - INTERVAL '4' SECOND -> TIMESTAMP(3) 2020-01-01 00:00:06
             TIMESTAMP '2020-01-31 00:00:00' + INTERVAL '1' MONTH -> TIMESTAMP(3) 2020-02-29 00:00:00
             DATE '2020-02-28' + INTERVAL '2' DAY -> DATE 2020-03-01
             TIME '23:00:00' + INTERVAL '2' HOUR -> TIME(0) 01:00:00
             DATE '2020-02-28' - DATE '2020-02-27' -> error TIMESTAMPDIFF
             CASE WHEN 1 = 1 THEN 1 ELSE 2 END -> INT 1
             CASE WHEN 1 = 2 THEN 1 END -> INT NULL
             CASE WHEN 1 = 1 THEN 'a' ELSE 'bc' END -> STRING a
             IF(1 = 1, 1, 1 / 0) -> INT 1
             3 IN (1, 2, 3) -> BOOLEAN true
             4 BETWEEN 1 AND 3 -> BOOLEAN false
             'flink' LIKE 'fl%' -> BOOLEAN true
             NULL IS NOT DISTINCT FROM NULL -> BOOLEAN true
             (TIMESTAMP '2026-01-01 09:00:00', INTERVAL '1' HOUR) OVERLAPS (TIMESTAMP '2026-01-01 10:00:00', TIMESTAMP '2026-01-01 09:30:00') -> BOOLEAN true
             (DATE '2026-01-01', DATE '2026-01-02') OVERLAPS (DATE '2026-01-03', DATE '2026-01-04') -> BOOLEAN false",
        );
    }
}
