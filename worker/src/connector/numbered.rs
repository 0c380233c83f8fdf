//! Sources whose rows are a function of their numbers: what generators share.
//!
//! Row numbers are dealt to a fixed number of splits in blocks: block `k` belongs to split `k mod splits`. A reader
//! always goes on with the split that is furthest behind, so the splits of a job advance together and a rescale only
//! deals them out anew. Readers of different tasks keep together too ([`convoy`]). A split's position is the number of its next row and the size of the blocks: a later change of
//! the rate cannot shift the deal under a stored position.

mod convoy;

use super::{Assignment, Enumerator, Poll, ReaderContext, Source, SourceReader, SourceRows, Split};
use crate::batch::Batch;
use crate::failure::{Failure, Result};
use arrow::array::RecordBatch;
use convoy::{Convoy, Member};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir_protocol::EventTime;
use weir_protocol::snapshot::SplitProgress;

/// The rows of a batch at full speed.
pub(super) const BATCH_ROWS: u64 = 8192;

/// No row has this number or a higher one.
const END_OF_NUMBERS: u64 = 1 << 60;

/// Rows that leave within this time of each other may leave together.
const TICK: Duration = Duration::from_millis(1);

/// How far apart in time the splits of a paced source may be.
const SPREAD_MS: u64 = 50;

/// Makes rows out of their numbers, always the same ones.
pub(super) trait RowMaker: Send + Sync {
    /// The rows with `numbers` and their columns at `projection`.
    fn rows(&self, numbers: Range<u64>, projection: &[usize]) -> Result<Made>;
}

/// Rows that were made.
#[derive(Debug)]
pub(super) struct Made {
    /// The columns of the projection.
    pub(super) rows: RecordBatch,
    /// About how many bytes of values they hold.
    pub(super) bytes: usize,
}

/// How many rows there are, and how fast they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Course {
    /// How many splits the numbers are dealt to.
    pub(super) splits: u64,
    /// One past the last row's number; `None` without an end.
    pub(super) end: Option<u64>,
    /// Rows per second over all splits; `None` at full speed.
    pub(super) rate: Option<u64>,
    /// The most rows of one batch.
    pub(super) batch_rows: u64,
}

impl Course {
    /// The size of the blocks: a batch at full speed, less when rows come slowly or there are few of them.
    fn block(&self) -> u64 {
        let by_rate = self.rate.map_or(u64::MAX, |rate| rate.saturating_mul(SPREAD_MS) / 1000 / self.splits);
        let by_number = self.end.map_or(u64::MAX, |end| end / (4 * self.splits));
        self.batch_rows.min(by_rate).min(by_number).max(1)
    }

    fn end(&self) -> u64 {
        self.end.unwrap_or(END_OF_NUMBERS)
    }
}

/// A source of numbered rows.
pub(super) struct NumberedSource {
    /// Makes the rows.
    maker: Arc<dyn RowMaker>,
    /// Their number and pace.
    course: Course,
    convoy: Arc<Convoy>,
}

impl NumberedSource {
    /// A source of the rows that `maker` makes.
    pub(super) fn new(maker: Arc<dyn RowMaker>, course: Course) -> Self {
        Self { maker, course, convoy: Arc::default() }
    }
}

impl Source for NumberedSource {
    fn assignment(&self) -> Assignment {
        Assignment::Concurrent
    }

    fn is_bounded(&self) -> bool {
        self.course.end.is_some()
    }

    fn enumerator(&self) -> Result<Box<dyn Enumerator>> {
        Ok(Box::new(Dealer { course: self.course }))
    }

    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader>> {
        let most = context.max_rows.max(1) as u64;
        Ok(Box::new(Reader {
            maker: Arc::clone(&self.maker),
            course: Course { batch_rows: self.course.batch_rows.min(most), ..self.course },
            projection: context.projection,
            pace: None,
            member: self.convoy.join(),
            held: Vec::new(),
        }))
    }
}

struct Dealer {
    course: Course,
}

impl Enumerator for Dealer {
    fn discover(&mut self) -> Result<Vec<Split>> {
        let block = self.course.block();
        let shares = (0..self.course.splits).map(|index| Share { index, splits: self.course.splits, block });
        Ok(shares.filter(|share| share.first() < self.course.end()).map(|share| share.split()).collect())
    }

    fn look_again(&self) -> Option<Duration> {
        None
    }
}

/// What belongs to one split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    index: u64,
    splits: u64,
    block: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    /// The number of the next row.
    next: u64,
    /// The size of the blocks.
    block: u64,
}

impl Share {
    fn first(&self) -> u64 {
        self.index * self.block
    }

    fn name(&self) -> String {
        format!("{} of {}", self.index, self.splits)
    }

    fn split(&self) -> Split {
        Split { name: self.name(), start: position(self.first(), self.block) }
    }

    fn owns(&self, number: u64) -> bool {
        (number / self.block) % self.splits == self.index
    }

    /// The numbers from `next`, which it owns, to the end of their block, and the first of its next block.
    fn run(&self, next: u64) -> (Range<u64>, u64) {
        let block_end = (next / self.block + 1) * self.block;
        (next..block_end, block_end + (self.splits - 1) * self.block)
    }
}

fn position(next: u64, block: u64) -> serde_json::Value {
    serde_json::json!({ "next": next, "block": block })
}

/// A split in a reader's hands.
struct Held {
    name: Arc<str>,
    share: Share,
    next: u64,
    watermark: EventTime,
    finished: bool,
}

impl Held {
    fn restore(progress: &SplitProgress, splits: u64) -> Result<Self> {
        let corrupt = |what: String| Failure::corrupt(format!("split '{}' of a generator: {what}", progress.split));
        let index = (0..splits).find(|index| Share { index: *index, splits, block: 1 }.name() == progress.split);
        let index = index.ok_or_else(|| {
            let message = format!("the state knows a split '{}', the table has {splits} splits", progress.split);
            Failure::user(format!("{message}: set the option 'splits' to what it was, or start afresh"))
        })?;
        let stored: Position = serde_json::from_value(progress.position.clone())
            .map_err(|error| corrupt("its position cannot be read".to_owned()).because(error))?;
        let share = Share { index, splits, block: stored.block };
        if stored.block == 0
            || stored.block > END_OF_NUMBERS >> 16
            || stored.next > END_OF_NUMBERS * 2
            || !share.owns(stored.next)
        {
            return Err(corrupt(format!("its position {} is not one of its own", progress.position)));
        }
        let name = Arc::from(progress.split.as_str());
        Ok(Self { name, share, next: stored.next, watermark: progress.watermark, finished: progress.finished })
    }

    fn progress(&self) -> SplitProgress {
        SplitProgress {
            split: self.name.to_string(),
            position: position(self.next, self.share.block),
            watermark: self.watermark,
            finished: self.finished,
        }
    }
}

/// When rows are due: row `first` at `started`, the others in even steps.
#[derive(Debug, Clone, Copy)]
struct Pace {
    first: u64,
    started: Instant,
    rate: u64,
}

impl Pace {
    /// The number of the first row that is not due yet.
    fn due_before(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.started).as_nanos();
        let steps = elapsed * u128::from(self.rate) / 1_000_000_000;
        self.first.saturating_add(u64::try_from(steps).unwrap_or(u64::MAX)).saturating_add(1)
    }

    /// When to come back for row `number`: when it is due, or at the next tick after that when rows come faster.
    fn moment(&self, number: u64) -> Instant {
        let steps = u128::from(number.saturating_sub(self.first));
        let mut nanos = (steps * 1_000_000_000).div_ceil(u128::from(self.rate));
        if u128::from(self.rate) * TICK.as_nanos() > 1_000_000_000 {
            nanos = nanos.next_multiple_of(TICK.as_nanos());
        }
        self.started + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX >> 4))
    }
}

struct Reader {
    maker: Arc<dyn RowMaker>,
    course: Course,
    projection: Vec<usize>,
    pace: Option<Pace>,
    member: Member,
    held: Vec<Held>,
}

impl SourceReader for Reader {
    fn add_split(&mut self, split: &SplitProgress) -> Result<()> {
        self.held.push(Held::restore(split, self.course.splits)?);
        Ok(())
    }

    fn poll(&mut self) -> Result<Poll> {
        if self.course.rate.is_none() { self.poll_together() } else { self.poll_at(Instant::now()) }
    }

    fn positions(&self) -> Vec<SplitProgress> {
        self.held.iter().map(Held::progress).collect()
    }
}

impl Reader {
    fn poll_at(&mut self, now: Instant) -> Result<Poll> {
        let Some(next) = self.furthest_behind().map(|index| self.held[index].next) else { return Ok(Poll::NeedSplit) };
        let rate = self.course.rate.unwrap_or(u64::MAX);
        let pace = *self.pace.get_or_insert(Pace { first: next, started: now, rate });
        let due_before = pace.due_before(now);
        if next >= due_before { Ok(Poll::NotBefore(pace.moment(next))) } else { self.read(due_before) }
    }

    /// Rows, unless the reader is far ahead of others.
    fn poll_together(&mut self) -> Result<Poll> {
        let Some(next) = self.furthest_behind().map(|index| self.held[index].next) else {
            self.member.rest();
            return Ok(Poll::NeedSplit);
        };
        if self.member.is_ahead(next) { Ok(Poll::NotBefore(Instant::now() + TICK)) } else { self.read(u64::MAX) }
    }

    /// Rows with numbers below `before` of the split that is furthest behind.
    fn read(&mut self, before: u64) -> Result<Poll> {
        let Some(index) = self.furthest_behind() else { return Ok(Poll::NeedSplit) };
        let end = self.course.end();
        let held = &mut self.held[index];
        let (run, after) = held.share.run(held.next);
        let stop = run.end.min(before).min(end).min(held.next + self.course.batch_rows).max(held.next);
        let made = self.maker.rows(held.next..stop, &self.projection)?;
        held.next = if stop == run.end { after } else { stop };
        held.finished = held.next >= end;
        Ok(Poll::Rows(SourceRows {
            split: Arc::clone(&held.name),
            batch: Batch::inserts(made.rows),
            bytes: made.bytes,
            bad: Vec::new(),
            last: held.finished,
        }))
    }

    fn furthest_behind(&self) -> Option<usize> {
        let open = self.held.iter().enumerate().filter(|(_, held)| !held.finished);
        open.min_by_key(|(_, held)| held.next).map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests;
