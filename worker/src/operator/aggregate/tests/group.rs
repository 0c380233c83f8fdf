//! `GROUP BY` without a window: folding the emitted changes gives what a plain evaluation gives.

use super::{
    Collected, Element, History, Row, all_calls, any_row, batch, changes, context, input_schema, oracle, output_schema,
    owners, partition, restored_for, shown,
};
use crate::batch::{Batch, RowKind};
use crate::operator::aggregate::{GroupAggregate, InputForm, LocalGroupAggregate, partial_schema};
use crate::operator::{Operator, OperatorContext};
use crate::plan;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;
use weir_protocol::EventTime;
use weir_protocol::key_group::KeyGroupMap;

fn spec(keys: &[usize]) -> plan::GroupAggregate {
    plan::GroupAggregate { keys: keys.to_vec(), calls: all_calls(), state_ttl: None }
}

fn operator(spec: &plan::GroupAggregate, input: InputForm, context: &OperatorContext) -> GroupAggregate {
    let output = output_schema(&spec.keys, &spec.calls, Vec::new());
    GroupAggregate::new(spec, input, &input_schema(), output, context).unwrap()
}

/// The table that a changelog describes: result rows, each at most once per key.
#[derive(Default, Debug, PartialEq)]
struct Folded {
    rows: BTreeMap<Vec<String>, Vec<String>>,
    keys: usize,
}

impl Folded {
    fn new(keys: usize) -> Self {
        Self { rows: BTreeMap::new(), keys }
    }

    fn apply(&mut self, batch: &Batch) {
        for (row, cells) in shown(batch).into_iter().enumerate() {
            let key = cells[..self.keys].to_vec();
            match batch.kind(row) {
                RowKind::Insert => assert_eq!(self.rows.insert(key, cells), None, "+I of a known key"),
                RowKind::UpdateAfter => assert_eq!(self.rows.insert(key, cells), None, "+U without its -U"),
                kind @ (RowKind::UpdateBefore | RowKind::Delete) => {
                    assert_eq!(self.rows.remove(&key), Some(cells), "{kind} of what is not there");
                }
            }
        }
    }

    fn apply_all(&mut self, elements: &[Element]) {
        for element in elements {
            if let Element::Batch(batch) = element {
                self.apply(batch);
            }
        }
    }
}

fn expected(keys: &[usize], rows: &[Row]) -> BTreeMap<Vec<String>, Vec<String>> {
    let mut groups: BTreeMap<Vec<String>, Vec<Row>> = BTreeMap::new();
    for row in rows {
        groups.entry(oracle::key(row, keys)).or_default().push(row.clone());
    }
    let row = |(key, rows): (Vec<String>, Vec<Row>)| {
        let cells = key.iter().cloned().chain(oracle::results(&all_calls(), &rows)).collect();
        (key, cells)
    };
    groups.into_iter().map(row).collect()
}

struct Tasks {
    spec: plan::GroupAggregate,
    input: InputForm,
    owners: KeyGroupMap,
    tasks: Vec<Box<dyn Operator>>,
    history: History,
}

impl Tasks {
    fn new(keys: &[usize], input: InputForm, parallelism: u32) -> Self {
        let (spec, owners) = (spec(keys), owners(parallelism));
        let task = |task| Box::new(operator(&spec, input, &context(&owners, task))) as _;
        Self { tasks: (0..parallelism).map(task).collect(), spec, input, owners, history: History::default() }
    }

    fn process(&mut self, batch: &Batch, folded: &mut Folded) {
        let keys: Vec<usize> = match self.input {
            InputForm::Partials => (0..self.spec.keys.len()).collect(),
            _ => self.spec.keys.clone(),
        };
        let parts = partition(batch, &keys, &self.owners);
        for (task, part) in self.tasks.iter_mut().zip(parts).filter(|(_, part)| !part.is_empty()) {
            let mut out = Collected::default();
            task.process(0, part, &mut out).unwrap();
            folded.apply_all(&out.0);
        }
    }

    /// Groups that the newest checkpoint has.
    fn stored_groups(&self) -> usize {
        let context = context(&owners(1), 0);
        let mut fresh = operator(&self.spec, self.input, &context);
        fresh.restore(self.history.before(0, &context.key_groups)).unwrap();
        fresh.groups()
    }

    fn rescale(&mut self, parallelism: u32) {
        self.history.push(self.tasks.iter_mut().map(|task| task.snapshot().unwrap()).collect());
        let owners = self.owners.rescale(parallelism).unwrap();
        let mut before = std::mem::take(&mut self.tasks).into_iter();
        self.tasks = (0..parallelism)
            .map(|task| {
                let context = context(&owners, task);
                let fresh = Box::new(operator(&self.spec, self.input, &context));
                self.history.begin(fresh, before.next().zip(Some(self.owners.owned(task))), &context)
            })
            .collect();
        self.owners = owners;
    }
}

fn any_batches() -> impl Strategy<Value = Vec<Vec<Row>>> {
    prop::collection::vec(prop::collection::vec(any_row(0..100), 1..30), 1..8)
}

fn any_keys() -> impl Strategy<Value = Vec<usize>> {
    prop::sample::select(vec![
        vec![],
        vec![0],
        vec![1],
        vec![0, 1],
        vec![1, 6, 0],
        vec![5, 8],
        vec![7, 1],
        (0..18).map(|n| n % 3 * 4).collect(),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn inserts_fold_to_the_plain_result_across_restores_and_rescales(
        batches in any_batches(), keys in any_keys(), scales in prop::collection::vec(0..5_u32, 8),
    ) {
        let mut folded = Folded::new(keys.len());
        let mut tasks = Tasks::new(&keys, InputForm::Rows, 2);
        for (rows, scale) in batches.iter().zip(&scales) {
            tasks.process(&batch(rows), &mut folded);
            if *scale > 0 {
                tasks.rescale(*scale);
            }
        }
        let rows: Vec<Row> = batches.concat();
        prop_assert_eq!(&folded.rows, &expected(&keys, &rows));
    }

    #[test]
    fn partial_results_change_nothing(
        batches in any_batches(), keys in any_keys(), flushes in prop::collection::vec(any::<bool>(), 8), scale in 1..4_u32,
    ) {
        let mut folded = Folded::new(keys.len());
        let mut tasks = Tasks::new(&keys, InputForm::Partials, 3);
        let mut local = LocalGroupAggregate::new(&spec(&keys), &input_schema(), &context(&owners(1), 0)).unwrap();
        let schema = partial_schema(&spec(&keys), &input_schema()).unwrap();
        for (rows, flush) in batches.iter().zip(&flushes) {
            let mut out = Collected::default();
            local.process(0, batch(rows), &mut out).unwrap();
            if *flush {
                local.on_idle(&mut out).unwrap();
            }
            for element in &out.0 {
                let Element::Batch(partials) = element else { continue };
                prop_assert_eq!(&partials.schema(), &schema);
                tasks.process(partials, &mut folded);
            }
            tasks.rescale(scale);
        }
        let mut out = Collected::default();
        local.on_end(&mut out).unwrap();
        for element in &out.0 {
            if let Element::Batch(partials) = element {
                tasks.process(partials, &mut folded);
            }
        }
        let rows: Vec<Row> = batches.concat();
        prop_assert_eq!(&folded.rows, &expected(&keys, &rows));
    }

    #[test]
    fn retractions_fold_to_the_plain_result_of_what_is_left(
        batches in any_batches(), keys in any_keys(), picks in prop::collection::vec(any::<prop::sample::Index>(), 120),
        scales in prop::collection::vec(0..4_u32, 8),
    ) {
        let mut folded = Folded::new(keys.len());
        let mut tasks = Tasks::new(&keys, InputForm::Changes, 2);
        let (mut live, mut picks) = (Vec::<Row>::new(), picks.into_iter());
        for (rows, scale) in batches.iter().zip(&scales) {
            let mut sent = Vec::new();
            for row in rows {
                sent.push((RowKind::Insert, row.clone()));
                live.push(row.clone());
                let retracts = row.flag.is_some();
                if let (true, Some(pick)) = (retracts, picks.next()) {
                    sent.push((RowKind::Delete, live.swap_remove(pick.index(live.len()))));
                }
            }
            tasks.process(&changes(&sent), &mut folded);
            prop_assert_eq!(&folded.rows, &expected(&keys, &live));
            if *scale > 0 {
                tasks.rescale(*scale);
            }
        }
        let all: Vec<_> = live.drain(..).map(|row| (RowKind::UpdateBefore, row)).collect();
        if !all.is_empty() {
            tasks.process(&changes(&all), &mut folded);
        }
        prop_assert!(folded.rows.is_empty(), "{:?}", folded);
        tasks.rescale(1);
        prop_assert!(tasks.tasks[0].snapshot().unwrap().tables.is_empty());
        prop_assert_eq!(tasks.stored_groups(), 0);
    }
}

fn row(key: i64, big: i64) -> Row {
    Row {
        key: Some(key),
        name: None,
        ts: 0,
        big: Some(big),
        small: None,
        float: None,
        decimal: None,
        text: None,
        flag: None,
    }
}

/// What one batch makes the operator emit: kinds with the count of rows.
fn kinds(operator: &mut GroupAggregate, batch: Batch) -> Vec<(RowKind, String)> {
    let mut out = Collected::default();
    operator.process(0, batch, &mut out).unwrap();
    let mut kinds = Vec::new();
    for element in &out.0 {
        let Element::Batch(batch) = element else { continue };
        kinds.extend(shown(batch).into_iter().enumerate().map(|(row, cells)| (batch.kind(row), cells[1].clone())));
    }
    kinds
}

#[test]
fn a_group_changes_once_per_batch_and_only_if_its_result_does() {
    let one = owners(1);
    let mut spec = spec(&[0]);
    spec.calls = vec![super::call(super::Function::Max, Some(3), None, arrow::datatypes::DataType::Int64)];
    let mut operator = operator(&spec, InputForm::Rows, &context(&one, 0));
    let is = |kind, value: &str| (kind, value.to_owned());
    assert_eq!(kinds(&mut operator, batch(&[row(1, 5), row(1, 7)])), [is(RowKind::Insert, "7")]);
    assert_eq!(kinds(&mut operator, batch(&[row(1, 6)])), []);
    let update = [is(RowKind::UpdateBefore, "7"), is(RowKind::UpdateAfter, "8")];
    assert_eq!(kinds(&mut operator, batch(&[row(1, 8)])), update);
}

#[test]
fn retractions_of_unknown_groups_are_ignored() {
    let one = owners(1);
    let mut operator = operator(&spec(&[0]), InputForm::Changes, &context(&one, 0));
    let gone = kinds(&mut operator, changes(&[(RowKind::Delete, row(1, 5)), (RowKind::Insert, row(2, 5))]));
    assert_eq!(gone, [(RowKind::Insert, "1".into())]);
    let both = changes(&[(RowKind::Insert, row(3, 5)), (RowKind::Delete, row(3, 5))]);
    assert_eq!(kinds(&mut operator, both), []);
}

#[test]
fn an_expired_group_is_as_new_and_leaves_the_state() {
    let mut context = context(&owners(1), 0);
    context.state_ttl = Some(Duration::from_millis(100));
    let mut task = operator(&spec(&[0]), InputForm::Rows, &context);
    let is = |kind, value: &str| (kind, value.to_owned());
    task.set_processing_time(1_000);
    assert_eq!(kinds(&mut task, batch(&[row(1, 5), row(2, 5)])), [is(RowKind::Insert, "1"), is(RowKind::Insert, "1")]);
    let mut snapshots = vec![task.snapshot().unwrap()];
    task.set_processing_time(1_100);
    let update = [is(RowKind::UpdateBefore, "1"), is(RowKind::UpdateAfter, "2")];
    assert_eq!(kinds(&mut task, batch(&[row(1, 5)])), update);
    task.set_processing_time(1_201);
    assert_eq!(kinds(&mut task, batch(&[row(1, 5)])), [is(RowKind::Insert, "1")]);
    snapshots.push(task.snapshot().unwrap());
    assert_eq!(snapshots[1].tables[0].rows.num_rows(), 2, "the group that nobody touched is deleted too");

    let mut next = operator(&spec(&[0]), InputForm::Rows, &context);
    next.restore(restored_for(&snapshots, &snapshots[1..], &context.key_groups)).unwrap();
    next.set_processing_time(1_301);
    assert_eq!(next.groups(), 1);
    assert_eq!(kinds(&mut next, batch(&[row(1, 5)])), update);
}

#[test]
fn a_time_to_live_can_be_added_to_a_state_and_taken_away() {
    let context = |ttl_ms: Option<u64>| {
        let mut context = context(&owners(1), 0);
        context.state_ttl = ttl_ms.map(Duration::from_millis);
        context
    };
    let is = |kind, value: &str| (kind, value.to_owned());
    let update = |to: &str, from: &str| [is(RowKind::UpdateBefore, from), is(RowKind::UpdateAfter, to)];
    for form in [InputForm::Rows, InputForm::Changes] {
        let begin = |ttl_ms, snapshots: &[_], at: i64| {
            let context = context(ttl_ms);
            let mut task = operator(&spec(&[0]), form, &context);
            if let Some(last) = snapshots.last() {
                task.restore(restored_for(snapshots, std::slice::from_ref(last), &context.key_groups)).unwrap();
            }
            task.set_processing_time(at);
            task
        };
        let rows = |rows: &[_]| batch(rows);
        let mut without = begin(None, &[], 1_000);
        kinds(&mut without, rows(&[row(1, 5), row(2, 5)]));
        assert_eq!(without.state_schema(), begin(Some(100), &[], 0).state_schema(), "they fit");
        let mut snapshots = vec![without.snapshot().unwrap()];

        // Nobody knows when they were used last: they count as used now.
        let mut with = begin(Some(100), &snapshots, 5_000);
        snapshots.push(with.snapshot().unwrap());
        let mut with = begin(Some(100), &snapshots, 5_100);
        assert_eq!(kinds(&mut with, rows(&[row(1, 5)])), update("2", "1"));
        with.set_processing_time(5_101);
        assert_eq!(kinds(&mut with, rows(&[row(2, 5)])), [is(RowKind::Insert, "1")], "it was not used for too long");
        snapshots.push(with.snapshot().unwrap());

        let mut without = begin(None, &snapshots, 90_000);
        assert_eq!(kinds(&mut without, rows(&[row(1, 5)])), update("3", "2"));
        snapshots.push(without.snapshot().unwrap());
        let mut with = begin(Some(100), &snapshots, 95_000);
        assert_eq!(kinds(&mut with, rows(&[row(1, 5)])), update("4", "3"), "used at a time that nobody knows");
        assert_eq!(kinds(&mut with, rows(&[row(2, 5)])), [is(RowKind::Insert, "1")], "used at 5101");
    }
}

#[test]
fn held_watermarks_go_after_the_rows_before_them() {
    let mut local = LocalGroupAggregate::new(&spec(&[0]), &input_schema(), &context(&owners(1), 0)).unwrap();
    let mut out = Collected::default();
    local.on_watermark(EventTime(1), &mut out).unwrap();
    local.process(0, batch(&[row(1, 5)]), &mut out).unwrap();
    local.on_watermark(EventTime(2), &mut out).unwrap();
    local.on_watermark(EventTime(3), &mut out).unwrap();
    local.process(0, batch(&[row(1, 5)]), &mut out).unwrap();
    local.before_barrier(&mut out).unwrap();
    let order: Vec<String> = out
        .0
        .iter()
        .map(|element| match element {
            Element::Batch(batch) => format!("{} rows", batch.num_rows()),
            Element::Watermark(watermark) => watermark.to_string(),
        })
        .collect();
    assert_eq!(order, ["1", "1 rows", "3"]);
}
