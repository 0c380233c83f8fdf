//! Sessions by key: one row of words each. A key's first session is in the table's index, further ones hang on it.
//!
//! Sessions merge as Flink's do: two that only touch are one. A row is judged alone, in order: it joins the sessions of
//! its key that it touches, which then are one session, or opens one, or is late.

use super::super::group_aggregate::InputForm;
use super::super::group_table::{GroupTable, NONE};
use super::super::layout::{KEY_GROUP, Layout, flag};
use super::super::merge::merge_row;
use super::super::rows::RowBuffer;
use super::pane_store::Keyed;
use crate::operator::window::Span;
use arrow::buffer::ScalarBuffer;
use std::ops::Range;
use std::sync::Arc;
use weir_protocol::KeyGroup;
use weir_protocol::key_group::MaxParallelism;

const START: usize = 0;
const END: usize = 1;
/// The next session of the key, plus one.
const NEXT: usize = 2;
const HASH: usize = 3;
const TIMER: usize = 4;

/// Sessions by key.
pub(super) struct SessionStore {
    layout: Arc<Layout>,
    /// The rows of the sessions.
    pub(super) table: GroupTable,
    /// Sessions that were opened since they were last asked for.
    pub(super) opened: Vec<u32>,
    /// Rows of the state that are no more: the key's words with the session's old start.
    pub(super) gone: RowBuffer,
    groups: Vec<u32>,
    scratch: RowBuffer,
}

/// The spans of a batch's rows.
pub(super) struct Spans {
    /// Their starts.
    pub(super) starts: ScalarBuffer<i64>,
    /// Their ends, unless all have the gap's length.
    pub(super) ends: Option<ScalarBuffer<i64>>,
    /// The gap.
    pub(super) gap_ms: i64,
}

/// The rows to add.
pub(super) struct Addition<'a> {
    /// Their keys and arguments.
    pub(super) keyed: &'a Keyed,
    /// The form of the arguments.
    pub(super) form: InputForm,
    /// Their spans.
    pub(super) spans: &'a Spans,
    /// Which rows of the batch.
    pub(super) rows: Range<usize>,
}

impl Spans {
    /// The span of a row.
    #[inline]
    pub(super) fn of(&self, row: usize) -> Span {
        let start = self.starts[row];
        let end = self.ends.as_ref().map_or_else(|| start.saturating_add(self.gap_ms), |ends| ends[row]);
        Span { start, end }
    }
}

impl SessionStore {
    /// Words that each row has for the store.
    pub(super) const EXTRA: usize = 5;

    pub(super) fn new(layout: Arc<Layout>, key_groups: MaxParallelism) -> Self {
        Self {
            table: GroupTable::new(Arc::clone(&layout), key_groups),
            layout,
            opened: Vec::new(),
            gone: RowBuffer::default(),
            groups: Vec::new(),
            scratch: RowBuffer::default(),
        }
    }

    /// Adds rows in order. `is_late` tells whether a session of a row would have ended; the rows that are late are given
    /// to `late`.
    pub(super) fn add(
        &mut self,
        addition: &Addition<'_>,
        is_late: impl Fn(usize, i64) -> bool,
        mut late: impl FnMut(usize),
    ) {
        let Addition { keyed, spans, rows, .. } = addition;
        let (mut applied, mut waste) = (rows.start, None);
        self.groups.clear();
        self.groups.resize(rows.end, NONE);
        for row in rows.clone() {
            let span = spans.of(row);
            let head = keyed_find(&self.table, keyed, row);
            let group = match head {
                Some(head) if self.word(head, NEXT) == 0 && self.touches(head, span) => Some(head),
                Some(head) => self.join(head, span, addition, &mut applied, row),
                None => None,
            };
            self.groups[row] = match group {
                Some(group) => {
                    self.extend(group, span);
                    self.table.mark(group);
                    group
                }
                None if is_late(row, span.end) => {
                    late(row);
                    *waste.get_or_insert_with(|| self.table.allocate())
                }
                None => self.open(head, span, keyed, row),
            };
        }
        self.apply(addition, applied..rows.end);
        // Late rows were added to a row that nobody reads.
        if let Some(waste) = waste {
            self.table.release(waste);
        }
    }

    /// The session of the key's chain that the span touches, after merging all those that it touches.
    fn join(&mut self, head: u32, span: Span, addition: &Addition<'_>, applied: &mut usize, row: usize) -> Option<u32> {
        let touching: Vec<u32> = self.chain(head).filter(|session| self.touches(*session, span)).collect();
        let (first, others) = touching.split_first()?;
        if !others.is_empty() {
            // What the batch has brought so far belongs to the sessions as they are.
            self.apply(addition, *applied..row);
            *applied = row;
        }
        for other in others {
            let absorbed = self.span(*other);
            self.extend(*first, absorbed);
            self.scratch.clear();
            self.scratch.push(&self.layout, self.table.row(*other), self.table.arena());
            let start = *first as usize * self.layout.stride;
            let (words, arena) = self.table.parts_mut();
            let to = &mut words[start..start + self.layout.stride];
            merge_row(&self.layout, to, arena, &self.scratch.words, &self.scratch.arena);
            self.bury(*other);
            self.remove(*other);
        }
        Some(*first)
    }

    fn apply(&mut self, addition: &Addition<'_>, rows: Range<usize>) {
        addition.keyed.apply(&self.layout, addition.form, &mut self.table, &self.groups, rows);
    }

    fn open(&mut self, head: Option<u32>, span: Span, keyed: &Keyed, row: usize) -> u32 {
        let session = match head {
            None => self.table.insert(&keyed.keys, row),
            Some(head) => {
                let session = self.table.make(&keyed.keys, row);
                let next = self.word(head, NEXT);
                self.set(session, NEXT, next);
                self.set(head, NEXT, u64::from(session) + 1);
                session
            }
        };
        self.set(session, START, span.start as u64);
        self.set(session, END, span.end as u64);
        self.set(session, HASH, keyed.keys.hashes[row]);
        self.table.mark(session);
        self.opened.push(session);
        session
    }

    /// Opens a session of a checkpoint, or returns the one that has this key and start.
    pub(super) fn restore(&mut self, span: Span, keyed: &Keyed, row: usize) -> u32 {
        let known = self.find_start(keyed, row, span.start);
        let session = known.unwrap_or_else(|| self.open(keyed_find(&self.table, keyed, row), span, keyed, row));
        self.set(session, END, span.end as u64);
        session
    }

    /// The session with this key and start.
    pub(super) fn find_start(&self, keyed: &Keyed, row: usize, start: i64) -> Option<u32> {
        let head = keyed_find(&self.table, keyed, row)?;
        self.chain(head).find(|session| self.span(*session).start == start)
    }

    /// Removes a session.
    pub(super) fn remove(&mut self, session: u32) {
        let hash = self.word(session, HASH);
        let next = self.word(session, NEXT);
        match self.table.indexed(hash, session) {
            Some(head) if head == session && next == 0 => self.table.unlink(hash, session),
            Some(head) if head == session => self.table.relink(hash, session, next as u32 - 1),
            Some(head) => {
                let before = self.chain(head).find(|other| self.word(*other, NEXT) == u64::from(session) + 1);
                if let Some(before) = before {
                    self.set(before, NEXT, next);
                }
            }
            None => {}
        }
        self.table.release(session);
    }

    /// The span of a session.
    #[inline]
    pub(super) fn span(&self, session: u32) -> Span {
        Span { start: self.word(session, START) as i64, end: self.word(session, END) as i64 }
    }

    /// The bucket of timers that the session was entered in.
    pub(super) fn timer(&self, session: u32) -> i64 {
        self.word(session, TIMER) as i64
    }

    /// Notes the bucket of timers.
    pub(super) fn set_timer(&mut self, session: u32, bucket: i64) {
        self.set(session, TIMER, bucket as u64);
    }

    /// The store's own words of a session.
    pub(super) fn owner_words(&self, session: u32) -> [u64; Self::EXTRA] {
        std::array::from_fn(|word| self.word(session, word))
    }

    /// Sets the store's own words.
    pub(super) fn set_owner_words(&mut self, session: u32, words: [u64; Self::EXTRA]) {
        words.into_iter().enumerate().for_each(|(word, value)| self.set(session, word, value));
    }

    /// True for a number that is a session.
    pub(super) fn is_session(&self, session: u32) -> bool {
        (session as usize) < self.table.rows() && self.table.row(session)[0] & flag::FREE == 0
    }

    /// The spans of rows of [`gone`](Self::gone), as of sessions: their key groups and starts.
    pub(super) fn gone(&self) -> impl Iterator<Item = (KeyGroup, i64)> {
        let start = self.layout.extra + START;
        self.gone
            .words
            .chunks_exact(self.layout.stride)
            .map(move |row| (KeyGroup((row[0] & KEY_GROUP) as u16), row[start] as i64))
    }

    /// Gives back unused memory; the new numbers of the sessions if they have new ones.
    pub(super) fn tidy(&mut self) -> Option<Vec<u32>> {
        if !self.table.is_wasteful() {
            return None;
        }
        let moved = self.table.compact();
        self.renumber(&moved);
        Some(moved)
    }

    /// Forgets all sessions but those of the wanted key groups; the new numbers of the others. All sessions of a key are
    /// of one key group.
    pub(super) fn retain(&mut self, wanted: impl Fn(KeyGroup) -> bool) -> Vec<u32> {
        let moved = self.table.retain(wanted);
        self.renumber(&moved);
        moved
    }

    fn renumber(&mut self, moved: &[u32]) {
        let next = self.layout.extra + NEXT;
        let (words, _) = self.table.parts_mut();
        for row in words.chunks_exact_mut(self.layout.stride).filter(|row| row[next] != 0) {
            row[next] = u64::from(moved[row[next] as usize - 1]) + 1;
        }
    }

    /// Forgets all sessions.
    pub(super) fn clear(&mut self) {
        self.table.clear();
        self.opened.clear();
        self.gone.clear();
    }

    #[inline]
    fn touches(&self, session: u32, span: Span) -> bool {
        let known = self.span(session);
        known.start <= span.end && span.start <= known.end
    }

    #[inline]
    fn extend(&mut self, session: u32, span: Span) {
        let known = self.span(session);
        if span.start < known.start {
            self.bury(session);
            self.set(session, START, span.start as u64);
        }
        if span.end > known.end {
            self.set(session, END, span.end as u64);
        }
    }

    /// The state's row with this start is no more, if there is one.
    fn bury(&mut self, session: u32) {
        let row = self.table.row_mut(session);
        if row[0] & flag::PERSISTED == 0 {
            return;
        }
        row[0] &= !flag::PERSISTED;
        self.gone.push(&self.layout, self.table.row(session), self.table.arena());
    }

    fn chain(&self, head: u32) -> impl Iterator<Item = u32> {
        std::iter::successors(Some(head), |session| (self.word(*session, NEXT) as u32).checked_sub(1))
    }

    #[inline]
    fn word(&self, session: u32, word: usize) -> u64 {
        self.table.row(session)[self.layout.extra + word]
    }

    #[inline]
    fn set(&mut self, session: u32, word: usize, value: u64) {
        let at = self.layout.extra + word;
        self.table.row_mut(session)[at] = value;
    }
}

#[inline]
fn keyed_find(table: &GroupTable, keyed: &Keyed, row: usize) -> Option<u32> {
    table.find(&keyed.keys, row)
}
