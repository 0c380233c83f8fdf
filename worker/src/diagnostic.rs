//! What a user reads about a mistake: what is wrong, where, and what to do next.

use std::fmt;

/// A place in a text, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column, in characters.
    pub column: u32,
}

/// A mistake in SQL or in a table's options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong: a lower-case sentence without a full stop.
    pub message: String,
    /// Where it is, when known.
    pub position: Option<Position>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// A mistake without a place.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), position: None, hint: None }
    }

    /// Says where it is.
    #[must_use]
    pub fn at(mut self, position: impl Into<Option<Position>>) -> Self {
        self.position = position.into().or(self.position);
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The message with the line of `text` it speaks of, a caret under the column, and the hint.
    #[must_use]
    pub fn render(&self, text: &str) -> String {
        let mut out = self.to_string();
        if let Some(position) = self.position
            && let Some(line) = text.lines().nth(position.line.saturating_sub(1) as usize)
        {
            let number = position.line.to_string();
            let margin = " ".repeat(number.len());
            let indent: String = line
                .chars()
                .take(position.column.saturating_sub(1) as usize)
                .map(|c| if c == '\t' { c } else { ' ' })
                .collect();
            out.push_str(&format!("\n{margin} |\n{number} | {line}\n{margin} | {indent}^"));
        }
        if let Some(hint) = &self.hint {
            out.push_str(&format!("\nhint: {hint}"));
        }
        out
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some(Position { line, column }) => write!(f, "line {line}, column {column}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Diagnostic {}

/// The known name nearest to `name`, near enough to be what was meant.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(name.len()) / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}
