//! What is wrong in a manifest, where, and what to write instead.

use std::fmt;

use crate::Position;

/// One mistake in a manifest. Prints as `spec.field: message (hint: …)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Path of the field, such as `spec.checkpoint.interval`; empty for the file as a whole.
    pub path: String,
    /// Line in the text, from 1. None if the job was not read from text.
    pub line: Option<u32>,
    /// Column in the text in characters, from 1. None if the job was not read from text.
    pub column: Option<u32>,
    /// What is wrong: a sentence without a capital and a full stop.
    pub message: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Mistake {
    pub(crate) fn new(path: impl Into<String>, at: Option<Position>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            line: at.map(|at| at.line),
            column: at.map(|at| at.column),
            message: message.into(),
            hint: None,
        }
    }

    /// A mistake of the text as a whole.
    pub(crate) fn of_file(message: String, at: Option<Position>) -> Self {
        Self::new("", at, message)
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " (hint: {hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Mistake {}

/// At most 60 characters of what the user wrote, for a message.
pub(crate) fn excerpt(text: &str) -> String {
    let mut excerpt: String = text.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(60).is_some() {
        excerpt.push('…');
    }
    excerpt
}
