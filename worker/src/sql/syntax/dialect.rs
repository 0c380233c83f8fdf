//! How Flink SQL differs from the SQL that the parser knows: quotes, identifiers, and `TABLE x` as an argument.

use super::json;
use sqlparser::ast::{Expr, Ident};
use sqlparser::dialect::Dialect;
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

/// The dialect of Flink SQL.
#[derive(Debug, Default)]
pub(in crate::sql) struct FlinkDialect;

impl Dialect for FlinkDialect {
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }

    fn identifier_quote_style(&self, _identifier: &str) -> Option<char> {
        Some('`')
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$'
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_named_fn_args_with_rarrow_operator(&self) -> bool {
        true
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn supports_match_recognize(&self) -> bool {
        true
    }

    fn require_interval_qualifier(&self) -> bool {
        true
    }

    fn parse_infix(&self, parser: &mut Parser, expr: &Expr, _precedence: u8) -> Option<Result<Expr, ParserError>> {
        json::predicate(parser, expr)
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        if let Some(json) = json::builder(parser) {
            return Some(json);
        }
        let starts =
            parser.peek_keyword(Keyword::TABLE) && matches!(parser.peek_nth_token_ref(1).token, Token::Word(_));
        starts.then(|| parse_table_argument(parser))
    }
}

/// `TABLE name [PARTITION BY a | (a, b)]`: a compound identifier, or a tuple of it and a tuple of the keys. Only the
/// planner of window functions takes these; anywhere else their columns do not exist.
fn parse_table_argument(parser: &mut Parser) -> Result<Expr, ParserError> {
    parser.expect_keyword(Keyword::TABLE)?;
    let mut name: Vec<Ident> = vec![parser.parse_identifier()?];
    while parser.consume_token(&Token::Period) {
        name.push(parser.parse_identifier()?);
    }
    let table = Expr::CompoundIdentifier(name);
    if !parser.parse_keywords(&[Keyword::PARTITION, Keyword::BY]) {
        return Ok(table);
    }
    let keys = if parser.consume_token(&Token::LParen) {
        let keys = parser.parse_comma_separated(Parser::parse_expr)?;
        parser.expect_token(&Token::RParen)?;
        keys
    } else {
        vec![parser.parse_expr()?]
    };
    Ok(Expr::Tuple(vec![table, Expr::Tuple(keys)]))
}
