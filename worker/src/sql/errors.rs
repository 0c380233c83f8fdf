//! From the errors of the parser and the planner to what a user reads: message, place, hint.

use super::functions;
use crate::diagnostic::{Diagnostic, Position, nearest};
use datafusion_common::{DataFusionError, SchemaError};
use sqlparser::parser::ParserError;

/// A syntax error. The parser writes its place into the text.
pub(super) fn from_parser(error: &ParserError) -> Diagnostic {
    let text = match error {
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text.as_str(),
        ParserError::RecursionLimitExceeded => {
            let hint = "split it into several views";
            return Diagnostic::new("this statement is nested too deeply").hint(hint);
        }
    };
    match text.rfind(" at Line: ").and_then(|place| Some((place, read_position(&text[place..])?))) {
        Some((place, position)) => syntax_error(&text[..place]).at(position),
        None => syntax_error(text),
    }
}

fn syntax_error(text: &str) -> Diagnostic {
    let diagnostic = Diagnostic::new(lower_first(text));
    if text.starts_with("Expected: the end of the statement") {
        return diagnostic.hint("a ; ends a statement; perhaps one is missing before, or a clause is not in its place");
    }
    diagnostic
}

/// ` at Line: 2, Column: 18`
fn read_position(text: &str) -> Option<Position> {
    let (line, column) = text.strip_prefix(" at Line: ")?.split_once(", Column: ")?;
    Some(Position { line: line.trim().parse().ok()?, column: column.trim().parse().ok()? })
}

/// Messages begin in lower case; a name in capitals stays.
fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    match (chars.next(), text.chars().nth(1)) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => text.to_owned(),
    }
}

/// A mistake found while DataFusion plans: it travels inside of its error.
pub(super) fn to_datafusion(diagnostic: Diagnostic) -> DataFusionError {
    DataFusionError::External(Box::new(diagnostic))
}

/// What can be meant instead of an unknown name.
pub(super) trait Names {
    /// The tables and views.
    fn tables(&self) -> Vec<String>;
    /// The functions.
    fn functions(&self) -> Vec<String>;
}

/// An error of the planner.
pub(super) fn from_datafusion(error: &DataFusionError, names: &dyn Names) -> Diagnostic {
    let root = innermost(error);
    if let DataFusionError::External(source) = root
        && let Some(diagnostic) = source.downcast_ref::<Diagnostic>()
    {
        return diagnostic.clone();
    }
    let span = error
        .diagnostic()
        .and_then(|diagnostic| diagnostic.span.or_else(|| diagnostic.notes.iter().find_map(|note| note.span)));
    let position = span.and_then(|span| {
        Some(Position { line: u32::try_from(span.start.line).ok()?, column: u32::try_from(span.start.column).ok()? })
    });
    describe(root, error, names).at(position)
}

fn innermost(error: &DataFusionError) -> &DataFusionError {
    match error {
        DataFusionError::Diagnostic(_, inner) | DataFusionError::Context(_, inner) => innermost(inner),
        DataFusionError::Collection(errors) => errors.first().map_or(error, innermost),
        DataFusionError::Shared(inner) => innermost(inner),
        _ => error,
    }
}

fn describe(root: &DataFusionError, error: &DataFusionError, names: &dyn Names) -> Diagnostic {
    if let DataFusionError::SchemaError(schema, _) = root {
        return describe_schema_error(schema);
    }
    let text = functions::message(error);
    let text = text.as_str();
    if let Some(name) = quoted_after(text, "Invalid function '") {
        let known = names.functions();
        let message = format!("there is no function '{name}'");
        return with_nearest(
            Diagnostic::new(message),
            name,
            &known,
            "the functions are listed in the documentation of SQL",
        );
    }
    if let Some(diagnostic) = error.diagnostic()
        && let Some(name) = diagnostic.message.strip_prefix("table '").and_then(|rest| rest.strip_suffix("' not found"))
    {
        return unknown_table(name, names);
    }
    if let Some(found) =
        text.strip_prefix("Cannot access field at argument 1: type ").and_then(|rest| rest.split_once(" is not"))
    {
        return Diagnostic::new(format!("a value of type {} has no fields", with_sql_types(found.0)))
            .hint("only a ROW has fields");
    }
    if let Some(name) = text.strip_prefix("Field ").and_then(|rest| rest.strip_suffix(" not found in struct")) {
        return Diagnostic::new(format!("the row has no field '{name}'"))
            .hint("its fields are in the table's declaration");
    }
    if let Some(found) = text
        .strip_prefix("Cannot create filter with non-boolean predicate ")
        .and_then(|rest| rest.split_once(" returning "))
    {
        let message = format!("a condition is BOOLEAN, but {} is {}", found.0, with_sql_types(found.1));
        return Diagnostic::new(message).hint("compare it with something: … = …, … IS NOT NULL");
    }
    let first_line = text.lines().next().unwrap_or(text);
    let message = error.diagnostic().map_or(first_line, |diagnostic| diagnostic.message.as_str());
    let notes: Vec<String> = error
        .diagnostic()
        .map(|found| found.notes.iter().map(|note| with_sql_types(&note.message)).collect())
        .unwrap_or_default();
    let diagnostic = Diagnostic::new(lower_first(with_sql_types(message).trim_end_matches('.')));
    match (message, notes.as_slice()) {
        ("UNION queries have different number of columns", _) => diagnostic.hint("select as many columns on each side"),
        ("expressions have incompatible types", [left, right]) => {
            diagnostic.hint(format!("the left side {left}, the right side {right}: CAST one of them"))
        }
        (message, [])
            if message.contains("must appear in GROUP BY") || message.contains("must appear in the GROUP BY") =>
        {
            diagnostic.hint("add it to GROUP BY, or aggregate it: MAX(…), MIN(…)")
        }
        (_, []) => diagnostic,
        _ => diagnostic.hint(lower_first(&notes.join("; "))),
    }
}

/// The text with SQL's names of types instead of Arrow's.
fn with_sql_types(text: &str) -> String {
    const NAMES: [(&str, &str); 14] = [
        ("Boolean", "BOOLEAN"),
        ("Int8", "TINYINT"),
        ("Int16", "SMALLINT"),
        ("Int32", "INT"),
        ("Int64", "BIGINT"),
        ("Float32", "FLOAT"),
        ("Float64", "DOUBLE"),
        ("Utf8View", "STRING"),
        ("Utf8", "STRING"),
        ("BinaryView", "BYTES"),
        ("Date32", "DATE"),
        ("Timestamp(ms)", "TIMESTAMP(3)"),
        ("Timestamp(µs)", "TIMESTAMP(6)"),
        ("Decimal128", "DECIMAL"),
    ];
    NAMES.iter().fold(text.to_owned(), |text, (arrow, sql)| text.replace(arrow, sql))
}

/// A table that is not there.
pub(super) fn unknown_table(name: &str, names: &dyn Names) -> Diagnostic {
    let known = names.tables();
    let message = format!("there is no table or view '{name}'");
    with_nearest(
        Diagnostic::new(message),
        name,
        &known,
        "declare it with CREATE TABLE or CREATE VIEW before it is used",
    )
}

/// The name of the column that an error misses.
pub(super) fn missing_column(error: &DataFusionError) -> Option<&str> {
    match innermost(error) {
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { field, .. } => Some(&field.name),
            _ => None,
        },
        _ => None,
    }
}

fn describe_schema_error(error: &SchemaError) -> Diagnostic {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let known: Vec<String> = valid_fields.iter().map(|column| column.name.clone()).collect();
            if let Some(table) = field.relation.as_ref().filter(|_| known.contains(&field.name)) {
                let qualifiers = valid_fields.iter().filter_map(|column| column.relation.as_ref());
                let mut qualifiers: Vec<String> = qualifiers.map(ToString::to_string).collect();
                qualifiers.dedup();
                let diagnostic = Diagnostic::new(format!("there is no table '{table}' in this FROM"));
                return diagnostic.hint(format!("columns may be written after {}", qualifiers.join(", ")));
            }
            unknown_column(&field.name, &known)
        }
        SchemaError::AmbiguousReference { field } => {
            let message = format!("the column '{}' is ambiguous", field.name);
            Diagnostic::new(message).hint("put the table's name or alias before it")
        }
        SchemaError::DuplicateUnqualifiedField { name } | SchemaError::DuplicateQualifiedField { name, .. } => {
            Diagnostic::new(format!("there are two columns '{name}'")).hint("give one of them another name with AS")
        }
    }
}

/// A column that is not there.
pub(super) fn unknown_column(name: &str, known: &[String]) -> Diagnostic {
    let list = known.join(", ");
    let diagnostic = Diagnostic::new(format!("there is no column '{name}'"));
    if let Some(same) = known.iter().find(|other| other.eq_ignore_ascii_case(name)) {
        return diagnostic.hint(format!("names are case-sensitive: did you mean '{same}'?"));
    }
    with_nearest(diagnostic, name, known, &format!("the columns here are {list}"))
}

fn with_nearest(diagnostic: Diagnostic, name: &str, known: &[String], otherwise: &str) -> Diagnostic {
    match nearest(name, known.iter().map(String::as_str)) {
        Some(near) => diagnostic.hint(format!("did you mean '{near}'?")),
        None => diagnostic.hint(otherwise),
    }
}

/// The text in quotes after `start`.
fn quoted_after<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    let rest = &text[text.find(start)? + start.len()..];
    Some(&rest[..rest.find('\'')?])
}

/// Says where a mistake is, unless that is known better.
pub(super) trait Located {
    /// The same with this place, if it has none.
    fn at_if_unknown(self, position: Option<Position>) -> Self;
}

impl Located for Diagnostic {
    fn at_if_unknown(mut self, position: Option<Position>) -> Self {
        self.position = self.position.or(position);
        self
    }
}

/// Where an expression's first column stands in the script, if it is known.
pub(super) fn position_of(expr: &datafusion_expr::Expr) -> Option<Position> {
    let columns = expr.column_refs();
    let spans = columns.iter().filter_map(|column| column.spans().first());
    let first = spans.min_by_key(|span| (span.start.line, span.start.column))?;
    Some(Position { line: u32::try_from(first.start.line).ok()?, column: u32::try_from(first.start.column).ok()? })
}

/// An error of type `T` that travels inside of a planner's error.
pub(super) fn external<T: std::error::Error + 'static>(error: &DataFusionError) -> Option<&T> {
    match innermost(error) {
        DataFusionError::External(source) => source.downcast_ref::<T>(),
        _ => None,
    }
}
