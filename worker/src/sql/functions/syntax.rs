//! Flink's syntax that DataFusion's planner does not take, as syntax that it takes.

use sqlparser::ast::helpers::attached_token::AttachedToken;
use sqlparser::ast::{
    CaseWhen, CastKind, CeilFloorKind, DataType, DateTimeField, ExactNumberInfo, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName, TypedString, Value, VisitMut,
    VisitorMut,
};
use std::mem;
use std::ops::ControlFlow;

/// Rewrites every expression in a part of a syntax tree:
/// - `FLOOR(x TO unit)`, `CEIL(x TO unit)` and the units of TIMESTAMPADD and TIMESTAMPDIFF become arguments of functions;
/// - `IF(a, b, c)` becomes a CASE, which does not evaluate the branch that it does not take;
/// - a number with an exponent becomes a DOUBLE;
/// - a TIMESTAMP literal gets the precision of its digits.
pub fn rewrite_syntax(ast: &mut impl VisitMut) {
    // The visitor never stops early.
    let _ = ast.visit(&mut Rewriter);
}

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
    if let (DataType::Timestamp(None, zone), Value::SingleQuotedString(literal)) = (&typed.data_type, &typed.value.value) {
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
        "if" if list.args.len() == 3 && list.args.iter().all(|arg| plain(arg).is_some()) => {
            let mut args = list.args.drain(..).filter_map(|arg| plain(&arg).cloned());
            let (condition, result, otherwise) = (args.next(), args.next(), args.next());
            let when = condition.zip(result).map(|(condition, result)| CaseWhen { condition, result });
            Expr::Case {
                case_token: AttachedToken::empty(),
                end_token: AttachedToken::empty(),
                operand: None,
                conditions: when.into_iter().collect(),
                else_result: otherwise.map(Box::new),
            }
        }
        _ => Expr::Function(function),
    }
}

fn plain(arg: &FunctionArg) -> Option<&Expr> {
    if let FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) = arg { Some(expr) } else { None }
}
