//! A script as a list of statements.

use super::create_table::{self, CreateTable};
use super::dialect::FlinkDialect;
use super::{at, error, here, is_word, refusal, rewrite, simple_name, take_word};
use crate::diagnostic::{Diagnostic, Position};
use crate::sql::errors::{self, Located};
use sqlparser::ast::{Ident, Query};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

/// More operators in one statement than this would nest deeper than anything that reads them.
const MAX_OPERATORS: usize = 20_000;

/// Deeper brackets and CASEs are refused: where the parser fails inside of them, it tries each level twice.
const MAX_NESTED_CASES: i64 = 12;
const MAX_NESTED_BRACKETS: i64 = 45;

/// A statement of a script.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a few dozen live while a script is planned")]
pub(in crate::sql) enum Statement {
    CreateTable(CreateTable),
    CreateView(CreateView),
    Insert(Insert),
    Set(Setting),
}

/// `CREATE [TEMPORARY] VIEW name [(columns)] AS query`.
#[derive(Debug)]
pub(in crate::sql) struct CreateView {
    pub(in crate::sql) name: Ident,
    pub(in crate::sql) if_not_exists: bool,
    pub(in crate::sql) columns: Vec<Ident>,
    pub(in crate::sql) query: Box<Query>,
}

/// `INSERT INTO table [(columns)] query`.
#[derive(Debug)]
pub(in crate::sql) struct Insert {
    pub(in crate::sql) table: Ident,
    pub(in crate::sql) columns: Vec<Ident>,
    pub(in crate::sql) query: Box<Query>,
    pub(in crate::sql) position: Option<Position>,
}

/// `SET 'key' = 'value'`.
#[derive(Debug)]
pub(in crate::sql) struct Setting {
    pub(in crate::sql) key: String,
    pub(in crate::sql) value: String,
    pub(in crate::sql) position: Option<Position>,
}

/// Reads a script. Queries come back rewritten to what the planner knows, without constructs that cannot run.
pub(in crate::sql) fn parse(script: &str) -> Result<Vec<Statement>, Diagnostic> {
    // The parser does not say where the end is.
    parse_statements(script).map_err(|mistake| mistake.at_if_unknown(end_of(script)))
}

fn end_of(script: &str) -> Option<Position> {
    let script = script.trim_end();
    let line = u32::try_from(script.lines().count().max(1)).ok()?;
    let column = u32::try_from(script.lines().last().unwrap_or_default().chars().count() + 1).ok()?;
    Some(Position { line, column })
}

fn parse_statements(script: &str) -> Result<Vec<Statement>, Diagnostic> {
    let dialect = FlinkDialect;
    let tokens = Tokenizer::new(&dialect, script).tokenize_with_location();
    let tokens = tokens.map_err(|error| errors::from_parser(&ParserError::from(error)))?;
    check_length(&tokens)?;
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
    let mut statements = Vec::new();
    let mut set = StatementSet::Outside;
    loop {
        while parser.consume_token(&Token::SemiColon) {}
        if parser.peek_token_ref().token == Token::EOF {
            return set.at_end(here(&parser)).map(|()| statements);
        }
        if set.step(&mut parser).map_err(|error| errors::from_parser(&error))? {
            continue;
        }
        statements.push(parse_statement(&mut parser)?);
        if parser.peek_token_ref().token != Token::EOF {
            parser.expect_token(&Token::SemiColon).map_err(|error| errors::from_parser(&error))?;
        }
    }
}

/// Chains of operators become trees as deep as they are long.
fn check_length(tokens: &[TokenWithSpan]) -> Result<(), Diagnostic> {
    let mut operators = 0;
    let (mut cases, mut brackets) = (0_i64, 0_i64);
    for token in tokens {
        match &token.token {
            Token::Word(word) if word.keyword == Keyword::CASE => cases += 1,
            Token::Word(word) if word.keyword == Keyword::END => cases -= 1,
            Token::LParen => brackets += 1,
            Token::RParen => brackets -= 1,
            Token::SemiColon => (cases, brackets) = (0, 0),
            _ => {}
        }
        if cases > MAX_NESTED_CASES || brackets > MAX_NESTED_BRACKETS {
            let message = "this statement is nested too deeply";
            return Err(Diagnostic::new(message).at(at(token.span.start)).hint("split it into several views"));
        }
        match &token.token {
            Token::SemiColon => operators = 0,
            Token::Word(word) => {
                let chains =
                    matches!(word.keyword, Keyword::AND | Keyword::OR | Keyword::UNION | Keyword::IS | Keyword::NOT);
                operators += usize::from(chains);
            }
            Token::Whitespace(_) | Token::Comma | Token::Number(..) | Token::SingleQuotedString(_) | Token::Period => {}
            _ => operators += 1,
        }
        if operators > MAX_OPERATORS {
            let message = format!("this statement has more than {MAX_OPERATORS} operators");
            return Err(Diagnostic::new(message).at(at(token.span.start)).hint("split it into several views"));
        }
    }
    Ok(())
}

/// `EXECUTE STATEMENT SET BEGIN … END`, or `BEGIN STATEMENT SET; … END`.
enum StatementSet {
    Outside,
    Inside(Option<Position>),
}

impl StatementSet {
    /// Takes the words that open or close a set, if they are next.
    fn step(&mut self, parser: &mut Parser) -> Result<bool, ParserError> {
        let start = here(parser);
        let opens = if is_word(parser, 0, "EXECUTE") && is_word(parser, 1, "STATEMENT") {
            parser.expect_keyword(Keyword::EXECUTE)?;
            parser.expect_keyword(Keyword::STATEMENT)?;
            parser.expect_keyword(Keyword::SET)?;
            parser.expect_keyword(Keyword::BEGIN)?;
            true
        } else if is_word(parser, 0, "BEGIN") {
            parser.expect_keyword(Keyword::BEGIN)?;
            parser.expect_keyword(Keyword::STATEMENT)?;
            parser.expect_keyword(Keyword::SET)?;
            parser.expect_token(&Token::SemiColon)?;
            true
        } else {
            false
        };
        match (opens, &self) {
            (true, Self::Outside) => *self = Self::Inside(start),
            (true, Self::Inside(_)) => return Err(error("a statement set cannot stand in another one", start)),
            (false, Self::Inside(_)) if parser.parse_keyword(Keyword::END) => *self = Self::Outside,
            (false, Self::Inside(_)) if !is_word(parser, 0, "INSERT") => {
                return parser.expected("INSERT INTO or END", parser.peek_token());
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn at_end(&self, end: Option<Position>) -> Result<(), Diagnostic> {
        match self {
            Self::Outside => Ok(()),
            Self::Inside(start) => {
                let place = start.map(|at| format!(" that begins in line {}", at.line)).unwrap_or_default();
                Err(Diagnostic::new(format!("the statement set{place} has no end"))
                    .at(end)
                    .hint("add END; after its last INSERT"))
            }
        }
    }
}

fn parse_statement(parser: &mut Parser) -> Result<Statement, Diagnostic> {
    let start = here(parser);
    if take_word(parser, "CREATE") {
        return parse_create(parser, start);
    }
    if take_word(parser, "INSERT") {
        return parse_insert(parser, start);
    }
    if take_word(parser, "SET") {
        return parse_set(parser, start).map(Statement::Set).map_err(|error| errors::from_parser(&error));
    }
    Err(refuse_statement(parser, start))
}

fn parse_create(parser: &mut Parser, start: Option<Position>) -> Result<Statement, Diagnostic> {
    let parsed = |error: ParserError| errors::from_parser(&error);
    let _ = take_word(parser, "TEMPORARY");
    if take_word(parser, "TABLE") {
        return create_table::parse(parser).map(Statement::CreateTable).map_err(parsed);
    }
    if !take_word(parser, "VIEW") {
        let message = format!("CREATE {} cannot be part of a job", parser.peek_token_ref().token);
        return Err(Diagnostic::new(message)
            .at(start)
            .hint("a script consists of CREATE TABLE, CREATE VIEW, INSERT INTO and SET"));
    }
    let if_not_exists = parser.parse_keywords(&[Keyword::IF, Keyword::NOT, Keyword::EXISTS]);
    let name = simple_name(parser).map_err(parsed)?;
    let columns = parse_column_list(parser).map_err(parsed)?;
    if parser.parse_keyword(Keyword::COMMENT) {
        parser.parse_literal_string().map_err(parsed)?;
    }
    parser.expect_keyword(Keyword::AS).map_err(parsed)?;
    let query = parse_query(parser)?;
    Ok(Statement::CreateView(CreateView { name, if_not_exists, columns, query }))
}

fn parse_insert(parser: &mut Parser, position: Option<Position>) -> Result<Statement, Diagnostic> {
    let parsed = |error: ParserError| errors::from_parser(&error);
    if is_word(parser, 0, "OVERWRITE") {
        return Err(Diagnostic::new("INSERT OVERWRITE cannot run on a stream")
            .at(here(parser))
            .hint("use INSERT INTO"));
    }
    parser.expect_keyword(Keyword::INTO).map_err(parsed)?;
    let table = simple_name(parser).map_err(parsed)?;
    if is_word(parser, 0, "PARTITION") {
        let message = "INSERT INTO … PARTITION is not available in this version";
        return Err(Diagnostic::new(message).at(here(parser)).hint("select the partition's columns in the query"));
    }
    let is_query = parser.peek_nth_token_ref(0).token == Token::LParen && {
        ["SELECT", "WITH"].iter().any(|word| is_word(parser, 1, word))
            || parser.peek_nth_token_ref(1).token == Token::LParen
    };
    let columns = if is_query { Vec::new() } else { parse_column_list(parser).map_err(parsed)? };
    let query = parse_query(parser)?;
    Ok(Statement::Insert(Insert { table, columns, query, position }))
}

fn parse_column_list(parser: &mut Parser) -> Result<Vec<Ident>, ParserError> {
    if !parser.consume_token(&Token::LParen) {
        return Ok(Vec::new());
    }
    let columns = parser.parse_comma_separated(Parser::parse_identifier)?;
    parser.expect_token(&Token::RParen)?;
    Ok(columns)
}

fn parse_query(parser: &mut Parser) -> Result<Box<Query>, Diagnostic> {
    let mut query = parser.parse_query().map_err(|error| errors::from_parser(&error))?;
    if !matches!(parser.peek_token_ref().token, Token::EOF | Token::SemiColon) {
        let found = parser.peek_token();
        return parser.expected("the end of the statement", found).map_err(|error| errors::from_parser(&error));
    }
    refusal::check(&query)?;
    rewrite::rewrite(&mut query)?;
    Ok(query)
}

fn parse_set(parser: &mut Parser, position: Option<Position>) -> Result<Setting, ParserError> {
    let key = match &parser.peek_token_ref().token {
        Token::SingleQuotedString(_) => parser.parse_literal_string()?,
        _ => {
            let mut key = parser.parse_identifier()?.value;
            while parser.consume_token(&Token::Period) || parser.consume_token(&Token::Minus) {
                key = format!("{key}.{}", parser.parse_identifier()?.value);
            }
            key
        }
    };
    parser.expect_token(&Token::Eq)?;
    let value = match parser.next_token().token {
        Token::SingleQuotedString(value) | Token::Number(value, _) => value,
        Token::Word(word) => word.value,
        _ => {
            parser.prev_token();
            return parser.expected("a value in quotes", parser.peek_token());
        }
    };
    Ok(Setting { key, value, position })
}

fn refuse_statement(parser: &Parser, start: Option<Position>) -> Diagnostic {
    let word = parser.peek_token_ref().token.to_string().to_uppercase();
    let (message, hint) = match word.as_str() {
        "SELECT" | "WITH" | "VALUES" | "(" => {
            ("a query alone has no place for its rows".to_owned(), "write INSERT INTO <table> before it")
        }
        "DROP" | "ALTER" | "USE" | "EXPLAIN" | "SHOW" | "DESCRIBE" | "DESC" | "DELETE" | "UPDATE" | "TRUNCATE"
        | "ANALYZE" | "CALL" | "LOAD" | "UNLOAD" | "RESET" | "ADD" | "REMOVE" | "EXECUTE" | "COMPILE" | "STOP"
        | "CACHE" | "MERGE" => (
            format!("{word} cannot be part of a job"),
            "a script consists of CREATE TABLE, CREATE VIEW, INSERT INTO and SET",
        ),
        _ => {
            let token = &parser.peek_token_ref().token;
            (
                format!("a statement expected, found: {token}"),
                "a script consists of CREATE TABLE, CREATE VIEW, INSERT INTO and SET",
            )
        }
    };
    Diagnostic::new(message).at(start).hint(hint)
}
