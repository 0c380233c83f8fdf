//! Expressions in the words of SQL.

use crate::format::sql_type;
use crate::plan::left_to_right::LeftToRight;
use datafusion_common::ScalarValue;
use datafusion_expr::Operator;
use datafusion_physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NegativeExpr,
    NotExpr, TryCastExpr,
};
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use std::fmt;
use std::sync::Arc;

type Expression = Arc<dyn PhysicalExpr>;

/// How tightly an operator binds; an operand that binds less is put in parentheses.
const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const COMPARISON: u8 = 4;
const SUM: u8 = 5;
const PRODUCT: u8 = 6;
const VALUE: u8 = 7;

/// An expression in SQL; `names` are those of its input's columns.
pub(crate) fn sql(expression: &Expression, names: &[String]) -> String {
    text(expression.as_ref(), names)
}

/// As [`sql`], of an expression that is borrowed.
pub(crate) fn text(expression: &dyn PhysicalExpr, names: &[String]) -> String {
    written(expression, names).0
}

/// The text and how tightly its outermost operator binds.
fn written(expression: &dyn PhysicalExpr, names: &[String]) -> (String, u8) {
    let simple = column(expression, names).or_else(|| literal(expression)).map(|text| (text, VALUE));
    simple
        .or_else(|| binary(expression, names))
        .or_else(|| predicate(expression, names))
        .or_else(|| conversion(expression, names).map(|text| (text, VALUE)))
        .or_else(|| case(expression, names).map(|text| (text, VALUE)))
        .or_else(|| call(expression, names))
        .unwrap_or_else(|| (Plain(expression).to_string(), OR))
}

/// An operand, in parentheses where it binds less than its operator.
fn operand(expression: &Expression, names: &[String], least: u8) -> String {
    let (text, binds) = written(expression.as_ref(), names);
    if binds < least { format!("({text})") } else { text }
}

fn column(expression: &dyn PhysicalExpr, names: &[String]) -> Option<String> {
    let column = expression.downcast_ref::<Column>()?;
    Some(names.get(column.index()).cloned().unwrap_or_else(|| column.name().to_owned()))
}

fn literal(expression: &dyn PhysicalExpr) -> Option<String> {
    Some(value(expression.downcast_ref::<Literal>()?.value()))
}

fn value(value: &ScalarValue) -> String {
    use ScalarValue as V;
    match value {
        null if null.is_null() => "NULL".to_owned(),
        V::Boolean(Some(true)) => "TRUE".to_owned(),
        V::Boolean(Some(false)) => "FALSE".to_owned(),
        V::Utf8(Some(text)) | V::Utf8View(Some(text)) | V::LargeUtf8(Some(text)) => {
            format!("'{}'", text.replace('\'', "''"))
        }
        V::Decimal128(Some(number), _, scale) => decimal(*number, *scale),
        V::Binary(Some(bytes)) | V::BinaryView(Some(bytes)) => {
            format!("x'{}'", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
        moment if moment.data_type().is_temporal() => {
            let data_type = sql_type(&moment.data_type());
            let name = data_type.split('(').next().unwrap_or(&data_type).to_owned();
            let text =
                moment.to_array().ok().and_then(|array| arrow::util::display::array_value_to_string(&array, 0).ok());
            format!("{name} '{}'", text.unwrap_or_else(|| moment.to_string()).replace('T', " "))
        }
        other => other.to_string(),
    }
}

fn decimal(number: i128, scale: i8) -> String {
    let places = usize::from(scale.unsigned_abs());
    let digits = format!("{:0>width$}", number.unsigned_abs(), width = places + 1);
    let sign = if number < 0 { "-" } else { "" };
    match digits.split_at(digits.len() - places) {
        (whole, "") => format!("{sign}{whole}"),
        (whole, fraction) => format!("{sign}{whole}.{fraction}"),
    }
}

fn binary(expression: &dyn PhysicalExpr, names: &[String]) -> Option<(String, u8)> {
    if let Some(LeftToRight { left, operator, right }) = expression.downcast_ref() {
        let binds = if *operator == Operator::Or { OR } else { AND };
        return Some((infix(left, if binds == OR { "OR" } else { "AND" }, right, binds, names), binds));
    }
    let binary = expression.downcast_ref::<BinaryExpr>()?;
    let (sign, binds) = match binary.op() {
        Operator::Or => ("OR", OR),
        Operator::And => ("AND", AND),
        Operator::Eq => ("=", COMPARISON),
        Operator::NotEq => ("<>", COMPARISON),
        Operator::Lt => ("<", COMPARISON),
        Operator::LtEq => ("<=", COMPARISON),
        Operator::Gt => (">", COMPARISON),
        Operator::GtEq => (">=", COMPARISON),
        Operator::IsDistinctFrom => ("IS DISTINCT FROM", COMPARISON),
        Operator::IsNotDistinctFrom => ("IS NOT DISTINCT FROM", COMPARISON),
        Operator::Plus => ("+", SUM),
        Operator::Minus => ("-", SUM),
        Operator::Multiply => ("*", PRODUCT),
        Operator::Divide => ("/", PRODUCT),
        Operator::Modulo => ("%", PRODUCT),
        Operator::StringConcat => ("||", SUM),
        _ => return None,
    };
    Some((infix(binary.left(), sign, binary.right(), binds, names), binds))
}

fn infix(left: &Expression, sign: &str, right: &Expression, binds: u8, names: &[String]) -> String {
    // AND and OR are the same from either side; a - (b - c) is not, and comparisons do not follow each other.
    let (least_left, least_right) = match binds {
        OR | AND => (binds, binds),
        COMPARISON => (binds + 1, binds + 1),
        _ => (binds, binds + 1),
    };
    format!("{} {sign} {}", operand(left, names, least_left), operand(right, names, least_right))
}

fn predicate(expression: &dyn PhysicalExpr, names: &[String]) -> Option<(String, u8)> {
    let of = |argument: &Expression| operand(argument, names, COMPARISON + 1);
    if let Some(not) = expression.downcast_ref::<NotExpr>() {
        return Some((format!("NOT {}", operand(not.arg(), names, NOT)), NOT));
    }
    let text = if let Some(null) = expression.downcast_ref::<IsNullExpr>() {
        format!("{} IS NULL", of(null.arg()))
    } else if let Some(null) = expression.downcast_ref::<IsNotNullExpr>() {
        format!("{} IS NOT NULL", of(null.arg()))
    } else if let Some(like) = expression.downcast_ref::<LikeExpr>() {
        let not = if like.negated() { "NOT " } else { "" };
        format!("{} {not}LIKE {}", of(like.expr()), of(like.pattern()))
    } else {
        let list = expression.downcast_ref::<InListExpr>()?;
        let not = if list.negated() { "NOT " } else { "" };
        format!("{} {not}IN ({})", of(list.expr()), separated(list.list(), names))
    };
    Some((text, COMPARISON))
}

fn separated<'a>(expressions: impl IntoIterator<Item = &'a Expression>, names: &[String]) -> String {
    expressions.into_iter().map(|one| sql(one, names)).collect::<Vec<_>>().join(", ")
}

fn conversion(expression: &dyn PhysicalExpr, names: &[String]) -> Option<String> {
    if let Some(cast) = expression.downcast_ref::<CastExpr>() {
        return Some(format!("CAST({} AS {})", sql(cast.expr(), names), sql_type(cast.cast_type())));
    }
    if let Some(cast) = expression.downcast_ref::<TryCastExpr>() {
        return Some(format!("TRY_CAST({} AS {})", sql(cast.expr(), names), sql_type(cast.cast_type())));
    }
    let call = expression.downcast_ref::<ScalarFunctionExpr>()?;
    match (call.name(), call.args()) {
        ("cast" | "try_cast", [argument]) => {
            let (name, data_type) = (call.name().to_uppercase(), sql_type(call.return_type()));
            Some(format!("{name}({} AS {data_type})", sql(argument, names)))
        }
        _ => None,
    }
}

fn case(expression: &dyn PhysicalExpr, names: &[String]) -> Option<String> {
    let case = expression.downcast_ref::<CaseExpr>()?;
    let mut text = "CASE".to_owned();
    if let Some(of) = case.expr() {
        text.push_str(&format!(" {}", sql(of, names)));
    }
    for (when, then) in case.when_then_expr() {
        text.push_str(&format!(" WHEN {} THEN {}", sql(when, names), sql(then, names)));
    }
    if let Some(otherwise) = case.else_expr() {
        text.push_str(&format!(" ELSE {}", sql(otherwise, names)));
    }
    text.push_str(" END");
    Some(text)
}

fn call(expression: &dyn PhysicalExpr, names: &[String]) -> Option<(String, u8)> {
    if let Some(negative) = expression.downcast_ref::<NegativeExpr>() {
        return Some((format!("-{}", operand(negative.arg(), names, VALUE)), PRODUCT));
    }
    let call = expression.downcast_ref::<ScalarFunctionExpr>()?;
    Some(match (call.name(), call.args()) {
        ("plus_interval", [moment, interval]) => (moved(moment, interval, names)?, SUM),
        ("get_field", [row, field]) => (format!("{}.{}", operand(row, names, VALUE), field_name(field)?), VALUE),
        (sign @ ("+" | "-"), [left, right]) => (infix(left, sign, right, SUM, names), SUM),
        (sign @ ("*" | "/" | "%"), [left, right]) => (infix(left, sign, right, PRODUCT, names), PRODUCT),
        (name, arguments) => (format!("{}({})", name.to_uppercase(), separated(arguments, names)), VALUE),
    })
}

fn field_name(field: &Expression) -> Option<String> {
    match field.downcast_ref::<Literal>()?.value() {
        ScalarValue::Utf8(Some(name)) | ScalarValue::Utf8View(Some(name)) => Some(name.clone()),
        _ => None,
    }
}

/// A moment moved by a constant interval, as it is written in SQL: most watermarks are such.
fn moved(moment: &Expression, interval: &Expression, names: &[String]) -> Option<String> {
    let micros: i64 = interval.downcast_ref::<Literal>()?.value().to_string().parse().ok()?;
    let sign = if micros < 0 { '-' } else { '+' };
    let (seconds, rest) = (micros.unsigned_abs() / 1_000_000, micros.unsigned_abs() % 1_000_000);
    let fraction = if rest == 0 { String::new() } else { format!(".{rest:06}").trim_end_matches('0').to_owned() };
    let interval = match seconds {
        whole if rest == 0 && whole > 0 && whole % 86_400 == 0 => format!("'{}' DAY", whole / 86_400),
        whole if rest == 0 && whole > 0 && whole % 3_600 == 0 => format!("'{}' HOUR", whole / 3_600),
        whole if rest == 0 && whole > 0 && whole % 60 == 0 => format!("'{}' MINUTE", whole / 60),
        _ => format!("'{seconds}{fraction}' SECOND"),
    };
    Some(format!("{} {sign} INTERVAL {interval}", operand(moment, names, SUM)))
}

/// What the expression says of itself.
struct Plain<'a>(&'a dyn PhysicalExpr);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_sql(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::DataType;
    use arrow::datatypes::{Field, Schema};
    use datafusion_physical_expr::expressions::{binary, col, in_list, is_null, lit, not};

    fn check(expression: &Expression, expected: &str) {
        assert_eq!(sql(expression, &["a".into(), "t.b".into()]), expected);
    }

    #[test]
    fn expressions_read_as_sql() {
        let schema =
            Schema::new(vec![Field::new("x", DataType::Int64, true), Field::new("y", DataType::Utf8View, true)]);
        let of = |left: &Expression, op, right: &Expression| {
            binary(Arc::clone(left), op, Arc::clone(right), &schema).expect("its types fit")
        };
        let (a, b) = (col("x", &schema).expect("x"), col("y", &schema).expect("y"));
        let one = lit(1_i64);
        let text = lit(ScalarValue::Utf8View(Some("it's".into())));
        let sum = of(&a, Operator::Plus, &one);
        check(&of(&sum, Operator::Multiply, &sum), "(a + 1) * (a + 1)");
        check(&of(&of(&sum, Operator::Minus, &one), Operator::Minus, &sum), "a + 1 - 1 - (a + 1)");
        let equal = of(&b, Operator::Eq, &text);
        check(&equal, "t.b = 'it''s'");
        let greater = of(&a, Operator::Gt, &one);
        let either = of(&greater, Operator::Or, &equal);
        check(&of(&either, Operator::And, &greater), "(a > 1 OR t.b = 'it''s') AND a > 1");
        check(&not(Arc::clone(&either)).expect("a condition"), "NOT (a > 1 OR t.b = 'it''s')");
        check(&is_null(Arc::clone(&sum)).expect("a value"), "a + 1 IS NULL");
        let list = in_list(a, vec![Arc::clone(&one), lit(2_i64)], &true, &schema).expect("values of its type");
        check(&list, "a NOT IN (1, 2)");
        check(&lit(ScalarValue::Decimal128(Some(-908), 4, 3)), "-0.908");
        check(&lit(ScalarValue::Decimal128(Some(5), 4, 3)), "0.005");
        check(&lit(ScalarValue::Int32(None)), "NULL");
        check(&lit(true), "TRUE");
        check(&lit(ScalarValue::TimestampMillisecond(Some(1_500), None)), "TIMESTAMP '1970-01-01 00:00:01.500'");
    }
}
