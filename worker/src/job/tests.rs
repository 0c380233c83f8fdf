//! Jobs run to their ends in this process, with plans built by hand.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod slow_sink;

use super::runner::{Job, Runner};
use super::workers::{AfterEnd, Here, Workers};
use crate::checkpoint::store::directory::DirectoryStore;
use crate::connector::options::Options as TableOptions;
use crate::connector::{self, Environment, TableShape};
use crate::plan::{Changelog, Node, NodeKind, Plan, SinkNode, SourceNode};
use arrow::datatypes::{DataType, Field, Schema};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use weir_protocol::OperatorId;
use weir_protocol::chain::Claimant;
use weir_protocol::key_group::MaxParallelism;
use weir_protocol::leader::{Already, CheckpointOptions, Direction, End, Mode, Options, Resume, Stops};
use weir_protocol::restart::Strategy;

/// `datagen` numbers 0 to `rows`, written as they are to JSON files in `out`.
pub(crate) fn plan(rows: u32, out: &Path) -> Plan {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
    let shape = |name: &str| TableShape {
        name: name.into(),
        schema: Arc::clone(&schema),
        metadata: Vec::new(),
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
    };
    let last = (rows - 1).to_string();
    let numbers = [
        ("connector", "datagen"),
        ("rows-per-second", "1000000"),
        ("fields.n.kind", "sequence"),
        ("fields.n.start", "0"),
        ("fields.n.end", last.as_str()),
    ];
    let from = TableOptions::of("numbers", &numbers);
    let files = [("connector", "filesystem"), ("path", out.to_str().unwrap()), ("format", "json")];
    let to = TableOptions::of("files", &files);
    let environment = Environment::default();
    let source = SourceNode {
        table: shape("numbers"),
        source: connector::source(&from, &shape("numbers"), &environment).unwrap(),
        options: from,
        projection: vec![0],
        compute: None,
        watermark: None,
        bad_records: None,
    };
    let sink = SinkNode {
        table: shape("files"),
        sink: connector::sink(&to, &shape("files"), &environment).unwrap(),
        options: to,
    };
    let node = |id: &str, kind: NodeKind, inputs: Vec<usize>| Node {
        id: Some(OperatorId(id.into())),
        name: id.into(),
        kind,
        inputs,
        schema: Arc::clone(&schema),
        changelog: Changelog::Append,
    };
    let nodes = vec![node("numbers", NodeKind::Source(source), vec![]), node("files", NodeKind::Sink(sink), vec![0])];
    Plan { nodes, fingerprint: 1, warnings: Vec::new() }
}

/// Runs that plan with a checkpoint every 5 ms.
pub(crate) fn runner(folder: &Path, rows: u32, resume: Resume) -> Runner {
    runner_of(plan(rows, &folder.join("out")), folder, resume, AfterEnd::Leave)
}

/// One whose leader stays when the job has ended.
pub(crate) fn staying(folder: &Path) -> Runner {
    runner_of(plan(u32::MAX, &folder.join("out")), folder, Resume::Head, AfterEnd::Stay)
}

fn runner_of(plan: Plan, folder: &Path, resume: Resume, after_end: AfterEnd) -> Runner {
    let plan = Arc::new(plan);
    let options = Options {
        job: "test".into(),
        claimant: Claimant { revision: 0, attempt: 1, pod: "here".into() },
        incarnation: uuid::Uuid::new_v4().to_string(),
        unix_ms: 0,
        parallelism: 2,
        direction: Direction::default(),
        max_parallelism: MaxParallelism::new(16).unwrap(),
        plan: super::settings::plan_of(&plan, false),
        mode: Mode::Run { resume, stops: Stops::Lift },
        restored_from: None,
        checkpoint: CheckpointOptions {
            interval_ms: Some(5),
            min_pause_ms: 0,
            timeout_ms: 60_000,
            unaligned_after_ms: None,
            tolerable_failures: 3,
            retain: 3,
        },
        restart: Strategy::None,
        watch_ms: 5_000,
    };
    let store = Arc::new(DirectoryStore::open(folder.join("state")).unwrap());
    let workers = Workers { after_end, ..Workers::default() };
    let mut runner = Runner::new(Job { plan, options, store, uid: "0123456789ab".into(), workers });
    runner.work_here(Here::alone(None, u64::MAX));
    runner
}

/// How often each number is in a visible file.
fn written(folder: &Path) -> BTreeMap<i64, usize> {
    let mut counts = BTreeMap::new();
    for entry in std::fs::read_dir(folder.join("out")).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_str().unwrap().starts_with('.') {
            for line in std::fs::read_to_string(path).unwrap().lines() {
                let row: serde_json::Value = serde_json::from_str(line).unwrap();
                *counts.entry(row["n"].as_i64().unwrap()).or_default() += 1;
            }
        }
    }
    counts
}

#[test]
fn a_bounded_job_finishes_with_each_row_once_and_says_so_when_it_is_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let end = runner(folder.path(), 50_000, Resume::Head).run();
    assert!(matches!(end, End::Finished { already: Already::No, .. }), "{end:?}");
    let once: BTreeMap<i64, usize> = (0..50_000).map(|n| (n, 1)).collect();
    assert_eq!(written(folder.path()), once);
    let end = runner(folder.path(), 50_000, Resume::Head).run();
    assert!(matches!(end, End::Finished { already: Already::Yes, .. }), "{end:?}");
    assert_eq!(written(folder.path()), once);
}

#[test]
fn a_stopped_job_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut stops = 0;
    loop {
        let runner = runner(folder.path(), 200_000, Resume::Head);
        let (handle, board) = (runner.handle(), runner.board());
        let stopper = std::thread::spawn(move || {
            while board.totals().rows_in < 20_000 && board.generation().is_none() {
                std::thread::yield_now();
            }
            handle.stop();
        });
        let end = runner.run();
        stopper.join().unwrap();
        match end {
            End::Stopped { .. } => stops += 1,
            End::Finished { .. } => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(stops > 0);
    assert_eq!(written(folder.path()), (0..200_000).map(|n| (n, 1)).collect());
}
