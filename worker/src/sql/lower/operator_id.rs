//! Names for operators that stay the same while the SQL around them changes.
//!
//! An id is derived from what an operator is before optimisation: its kind, keys, calls and window, and the tables that
//! its rows come from and go to. What leaves these alone (a changed filter, a renamed alias, another INSERT) keeps the
//! state; equal operators are numbered in the order of the script.

use crate::operator::window::Window;
use datafusion_common::Column;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_expr::{Expr, LogicalPlan};
use std::collections::BTreeMap;
use weir_protocol::OperatorId;
use xxhash_rust::xxh3::xxh3_64;

/// Longer names of tables are cut and hashed.
const MAX_NAME: usize = 60;

/// Gives out ids, none twice.
#[derive(Default)]
pub(super) struct OperatorIds {
    given: BTreeMap<String, u32>,
}

/// What makes a stateful operator itself.
pub(super) struct Identity<'a> {
    pub(super) kind: &'static str,
    pub(super) keys: &'a [Expr],
    pub(super) calls: &'a [Expr],
    pub(super) window: Option<Window>,
    pub(super) input: &'a LogicalPlan,
    pub(super) sink: &'a str,
}

impl OperatorIds {
    /// The id of a stateful operator.
    pub(super) fn stateful(&mut self, identity: &Identity) -> OperatorId {
        let list = |exprs: &[Expr]| exprs.iter().map(canonical).collect::<Vec<_>>().join(", ");
        let mut tables = Vec::new();
        scanned_tables(identity.input, &mut tables);
        let window = identity.window.map(describe_window).unwrap_or_default();
        let Identity { kind, sink, .. } = identity;
        let (keys, calls, path) = (list(identity.keys), list(identity.calls), tables.join(" + "));
        let text = format!("{kind}\nkeys {keys}\ncalls {calls}\nwindow {window}\npath {path} > {sink}");
        let base = format!("{kind}-{:016x}", xxh3_64(text.as_bytes()));
        let ordinal = self.given.entry(base.clone()).or_default();
        *ordinal += 1;
        OperatorId(if *ordinal == 1 { base } else { format!("{base}-{ordinal}") })
    }
}

/// The id of a source or sink of a table.
pub(super) fn of_table(kind: &str, table: &str) -> OperatorId {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if table.chars().all(plain) && table.len() <= MAX_NAME {
        return OperatorId(format!("{kind}-{table}"));
    }
    let readable: String = table.chars().filter(|c| plain(*c)).take(MAX_NAME).collect();
    OperatorId(format!("{kind}-{readable}.{:016x}", xxh3_64(table.as_bytes())))
}

/// An expression without the names of aliases and views in it.
fn canonical(expr: &Expr) -> String {
    let stripped = expr.clone().transform_up(|expr| {
        Ok(match expr {
            Expr::Column(column) => Transformed::yes(Expr::Column(Column::new_unqualified(column.name))),
            Expr::Alias(alias) => Transformed::yes(*alias.expr),
            other => Transformed::no(other),
        })
    });
    stripped.map_or_else(|_| expr.to_string(), |stripped| stripped.data.to_string())
}

/// A window as ids spell it: part of their format.
fn describe_window(window: Window) -> String {
    let shifted = |offset_ms: i64| if offset_ms == 0 { String::new() } else { format!(" offset {offset_ms} ms") };
    match window {
        Window::Tumble { size_ms, offset_ms } => format!("tumble {size_ms} ms{}", shifted(offset_ms)),
        Window::Hop { slide_ms, size_ms, offset_ms } => {
            format!("hop {slide_ms} ms of {size_ms} ms{}", shifted(offset_ms))
        }
        Window::Cumulate { step_ms, size_ms, offset_ms } => {
            format!("cumulate {step_ms} ms of {size_ms} ms{}", shifted(offset_ms))
        }
        Window::Session { gap_ms } => format!("session {gap_ms} ms"),
    }
}

fn scanned_tables(plan: &LogicalPlan, tables: &mut Vec<String>) {
    if let LogicalPlan::TableScan(scan) = plan {
        tables.push(scan.table_name.table().to_owned());
    }
    for input in plan.inputs() {
        scanned_tables(input, tables);
    }
}
