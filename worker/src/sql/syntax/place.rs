//! Finds the place of what an error speaks of when the error does not know it.

use super::{name_position, position};
use crate::diagnostic::Position;
use sqlparser::ast::{Expr, Visit, Visitor};
use std::ops::ControlFlow;

/// Where the function, else the column, that `message` names first stands in a part of the syntax tree.
pub(in crate::sql) fn find(tree: &impl Visit, message: &str) -> Option<Position> {
    let words: Vec<&str> = message.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).collect();
    let mut search = Search { words: &words, function: None, column: None };
    let _ = tree.visit(&mut search);
    search.function.or(search.column)
}

struct Search<'a> {
    words: &'a [&'a str],
    function: Option<Position>,
    column: Option<Position>,
}

impl Visitor for Search<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) => {
                let name = function.name.to_string();
                if self.words.iter().any(|word| word.eq_ignore_ascii_case(&name)) {
                    self.function = self.function.or(position(&function.name));
                }
            }
            Expr::Cast { .. } if self.words.contains(&"cast") => {
                self.column = self.column.or(position(expr));
            }
            Expr::Identifier(name) if self.words.contains(&name.value.as_str()) => {
                self.column = self.column.or(name_position(name));
            }
            Expr::CompoundIdentifier(parts) => {
                if let Some(last) = parts.last().filter(|last| self.words.contains(&last.value.as_str())) {
                    self.column = self.column.or(name_position(last));
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
