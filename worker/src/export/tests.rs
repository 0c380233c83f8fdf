#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::target::Target;
use super::{Export, FILE_BYTES};
use crate::batch::Batch;
use crate::checkpoint::store::directory::DirectoryStore;
use crate::checkpoint::store::{Put, Store};
use crate::connector::Environment;
use crate::dataflow::graph::Role;
use crate::failure::{Kind, Result};
use crate::operator::{Counter, Operator, OperatorContext, Output, build};
use crate::plan::{NodeKind, Plan};
use crate::sql::{self, BuiltInConnectors, PlanConfig};
use crate::state::file::FileBuilder;
use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringViewArray,
    TimestampMillisecondArray, UInt8Array,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use weir_protocol::chain::{Manifest, OperatorState, Sizes, Terms};
use weir_protocol::key_group::MaxParallelism;
use weir_protocol::snapshot::{KeyGroupRange, StateFile};
use weir_protocol::{CheckpointId, EventTime, Generation, KeyGroup, LinkNumber, OperatorId};

const TABLES: &str = "CREATE TABLE t (k BIGINT, name STRING, price BIGINT, amount DECIMAL(10, 2), weight DOUBLE,
    ok BOOLEAN, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen');
    CREATE TABLE o WITH ('connector' = 'blackhole') LIKE t;";
const KEY_GROUPS: u16 = 16;

/// Where an operator's output goes.
struct Nowhere;

impl Output for Nowhere {
    fn emit(&mut self, _batch: Batch) -> Result<()> {
        Ok(())
    }

    fn watermark(&mut self, _watermark: EventTime) -> Result<()> {
        Ok(())
    }
}

/// The last aggregation of a query, its state in a store, and the manifest that refers to it.
struct Aggregation {
    plan: Plan,
    node: usize,
    operator: Box<dyn Operator>,
    store: DirectoryStore,
    _folder: tempfile::TempDir,
    manifest: Manifest,
}

impl Aggregation {
    fn of(select: &str, sink: &str) -> Self {
        let script = TABLES.replace(
            "o WITH ('connector' = 'blackhole') LIKE t",
            &format!("o ({sink}) WITH ('connector' = 'blackhole')"),
        );
        let script = format!("{script} INSERT INTO o {select};");
        let connectors = BuiltInConnectors { environment: Environment::default() };
        let secrets = |_: &str, _: &str| Err(String::new());
        let plan = sql::plan(&script, &PlanConfig { connectors: &connectors, secrets: &secrets, state_ttl: None });
        let plan = plan.unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        let is_aggregate = |kind: &NodeKind| matches!(kind, NodeKind::GroupAggregate(_) | NodeKind::WindowAggregate(_));
        let node = plan.nodes.iter().rposition(|node| is_aggregate(&node.kind)).unwrap();
        let context = OperatorContext {
            operator: OperatorId("aggregate".into()),
            key_groups: vec![all()],
            max_parallelism: MaxParallelism::new(u32::from(KEY_GROUPS)).unwrap(),
            late_rows: Counter::default(),
            state_ttl: None,
        };
        let operator = build::operator(&plan, node, Role::Whole, &context).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let store = DirectoryStore::open(folder.path()).unwrap();
        let legend = serde_json::to_value(build::legends(&plan, &plan.nodes[node])).unwrap();
        let manifest = manifest(OperatorState { kind: "aggregate".into(), legend, ..OperatorState::default() });
        Self { plan, node, operator, store, _folder: folder, manifest }
    }

    /// Feeds rows `kind k name price amount weight ok ts`, `-` for null.
    fn feed(&mut self, rows: &str) -> &mut Self {
        let rows: Vec<Vec<&str>> = rows.lines().map(|row| row.split_whitespace().collect()).collect();
        let schema = Arc::clone(&self.plan.nodes[self.plan.nodes[self.node].inputs[0]].schema);
        let places = ["", "k", "name", "price", "amount", "weight", "ok", "ts"];
        let columns = schema.fields().iter().map(|field| {
            let place = places.iter().position(|name| name == field.name()).unwrap_or_else(|| panic!("{field}"));
            column(places[place], rows.iter().map(|row| Some(row[place]).filter(|value| *value != "-")).collect())
        });
        let mut batch = Batch::inserts(RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap());
        let kinds: Vec<u8> = rows
            .iter()
            .map(|row| ["+I", "-U", "+U", "-D"].iter().position(|kind| *kind == row[0]).unwrap() as u8)
            .collect();
        if kinds.iter().any(|kind| *kind != 0) {
            batch.kinds = Some(UInt8Array::from(kinds));
        }
        self.operator.process(0, batch, &mut Nowhere).unwrap();
        self
    }

    fn watermark(&mut self, watermark: i64) -> &mut Self {
        self.operator.on_watermark(EventTime(watermark), &mut Nowhere).unwrap();
        self
    }

    /// Stores what has changed.
    fn checkpoint(&mut self) -> &mut Self {
        let snapshot = self.operator.snapshot().unwrap();
        let state = self.manifest.operators.values_mut().next().unwrap();
        state.watermarks = snapshot.watermarks;
        for delta in snapshot.tables {
            let mut builder = FileBuilder::new(&delta).unwrap();
            builder.add(&delta).unwrap();
            let encoded = builder.finish().unwrap().unwrap();
            let sequence = state.files.len() as u64;
            let path = format!("state/aggregate/1-{sequence}");
            assert!(matches!(self.store.put_if_absent(&path, &encoded.body), Put::Done));
            state.files.push(StateFile {
                path,
                table: delta.table,
                sequence,
                bytes: encoded.body.len() as u64,
                rows: encoded.rows,
                checksum: encoded.checksum,
                key_groups: encoded.key_groups,
            });
        }
        self
    }

    fn export(&self, to: &Path, file_bytes: u64) -> Result<super::index::Index> {
        let export = Export { store: &self.store, manifest: &self.manifest, savepoint: Some("s"), file_bytes };
        export.run(Target::folder(to)?)
    }

    /// The rows of a table as text, with its column names first; sorted.
    fn exported(&self, table: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("out");
        let index = self.export(&to, FILE_BYTES).unwrap();
        let index_rows: u64 = index.tables().filter(|found| found.name == table).map(|found| found.rows).sum();
        let (header, rows) = read(&to.join(format!("aggregate/{table}.parquet")));
        assert_eq!(index_rows, rows.len() as u64);
        [header].into_iter().chain(rows).collect::<Vec<_>>().join("\n")
    }
}

fn all() -> KeyGroupRange {
    KeyGroupRange { start: KeyGroup(0), end: KeyGroup(KEY_GROUPS) }
}

fn manifest(state: OperatorState) -> Manifest {
    Manifest {
        job: "job".into(),
        number: LinkNumber(3),
        generation: Generation(1),
        attempt: "a".into(),
        checkpoint: CheckpointId(2),
        completed_unix_ms: 1,
        terms: Terms::default(),
        parallelism: 1,
        max_parallelism: MaxParallelism::new(u32::from(KEY_GROUPS)).unwrap(),
        start: LinkNumber(1),
        previous: None,
        plan: "p".into(),
        operators: BTreeMap::from([(OperatorId("aggregate".into()), state)]),
        in_flight: Vec::new(),
        committables: BTreeMap::new(),
        sinks: BTreeSet::new(),
        savepoints: BTreeMap::new(),
        stop: None,
        holds: BTreeMap::new(),
        sizes: Sizes::default(),
    }
}

fn column(name: &str, values: Vec<Option<&str>>) -> ArrayRef {
    let parsed =
        |scale: f64| values.iter().map(move |value| Some((value.as_ref()?.parse::<f64>().unwrap() * scale).round()));
    match name {
        "name" => Arc::new(StringViewArray::from_iter(values)),
        "amount" => {
            let values = parsed(100.0).map(|value| value.map(|value| value as i128));
            Arc::new(values.collect::<Decimal128Array>().with_precision_and_scale(10, 2).unwrap())
        }
        "weight" => {
            Arc::new(values.iter().map(|value| Some(value.as_ref()?.parse::<f64>().unwrap())).collect::<Float64Array>())
        }
        "ok" => Arc::new(values.iter().map(|value| Some(*value.as_ref()? == "true")).collect::<BooleanArray>()),
        "ts" => {
            Arc::new(parsed(1.0).map(|value| value.map(|value| value as i64)).collect::<TimestampMillisecondArray>())
        }
        _ => Arc::new(parsed(1.0).map(|value| value.map(|value| value as i64)).collect::<Int64Array>()),
    }
}

/// The column names but the key group, and the rows, sorted.
fn read(path: &Path) -> (String, Vec<String>) {
    let reader = ParquetRecordBatchReaderBuilder::try_new(fs::File::open(path).unwrap()).unwrap();
    let names: Vec<String> = reader.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names[0], "key_group");
    let mut rows = Vec::new();
    for batch in reader.build().unwrap() {
        let batch = batch.unwrap();
        let options = FormatOptions::new().with_null("NULL");
        let columns: Vec<_> =
            batch.columns()[1..].iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        rows.extend(
            (0..batch.num_rows())
                .map(|row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>().join(" | ")),
        );
    }
    rows.sort();
    (names[1..].join(" | "), rows)
}

#[track_caller]
fn check(found: &str, expected: &[&str]) {
    assert_eq!(found, expected.join("\n"));
}

#[test]
fn accumulators_of_groups_are_readable_columns() {
    let select = "SELECT k, name, count(*), sum(price), avg(amount), min(weight), max(name), sum(price) FILTER (WHERE ok), max(amount)
        FROM t GROUP BY k, name";
    let sink =
        "k BIGINT, name STRING, a BIGINT, b BIGINT, c DECIMAL(38, 6), d DOUBLE, e STRING, f BIGINT, g DECIMAL(10, 2)";
    let mut groups = Aggregation::of(select, sink);
    groups.feed("+I 1 a 5 1.50 0.5 true 0\n+I 1 a 7 -2.25 -1.5 false 0\n+I 2 b - - - - 0").checkpoint();
    groups.feed("+I 1 a -1 0.01 3 true 0\n+I - a-longer-name-of-more-than-twelve 9 1.00 2 true 0").checkpoint();
    check(
        &groups.exported("groups"),
        &[
            "k | name | count(*) | count(amount) | sum(price) | sum(amount) | min(weight) | max(name) | sum(price) where ok | max(amount)",
            "1 | a | 3 | 3 | 11 | -0.74 | -1.5 | a | 4 | 1.50",
            "2 | b | 1 | 0 | NULL | NULL | NULL | b | NULL | NULL",
            "NULL | a-longer-name-of-more-than-twelve | 1 | 1 | 9 | 1.00 | 2.0 | a-longer-name-of-more-than-twelve | 9 | 1.00",
        ],
    );
}

#[test]
fn windows_have_their_times_and_those_that_have_passed_are_left_out() {
    let sink = "k BIGINT, n BIGINT, p BIGINT";
    let hop = "SELECT k, count(*), max(price) FROM TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '2' SECOND))
        GROUP BY k, window_start, window_end";
    let rows = "+I 1 a 5 1 1 true 500\n+I 1 a 6 1 1 true 1500\n+I 2 a 7 1 1 true 2500\n+I 1 a 8 1 1 true 2600";
    let mut panes = Aggregation::of(hop, sink);
    panes.feed(rows).checkpoint().watermark(1999).feed("+I 2 a 1 1 1 true 2700").checkpoint();
    check(
        &panes.exported("panes"),
        &[
            "k | pane_start | expires | count(*) | max(price)",
            "1 | 1970-01-01T00:00:01 | 1970-01-01T00:00:03 | 1 | 6",
            "1 | 1970-01-01T00:00:02 | 1970-01-01T00:00:04 | 1 | 8",
            "2 | 1970-01-01T00:00:02 | 1970-01-01T00:00:04 | 2 | 7",
        ],
    );
    let session = "SELECT k, count(*), max(price) FROM t GROUP BY k, SESSION(ts, INTERVAL '1' SECOND)";
    let mut sessions = Aggregation::of(session, sink);
    sessions.feed(rows).checkpoint().feed("+I 1 a 9 1 1 true 1000\n+I 1 a 1 1 1 true 9000").checkpoint();
    check(
        &sessions.exported("sessions"),
        &[
            "k | session_start | session_end | count(*) | max(price)",
            "1 | 1970-01-01T00:00:00.500 | 1970-01-01T00:00:02.500 | 3 | 9",
            "1 | 1970-01-01T00:00:02.600 | 1970-01-01T00:00:03.600 | 1 | 8",
            "1 | 1970-01-01T00:00:09 | 1970-01-01T00:00:10 | 1 | 1",
            "2 | 1970-01-01T00:00:02.500 | 1970-01-01T00:00:03.500 | 1 | 7",
        ],
    );
}

#[test]
fn the_values_behind_a_changing_minimum_are_a_table_of_their_own() {
    let select =
        "SELECT name, min(price) FROM (SELECT k, name, max(price) AS price FROM t GROUP BY k, name) GROUP BY name";
    let mut changes = Aggregation::of(select, "name STRING, p BIGINT");
    changes.feed("+I 1 a 5 1 1 true 0\n+I 2 a 7 1 1 true 0\n+I 3 b 7 1 1 true 0").checkpoint();
    changes.feed("-U 1 a 5 1 1 true 0\n+U 1 a 7 1 1 true 0\n-D 3 b 7 1 1 true 0").checkpoint();
    check(&changes.exported("groups"), &["name | rows | min(price)", "a | 2 | 7"]);
    check(&changes.exported("values0"), &["name | value of min(price) | rows", "a | 7 | 2"]);
}

#[test]
fn a_large_table_is_divided_by_key_groups() {
    let select = "SELECT k, count(*), sum(price) FROM t GROUP BY k";
    let mut groups = Aggregation::of(select, "k BIGINT, n BIGINT, s BIGINT");
    let rows =
        |from: i64, to: i64| (from..to).map(|k| format!("+I {k} a {k} 1 1 true 0")).collect::<Vec<_>>().join("\n");
    groups.feed(&rows(0, 300)).checkpoint().feed(&rows(200, 500)).checkpoint();
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("deep/out");
    let index = groups.export(&to, 1).unwrap();
    let files: Vec<_> = index.files().collect();
    assert!(files.len() > 4, "{files:?}");
    let mut keys = BTreeMap::new();
    for file in &files {
        let (_, rows) = read(&to.join(&file.path));
        assert_eq!((rows.len() as u64, fs::metadata(to.join(&file.path)).unwrap().len()), (file.rows, file.bytes));
        for row in rows {
            let [key, count, sum] = row.split(" | ").map(|value| value.parse::<i64>().unwrap()).collect::<Vec<_>>()[..]
            else {
                panic!("{row}")
            };
            assert!(keys.insert(key, (count, sum)).is_none(), "{key} is there twice");
        }
    }
    let expected: BTreeMap<i64, (i64, i64)> =
        (0..500).map(|key| if (200..300).contains(&key) { (key, (2, 2 * key)) } else { (key, (1, key)) }).collect();
    assert_eq!(keys, expected);
    let written: serde_json::Value = serde_json::from_slice(&fs::read(to.join("index.json")).unwrap()).unwrap();
    assert_eq!(written["job"], "job");
    assert_eq!(written["operators"][0]["tables"][0]["rows"], 500);
    assert_eq!(written["operators"][0]["tables"][0]["columns"][3]["name"], "sum(price)");
    assert_eq!(written["operators"][0]["tables"][0]["columns"][3]["role"], "accumulator");
    // What is there already stays as it is.
    let refused = groups.export(&to, FILE_BYTES).unwrap_err();
    assert_eq!(refused.kind, Kind::User);
    assert!(refused.to_string().contains("is not empty"), "{refused}");
}

#[test]
fn state_without_a_legend_comes_as_it_is() {
    let mut groups = Aggregation::of("SELECT k, sum(price) FROM t GROUP BY k", "k BIGINT, s BIGINT");
    groups.feed("+I 1 a 5 1 1 true 0\n+I 1 a 6 1 1 true 0").checkpoint();
    groups.manifest.operators.values_mut().for_each(|state| state.legend = serde_json::Value::Null);
    let text = groups.exported("groups");
    assert!(text.starts_with("k | $touched_ms | $seen0 | $0\n1 | 0 | ") && text.ends_with("| 11"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn damaged_state_is_told_of_and_leaves_nothing(at in any::<prop::sample::Index>(), bit in 0_u8..8, cut in any::<bool>()) {
        let mut groups = Aggregation::of("SELECT k, count(*) FROM t GROUP BY k", "k BIGINT, n BIGINT");
        groups.feed("+I 1 a 5 1 1 true 0\n+I 2 a 6 1 1 true 0\n+I 3 a 6 1 1 true 0").checkpoint();
        let path = groups._folder.path().join("state/aggregate/1-0");
        let mut body = fs::read(&path).unwrap();
        // The magic at the very beginning is for people.
        let at = 8 + at.index(body.len() - 8);
        if cut { body.truncate(at) } else { body[at] ^= 1 << bit }
        fs::write(&path, body).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let failure = groups.export(&folder.path().join("out"), FILE_BYTES).unwrap_err();
        prop_assert_eq!(failure.kind, Kind::Corrupt);
        prop_assert!(failure.to_string().contains("operator aggregate, table groups: "), "{}", failure);
        prop_assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_wrong_legend_is_no_panic(text in r#"\[\{"table":"groups","columns":\[(\{"name":"[ab]","role":"(key|value)","type":"(BIGINT|DECIMAL\([0-9]{1,2}, [0-9]{1,2}\)|TIMESTAMP\([0-9]\)|[A-Z]{1,4})","from":[0-6],"holds":"(plain|milliseconds|integer|floatBits|ordered|decimal|wideDecimal)"(,"present":\{"(bit":\[[0-4],[1-9][0-9]{0,2}\]|count":[0-4])\})?\},){0,3}\{"name":"k","role":"key","type":"BIGINT","from":0,"holds":"plain"\}\]\}\]"#) {
        let mut groups = Aggregation::of("SELECT k, count(*), max(amount) FROM t GROUP BY k", "k BIGINT, n BIGINT, m DECIMAL(10, 2)");
        groups.feed("+I 1 a 5 1 1 true 0\n+I 2 a 6 1 1 true 0").checkpoint();
        let legend: serde_json::Value = serde_json::from_str(&text).unwrap();
        groups.manifest.operators.values_mut().for_each(|state| state.legend = legend.clone());
        let folder = tempfile::tempdir().unwrap();
        match groups.export(&folder.path().join("out"), FILE_BYTES) {
            Ok(index) => prop_assert_eq!(index.tables().map(|table| table.rows).sum::<u64>(), 2),
            Err(failure) => prop_assert_eq!(failure.kind, Kind::Corrupt, "{}", failure.chain()),
        }
    }
}
