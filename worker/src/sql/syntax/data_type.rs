//! The types of columns as they are written: the parser's own, and Flink's `ROW<…>`, `ARRAY<…>` and `TIMESTAMP_LTZ`.

use super::{at, error, is_word, take_word};
use sqlparser::ast::{DataType, Ident};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

/// Types nest no deeper than this.
const MAX_DEPTH: usize = 50;

/// A written type.
#[derive(Debug, Clone)]
pub(in crate::sql) enum SqlType {
    /// A type without parts that the parser knows.
    Plain(DataType),
    /// `TIMESTAMP_LTZ(p)` and `TIMESTAMP(p) WITH LOCAL TIME ZONE`.
    TimestampLtz(Option<u64>),
    /// `ROW<name type, …>`.
    Row(Vec<RowField>),
    /// `ARRAY<type>`.
    Array(Box<SqlType>),
    /// A type that Flink has and Weir has not.
    Unsupported(String),
}

/// A field of a row.
#[derive(Debug, Clone)]
pub(in crate::sql) struct RowField {
    pub(in crate::sql) name: Ident,
    pub(in crate::sql) data_type: SqlType,
    pub(in crate::sql) nullability: Nullability,
}

/// Whether `NOT NULL` follows a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sql) enum Nullability {
    Nullable,
    NotNull,
}

/// Reads a type and the `NULL` or `NOT NULL` after it.
pub(super) fn parse_type(parser: &mut Parser) -> Result<(SqlType, Nullability), ParserError> {
    let start = parser.peek_token_ref().span.start;
    let (data_type, nullability, surplus) = Nested { depth: 0 }.parse(parser)?;
    if surplus > 0 {
        return Err(error("there is a '>' too many in this type", at(start)));
    }
    Ok((data_type, nullability))
}

struct Nested {
    depth: usize,
}

type Parsed = (SqlType, Nullability, usize);

impl Nested {
    /// Besides the type: how many `>` of enclosing types the tokens `>>` have already closed.
    fn parse(&self, parser: &mut Parser) -> Result<Parsed, ParserError> {
        if self.depth > MAX_DEPTH {
            return Err(error("this type is nested too deeply", at(parser.peek_token_ref().span.start)));
        }
        let nested = |word: &str| is_word(parser, 0, word) && parser.peek_nth_token_ref(1).token == Token::Lt;
        let (data_type, surplus) = if nested("ROW") {
            self.parse_row(parser)?
        } else if nested("ARRAY") {
            self.parse_array(parser)?
        } else {
            (parse_plain(parser)?, 0)
        };
        let nullability = if surplus == 0 { parse_nullability(parser)? } else { Nullability::Nullable };
        Ok((data_type, nullability, surplus))
    }

    fn inner(&self) -> Self {
        Self { depth: self.depth + 1 }
    }

    fn parse_row(&self, parser: &mut Parser) -> Result<(SqlType, usize), ParserError> {
        parser.next_token();
        parser.expect_token(&Token::Lt)?;
        let mut fields = Vec::new();
        loop {
            let name = parser.parse_identifier()?;
            let (data_type, nullability, surplus) = self.inner().parse(parser)?;
            fields.push(RowField { name, data_type, nullability });
            if surplus == 0 && parser.consume_token(&Token::Comma) {
                continue;
            }
            return Ok((SqlType::Row(fields), close(parser, surplus)?));
        }
    }

    fn parse_array(&self, parser: &mut Parser) -> Result<(SqlType, usize), ParserError> {
        parser.next_token();
        parser.expect_token(&Token::Lt)?;
        let (item, _, surplus) = self.inner().parse(parser)?;
        Ok((SqlType::Array(Box::new(item)), close(parser, surplus)?))
    }
}

fn close(parser: &mut Parser, surplus: usize) -> Result<usize, ParserError> {
    if surplus > 0 {
        Ok(surplus - 1)
    } else if parser.consume_token(&Token::Gt) {
        Ok(0)
    } else if parser.consume_token(&Token::ShiftRight) {
        Ok(1)
    } else {
        parser.expected("',' or '>'", parser.peek_token())
    }
}

fn parse_nullability(parser: &mut Parser) -> Result<Nullability, ParserError> {
    if is_word(parser, 0, "NOT") && is_word(parser, 1, "NULL") {
        parser.next_token();
        parser.next_token();
        return Ok(Nullability::NotNull);
    }
    take_word(parser, "NULL");
    Ok(Nullability::Nullable)
}

fn parse_plain(parser: &mut Parser) -> Result<SqlType, ParserError> {
    for name in ["MAP", "MULTISET", "RAW", "VARIANT", "INTERVAL", "STRUCTURED"] {
        if is_word(parser, 0, name) {
            parser.next_token();
            skip_arguments(parser)?;
            return Ok(SqlType::Unsupported(name.to_owned()));
        }
    }
    if take_word(parser, "TIMESTAMP_LTZ") {
        return Ok(SqlType::TimestampLtz(parse_precision(parser)?));
    }
    if is_word(parser, 0, "TIMESTAMP")
        && let Some(precision) = with_local_time_zone(parser)?
    {
        return Ok(SqlType::TimestampLtz(precision));
    }
    Ok(SqlType::Plain(parser.parse_data_type()?))
}

/// `TIMESTAMP [(p)] WITH LOCAL TIME ZONE`: its precision; nothing is taken if it is another timestamp.
fn with_local_time_zone(parser: &mut Parser) -> Result<Option<Option<u64>>, ParserError> {
    let after = if parser.peek_nth_token_ref(1).token == Token::LParen { 4 } else { 1 };
    if !(is_word(parser, after, "WITH") && is_word(parser, after + 1, "LOCAL")) {
        return Ok(None);
    }
    parser.next_token();
    let precision = parse_precision(parser)?;
    for word in ["WITH", "LOCAL", "TIME", "ZONE"] {
        if !take_word(parser, word) {
            return parser.expected(word, parser.peek_token());
        }
    }
    Ok(Some(precision))
}

fn parse_precision(parser: &mut Parser) -> Result<Option<u64>, ParserError> {
    if !parser.consume_token(&Token::LParen) {
        return Ok(None);
    }
    let precision = parser.parse_literal_uint()?;
    parser.expect_token(&Token::RParen)?;
    Ok(Some(precision))
}

/// Passes over what stands in brackets after the name of a type.
fn skip_arguments(parser: &mut Parser) -> Result<(), ParserError> {
    if !matches!(parser.peek_token_ref().token, Token::Lt | Token::LParen) {
        return Ok(());
    }
    let mut depth = 0_i64;
    loop {
        depth += match parser.peek_token_ref().token {
            Token::Lt | Token::LParen => 1,
            Token::Gt | Token::RParen => -1,
            Token::ShiftRight => -2,
            Token::EOF => return parser.expected("'>'", parser.peek_token()),
            _ => 0,
        };
        parser.next_token();
        if depth <= 0 {
            return Ok(());
        }
    }
}
