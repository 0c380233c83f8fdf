//! JSON's own syntax, as calls of functions.

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, ObjectName,
    UnaryOperator, Value,
};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

/// What a call of these gives is JSON: in another one it is taken as it is.
const BUILDERS: [&str; 2] = ["json_object", "json_array"];

/// `JSON_OBJECT([[KEY] key VALUE value, …] [NULL ON NULL | ABSENT ON NULL])` and `JSON_ARRAY([value, …] […])`; `None` when
/// something else follows.
pub(super) fn builder(parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
    let name = match &parser.peek_token_ref().token {
        Token::Word(word) if word.quote_style.is_none() => word.value.to_lowercase(),
        _ => return None,
    };
    let name = *BUILDERS.iter().find(|known| **known == name)?;
    (parser.peek_nth_token_ref(1).token == Token::LParen).then(|| parse(parser, name))
}

/// `value IS [NOT] JSON [VALUE | SCALAR | ARRAY | OBJECT]`; `None` when something else follows.
pub(super) fn predicate(parser: &mut Parser, value: &Expr) -> Option<Result<Expr, ParserError>> {
    let is_word = |at: usize, word: &str| {
        matches!(&parser.peek_nth_token_ref(at).token, Token::Word(found)
            if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word))
    };
    let negated = is_word(1, "NOT");
    let tokens = if negated { 3 } else { 2 };
    if !is_word(0, "IS") || !is_word(tokens - 1, "JSON") {
        return None;
    }
    let kind = ["VALUE", "SCALAR", "ARRAY", "OBJECT"].into_iter().find(|kind| is_word(tokens, kind));
    for _ in 0..tokens + usize::from(kind.is_some()) {
        parser.next_token();
    }
    let test = call("is_json", vec![value.clone(), text(kind.unwrap_or("VALUE"))]);
    Some(Ok(if negated { Expr::UnaryOp { op: UnaryOperator::Not, expr: Box::new(test) } } else { test }))
}

fn parse(parser: &mut Parser, name: &str) -> Result<Expr, ParserError> {
    parser.next_token();
    parser.expect_token(&Token::LParen)?;
    let is_object = name == BUILDERS[0];
    let (mut form, mut args) = (String::new(), Vec::new());
    let mut absent = !is_object;
    while !parser.consume_token(&Token::RParen) {
        if let Some(clause) = on_null(parser) {
            absent = clause == Keyword::ABSENT;
            parser.expect_token(&Token::RParen)?;
            break;
        }
        if !args.is_empty() {
            parser.expect_token(&Token::Comma)?;
        }
        if is_object {
            args.push(parse_key(parser)?);
            parser.expect_keyword(Keyword::VALUE)?;
        }
        let value = parser.parse_expr()?;
        form.push(if is_json(&value) { 'j' } else { 'v' });
        args.push(value);
    }
    form.insert(0, if absent { 'a' } else { 'n' });
    args.insert(0, text(&form));
    Ok(call(name, args))
}

/// A key; the word KEY before it says nothing.
fn parse_key(parser: &mut Parser) -> Result<Expr, ParserError> {
    let next_is_value =
        matches!(&parser.peek_nth_token_ref(1).token, Token::Word(word) if word.keyword == Keyword::VALUE);
    if !next_is_value {
        let _ = parser.parse_keyword(Keyword::KEY);
    }
    parser.parse_expr()
}

/// `NULL ON NULL` or `ABSENT ON NULL`.
fn on_null(parser: &mut Parser) -> Option<Keyword> {
    let clauses = [Keyword::NULL, Keyword::ABSENT];
    clauses.into_iter().find(|clause| parser.parse_keywords(&[*clause, Keyword::ON, Keyword::NULL]))
}

fn is_json(value: &Expr) -> bool {
    matches!(value, Expr::Function(function) if BUILDERS.contains(&function.name.to_string().as_str()))
}

fn text(text: &str) -> Expr {
    Expr::value(Value::SingleQuotedString(text.to_owned()))
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
