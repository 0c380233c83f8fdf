//! Flink's syntax that DataFusion's planner does not take, as syntax that it takes.

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    BinaryOperator, CaseWhen, CastKind, CeilFloorKind, DataType, DateTimeField, ExactNumberInfo, Expr, Function,
    FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName, TypedString,
    UnaryOperator, Value, VisitMut, VisitorMut,
};
use std::mem;
use std::ops::ControlFlow;

/// Rewrites every expression in a part of a syntax tree:
/// - `FLOOR(x TO unit)`, `CEIL(x TO unit)` and the units of TIMESTAMPADD and TIMESTAMPDIFF become arguments of functions;
/// - IF, COALESCE, IFNULL and NULLIF become a CASE, which does not evaluate the branch that it does not take;
/// - SIMILAR TO becomes a function, OVERLAPS two comparisons;
/// - a number with an exponent becomes a DOUBLE;
/// - a TIMESTAMP literal gets the precision of its digits.
pub fn rewrite_syntax(ast: &mut impl VisitMut) {
    // The visitor never stops early.
    let _ = ast.visit(&mut Rewriter);
}

/// What users can write although it is in no table of functions, and what it means.
pub(super) const SPECIAL: &[(&str, &str)] = &[
    ("CASE [value] WHEN … THEN … [ELSE …] END", "the result of the first condition that is true"),
    ("IF(condition, value, otherwise)", "one of two values; only that one is computed"),
    ("COALESCE(value, …)", "the first that is not NULL"),
    ("IFNULL(value, replacement)", "the replacement for NULL"),
    ("NULLIF(value, other)", "NULL if both are equal, else the value"),
    ("CAST(value AS type)", "the value as another type; text that cannot be read fails the job"),
    ("TRY_CAST(value AS type)", "the value as another type; NULL for text that cannot be read"),
    ("ARRAY[value, …], array[index]", "an array; its element with an index, counted from 1"),
    ("text || text", "one after the other; NULL if any is"),
    ("value [NOT] BETWEEN low AND high", "whether it lies between them, both included"),
    ("value [NOT] IN (value, …)", "whether it is one of them"),
    (
        "text [NOT] LIKE pattern",
        "whether it matches: % is any text, _ any character, and \\ takes what follows as it is",
    ),
    (
        "(begin, end) OVERLAPS (begin, end)",
        "whether two periods have a moment in common; an end may be a length such as INTERVAL '1' HOUR",
    ),
    ("value IS [NOT] DISTINCT FROM value", "comparison in which NULL equals NULL"),
    ("value IS [NOT] NULL | TRUE | FALSE | UNKNOWN", "a test that is never NULL"),
];

struct Rewriter;

impl VisitorMut for Rewriter {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let taken = mem::replace(expr, Expr::Wildcard(AttachedToken::empty()));
        *expr = rewrite(taken);
        ControlFlow::Continue(())
    }
}

fn rewrite(expr: Expr) -> Expr {
    match expr {
        Expr::Floor { expr, field } => rounding("floor_to", expr, field, |expr, field| Expr::Floor { expr, field }),
        Expr::Ceil { expr, field } => rounding("ceil_to", expr, field, |expr, field| Expr::Ceil { expr, field }),
        Expr::Value(value) => match &value.value {
            Value::Number(number, _) if number.contains(['e', 'E']) => {
                double(Expr::Value(Value::SingleQuotedString(number.clone()).with_span(value.span)))
            }
            _ => Expr::Value(value),
        },
        Expr::SimilarTo { negated, expr, pattern, escape_char: None } => {
            let call = call("similar_to", vec![*expr, *pattern]);
            if negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(call) } } else { call }
        }
        Expr::BinaryOp { left, op: BinaryOperator::Overlaps, right } => overlap(*left, *right),
        Expr::TypedString(typed) => Expr::TypedString(with_precision(typed)),
        Expr::Function(function) => rewrite_function(function),
        other => other,
    }
}

fn rounding(
    name: &str,
    expr: Box<Expr>,
    field: CeilFloorKind,
    unchanged: impl Fn(Box<Expr>, CeilFloorKind) -> Expr,
) -> Expr {
    match field {
        CeilFloorKind::DateTimeField(unit) if unit != DateTimeField::NoDateTime => {
            call(name, vec![text(&unit.to_string()), *expr])
        }
        other => unchanged(expr, other),
    }
}

fn call(name: &str, args: Vec<Expr>) -> Expr {
    let args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: vec![] }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: vec![],
    })
}

/// Two periods have a moment in common: each ends after the other has begun. The ends of a period come in any order, and
/// the second may be its length.
fn overlap(left: Expr, right: Expr) -> Expr {
    let binary = |left: Expr, op, right: Expr| Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) };
    match (period(&left), period(&right)) {
        (Some(left), Some(right)) => {
            let begin = |(one, other): &(Expr, Expr)| call("least", vec![one.clone(), other.clone()]);
            let end = |(one, other): &(Expr, Expr)| call("greatest", vec![one.clone(), other.clone()]);
            let first = binary(end(&left), BinaryOperator::GtEq, begin(&right));
            let second = binary(end(&right), BinaryOperator::GtEq, begin(&left));
            Expr::Nested(Box::new(binary(first, BinaryOperator::And, second)))
        }
        _ => binary(left, BinaryOperator::Overlaps, right),
    }
}

/// The two ends of `(begin, end)` or `(begin, length)`.
fn period(expr: &Expr) -> Option<(Expr, Expr)> {
    let Expr::Tuple(ends) = expr else { return None };
    let [begin, end] = ends.as_slice() else { return None };
    let end = match end {
        Expr::Interval(_) => {
            Expr::BinaryOp { left: Box::new(begin.clone()), op: BinaryOperator::Plus, right: Box::new(end.clone()) }
        }
        moment => moment.clone(),
    };
    Some((begin.clone(), end))
}

fn text(text: &str) -> Expr {
    Expr::value(Value::SingleQuotedString(text.to_owned()))
}

fn double(expr: Expr) -> Expr {
    Expr::Cast {
        kind: CastKind::Cast,
        expr: Box::new(expr),
        data_type: DataType::Double(ExactNumberInfo::None),
        array: false,
        format: None,
    }
}

fn with_precision(mut typed: TypedString) -> TypedString {
    if let (DataType::Timestamp(None, zone), Value::SingleQuotedString(literal)) =
        (&typed.data_type, &typed.value.value)
    {
        let digits = literal.rsplit_once('.').map_or(0, |(_, fraction)| fraction.trim_end().len());
        typed.data_type = DataType::Timestamp(Some(if digits <= 3 { 3 } else { 6 }), *zone);
    }
    typed
}

fn rewrite_function(mut function: Function) -> Expr {
    let name = function.name.to_string().to_lowercase();
    let FunctionArguments::List(list) = &mut function.args else { return Expr::Function(function) };
    match name.as_str() {
        "timestampadd" | "timestampdiff" => {
            if let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(unit))) = list.args.first_mut()
                && let Expr::Identifier(name) = unit
            {
                *unit = text(&name.value);
            }
            Expr::Function(function)
        }
        "if" | "coalesce" | "ifnull" | "nullif" => {
            let args: Option<Vec<Expr>> = list.args.iter().map(|arg| plain(arg).cloned()).collect();
            args.and_then(|args| choice(&name, args)).unwrap_or(Expr::Function(function))
        }
        _ => Expr::Function(function),
    }
}

/// The CASE that a function of conditions stands for, if it has as many arguments as it needs.
fn choice(name: &str, mut args: Vec<Expr>) -> Option<Expr> {
    let (conditions, otherwise) = match (name, args.as_slice()) {
        ("if", [condition, result, otherwise]) => {
            (vec![CaseWhen { condition: condition.clone(), result: result.clone() }], otherwise.clone())
        }
        ("nullif", [value, other]) => {
            let condition = Expr::BinaryOp {
                left: Box::new(value.clone()),
                op: BinaryOperator::Eq,
                right: Box::new(other.clone()),
            };
            (vec![CaseWhen { condition, result: Expr::value(Value::Null) }], value.clone())
        }
        ("coalesce", [_, ..]) | ("ifnull", [_, _]) => {
            let last = args.pop()?;
            let when = |value: Expr| CaseWhen { condition: Expr::IsNotNull(Box::new(value.clone())), result: value };
            (args.into_iter().map(when).collect(), last)
        }
        _ => return None,
    };
    if conditions.is_empty() {
        return Some(otherwise);
    }
    Some(Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: None,
        conditions,
        else_result: Some(Box::new(otherwise)),
    })
}

fn plain(arg: &FunctionArg) -> Option<&Expr> {
    if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = arg { Some(expr) } else { None }
}
