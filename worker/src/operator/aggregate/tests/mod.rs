//! Aggregation against a plain evaluation, row by row.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod group;
mod oracle;
mod table;
mod window;

use super::call::{Call, Function};
use crate::batch::{Batch, RowKind};
use crate::failure::Result;
use crate::operator::snapshot::{Restored, Snapshot, TableDelta};
use crate::operator::{Counter, Operator, OperatorContext, Output};
use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringViewArray,
    TimestampMillisecondArray, UInt8Array, UInt32Array,
};
use arrow::compute;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use proptest::prelude::*;
use std::sync::Arc;
use weir_protocol::key_group::{KeyGroupMap, MaxParallelism};
use weir_protocol::snapshot::KeyGroupRange;
use weir_protocol::{EventTime, KeyGroup, OperatorId};

pub(super) const KEY_GROUPS: u32 = 16;

/// A row of the tests' input.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) key: Option<i64>,
    pub(super) name: Option<String>,
    pub(super) ts: i64,
    pub(super) big: Option<i64>,
    pub(super) small: Option<i32>,
    pub(super) float: Option<f64>,
    pub(super) decimal: Option<i128>,
    pub(super) text: Option<String>,
    pub(super) flag: Option<bool>,
}

/// What an operator emitted.
#[derive(Debug, Clone)]
pub(super) enum Element {
    Batch(Batch),
    Watermark(EventTime),
}

#[derive(Default)]
pub(super) struct Collected(pub(super) Vec<Element>);

impl Output for Collected {
    fn emit(&mut self, batch: Batch) -> Result<()> {
        self.0.push(Element::Batch(batch));
        Ok(())
    }

    fn watermark(&mut self, watermark: EventTime) -> Result<()> {
        self.0.push(Element::Watermark(watermark));
        Ok(())
    }
}

pub(super) fn input_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, true),
        Field::new("name", DataType::Utf8View, true),
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("big", DataType::Int64, true),
        Field::new("small", DataType::Int32, true),
        Field::new("float", DataType::Float64, true),
        Field::new("decimal", DataType::Decimal128(10, 2), true),
        Field::new("text", DataType::Utf8View, true),
        Field::new("flag", DataType::Boolean, true),
    ]))
}

pub(super) fn batch(rows: &[Row]) -> Batch {
    let decimals: Decimal128Array = rows.iter().map(|row| row.decimal).collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.key))),
        Arc::new(StringViewArray::from_iter(rows.iter().map(|row| row.name.as_deref()))),
        Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.ts))),
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.big))),
        Arc::new(Int32Array::from_iter(rows.iter().map(|row| row.small))),
        Arc::new(Float64Array::from_iter(rows.iter().map(|row| row.float))),
        Arc::new(decimals.with_precision_and_scale(10, 2).unwrap()),
        Arc::new(StringViewArray::from_iter(rows.iter().map(|row| row.text.as_deref()))),
        Arc::new(BooleanArray::from_iter(rows.iter().map(|row| row.flag))),
    ];
    Batch::inserts(RecordBatch::try_new(input_schema(), columns).unwrap())
}

pub(super) fn changes(rows: &[(RowKind, Row)]) -> Batch {
    let kinds = UInt8Array::from_iter_values(rows.iter().map(|(kind, _)| *kind as u8));
    let rows: Vec<Row> = rows.iter().map(|(_, row)| row.clone()).collect();
    Batch::changes(batch(&rows).rows, kinds)
}

/// Every function on every kind of argument.
pub(super) fn all_calls() -> Vec<Call> {
    use Function::{Avg, Count, CountRows, Max, Min, Sum};
    let mut calls = vec![
        call(CountRows, None, None, DataType::Int64),
        call(CountRows, None, Some(8), DataType::Int64),
        call(Count, Some(3), None, DataType::Int64),
        call(Count, Some(7), Some(8), DataType::Int64),
        call(Sum, Some(3), None, DataType::Int64),
        call(Sum, Some(3), Some(8), DataType::Int64),
        call(Sum, Some(4), None, DataType::Int32),
        call(Sum, Some(5), None, DataType::Float64),
        call(Sum, Some(6), None, DataType::Decimal128(38, 2)),
        call(Avg, Some(3), None, DataType::Int64),
        call(Avg, Some(5), None, DataType::Float64),
        call(Avg, Some(6), None, DataType::Decimal128(38, 6)),
    ];
    for function in [Min, Max] {
        for column in [2, 3, 4, 5, 6, 7, 8] {
            let data_type = input_schema().field(column).data_type().clone();
            calls.push(call(function, Some(column), None, data_type));
        }
        for column in [2, 3, 4, 6, 7] {
            let data_type = input_schema().field(column).data_type().clone();
            calls.push(call(function, Some(column), Some(8), data_type));
        }
    }
    calls
}

pub(super) fn call(function: Function, argument: Option<usize>, filter: Option<usize>, result: DataType) -> Call {
    Call {
        function,
        argument,
        filter,
        argument_type: argument.map(|argument| input_schema().field(argument).data_type().clone()),
        result_type: result,
        name: format!("{function:?}({argument:?})"),
    }
}

pub(super) fn output_schema(keys: &[usize], calls: &[Call], more: Vec<Field>) -> SchemaRef {
    let keys = keys.iter().map(|key| input_schema().field(*key).clone());
    let results = calls.iter().map(|call| Field::new(&call.name, call.result_type.clone(), true));
    Arc::new(Schema::new(keys.chain(results).chain(more).collect::<Vec<_>>()))
}

pub(super) fn max_parallelism() -> MaxParallelism {
    MaxParallelism::new(KEY_GROUPS).unwrap()
}

pub(super) fn owners(parallelism: u32) -> KeyGroupMap {
    KeyGroupMap::initial(max_parallelism(), parallelism).unwrap()
}

pub(super) fn context(owners: &KeyGroupMap, subtask: u32) -> OperatorContext {
    OperatorContext {
        operator: OperatorId("aggregate".into()),
        key_groups: owners.owned(subtask),
        max_parallelism: max_parallelism(),
        late_rows: Counter::default(),
        state_ttl: None,
    }
}

/// The rows of a batch for each subtask, by the key in its first `keys` columns or those given.
pub(super) fn partition(batch: &Batch, keys: &[usize], owners: &KeyGroupMap) -> Vec<Batch> {
    let columns: Vec<ArrayRef> = keys.iter().map(|key| Arc::clone(batch.column(*key))).collect();
    let mut hashes = Vec::new();
    crate::operator::key_hash::hash_keys(&columns, batch.num_rows(), &mut hashes).unwrap();
    let owner = |hash: &u64| owners.owner(max_parallelism().key_group_of_hash(*hash)).unwrap();
    (0..owners.parallelism())
        .map(|subtask| {
            let rows = (0..hashes.len() as u32).filter(|row| owner(&hashes[*row as usize]) == subtask);
            batch.take(&UInt32Array::from_iter_values(rows)).unwrap()
        })
        .collect()
}

/// Rows as text, cell by cell.
pub(super) fn shown(batch: &Batch) -> Vec<Vec<String>> {
    let options = FormatOptions::new().with_null("NULL");
    let columns: Vec<_> =
        batch.rows.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap()).collect();
    (0..batch.num_rows()).map(|row| columns.iter().map(|column| column.value(row).to_string()).collect()).collect()
}

/// The snapshots of all tasks so far, as a checkpoint's state for the key groups of one task.
pub(super) fn restored_for(snapshots: &[Snapshot], last: &[Snapshot], owned: &[KeyGroupRange]) -> Restored {
    let owns = |group: KeyGroup| owned.iter().any(|range| range.start <= group && group < range.end);
    let tables = snapshots.iter().flat_map(|snapshot| &snapshot.tables).filter_map(|delta| keep_groups(delta, owns));
    let watermarks = last
        .iter()
        .flat_map(|snapshot| &snapshot.watermarks)
        .flat_map(|(range, watermark)| (range.start.0..range.end.0).map(|group| (KeyGroup(group), *watermark)));
    let one = |group: KeyGroup| KeyGroupRange { start: group, end: KeyGroup(group.0 + 1) };
    Restored {
        tables: tables.collect(),
        watermarks: watermarks.filter(|(group, _)| owns(*group)).map(|(group, mark)| (one(group), mark)).collect(),
        ..Restored::default()
    }
}

/// How a task comes to its state.
#[derive(Clone, Copy)]
enum Way {
    Read,
    Kept,
    Ahead,
}

/// What all tasks have handed over, checkpoint by checkpoint.
#[derive(Default)]
pub(super) struct History(Vec<Vec<Snapshot>>);

impl History {
    pub(super) fn push(&mut self, snapshots: Vec<Snapshot>) {
        self.0.push(snapshots);
    }

    /// The state of the checkpoint that `back` others have followed.
    pub(super) fn before(&self, back: usize, owned: &[KeyGroupRange]) -> Restored {
        let until = &self.0[..self.0.len() - back];
        until.last().map_or_else(Restored::default, |last| restored_for(&until.concat(), last, owned))
    }

    /// Any of them: tests have many histories.
    fn way(&self) -> Way {
        let rows = |snapshot: &Snapshot| snapshot.tables.iter().map(|delta| delta.rows.num_rows()).sum::<usize>();
        let ways = [Way::Read, Way::Kept, Way::Ahead];
        ways[(self.0.len() + self.0.last().into_iter().flatten().map(rows).sum::<usize>()) % ways.len()]
    }

    /// Begins with the newest checkpoint in one of the ways in which a task can: with what it reads; with what the task
    /// before it, `kept`, has in memory of some key groups; or with an earlier checkpoint and what came since.
    pub(super) fn begin(
        &self,
        fresh: Box<dyn Operator>,
        kept: Option<(Box<dyn Operator>, Vec<KeyGroupRange>)>,
        context: &OperatorContext,
    ) -> Box<dyn Operator> {
        let (owned, mut operator) = (&context.key_groups, fresh);
        let mut restored = self.before(0, owned);
        match (self.way(), kept) {
            (Way::Kept, Some((kept, held))) => {
                operator = kept;
                assert!(operator.adopt(owned, &context.late_rows));
                let missing = |group: KeyGroup| !crate::state::file::contains(&held, group);
                restored.tables = restored.tables.iter().filter_map(|delta| keep_groups(delta, missing)).collect();
            }
            (Way::Ahead, _) if self.0.len() > 1 => {
                operator.restore(self.before(1, owned)).unwrap();
                assert!(operator.adopt(owned, &context.late_rows));
                let news = self.0.last().expect("there are two");
                restored.tables = restored_for(news, news, owned).tables;
            }
            _ => {}
        }
        operator.restore(restored).unwrap();
        operator
    }
}

fn keep_groups(delta: &TableDelta, owns: impl Fn(KeyGroup) -> bool) -> Option<TableDelta> {
    assert_eq!(delta.key_groups.iter().map(|(_, rows)| rows).sum::<usize>(), delta.rows.num_rows());
    assert!(delta.key_groups.is_sorted_by(|left, right| left.0 < right.0), "{:?}", delta.key_groups);
    let keep: BooleanArray =
        delta.key_groups.iter().flat_map(|(group, rows)| std::iter::repeat_n(Some(owns(*group)), *rows)).collect();
    let rows = compute::filter_record_batch(&delta.rows, &keep).unwrap();
    let deleted = delta.deleted.as_ref().map(|deleted| compute::filter(deleted, &keep).unwrap());
    let key_groups = delta.key_groups.iter().filter(|(group, _)| owns(*group)).copied().collect();
    let deleted = deleted.map(|deleted| BooleanArray::from(arrow::array::Array::to_data(&deleted)));
    (rows.num_rows() > 0).then(|| TableDelta { rows, deleted, key_groups, ..delta.clone() })
}

/// Rows around each other in event time, with few keys, nulls, and text short and long.
pub(super) fn any_row(times: std::ops::Range<i64>) -> impl Strategy<Value = Row> {
    let text = || {
        prop::option::weighted(
            0.8,
            prop::sample::select(vec![
                "",
                "a",
                "b",
                "a text of more than 12 bytes",
                "a text of more than 12 bytes, too",
                "ö",
            ]),
        )
    };
    let key = (prop::option::weighted(0.9, -2..6_i64), text());
    let numbers = (
        prop::option::weighted(0.7, prop_oneof![-50..50_i64, Just(i64::MAX), Just(i64::MIN)]),
        prop::option::weighted(0.7, prop_oneof![-9..9_i32, Just(i32::MAX)]),
        prop::option::weighted(0.7, (-8..8_i32).prop_map(|eighths| f64::from(eighths) / 8.0)),
        prop::option::weighted(0.7, prop_oneof![-500..500_i128, Just(9_999_999_999_i128)]),
    );
    (key, times, numbers, text(), prop::option::of(any::<bool>())).prop_map(
        |((key, name), ts, (big, small, float, decimal), text, flag)| Row {
            key,
            name: name.map(Into::into),
            ts,
            big,
            small,
            float,
            decimal,
            text: text.map(Into::into),
            flag,
        },
    )
}
