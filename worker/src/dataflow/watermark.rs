//! The watermark of a source task: the minimum over its unfinished splits.
//!
//! A watermark holds from the row that raised it on, as with Flink's `on-event` emission: a row is late by all rows
//! before it, however rows are cut into batches. Only a row that lies behind the watermark can be late, and such rows
//! are rare, so a batch is cut in front of them alone.

use crate::batch::Batch;
use crate::failure::{Failure, Result};
use crate::plan::Watermark;
use arrow::array::{Array, AsArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir_protocol::EventTime;

/// The watermarks of the splits that a task has in hand.
pub struct SourceWatermark {
    splits: BTreeMap<Arc<str>, Mark>,
    emitted: EventTime,
    idle_timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    watermark: EventTime,
    last_rows: Instant,
}

/// Rows, and the watermark that follows them if it advanced.
#[derive(Debug)]
pub struct Piece {
    /// The rows.
    pub batch: Batch,
    /// The watermark behind them.
    pub watermark: Option<EventTime>,
}

/// Event time in a batch: of each row, and the watermark that it calls for.
pub struct Times {
    rows: TimestampMillisecondArray,
    watermarks: TimestampMillisecondArray,
}

impl Times {
    /// Evaluates the table's watermark on rows of the source.
    pub fn of(batch: &Batch, watermark: &Watermark) -> Result<Self> {
        let value = watermark.expression.evaluate(&batch.rows);
        let array = value
            .and_then(|value| value.into_array(batch.num_rows()))
            .map_err(|error| Failure::user("the watermark could not be computed").because(error))?;
        Ok(Self { rows: millis(batch.column(watermark.column))?, watermarks: millis(&array)? })
    }

    /// The latest row's event time.
    #[must_use]
    pub fn latest(&self) -> Option<i64> {
        arrow::compute::max(&self.rows)
    }
}

fn millis(array: &arrow::array::ArrayRef) -> Result<TimestampMillisecondArray> {
    match array.data_type() {
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            Ok(array.as_primitive::<TimestampMillisecondType>().clone().with_timezone_opt(None::<&str>))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            Ok(array.as_primitive::<TimestampMicrosecondType>().unary(|micros| micros.div_euclid(1000)))
        }
        other => Err(Failure::bug(format!("event time has the type {other}"))),
    }
}

impl SourceWatermark {
    /// No splits in hand.
    #[must_use]
    pub fn new(idle_timeout: Option<Duration>) -> Self {
        Self { splits: BTreeMap::new(), emitted: EventTime::MIN, idle_timeout }
    }

    /// A split comes into the task's hands with the watermark that it had reached.
    pub fn add_split(&mut self, split: Arc<str>, watermark: EventTime, now: Instant) {
        self.splits.insert(split, Mark { watermark, last_rows: now });
    }

    /// A split has ended: it holds event time back no longer. Answers the watermark if it advanced.
    pub fn remove_split(&mut self, split: &str, now: Instant) -> Option<EventTime> {
        self.splits.remove(split);
        self.advance(now)
    }

    /// The watermark that a split has reached.
    #[must_use]
    pub fn of_split(&self, split: &str) -> Option<EventTime> {
        self.splits.get(split).map(|mark| mark.watermark)
    }

    /// The watermark that was emitted last.
    #[must_use]
    pub fn emitted(&self) -> EventTime {
        self.emitted
    }

    /// True when no split has had rows for the idle timeout.
    #[must_use]
    pub fn is_idle(&self, now: Instant) -> bool {
        self.splits.values().all(|mark| self.sleeps(*mark, now))
    }

    /// When the next split falls idle, if the table has an idle timeout.
    #[must_use]
    pub fn next_idle(&self, now: Instant) -> Option<Instant> {
        let timeout = self.idle_timeout?;
        self.splits.values().map(|mark| mark.last_rows + timeout).filter(|due| *due > now).min()
    }

    /// Splits that fell idle hold event time back no longer. Answers the watermark if it advanced.
    pub fn advance(&mut self, now: Instant) -> Option<EventTime> {
        let lowest = self.lowest(None, now)?;
        self.raise(lowest)
    }

    /// Rows of a split arrive: cuts them where a row lies behind the watermark of the rows before it.
    pub fn observe(&mut self, split: &str, batch: Batch, times: &Times, now: Instant) -> Vec<Piece> {
        let others = self.lowest(Some(split), now);
        let Some(mark) = self.splits.get_mut(split) else { return vec![Piece { batch, watermark: None }] };
        mark.last_rows = now;
        let mut own = mark.watermark;
        let told = self.emitted;
        let mut reached = told;
        let mut cuts = Vec::new();
        let mut at_last_cut = told;
        for row in 0..batch.num_rows() {
            let behind = times.rows.is_valid(row) && times.rows.value(row) <= reached.0;
            if behind && reached > at_last_cut {
                cuts.push((row, reached));
                at_last_cut = reached;
            }
            if times.watermarks.is_valid(row) {
                own = own.max(EventTime(times.watermarks.value(row)));
                reached = reached.max(others.map_or(own, |others| own.min(others)));
            }
        }
        mark.watermark = own;
        self.emitted = reached;
        cut(batch, &cuts, (reached > at_last_cut).then_some(reached))
    }

    fn lowest(&self, except: Option<&str>, now: Instant) -> Option<EventTime> {
        let marks = self.splits.iter().filter(|(name, _)| Some(name.as_ref()) != except);
        marks.filter(|(_, mark)| !self.sleeps(**mark, now)).map(|(_, mark)| mark.watermark).min()
    }

    fn sleeps(&self, mark: Mark, now: Instant) -> bool {
        self.idle_timeout.is_some_and(|timeout| now.duration_since(mark.last_rows) >= timeout)
    }

    fn raise(&mut self, to: EventTime) -> Option<EventTime> {
        (to > self.emitted).then(|| {
            self.emitted = to;
            to
        })
    }
}

fn cut(batch: Batch, cuts: &[(usize, EventTime)], last: Option<EventTime>) -> Vec<Piece> {
    if cuts.is_empty() {
        return vec![Piece { batch, watermark: last }];
    }
    let mut pieces = Vec::with_capacity(cuts.len() + 1);
    let mut start = 0;
    for (row, watermark) in cuts {
        pieces.push(Piece { batch: batch.slice(start, row - start), watermark: Some(*watermark) });
        start = *row;
    }
    pieces.push(Piece { batch: batch.slice(start, batch.num_rows() - start), watermark: last });
    pieces
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use arrow::array::{ArrayRef, RecordBatch};

    /// Event times of a split's rows with a delay of 4; answers the pieces as `rows|watermark`.
    fn observe(mark: &mut SourceWatermark, split: &str, rows: &[i64]) -> Vec<String> {
        let array = TimestampMillisecondArray::from(rows.to_vec());
        let times = Times { rows: array.clone(), watermarks: array.unary(|time| time - 4) };
        let column: ArrayRef = Arc::new(array);
        let batch = Batch::inserts(RecordBatch::try_from_iter([("ts", column)]).unwrap());
        let pieces = mark.observe(split, batch, &times, Instant::now());
        let shown = |piece: Piece| {
            let times = piece.batch.column(0).as_primitive::<TimestampMillisecondType>().values().to_vec();
            format!("{times:?}|{}", piece.watermark.map_or("-".into(), |watermark| watermark.to_string()))
        };
        pieces.into_iter().map(shown).collect()
    }

    fn with_splits(splits: &[&str]) -> SourceWatermark {
        let mut mark = SourceWatermark::new(None);
        splits.iter().for_each(|split| mark.add_split((*split).into(), EventTime::MIN, Instant::now()));
        mark
    }

    #[test]
    fn rows_in_order_stay_together_with_one_watermark() {
        let mut mark = with_splits(&["a"]);
        assert_eq!(observe(&mut mark, "a", &[1, 9, 7, 12]), ["[1, 9, 7, 12]|8"]);
        assert_eq!(observe(&mut mark, "a", &[10, 11]), ["[10, 11]|-"]);
    }

    #[test]
    fn a_batch_is_cut_in_front_of_a_row_behind_the_watermark() {
        let mut mark = with_splits(&["a"]);
        assert_eq!(observe(&mut mark, "a", &[10, 3, 2, 20, 15, 30]), ["[10]|6", "[3, 2, 20]|16", "[15, 30]|26"]);
        assert_eq!(observe(&mut mark, "a", &[26, 27]), ["[26, 27]|-"]);
    }

    #[test]
    fn the_slowest_split_holds_the_watermark_until_it_ends() {
        let mut mark = with_splits(&["a", "b"]);
        assert_eq!(observe(&mut mark, "a", &[100]), ["[100]|-"]);
        assert_eq!(observe(&mut mark, "b", &[10, 2]), ["[10]|6", "[2]|-"]);
        assert_eq!(mark.remove_split("b", Instant::now()), Some(EventTime(96)));
    }

    #[test]
    fn a_split_that_sleeps_holds_nothing() {
        let mut mark = SourceWatermark::new(Some(Duration::from_secs(1)));
        let now = Instant::now();
        mark.add_split("a".into(), EventTime(50), now);
        mark.add_split("b".into(), EventTime(9), now - Duration::from_secs(2));
        assert_eq!(mark.advance(now), Some(EventTime(50)));
        assert!(!mark.is_idle(now));
        assert!(mark.is_idle(now + Duration::from_secs(3)));
    }
}
