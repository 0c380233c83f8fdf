//! `CREATE [TEMPORARY] TABLE` as Flink has it.

use super::data_type::{Nullability, SqlType, parse_type};
use super::{at, error, is_word, refusal, simple_name, take_word};
use crate::diagnostic::Position;
use crate::sql::functions;
use sqlparser::ast::{Expr, Ident};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

/// A table's declaration.
#[derive(Debug, Clone)]
pub(in crate::sql) struct CreateTable {
    pub(in crate::sql) name: Ident,
    pub(in crate::sql) if_not_exists: bool,
    pub(in crate::sql) columns: Vec<Column>,
    pub(in crate::sql) watermark: Option<(Ident, Expr)>,
    pub(in crate::sql) primary_key: Vec<Ident>,
    pub(in crate::sql) partitioned_by: Vec<Ident>,
    pub(in crate::sql) options: Vec<TableOption>,
}

/// A column's declaration.
#[derive(Debug, Clone)]
pub(in crate::sql) struct Column {
    pub(in crate::sql) name: Ident,
    pub(in crate::sql) kind: ColumnKind,
}

/// The kinds of columns.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a few dozen live while a script is planned")]
pub(in crate::sql) enum ColumnKind {
    /// Read from and written to the table.
    Physical { data_type: SqlType, nullability: Nullability, position: Option<Position> },
    /// Computed from the others when read.
    Computed(Expr),
    /// What the connector knows about a row besides its columns.
    Metadata { data_type: SqlType, key: Option<String>, position: Option<Position> },
}

/// `'key' = 'value'`.
#[derive(Debug, Clone)]
pub(in crate::sql) struct TableOption {
    pub(in crate::sql) key: String,
    pub(in crate::sql) value: String,
    pub(in crate::sql) position: Option<Position>,
    pub(in crate::sql) value_position: Option<Position>,
}

/// Reads what follows `CREATE [TEMPORARY] TABLE`.
pub(super) fn parse(parser: &mut Parser) -> Result<CreateTable, ParserError> {
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = simple_name(parser)?;
    let mut table = CreateTable {
        name,
        if_not_exists,
        columns: Vec::new(),
        watermark: None,
        primary_key: Vec::new(),
        partitioned_by: Vec::new(),
        options: Vec::new(),
    };
    refuse_words(parser, &["AS", "LIKE"])?;
    parse_elements(parser, &mut table)?;
    parse_comment(parser)?;
    refuse_words(parser, &["DISTRIBUTED"])?;
    if take_word(parser, "PARTITIONED") {
        parser.expect_keyword(Keyword::BY)?;
        table.partitioned_by = parse_names(parser)?;
    }
    if parser.parse_keyword(Keyword::WITH) {
        table.options = parse_options(parser)?;
    }
    refuse_words(parser, &["AS", "LIKE"])?;
    Ok(table)
}

fn refuse_words(parser: &Parser, words: &[&str]) -> Result<(), ParserError> {
    match words.iter().find(|word| is_word(parser, 0, word)) {
        Some(word) => {
            let place = at(parser.peek_token_ref().span.start);
            Err(error(
                &format!("CREATE TABLE … {word} is not available in this version: write the columns and options out"),
                place,
            ))
        }
        None => Ok(()),
    }
}

fn parse_elements(parser: &mut Parser, table: &mut CreateTable) -> Result<(), ParserError> {
    parser.expect_token(&Token::LParen)?;
    loop {
        parse_element(parser, table)?;
        if !parser.consume_token(&Token::Comma) {
            parser.expect_token(&Token::RParen)?;
            return Ok(());
        }
    }
}

fn parse_element(parser: &mut Parser, table: &mut CreateTable) -> Result<(), ParserError> {
    if is_word(parser, 0, "WATERMARK") && (is_word(parser, 1, "FOR") || !is_column_follows(parser)) {
        let place = at(parser.peek_token_ref().span.start);
        parser.next_token();
        parser.expect_keyword(Keyword::FOR)?;
        let column = parser.parse_identifier()?;
        parser.expect_keyword(Keyword::AS)?;
        if table.watermark.replace((column, parse_expression(parser)?)).is_some() {
            return Err(error("a table has one WATERMARK at most", place));
        }
        return Ok(());
    }
    let constraint = parser.parse_keyword(Keyword::CONSTRAINT);
    if constraint {
        parser.parse_identifier()?;
    }
    if constraint || (is_word(parser, 0, "PRIMARY") && is_word(parser, 1, "KEY")) {
        parser.expect_keywords(&[Keyword::PRIMARY, Keyword::KEY])?;
        let columns = parse_names(parser)?;
        parser.expect_keywords(&[Keyword::NOT, Keyword::ENFORCED])?;
        return set_primary_key(table, columns);
    }
    parse_column(parser, table)
}

/// A column may be called `watermark`: a type follows then.
fn is_column_follows(parser: &Parser) -> bool {
    matches!(&parser.peek_nth_token_ref(1).token, Token::Word(word)
        if word.keyword != Keyword::NoKeyword || ["STRING", "BYTES", "ROW"].iter().any(|name| word.value.eq_ignore_ascii_case(name)))
}

fn set_primary_key(table: &mut CreateTable, columns: Vec<Ident>) -> Result<(), ParserError> {
    if !table.primary_key.is_empty() {
        return Err(error(
            "a table has one PRIMARY KEY at most",
            columns.first().and_then(|column| at(column.span.start)),
        ));
    }
    table.primary_key = columns;
    Ok(())
}

fn parse_column(parser: &mut Parser, table: &mut CreateTable) -> Result<(), ParserError> {
    let name = parser.parse_identifier()?;
    if parser.parse_keyword(Keyword::AS) {
        let kind = ColumnKind::Computed(parse_expression(parser)?);
        parse_comment(parser)?;
        table.columns.push(Column { name, kind });
        return Ok(());
    }
    let position = at(parser.peek_token_ref().span.start);
    let (data_type, nullability) = parse_type(parser)?;
    let kind = if take_word(parser, "METADATA") {
        let key = if parser.parse_keyword(Keyword::FROM) { Some(parser.parse_literal_string()?) } else { None };
        // Metadata is only read.
        take_word(parser, "VIRTUAL");
        ColumnKind::Metadata { data_type, key, position }
    } else {
        if parser.parse_keywords(&[Keyword::PRIMARY, Keyword::KEY]) {
            parser.expect_keywords(&[Keyword::NOT, Keyword::ENFORCED])?;
            set_primary_key(table, vec![name.clone()])?;
        }
        ColumnKind::Physical { data_type, nullability, position }
    };
    parse_comment(parser)?;
    table.columns.push(Column { name, kind });
    Ok(())
}

/// An expression, rewritten to what the planner knows.
fn parse_expression(parser: &mut Parser) -> Result<Expr, ParserError> {
    let mut expr = parser.parse_expr()?;
    refusal::check_expression(&expr)?;
    functions::rewrite_syntax(&mut expr);
    Ok(expr)
}

fn parse_comment(parser: &mut Parser) -> Result<(), ParserError> {
    if parser.parse_keyword(Keyword::COMMENT) {
        parser.parse_literal_string()?;
    }
    Ok(())
}

fn parse_names(parser: &mut Parser) -> Result<Vec<Ident>, ParserError> {
    parser.expect_token(&Token::LParen)?;
    let names = parser.parse_comma_separated(Parser::parse_identifier)?;
    parser.expect_token(&Token::RParen)?;
    Ok(names)
}

fn parse_options(parser: &mut Parser) -> Result<Vec<TableOption>, ParserError> {
    parser.expect_token(&Token::LParen)?;
    let mut options: Vec<TableOption> = Vec::new();
    loop {
        let position = at(parser.peek_token_ref().span.start);
        let key = parser.parse_literal_string()?;
        parser.expect_token(&Token::Eq)?;
        let value_position = at(parser.peek_token_ref().span.start);
        let value = parser.parse_literal_string()?;
        if options.iter().any(|option| option.key == key) {
            return Err(error(&format!("the option '{key}' is given twice"), position));
        }
        options.push(TableOption { key, value, position, value_position });
        if !parser.consume_token(&Token::Comma) {
            parser.expect_token(&Token::RParen)?;
            return Ok(options);
        }
    }
}
