//! Merged runs of panes, so that a window of many panes is merged from few tables.
//!
//! Panes are numbered by `start / pane`; a block of level n covers `FAN^n` of them, aligned. A window takes the largest
//! blocks that lie within it and merges at most `2 * (FAN - 1)` tables per level. Blocks are made when a window needs
//! them and dropped when a row changes one of their panes; they are no state.

use super::super::group_table::GroupTable;
use super::super::layout::Layout;
use super::pane_aggregate::{Marks, merge_table};
use crate::operator::window::Span;
use std::collections::BTreeMap;
use std::sync::Arc;
use weir_protocol::key_group::MaxParallelism;

/// Tables of one level that make one of the next.
const FAN: i64 = 8;
/// Windows of fewer panes are merged from the panes themselves.
const LEAST_PANES: i64 = 2 * FAN;

/// Merged runs of panes.
pub(super) struct Blocks {
    layout: Arc<Layout>,
    key_groups: MaxParallelism,
    /// By (width in milliseconds, start).
    tables: BTreeMap<(i64, i64), GroupTable>,
}

impl Blocks {
    pub(super) fn new(layout: Arc<Layout>, key_groups: MaxParallelism) -> Self {
        Self { layout, key_groups, tables: BTreeMap::new() }
    }

    /// A row has changed a pane.
    pub(super) fn changed(&mut self, pane: i64) {
        if self.tables.is_empty() {
            return;
        }
        self.tables.retain(|(width, start), _| pane < *start || pane >= start.saturating_add(*width));
    }

    /// Panes that start before this are gone.
    pub(super) fn forget_before(&mut self, pane: i64) {
        self.tables.retain(|(_, start), _| *start >= pane);
    }

    /// Merges the panes of a window into an empty table.
    pub(super) fn merge_into(
        &mut self,
        to: &mut GroupTable,
        panes: &BTreeMap<i64, GroupTable>,
        span: Span,
        pane_ms: i64,
    ) {
        let layout = Arc::clone(&self.layout);
        let mut start = span.start;
        while start < span.end {
            let width = if span.end.saturating_sub(span.start) / pane_ms < LEAST_PANES {
                pane_ms
            } else {
                widest(start, span.end, pane_ms)
            };
            if width == pane_ms {
                if let Some(pane) = panes.get(&start) {
                    merge_table(&layout, to, pane, Marks::None);
                }
            } else if let Some(block) = self.block(panes, start, width, pane_ms) {
                merge_table(&layout, to, block, Marks::None);
            }
            start += width;
        }
    }

    /// The merged panes of `[start, start + width)`; `None` when there are none.
    fn block(
        &mut self,
        panes: &BTreeMap<i64, GroupTable>,
        start: i64,
        width: i64,
        pane_ms: i64,
    ) -> Option<&GroupTable> {
        panes.range(start..start + width).next()?;
        if !self.tables.contains_key(&(width, start)) {
            let mut table = GroupTable::new(Arc::clone(&self.layout), self.key_groups);
            let step = width / FAN;
            for part in (0..FAN).map(|number| start + number * step) {
                let layout = Arc::clone(&self.layout);
                let from = if step == pane_ms { panes.get(&part) } else { self.block(panes, part, step, pane_ms) };
                if let Some(from) = from {
                    merge_table(&layout, &mut table, from, Marks::None);
                }
            }
            self.tables.insert((width, start), table);
        }
        self.tables.get(&(width, start))
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.tables.values().map(|table| table.bytes() + size_of::<GroupTable>()).sum()
    }
}

/// The width of the widest block that starts at `start` and ends by `end`.
fn widest(start: i64, end: i64, pane_ms: i64) -> i64 {
    let mut width = pane_ms;
    // Windows with an offset start anywhere; blocks are aligned with the panes' own numbers.
    let number = start.div_euclid(pane_ms);
    let mut fan = FAN;
    while number.rem_euclid(fan) == 0 && end - start >= width.saturating_mul(FAN) {
        width *= FAN;
        fan = fan.saturating_mul(FAN);
    }
    width
}
