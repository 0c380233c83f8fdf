//! Rewrites of a query's syntax tree to what the planner knows with the same meaning: names of columns as Flink gives
//! them, literals of its types, and the old group windows.

use super::group_windows;
use crate::diagnostic::Diagnostic;
use crate::sql::functions;
use sqlparser::ast::{Expr, GroupByExpr, Ident, Query, Select, SelectItem, VisitMut, VisitorMut};
use std::collections::HashSet;
use std::ops::ControlFlow;

/// Rewrites a query and all queries in it.
pub(super) fn rewrite(query: &mut Query) -> Result<(), Diagnostic> {
    functions::rewrite_syntax(query);
    match query.visit(&mut Rewrite) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(diagnostic) => Err(*diagnostic),
    }
}

struct Rewrite;

impl VisitorMut for Rewrite {
    type Break = Box<Diagnostic>;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Self::Break> {
        name_columns(&mut select.projection);
        match group_windows::rewrite(select) {
            Ok(()) => ControlFlow::Continue(()),
            Err(diagnostic) => ControlFlow::Break(Box::new(diagnostic)),
        }
    }
}

/// A field of a row column is named like the field; a name that is taken gets a number.
fn name_columns(projection: &mut [SelectItem]) {
    let mut taken = HashSet::new();
    for item in projection {
        let name = match item {
            SelectItem::UnnamedExpr(Expr::Identifier(name)) => name.clone(),
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => {
                let Some(last) = parts.last() else { continue };
                last.clone()
            }
            SelectItem::ExprWithAlias { alias, .. } => alias.clone(),
            _ => continue,
        };
        let free = free_name(&name, &taken);
        taken.insert(free.value.clone());
        if let SelectItem::UnnamedExpr(expr) = item
            && (matches!(expr, Expr::CompoundIdentifier(_)) || free.value != name.value)
        {
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: free };
        }
    }
}

fn free_name(name: &Ident, taken: &HashSet<String>) -> Ident {
    if !taken.contains(&name.value) {
        return name.clone();
    }
    let numbered = (0..).map(|number| format!("{}{number}", name.value)).find(|numbered| !taken.contains(numbered));
    Ident { value: numbered.expect("numbers do not end"), ..name.clone() }
}

/// The expressions of a `GROUP BY`.
pub(super) fn group_expressions(select: &mut Select) -> Option<&mut Vec<Expr>> {
    match &mut select.group_by {
        GroupByExpr::Expressions(expressions, _) => Some(expressions),
        GroupByExpr::All(_) => None,
    }
}
