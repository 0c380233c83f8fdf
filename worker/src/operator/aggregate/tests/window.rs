//! Windows against a plain evaluation: the same results and the same late rows, row by row.

use super::{
    Collected, Element, Row, all_calls, any_row, batch, context, input_schema, oracle, output_schema, owners,
    partition, restored_for, shown,
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
    snapshots: Vec<Snapshot>,
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
            snapshots: Vec::new(),
            results: Vec::new(),
            late_before: 0,
        };
        tasks.start(&[]);
        tasks
    }

    fn start(&mut self, last: &[Snapshot]) {
        self.tasks = (0..self.owners.parallelism())
            .map(|task| {
                let context = context(&self.owners, task);
                let mut operator = operator(&self.spec, self.input, &context);
                if !last.is_empty() {
                    operator.restore(restored_for(&self.snapshots, last, &context.key_groups)).unwrap();
                }
                (operator, context.late_rows)
            })
            .collect();
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
        self.late_before = self.late();
        let counted: u64 = last.iter().map(|snapshot| snapshot.counters["late_rows"]).sum();
        assert_eq!(counted, self.late_before - (self.late_before - counted), "late rows are part of a snapshot");
        self.snapshots.extend(last.iter().cloned());
        self.owners = self.owners.rescale(parallelism).unwrap();
        self.start(&last);
    }
}

/// With the local part or without, the results and the number of late rows are those of the plain evaluation.
fn check(window: Window, keys: &[usize], events: &[Event], input: InputForm, parallelism: u32) {
    let spec = spec(window, keys);
    let mut plain = Plain {
        window,
        keys: keys.to_vec(),
        watermark: i64::MIN,
        windows: BTreeMap::new(),
        results: Vec::new(),
        late: 0,
    };
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
    assert!(tasks.tasks[0].0.state_bytes() < 10_000, "everything has fired");
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
    growing_windows_with_an_offset_agree: Window::Cumulate { step_ms: 4, size_ms: 24, offset_ms: 7 };
}
