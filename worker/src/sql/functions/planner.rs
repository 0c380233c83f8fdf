//! Flink's meaning of operators and special syntax, while DataFusion plans expressions.

use super::decimal;
use super::temporal::calendar::{DAY, SECOND};
use super::typing::{DecimalOperator, decimal_of, engine_type, is_float, is_numeric, is_temporal, is_text};
use super::{arithmetic, string, temporal};
use arrow::datatypes::DataType;
use datafusion_common::{DFSchema, Result, ScalarValue};
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
        if let Some(shifted) = shift(operator, &left, &right, &left_type, &right_type) {
            return PlannerResult::Planned(shifted);
        }
        let double = |side: Expr, data_type: &DataType| if is_decimal(data_type) { cast(side, DataType::Float64) } else { side };
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
    let (moment, moment_type, interval, sign) = match operator {
        DecimalOperator::Add if is_temporal(left_type) => (left, left_type, right, 1),
        DecimalOperator::Add if is_temporal(right_type) => (right, right_type, left, 1),
        DecimalOperator::Subtract if is_temporal(left_type) => (left, left_type, right, -1),
        _ => return None,
    };
    let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) = interval else { return None };
    if interval.months != 0 || interval.nanoseconds % 1000 != 0 {
        return None;
    }
    let micros = i64::from(interval.days).checked_mul(DAY)?.checked_add(interval.nanoseconds / 1000)?;
    if *moment_type == DataType::Date32 && micros % DAY != 0 && micros % SECOND != 0 {
        return None;
    }
    let micros = Expr::Literal(ScalarValue::Int64(Some(sign * micros)), None);
    Some(Expr::ScalarFunction(ScalarFunction::new_udf(temporal::udf("plus_interval"), vec![moment.clone(), micros])))
}
