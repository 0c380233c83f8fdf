//! From text to statements: the parser with Flink's dialect, its own DDL, and rewrites of the syntax tree that need no
//! catalogue.

pub(super) mod create_table;
mod data_type;
mod dialect;
pub(super) mod group_windows;
mod json;
pub(super) mod place;
mod refusal;
mod rewrite;
mod statement;

pub(super) use create_table::{Column, ColumnKind, CreateTable, TableOption};
pub(super) use data_type::{Nullability, RowField, SqlType};
#[cfg(test)]
pub(super) use dialect::FlinkDialect;
pub(super) use statement::{CreateView, Insert, Setting, Statement, parse};

use crate::diagnostic::Position;
use sqlparser::ast::{Ident, Spanned};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Location, Token};

/// Where a part of the syntax tree begins, if it is known.
pub(super) fn position(of: &impl Spanned) -> Option<Position> {
    at(of.span().start)
}

/// Where a name begins, if it is known.
pub(super) fn name_position(name: &Ident) -> Option<Position> {
    at(name.span.start)
}

fn at(location: Location) -> Option<Position> {
    let known = location.line > 0;
    known.then(|| Position {
        line: u32::try_from(location.line).unwrap_or(u32::MAX),
        column: u32::try_from(location.column).unwrap_or(u32::MAX),
    })
}

/// Where the next token begins.
fn here(parser: &Parser) -> Option<Position> {
    at(parser.peek_token_ref().span.start)
}

/// Takes the next token if it is this word, in any case and unquoted.
fn take_word(parser: &mut Parser, word: &str) -> bool {
    let taken = is_word(parser, 0, word);
    if taken {
        parser.next_token();
    }
    taken
}

/// True if the token after `ahead` others is this word.
fn is_word(parser: &Parser, ahead: usize, word: &str) -> bool {
    matches!(&parser.peek_nth_token_ref(ahead).token,
        Token::Word(found) if found.quote_style.is_none() && found.value.eq_ignore_ascii_case(word))
}

/// A name of one part: there are no catalogues or databases.
fn simple_name(parser: &mut Parser) -> Result<Ident, ParserError> {
    let name = parser.parse_identifier()?;
    if parser.peek_token_ref().token == Token::Period {
        return Err(error(
            "tables have names of one part here: there are no catalogs or databases",
            at(name.span.start),
        ));
    }
    Ok(name)
}

/// A parser's error with a place, in the form that it writes itself.
fn error(message: &str, position: Option<Position>) -> ParserError {
    let place = position.map(|at| format!(" at Line: {}, Column: {}", at.line, at.column)).unwrap_or_default();
    ParserError::ParserError(format!("{message}{place}"))
}
