//! Bids that benchmarks aggregate, send and keep, and the operator that does as Nexmark's q17.

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringViewArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use std::sync::Arc;
use weir_protocol::key_group::MaxParallelism;
use weir_protocol::snapshot::KeyGroupRange;
use weir_protocol::{EventTime, KeyGroup, OperatorId};
use weir_worker::batch::Batch;
use weir_worker::failure::Result;
use weir_worker::operator::aggregate::call::{Call, Function};
use weir_worker::operator::aggregate::{GroupAggregate, InputForm};
use weir_worker::operator::{Counter, OperatorContext, Output};
use weir_worker::plan;

pub(crate) const ROWS: usize = 8192;
pub(crate) const BATCHES: usize = 256;

/// Forgets what it gets.
pub(crate) struct Nowhere;

impl Output for Nowhere {
    fn emit(&mut self, batch: Batch) -> Result<()> {
        std::hint::black_box(batch.num_rows());
        Ok(())
    }

    fn watermark(&mut self, _watermark: EventTime) -> Result<()> {
        Ok(())
    }
}

/// A small generator of numbers, the same in every run.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

pub(crate) fn schema() -> SchemaRef {
    let flag = |name| Field::new(name, DataType::Boolean, true);
    Arc::new(Schema::new(vec![
        Field::new("auction", DataType::Int64, true),
        Field::new("day", DataType::Utf8View, true),
        Field::new("price", DataType::Int64, true),
        Field::new("time", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        flag("cheap"),
        flag("middle"),
        flag("dear"),
    ]))
}

pub(crate) fn call(function: Function, argument: Option<usize>, filter: Option<usize>) -> Call {
    Call {
        function,
        argument,
        filter,
        argument_type: argument.map(|_| DataType::Int64),
        result_type: DataType::Int64,
        name: format!("{function:?}{filter:?}"),
    }
}

pub(crate) fn q17_calls() -> Vec<Call> {
    let counts = [None, Some(4), Some(5), Some(6)].map(|filter| call(Function::CountRows, None, filter));
    let prices = [Function::Min, Function::Max, Function::Avg, Function::Sum].map(|f| call(f, Some(2), None));
    counts.into_iter().chain(prices).collect()
}

pub(crate) fn context() -> OperatorContext {
    OperatorContext {
        operator: OperatorId("bench".to_owned()),
        key_groups: vec![KeyGroupRange { start: KeyGroup(0), end: KeyGroup(128) }],
        max_parallelism: MaxParallelism::new(128).expect("128 is a number of key groups"),
        late_rows: Counter::default(),
        state_ttl: None,
    }
}

pub(crate) fn output(keys: &[usize], calls: &[Call], times: usize) -> SchemaRef {
    let time =
        |number: usize| Field::new(format!("t{number}"), DataType::Timestamp(TimeUnit::Millisecond, None), false);
    let keys = keys.iter().map(|key| schema().field(*key).clone());
    let results = calls.iter().map(|call| Field::new(&call.name, call.result_type.clone(), true));
    Arc::new(Schema::new(keys.chain(results).chain((0..times).map(time)).collect::<Vec<_>>()))
}

/// Bids whose auctions are drawn by `key` from the share of the run that has passed; ten thousand a second.
pub(crate) fn bids(mut key: impl FnMut(&mut Numbers, f64) -> i64) -> Vec<Batch> {
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let total = (ROWS * BATCHES) as f64;
    let batch = |number: usize| {
        let keys: Vec<i64> = (0..ROWS).map(|row| key(&mut numbers, (number * ROWS + row) as f64 / total)).collect();
        let prices: Vec<i64> = (0..ROWS).map(|_| 1 << numbers.below(26)).collect();
        let is = |test: &dyn Fn(i64) -> bool| -> ArrayRef {
            Arc::new(prices.iter().map(|price| Some(test(*price))).collect::<BooleanArray>())
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(keys)),
            Arc::new(StringViewArray::from_iter_values((0..ROWS).map(|_| "2026-11-20"))),
            Arc::new(Int64Array::from(prices.clone())),
            Arc::new(TimestampMillisecondArray::from_iter_values(
                (0..ROWS).map(|row| (number * ROWS + row) as i64 / 10),
            )),
            is(&|price| price < 10_000),
            is(&|price| (10_000..1_000_000).contains(&price)),
            is(&|price| price >= 1_000_000),
        ];
        Batch::inserts(RecordBatch::try_new(schema(), columns).expect("the columns fit the schema"))
    };
    (0..BATCHES).map(batch).collect()
}

pub(crate) fn uniform(keys: u64) -> Vec<Batch> {
    bids(move |numbers, _| numbers.below(keys) as i64)
}

/// Half of the rows of one recent key, the others of the last hundred.
pub(crate) fn skewed(keys: u64) -> Vec<Batch> {
    bids(move |numbers, share| {
        let last = (share * keys as f64) as u64;
        let key = if numbers.below(2) == 0 { last / 100 * 100 } else { last.saturating_sub(numbers.below(100)) };
        key as i64
    })
}

/// The aggregation of q17 by the given columns, over rows as they come.
pub(crate) fn q17(keys: Vec<usize>) -> GroupAggregate {
    let spec = plan::GroupAggregate { keys, calls: q17_calls(), state_ttl: None };
    let output = output(&spec.keys, &spec.calls, 0);
    GroupAggregate::new(&spec, InputForm::Rows, &schema(), output, &context()).expect("bids can be grouped")
}
