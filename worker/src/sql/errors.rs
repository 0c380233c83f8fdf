//! From the errors of the parser and the planner to what a user reads: message, place, hint.

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
        Some((place, position)) => Diagnostic::new(lower_first(&text[..place])).at(position),
        None => Diagnostic::new(lower_first(text)),
    }
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
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
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
    let text = root.strip_backtrace();
    let text = ["Error during planning: ", "This feature is not implemented: ", "SQL error: ", "type_coercion\ncaused by\n"]
        .iter()
        .fold(text.as_str(), |text, prefix| text.strip_prefix(prefix).unwrap_or(text));
    if let Some(name) = quoted_after(text, "Invalid function '") {
        let known = names.functions();
        let message = format!("there is no function '{name}'");
        return with_nearest(Diagnostic::new(message), name, &known, "the functions are listed in the documentation of SQL");
    }
    if let Some(diagnostic) = error.diagnostic()
        && let Some(name) = diagnostic.message.strip_prefix("table '").and_then(|rest| rest.strip_suffix("' not found"))
    {
        return unknown_table(name, names);
    }
    let first_line = text.lines().next().unwrap_or(text);
    let message = error.diagnostic().map_or(first_line, |diagnostic| diagnostic.message.as_str());
    let notes: Vec<&str> =
        error.diagnostic().map(|found| found.notes.iter().map(|note| note.message.as_str()).collect()).unwrap_or_default();
    let diagnostic = Diagnostic::new(lower_first(message.trim_end_matches('.')));
    if notes.is_empty() { diagnostic } else { diagnostic.hint(lower_first(&notes.join("; "))) }
}

/// A table that is not there.
pub(super) fn unknown_table(name: &str, names: &dyn Names) -> Diagnostic {
    let known = names.tables();
    let message = format!("there is no table or view '{name}'");
    with_nearest(Diagnostic::new(message), name, &known, "declare it with CREATE TABLE or CREATE VIEW before it is used")
}

fn describe_schema_error(error: &SchemaError) -> Diagnostic {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let known: Vec<String> = valid_fields.iter().map(|column| column.name.clone()).collect();
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
