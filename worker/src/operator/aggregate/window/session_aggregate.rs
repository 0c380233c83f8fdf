//! SESSION: windows of one key that end when no row has come for the gap.
//!
//! A session fires when the watermark reaches its last millisecond. A row is late when the session that it would be in,
//! after merging, has ended by then. In the state a session lies under its key and start, and dies at its end; only where
//! rows or merges move a start is a row of the state deleted.

use super::super::group_aggregate::InputForm;
use super::super::group_table::count_run;
use super::super::layout::{KEY_GROUP, Layout};
use super::super::rows::RowBuffer;
use super::super::state::{self, Means, Owned, Table};
use super::emission::Emission;
use super::pane_store::Keyed;
use super::progress::Progress;
use super::session_store::{Addition, SessionStore, Spans};
use super::timers::Timers;
use super::times::{LATE_ROWS, late_counter, pane_column, time_column};
use crate::batch::Batch;
use crate::failure::Result;
use crate::operator::legend::Legend;
use crate::operator::snapshot::{Restored, Snapshot};
use crate::operator::window::Span;
use crate::operator::{Counter, Operator, OperatorContext, Output};
use crate::plan;
use crate::state::file::contains;
use arrow::datatypes::{DataType, SchemaRef};
use std::sync::Arc;
use weir_protocol::key_group::MaxParallelism;
use weir_protocol::snapshot::KeyGroupRange;
use weir_protocol::{EventTime, KeyGroup};

const TABLE: &str = "sessions";
const OWNED: [Owned; 2] = [
    Owned { name: "$start", is_key: true, means: Means::Start("session_start") },
    Owned { name: "$end", is_key: false, means: Means::Expiry("session_end") },
];

/// The keyed operator of SESSION.
pub struct SessionAggregate {
    input: InputForm,
    layout: Arc<Layout>,
    gap_ms: i64,
    keys: Vec<usize>,
    time: usize,
    key_groups: MaxParallelism,
    late_rows: Counter,
    progress: Progress,
    store: SessionStore,
    timers: Timers,
    emission: Emission,
    keyed: Keyed,
}

impl SessionAggregate {
    /// Sessions of rows of the schema `input_schema`, also when they come as partials. Fails when a column has a type that
    /// does not fit its role.
    pub fn new(
        spec: &plan::WindowAggregate,
        gap_ms: i64,
        input: (InputForm, &SchemaRef),
        output_schema: SchemaRef,
        context: &OperatorContext,
    ) -> Result<Self> {
        let (input, input_schema) = input;
        let layout = Arc::new(Layout::windowed(input_schema, &spec.keys, &spec.calls, SessionStore::EXTRA)?);
        let (keys, time) = match input {
            InputForm::Partials => ((0..spec.keys.len()).collect(), spec.keys.len()),
            InputForm::Rows | InputForm::Changes => (spec.keys.clone(), spec.time),
        };
        Ok(Self {
            input,
            gap_ms,
            keys,
            time,
            key_groups: context.max_parallelism,
            late_rows: context.late_rows.clone(),
            progress: Progress::new(context.key_groups.clone()),
            store: SessionStore::new(Arc::clone(&layout), context.max_parallelism),
            timers: Timers::new(gap_ms),
            emission: Emission::new(Arc::clone(&layout), output_schema)?,
            keyed: Keyed::default(),
            layout,
        })
    }

    /// The tables of the state with their columns, for the check whether a changed query fits it.
    #[must_use]
    pub fn state_schema(&self) -> serde_json::Value {
        serde_json::Value::Array(vec![self.shape().schema()])
    }

    /// What the columns of the table mean, when event time has this type.
    #[must_use]
    pub fn legend(&self, event_time: &DataType) -> Legend {
        self.shape().legend(event_time)
    }

    fn shape(&self) -> Table<'_> {
        Table { name: TABLE, layout: &self.layout, owned: &OWNED, expires: Some(1) }
    }

    fn spans(&self, batch: &Batch) -> Result<Spans> {
        let gap_ms = self.gap_ms;
        Ok(match self.input {
            InputForm::Partials => {
                Spans { starts: pane_column(batch, self.time)?, ends: Some(pane_column(batch, self.time + 1)?), gap_ms }
            }
            InputForm::Rows | InputForm::Changes => {
                Spans { starts: time_column(batch, self.time)?, ends: None, gap_ms }
            }
        })
    }

    /// Forgets the sessions that had ended by the watermarks of a checkpoint.
    fn forget_ended(&mut self) {
        for session in 0..self.store.table.rows() as u32 {
            if self.store.is_session(session) {
                let group = KeyGroup((self.store.table.row(session)[0] & KEY_GROUP) as u16);
                if self.store.span(session).max_time() <= self.progress.of(group) {
                    self.store.remove(session);
                }
            }
        }
    }

    fn enter_opened(&mut self) {
        for session in std::mem::take(&mut self.store.opened) {
            // It may have become part of another one since.
            if self.store.is_session(session) {
                self.enter(session);
            }
        }
    }

    fn enter(&mut self, session: u32) {
        let bucket = self.timers.bucket(self.store.span(session).end);
        self.store.set_timer(session, bucket);
        self.timers.enter(bucket, session);
    }

    fn fire(&mut self, watermark: EventTime, out: &mut dyn Output) -> Result<()> {
        let end = watermark.0.saturating_add(1);
        let mut ripe: Vec<(i64, u32)> = Vec::new();
        let mut back = None;
        while let Some((bucket, sessions)) = self.timers.take(end) {
            let mut stay = Vec::new();
            for session in sessions {
                if !self.store.is_session(session) || self.store.timer(session) != bucket {
                    continue;
                }
                let span = self.store.span(session);
                if span.max_time() <= watermark {
                    // No other entry of its may count.
                    self.store.set_timer(session, i64::MAX);
                    ripe.push((span.end, session));
                } else if self.timers.bucket(span.end) == bucket {
                    stay.push(session);
                } else {
                    self.enter(session);
                }
            }
            if !stay.is_empty() {
                back = Some((bucket, stay));
                break;
            }
        }
        if let Some((bucket, sessions)) = back {
            self.timers.put_back(bucket, sessions);
        }
        self.emit(ripe, out)
    }

    fn emit(&mut self, mut ripe: Vec<(i64, u32)>, out: &mut dyn Output) -> Result<()> {
        ripe.sort_unstable();
        for (_, session) in &ripe {
            let span = self.store.span(*session);
            self.emission.push(self.store.table.row(*session), self.store.table.arena(), span, out)?;
            self.store.remove(*session);
        }
        self.emission.flush(out)?;
        if let Some(moved) = self.store.tidy() {
            self.timers.renumber(&moved);
        }
        Ok(())
    }
}

impl Operator for SessionAggregate {
    fn process(&mut self, _input: usize, batch: Batch, _out: &mut dyn Output) -> Result<()> {
        self.keyed.encode(&self.layout, &self.keys, &batch)?;
        let spans = self.spans(&batch)?;
        let before = self.keys.len() + 2;
        self.keyed.prepare(&self.layout, self.input, before, &batch)?;
        let addition = Addition { keyed: &self.keyed, form: self.input, spans: &spans, rows: 0..batch.num_rows() };
        let (progress, groups) = (&self.progress, self.key_groups);
        let hashes = &self.keyed.keys.hashes;
        let is_late = |row: usize, end: i64| {
            let watermark = match progress.is_uniform() {
                true => progress.lowest(),
                false => progress.of(groups.key_group_of_hash(hashes[row])),
            };
            end.saturating_sub(1) <= watermark.0
        };
        let (keyed, layout, input, late_rows) = (&self.keyed, &self.layout, self.input, &self.late_rows);
        self.store.add(&addition, is_late, |row| late_rows.add(keyed.weight(layout, input, row)));
        self.enter_opened();
        Ok(())
    }

    fn on_watermark(&mut self, watermark: EventTime, out: &mut dyn Output) -> Result<()> {
        if watermark > self.progress.lowest() {
            self.fire(watermark, out)?;
            self.progress.advance(watermark);
        }
        out.watermark(watermark)
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let changed = self.store.table.take_changed([]);
        let gone = self.store.gone().enumerate().map(|(at, (group, _))| (group.0, 0_u8, at as u32));
        let live = changed.by_key_group().map(|(key_group, session)| (key_group.0, 1, session));
        // What is gone comes first: the key and start may be there again.
        let mut order: Vec<(u16, u8, u32)> = gone.chain(live).collect();
        order.sort_unstable();
        let starts: Vec<i64> = self.store.gone().map(|(_, start)| start).collect();
        let (mut rows, mut runs) = (RowBuffer::default(), Vec::new());
        let mut owned = vec![Vec::with_capacity(order.len()), Vec::with_capacity(order.len())];
        for (group, is_live, at) in &order {
            count_run(&mut runs, KeyGroup(*group));
            let (row, arena, span) = if *is_live == 1 {
                (self.store.table.row(*at), self.store.table.arena(), self.store.span(*at))
            } else {
                let start = starts[*at as usize];
                (
                    self.store.gone.all(&self.layout).row(*at as usize),
                    &self.store.gone.arena,
                    Span { start, end: start },
                )
            };
            rows.push(&self.layout, row, arena);
            owned[0].push(span.start);
            owned[1].push(span.end);
        }
        let deleted = order.iter().map(|(_, is_live, _)| Some(*is_live == 0)).collect();
        let mut tables = Vec::new();
        if !order.is_empty() {
            let shape = self.shape();
            let mut columns = rows.all(&self.layout).columns(shape.words());
            tables.push(shape.delta((&mut columns, &rows.arena), owned, Some(deleted), runs, None)?);
        }
        self.store.gone.clear();
        Ok(Snapshot { tables, watermarks: self.progress.watermarks(), counters: late_counter(&self.late_rows) })
    }

    fn adopt(&mut self, key_groups: &[KeyGroupRange], late_rows: &Counter) -> bool {
        self.late_rows = late_rows.clone();
        self.progress = Progress::new(key_groups.to_vec());
        let moved = self.store.retain(|group| contains(key_groups, group));
        self.timers.renumber(&moved);
        true
    }

    fn restore(&mut self, restored: Restored) -> Result<()> {
        self.progress.restore(&restored);
        self.late_rows.add(restored.counters.get(LATE_ROWS).copied().unwrap_or(0));
        let mut buffer = RowBuffer::default();
        for delta in restored.tables.iter().filter(|delta| delta.table == TABLE) {
            let shape = Table { name: TABLE, layout: &self.layout, owned: &OWNED, expires: Some(1) };
            let owned = shape.read(delta, &mut self.keyed.keys, &mut buffer)?;
            for (row, (start, end)) in owned[0].iter().zip(&owned[1]).enumerate() {
                let span = Span { start: *start, end: *end };
                let deleted = delta.deleted.as_ref().is_some_and(|deleted| deleted.value(row));
                let group = self.key_groups.key_group_of_hash(self.keyed.keys.hashes[row]);
                if deleted {
                    let known = self.store.find_start(&self.keyed, row, span.start);
                    known.into_iter().for_each(|session| self.store.remove(session));
                } else if span.max_time() > self.progress.of(group) {
                    let session = self.store.restore(span, &self.keyed, row);
                    let kept = self.store.owner_words(session);
                    let (words, arena) = self.store.table.parts_mut();
                    let from = &buffer.words[row * self.layout.stride..][..self.layout.stride];
                    let to = &mut words[session as usize * self.layout.stride..][..self.layout.stride];
                    state::overwrite(&self.layout, to, arena, from, &buffer.arena);
                    self.store.set_owner_words(session, kept);
                }
            }
        }
        self.store.table.mark_restored();
        self.enter_opened();
        self.forget_ended();
        Ok(())
    }

    fn state_bytes(&self) -> usize {
        self.store.table.bytes() + self.timers.bytes()
    }
}
