//! Windows against a plain evaluation: the same results and the same late rows, row by row.

use super::{
    Collected, Element, History, Row, all_calls, any_row, batch, context, input_schema, oracle, output_schema, owners,
    partition, shown,
};
use crate::operator::aggregate::{InputForm, window};
use crate::operator::snapshot::Snapshot;
use crate::operator::window::Window;
use crate::operator::{Counter, Operator, OperatorContext};
use crate::plan;
use arrow::datatypes::{DataType, Field, TimeUnit};
use proptest::prelude::*;
use std::collections::BTreeMap;
use weir_protocol::EventTime;
use weir_protocol::key_group::KeyGroupMap;

/// What happens at the input.
#[derive(Debug, Clone)]
enum Event {
    Rows(Vec<Row>),
    Watermark(i64),
    Idle,
    Barrier,
    Rescale(u32),
}

fn spec(window: Window, keys: &[usize]) -> plan::WindowAggregate {
    plan::WindowAggregate { window, time: 2, keys: keys.to_vec(), calls: all_calls() }
}

fn operator(spec: &plan::WindowAggregate, input: InputForm, context: &OperatorContext) -> Box<dyn Operator> {
    let time = |name| Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, None), false);
    let times = ["window_start", "window_end", "window_time"].map(time).to_vec();
    window::keyed(spec, input, &input_schema(), output_schema(&spec.keys, &spec.calls, times), context).unwrap()
}

/// The windows of a key by Flink's rules, one row at a time.
struct Plain {
    window: Window,
    keys: Vec<usize>,
    watermark: i64,
    /// Rows by key and window.
    windows: BTreeMap<(Vec<String>, i64, i64), Vec<Row>>,
    results: Vec<Vec<String>>,
    late: u64,
}

impl Plain {
    fn new(window: Window, keys: &[usize]) -> Self {
        let (keys, windows, results) = (keys.to_vec(), BTreeMap::new(), Vec::new());
        Self { window, keys, watermark: i64::MIN, windows, results, late: 0 }
    }

    fn row(&mut self, row: &Row) {
        let key = oracle::key(row, &self.keys);
        if let Window::Session { gap_ms } = self.window {
            return self.session_row(key, row, gap_ms);
        }
        let spans = spans(self.window, row.ts);
        let open: Vec<_> = spans.iter().filter(|(_, end)| end - 1 > self.watermark).collect();
        if open.is_empty() {
            self.late += 1;
        }
        for (start, end) in open {
            self.windows.entry((key.clone(), *start, *end)).or_default().push(row.clone());
        }
    }

    fn session_row(&mut self, key: Vec<String>, row: &Row, gap: i64) {
        let (mut start, mut end, mut rows) = (row.ts, row.ts + gap, Vec::new());
        let touching: Vec<_> =
            self.windows.keys().filter(|(other, s, e)| *other == key && *s <= end && *e >= start).cloned().collect();
        let merged = touching.iter().fold((start, end), |(s, e), (_, s2, e2)| (s.min(*s2), e.max(*e2)));
        (start, end) = merged;
        if end - 1 <= self.watermark {
            self.late += 1;
            return;
        }
        for window in touching {
            rows.extend(self.windows.remove(&window).unwrap());
        }
        rows.push(row.clone());
        self.windows.insert((key, start, end), rows);
    }

    fn watermark(&mut self, watermark: i64) {
        self.watermark = self.watermark.max(watermark);
        let ripe: Vec<_> = self.windows.keys().filter(|(_, _, end)| end - 1 <= self.watermark).cloned().collect();
        for window in ripe {
            let rows = self.windows.remove(&window).unwrap();
            let (key, start, end) = window;
            let times = [start, end, end - 1].map(oracle::show_time);
            self.results.push(key.into_iter().chain(oracle::results(&all_calls(), &rows)).chain(times).collect());
        }
    }
}

fn spans(window: Window, time: i64) -> Vec<(i64, i64)> {
    let floor = |interval: i64, offset: i64| time - (time - offset).rem_euclid(interval);
    match window {
        Window::Tumble { size_ms, offset_ms } => vec![(floor(size_ms, offset_ms), floor(size_ms, offset_ms) + size_ms)],
        Window::Hop { slide_ms, size_ms, offset_ms } => {
            let last = floor(slide_ms, offset_ms);
            let starts = (0..).map(|back| last - back * slide_ms).take_while(|start| start + size_ms > time);
            starts.map(|start| (start, start + size_ms)).collect()
        }
        Window::Cumulate { step_ms, size_ms, offset_ms } => {
            let start = floor(size_ms, offset_ms);
            let ends = (1..=size_ms / step_ms).map(|step| start + step * step_ms);
            ends.filter(|end| *end > time).map(|end| (start, end)).collect()
        }
        Window::Session { .. } => panic!("sessions depend on each other"),
    }
}

struct Tasks {
    spec: plan::WindowAggregate,
    input: InputForm,
    owners: KeyGroupMap,
    tasks: Vec<(Box<dyn Operator>, Counter)>,
    history: History,
    results: Vec<Vec<String>>,
    late_before: u64,
}

impl Tasks {
    fn new(spec: &plan::WindowAggregate, input: InputForm, parallelism: u32) -> Self {
        let owners = owners(parallelism);
        let mut tasks = Self {
            spec: plan::WindowAggregate { calls: spec.calls.clone(), keys: spec.keys.clone(), ..*spec },
            input,
            owners,
            tasks: Vec::new(),
            history: History::default(),
            results: Vec::new(),
            late_before: 0,
        };
        let context = |task| context(&tasks.owners, task);
        let contexts = (0..parallelism).map(context);
        tasks.tasks = contexts.map(|context| (operator(&tasks.spec, input, &context), context.late_rows)).collect();
        tasks
    }

    fn late(&self) -> u64 {
        self.late_before + self.tasks.iter().map(|(_, late)| late.get()).sum::<u64>()
    }

    fn feed(&mut self, elements: Vec<Element>) {
        for element in elements {
            match element {
                Element::Batch(batch) => self.feed_batch(&batch),
                Element::Watermark(watermark) => {
                    for at in 0..self.tasks.len() {
                        self.call(at, |operator, out| operator.on_watermark(watermark, out).unwrap());
                    }
                }
            }
        }
    }

    fn feed_batch(&mut self, batch: &crate::batch::Batch) {
        let keys: Vec<usize> = match self.input {
            InputForm::Partials => (0..self.spec.keys.len()).collect(),
            _ => self.spec.keys.clone(),
        };
        for (at, part) in partition(batch, &keys, &self.owners).into_iter().enumerate() {
            if !part.is_empty() {
                self.call(at, |operator, out| operator.process(0, part.clone(), out).unwrap());
            }
        }
    }

    fn call(&mut self, task: usize, call: impl Fn(&mut dyn Operator, &mut Collected)) {
        let mut out = Collected::default();
        call(self.tasks[task].0.as_mut(), &mut out);
        for element in &out.0 {
            if let Element::Batch(batch) = element {
                self.results.extend(shown(batch));
            }
        }
    }

    fn rescale(&mut self, parallelism: u32) {
        let last: Vec<Snapshot> = self.tasks.iter_mut().map(|(task, _)| task.snapshot().unwrap()).collect();
        for ((_, late), snapshot) in self.tasks.iter().zip(&last) {
            assert_eq!(snapshot.counters["late_rows"], late.get());
        }
        self.late_before = self.late();
        self.history.push(last);
        let owners = self.owners.rescale(parallelism).unwrap();
        let mut before = std::mem::take(&mut self.tasks).into_iter();
        self.tasks = (0..parallelism)
            .map(|task| {
                let context = context(&owners, task);
                let kept = before.next().map(|(operator, _)| (operator, self.owners.owned(task)));
                let operator = self.history.begin(operator(&self.spec, self.input, &context), kept, &context);
                (operator, context.late_rows)
            })
            .collect();
        self.owners = owners;
    }
}

/// With the local part or without, the results and the number of late rows are those of the plain evaluation.
fn check(window: Window, keys: &[usize], events: &[Event], input: InputForm, parallelism: u32) {
    let spec = spec(window, keys);
    let mut plain = Plain::new(window, keys);
    let mut tasks = Tasks::new(&spec, input, parallelism);
    let mut local = window::local(&spec, &input_schema(), &context(&owners(1), 0)).unwrap();
    let mut watermark = i64::MIN;
    let end = [Event::Watermark(i64::MAX)];
    for event in events.iter().chain(&end) {
        let mut out = Collected::default();
        match event {
            Event::Rows(rows) => {
                rows.iter().for_each(|row| plain.row(row));
                if input == InputForm::Partials {
                    local.process(0, batch(rows), &mut out).unwrap();
                } else {
                    tasks.feed_batch(&batch(rows));
                }
            }
            Event::Watermark(time) => {
                watermark = watermark.max(*time);
                plain.watermark(watermark);
                if input == InputForm::Partials {
                    local.on_watermark(EventTime(watermark), &mut out).unwrap();
                } else {
                    tasks.feed(vec![Element::Watermark(EventTime(watermark))]);
                }
            }
            Event::Idle => local.on_idle(&mut out).unwrap(),
            Event::Barrier => {
                local.before_barrier(&mut out).unwrap();
            }
            Event::Rescale(parallelism) => {
                local.before_barrier(&mut out).unwrap();
                tasks.feed(std::mem::take(&mut out.0));
                tasks.rescale(*parallelism);
            }
        }
        tasks.feed(out.0);
    }
    plain.results.sort();
    tasks.results.sort();
    assert_eq!(tasks.results, plain.results);
    assert_eq!(tasks.late(), plain.late, "late rows");
    tasks.rescale(1);
    let context = context(&tasks.owners, 0);
    let mut last = operator(&spec, input, &context);
    last.restore(tasks.history.before(0, &context.key_groups)).unwrap();
    assert!(last.state_bytes() < 10_000, "everything has fired");
}

/// Two tasks were at different event times when the checkpoint was taken; one task goes on with the key groups of both,
/// and each keeps its own.
fn check_floors(window: Window, watermarks: [i64; 2], before: &[Row], after: &[(Vec<Row>, i64)]) {
    let keys = [0];
    let mut tasks = Tasks::new(&spec(window, &keys), InputForm::Rows, 2);
    let owners = owners(2);
    let mut plains = [Plain::new(window, &keys), Plain::new(window, &keys)];
    let feed = |plains: &mut [Plain; 2], rows: &[Row]| {
        for row in rows {
            let parts = partition(&batch(std::slice::from_ref(row)), &keys, &owners);
            plains[usize::from(parts[0].is_empty())].row(row);
        }
    };
    feed(&mut plains, before);
    let (earlier, later) = before.split_at(before.len() / 2);
    tasks.feed_batch(&batch(earlier));
    // From here a task can load ahead.
    tasks.rescale(2);
    tasks.feed_batch(&batch(later));
    for (at, watermark) in watermarks.into_iter().enumerate() {
        plains[at].watermark(watermark);
        tasks.call(at, |operator, out| operator.on_watermark(EventTime(watermark), out).unwrap());
    }
    tasks.rescale(1);
    for (number, (rows, watermark)) in after.iter().enumerate() {
        feed(&mut plains, rows);
        tasks.feed_batch(&batch(rows));
        plains.iter_mut().for_each(|plain| plain.watermark(*watermark));
        tasks.feed(vec![Element::Watermark(EventTime(*watermark))]);
        if number == 1 {
            tasks.rescale(2);
            tasks.rescale(1);
        }
    }
    let mut expected = [&plains[0].results[..], &plains[1].results[..]].concat();
    expected.sort();
    tasks.results.sort();
    assert_eq!(tasks.results, expected);
    assert_eq!(tasks.late(), plains[0].late + plains[1].late, "late rows");
}

#[test]
fn a_row_without_event_time_is_the_users_mistake() {
    let context = context(&owners(1), 0);
    let spec = spec(Window::Tumble { size_ms: 10, offset_ms: 0 }, &[0]);
    let rows = batch(&[]).rows;
    let mut columns: Vec<_> =
        rows.columns().iter().map(|column| arrow::array::new_null_array(column.data_type(), 1)).collect();
    columns[0] = std::sync::Arc::new(arrow::array::Int64Array::from(vec![1]));
    let null = crate::batch::Batch::inserts(arrow::array::RecordBatch::try_new(rows.schema(), columns).unwrap());
    let mut whole = operator(&spec, InputForm::Rows, &context);
    let mut before = window::local(&spec, &input_schema(), &context).unwrap();
    for operator in [&mut whole, &mut before] {
        let failure = operator.process(0, null.clone(), &mut Collected::default()).unwrap_err();
        assert_eq!(failure.kind, crate::failure::Kind::User);
        assert!(failure.chain().contains("ts IS NOT NULL"), "{}", failure.chain());
    }
}

#[test]
fn a_window_function_repeats_rows_per_window_and_keeps_their_kinds() {
    let window = Window::Cumulate { step_ms: 5, size_ms: 20, offset_ms: 0 };
    let times = ["window_start", "window_end", "window_time"];
    let time = |name: &&str| Field::new(*name, DataType::Timestamp(TimeUnit::Millisecond, None), false);
    let fields = input_schema().fields().iter().map(|field| field.as_ref().clone()).collect::<Vec<_>>();
    let schema = arrow::datatypes::Schema::new([fields, times.iter().map(time).collect()].concat());
    let spec = plan::WindowAssign { window, time: 2 };
    let mut operator = window::WindowAssign::new(&spec, std::sync::Arc::new(schema)).unwrap();
    let row = |ts| Row {
        key: Some(ts),
        name: None,
        ts,
        big: None,
        small: None,
        float: None,
        decimal: None,
        text: None,
        flag: None,
    };
    let mut out = Collected::default();
    let rows = [(crate::batch::RowKind::Insert, row(-8)), (crate::batch::RowKind::Delete, row(17))];
    operator.process(0, super::changes(&rows), &mut out).unwrap();
    let Element::Batch(batch) = &out.0[0] else { panic!("a batch comes out") };
    let found: Vec<String> = shown(batch)
        .iter()
        .enumerate()
        .map(|(at, cells)| format!("{} {} {}", batch.kind(at), cells[0], cells[9..].join(" ")))
        .collect();
    let expected = [(-20, -5, "+I -8"), (-20, 0, "+I -8"), (0, 20, "-D 17")]
        .map(|(start, end, row)| format!("{row} {}", [start, end, end - 1].map(oracle::show_time).join(" ")));
    assert_eq!(found, expected);
}

fn any_window() -> impl Strategy<Value = Window> {
    prop::sample::select(vec![
        Window::Tumble { size_ms: 10, offset_ms: 3 },
        Window::Hop { slide_ms: 5, size_ms: 20, offset_ms: 0 },
        Window::Cumulate { step_ms: 5, size_ms: 20, offset_ms: 0 },
        Window::Session { gap_ms: 8 },
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn key_groups_keep_their_event_time_across_a_restore(
        window in any_window(),
        watermarks in [-40..40_i64, -40..40],
        before in prop::collection::vec(any_row(-60..60), 0..30),
        after in prop::collection::vec((prop::collection::vec(any_row(-60..60), 0..20), -60..60_i64), 1..5),
    ) {
        let mut after = after;
        after.sort_by_key(|(_, watermark)| *watermark);
        after.push((Vec::new(), i64::MAX));
        check_floors(window, watermarks, &before, &after);
    }
}

fn any_events() -> impl Strategy<Value = Vec<Event>> {
    // Time goes on by steps; rows lie around the present, some far behind it.
    let step = (0..40_i64, prop::collection::vec(any_row(-60..20), 0..12), 0..12_u32, -5..30_i64);
    prop::collection::vec(step, 1..16).prop_map(|steps| {
        let mut now = -150;
        let mut events = Vec::new();
        for (advance, mut rows, what, lag) in steps {
            now += advance;
            rows.iter_mut().for_each(|row| row.ts += now);
            events.push(Event::Rows(rows));
            match what {
                0..5 => events.push(Event::Watermark(now - lag)),
                5 => events.push(Event::Idle),
                6 => events.push(Event::Barrier),
                7..11 => events.push(Event::Rescale(what - 6)),
                _ => {}
            }
        }
        events
    })
}

fn any_keys() -> impl Strategy<Value = Vec<usize>> {
    prop::sample::select(vec![vec![], vec![0], vec![1], vec![0, 1]])
}

fn any_input() -> impl Strategy<Value = InputForm> {
    prop::sample::select(vec![InputForm::Rows, InputForm::Partials])
}

macro_rules! windows_agree {
    ($($name:ident: $window:expr;)*) => {
        proptest! {
            #![proptest_config(ProptestConfig::with_cases(48))]
            $(
                #[test]
                fn $name(events in any_events(), keys in any_keys(), input in any_input(), parallelism in 1..5_u32) {
                    check($window, &keys, &events, input, parallelism);
                }
            )*
        }
    };
}

windows_agree! {
    tumbling_windows_agree: Window::Tumble { size_ms: 10, offset_ms: 0 };
    tumbling_windows_with_an_offset_agree: Window::Tumble { size_ms: 15, offset_ms: -4 };
    hopping_windows_agree: Window::Hop { slide_ms: 5, size_ms: 20, offset_ms: 0 };
    hopping_windows_of_many_panes_agree: Window::Hop { slide_ms: 1, size_ms: 80, offset_ms: 3 };
    hopping_windows_of_uneven_panes_agree: Window::Hop { slide_ms: 4, size_ms: 10, offset_ms: 1 };
    growing_windows_agree: Window::Cumulate { step_ms: 5, size_ms: 20, offset_ms: 0 };
    sessions_agree: Window::Session { gap_ms: 10 };
    sessions_with_a_short_gap_agree: Window::Session { gap_ms: 2 };
    sessions_with_a_long_gap_agree: Window::Session { gap_ms: 70 };
    growing_windows_with_an_offset_agree: Window::Cumulate { step_ms: 4, size_ms: 24, offset_ms: 7 };
}
