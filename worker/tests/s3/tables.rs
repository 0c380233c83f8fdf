//! Sources and sinks of files in a bucket, without a job around them.

use crate::bucket::gateway::{BUCKET, Gateway, KEY_ID, SECRET};
use crate::bucket::proxy::{Fault, Proxy};
use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringViewArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use weir_protocol::snapshot::{Committable, SplitProgress};
use weir_protocol::{CheckpointId, EventTime, Generation, OperatorId};
use weir_worker::batch::Batch;
use weir_worker::checkpoint::store::s3::{Bucket, Condition, Put};
use weir_worker::connector::options::Options;
use weir_worker::connector::{
    self, CommitOutcome, Committer, CommitterContext, Environment, Leftovers, Poll, ReaderContext, Sink, SinkWriter,
    Source, SourceReader, Split, TableShape, WriterContext,
};
use weir_worker::failure::{Failure, Kind};
use weir_worker::stop::Stop;

/// An option as it is written.
type Pair = Option<(&'static str, &'static str)>;

/// Numbers, and texts that do not compress.
fn shape() -> TableShape {
    let fields = vec![Field::new("n", DataType::Int64, true), Field::new("s", DataType::Utf8View, true)];
    TableShape {
        name: "t".to_owned(),
        schema: Arc::new(Schema::new(fields)),
        metadata: Vec::new(),
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
    }
}

fn text(n: i64) -> String {
    let mixed = |salt: u64| (n as u64 ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{:016x}{:016x}{:016x}", mixed(1), mixed(7 << 20), mixed(3 << 40))
}

fn rows(numbers: std::ops::Range<i64>) -> Batch {
    let texts = StringViewArray::from_iter_values(numbers.clone().map(text));
    let columns: Vec<Arc<dyn Array>> = vec![Arc::new(Int64Array::from_iter_values(numbers)), Arc::new(texts)];
    Batch::inserts(RecordBatch::try_new(shape().schema, columns).unwrap())
}

fn options(address: SocketAddr, pairs: &[(&str, &str)]) -> Options {
    let endpoint = format!("http://{address}");
    let access = [
        ("connector", "filesystem"),
        ("s3.endpoint", &endpoint),
        ("s3.region", "us-east-1"),
        ("s3.access-key", KEY_ID),
        ("s3.secret-key", SECRET),
    ];
    let mut all: Vec<(&str, &str)> = access.to_vec();
    all.extend_from_slice(pairs);
    Options::of("t", &all)
}

fn environment() -> Environment {
    Environment { working_directory: PathBuf::from("/"), ..Environment::default() }
}

fn source(address: SocketAddr, shape: &TableShape, pairs: &[(&str, &str)]) -> Arc<dyn Source> {
    connector::source(&options(address, pairs), shape, &environment()).unwrap()
}

fn sink(address: SocketAddr, shape: &TableShape, pairs: &[(&str, &str)]) -> Arc<dyn Sink> {
    connector::sink(&options(address, pairs), shape, &environment()).unwrap()
}

fn writer(sink: &dyn Sink, job: &str, generation: u64) -> Result<Box<dyn SinkWriter>, Failure> {
    writer_until(sink, (job, generation), &Stop::default())
}

/// A writer that waits no longer when it is told.
fn writer_until(sink: &dyn Sink, (job, generation): (&str, u64), stop: &Stop) -> Result<Box<dyn SinkWriter>, Failure> {
    sink.writer(WriterContext {
        operator: OperatorId("sink".to_owned()),
        schema: shape().schema,
        changelog: false,
        subtask: 0,
        parallelism: 1,
        generation: Generation(generation),
        job_uid: job.to_owned(),
        restored: Vec::new(),
        stop: stop.clone(),
    })
}

fn committer(sink: &dyn Sink) -> Box<dyn Committer> {
    sink.committer(CommitterContext { job_uid: "job".to_owned() }).unwrap()
}

/// Writes rows to sealed files.
fn prepare(sink: &dyn Sink, numbers: std::ops::Range<i64>) -> Vec<Committable> {
    let mut writer = writer(sink, "job", 3).unwrap();
    let end = numbers.end;
    for from in numbers.step_by(8192) {
        writer.write(&rows(from..(from + 8192).min(end))).unwrap();
    }
    let prepared = writer.prepare(CheckpointId(1), true).unwrap();
    assert!(prepared.writer.is_empty());
    prepared.committables
}

#[track_caller]
fn lost(outcome: CommitOutcome, expected: &str) {
    let CommitOutcome::Lost(said) = outcome else { panic!("{outcome:?}") };
    assert!(said.contains(expected), "{expected:?} is not in: {said}");
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "callers have no use for it")]
fn done(outcome: CommitOutcome) {
    assert!(matches!(outcome, CommitOutcome::Done), "{outcome:?}");
}

fn put(bucket: &Bucket, key: &str, body: impl Into<Bytes>) {
    assert!(matches!(bucket.put(key, body.into(), Condition::None), Put::Done(_)));
}

fn fresh(split: Split) -> SplitProgress {
    SplitProgress { split: split.name, position: split.start, watermark: EventTime::MIN, finished: false }
}

fn reader(source: &dyn Source, columns: usize) -> Box<dyn SourceReader> {
    let projection = (0..columns).collect();
    source
        .reader(ReaderContext { projection, subtask: 0, parallelism: 1, max_rows: 8192, stop: Stop::default() })
        .unwrap()
}

/// Reads all splits. After each batch another reader goes on.
fn numbers(source: &dyn Source) -> Vec<i64> {
    let mut found = Vec::new();
    for split in source.enumerator().unwrap().discover().unwrap() {
        let mut next = vec![fresh(split)];
        while let Some(progress) = next.pop() {
            let mut reader = reader(source, 2);
            reader.add_split(&progress).unwrap();
            let read = loop {
                match reader.poll().unwrap() {
                    Poll::Rows(read) => break read,
                    // It passes over what was read before.
                    Poll::NotBefore(_) | Poll::Away(_) => {}
                    Poll::NeedSplit => panic!("there is a split"),
                }
            };
            let texts = read.batch.column(1).as_string_view();
            for (n, s) in read.batch.column(0).as_primitive::<Int64Type>().values().iter().zip(texts) {
                assert_eq!(s, Some(text(*n).as_str()));
                found.push(*n);
            }
            next = if read.last { Vec::new() } else { reader.positions() };
        }
    }
    found.sort_unstable();
    found
}

#[test]
fn objects_are_found_as_files_are() {
    let Some(gateway) = Gateway::start() else { return };
    let bucket = Bucket::open(gateway.settings()).unwrap();
    let names = ["b.json", "a/2.json", "a/1.json", "a.json", ".hidden.json", "_tmp/x.json", "c.txt", "day=1/x.json"];
    for name in names {
        put(&bucket, &format!("in/{name}"), "{}\n");
    }
    put(&bucket, "in/empty.json", "");
    put(&bucket, "in/marker/", "");
    put(&bucket, "in2/y.json", "{}\n");
    let visible = ["a/1.json", "a/2.json", "a.json", "b.json", "c.txt", "day=1/x.json"];
    let below_in: Vec<String> = visible.iter().map(|name| format!("in/{name}")).collect();
    let below_in: Vec<&str> = below_in.iter().map(String::as_str).collect();
    let regex = ("source.path.regex-pattern", "s3://states/in/a/.*");
    let table: [(&str, Pair, &[&str]); 10] = [
        ("in/", None, &visible),
        ("in", None, &below_in),
        ("in/", Some(regex), &["a/1.json", "a/2.json"]),
        ("in/*.json", None, &["a.json", "b.json"]),
        ("in/a*", None, &["a/1.json", "a/2.json", "a.json"]),
        ("in/b.json", None, &["b.json"]),
        ("in/_tmp", None, &["_tmp/x.json"]),
        ("in/day=*/*", None, &["day=1/x.json"]),
        ("i*/y.json", None, &["in2/y.json"]),
        ("in/**/x.json", None, &["day=1/x.json"]),
    ];
    for (path, option, expected) in table {
        let path = format!("s3://{BUCKET}/{path}");
        let pairs: Vec<_> = [("path", path.as_str()), ("format", "json")].into_iter().chain(option).collect();
        let splits = source(gateway.address, &shape(), &pairs).enumerator().unwrap().discover().unwrap();
        let found: Vec<&str> = splits.iter().map(|split| split.name.strip_suffix("@0-3").unwrap()).collect();
        assert_eq!(found, expected, "{path}");
    }
    for path in ["none", "none/", "in/none*"] {
        let path = format!("s3://{BUCKET}/{path}");
        let source = source(gateway.address, &shape(), &[("path", &path), ("format", "json")]);
        let refused = source.enumerator().unwrap().discover().unwrap_err();
        assert_eq!(refused.kind, Kind::User);
        let said = refused.to_string();
        assert!(said.starts_with("table 't': ") && said.contains("object"), "{said}");
    }
}

#[test]
fn every_row_is_read_once_however_objects_are_cut_and_readers_restart() {
    let Some(gateway) = Gateway::start() else { return };
    let bucket = Bucket::open(gateway.settings()).unwrap();
    let count = 80_000;
    let lines: String = (0..count).map(|n| format!("{{\"n\": {n}, \"s\": \"{}\"}}\n", text(n))).collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(lines.as_bytes()).unwrap();
    put(&bucket, "in/a.json.gz", gzip.finish().unwrap());
    put(&bucket, "in/a.json.zst", zstd::encode_all(lines.as_bytes(), 1).unwrap());
    put(&bucket, "in/a.json", lines);
    let path = format!("s3://{BUCKET}/in/a.parquet");
    let parquet = [("path", path.as_str()), ("format", "parquet"), ("parquet.compression", "none")];
    let written = sink(gateway.address, &shape(), &parquet);
    for committable in prepare(&*written, 0..count) {
        done(committer(&*written).commit(&committable));
    }
    let expected: Vec<i64> = (0..count).collect();
    for (file, format) in [("a.json", "json"), ("a.json.gz", "json"), ("a.json.zst", "json"), ("a.parquet", "parquet")]
    {
        for split_size in ["64 mb", "300 kb"] {
            let path = format!("s3://{BUCKET}/in/{file}");
            let pairs = [("path", path.as_str()), ("format", format), ("source.split-size", split_size)];
            let found = numbers(&*source(gateway.address, &shape(), &pairs));
            assert!(found == expected, "{file} in parts of {split_size}: {} rows of {count}", found.len());
        }
    }
}

#[test]
fn an_object_that_is_not_what_it_was_is_refused() {
    let Some(gateway) = Gateway::start() else { return };
    let bucket = Bucket::open(gateway.settings()).unwrap();
    let path = format!("s3://{BUCKET}/in/");
    let source = source(gateway.address, &shape(), &[("path", &path), ("format", "json")]);
    put(&bucket, "in/a.json", "{\"n\": 1}\n");
    let split = source.enumerator().unwrap().discover().unwrap().remove(0);
    let read = |split: &Split| {
        let mut reader = reader(&*source, 1);
        reader.add_split(&fresh(split.clone())).unwrap();
        reader.poll().map(|_| ())
    };
    read(&split).unwrap();
    put(&bucket, "in/a.json", "{\"n\": 2}\n");
    let replaced = read(&split).unwrap_err();
    assert_eq!(replaced.kind, Kind::User);
    assert!(replaced.to_string().contains("s3://states/in/a.json was replaced or written again"), "{replaced}");
    bucket.delete(&["in/a.json".to_owned()]).unwrap();
    let gone = read(&split).unwrap_err();
    assert!(gone.kind == Kind::User && gone.to_string().contains("in/a.json is gone"), "{gone}");
}

#[test]
fn a_watched_prefix_may_be_empty_at_first() {
    let Some(gateway) = Gateway::start() else { return };
    let bucket = Bucket::open(gateway.settings()).unwrap();
    let path = format!("s3://{BUCKET}/in/");
    let pairs = [("path", path.as_str()), ("format", "json"), ("source.monitor-interval", "1 s")];
    let mut enumerator = source(gateway.address, &shape(), &pairs).enumerator().unwrap();
    assert_eq!(enumerator.discover().unwrap(), []);
    put(&bucket, "in/a.json", "{\"n\": 1}\n");
    assert_eq!(enumerator.discover().unwrap().len(), 1);
}

#[test]
fn a_file_is_there_from_its_commit_on_and_is_never_made_again() {
    let Some(gateway) = Gateway::start() else { return };
    let bucket = Bucket::open(gateway.settings()).unwrap();
    let path = format!("s3://{BUCKET}/out");
    let sink = sink(gateway.address, &shape(), &[("path", &path), ("format", "csv")]);
    let committables = prepare(&*sink, 0..400_000);
    let [committable] = &committables[..] else { panic!("{committables:?}") };
    assert!(committable.payload["etags"].as_array().unwrap().len() > 2, "{committable:?}");
    assert_eq!(bucket.list("out").unwrap(), []);
    assert_eq!(bucket.list_uploads("out").unwrap().len(), 1);
    let key = format!("out/{}", committable.id);
    let expected: String = (0..400_000).map(|n| format!("{n},{}\n", text(n))).collect();
    for _ in 0..2 {
        done(committer(&*sink).commit(committable));
        assert!(bucket.get(&key).unwrap().unwrap() == expected.as_bytes());
    }
    assert_eq!(bucket.list_uploads("out").unwrap(), []);
    // Whoever reads the output takes it away, and the confirmation was not written down: only the user knows.
    bucket.delete(std::slice::from_ref(&key)).unwrap();
    lost(committer(&*sink).commit(committable), "is not there, and neither is its upload");
    assert_eq!(bucket.list("out").unwrap(), []);
}

#[test]
fn a_commit_whose_answer_is_lost_is_done() {
    let Some(gateway) = Gateway::start() else { return };
    let bucket = Bucket::open(gateway.settings()).unwrap();
    let proxy = Proxy::start(gateway.address, gateway.data());
    let path = format!("s3://{BUCKET}/out");
    for fault in [Fault::SlowDown, Fault::AppliedThenError, Fault::AppliedThenCut] {
        let sink = sink(proxy.address, &shape(), &[("path", &path), ("format", "json")]);
        let committable = prepare(&*sink, 0..10).remove(0);
        proxy.fault("POST", "uploadId=", fault, 1);
        done(committer(&*sink).commit(&committable));
        let key = format!("out/{}", committable.id);
        assert_eq!(bucket.get(&key).unwrap().unwrap().split(|byte| *byte == b'\n').count(), 11);
        assert_eq!(bucket.list_uploads("out").unwrap(), []);
        bucket.delete(&[key]).unwrap();
    }
}

#[test]
fn a_store_that_completes_no_upload_on_condition_is_for_the_user() {
    let Some(gateway) = Gateway::start() else { return };
    let proxy = Proxy::start(gateway.address, gateway.data());
    let path = format!("s3://{BUCKET}/out");
    let sink = sink(proxy.address, &shape(), &[("path", &path), ("format", "json")]);
    let committable = prepare(&*sink, 0..10).remove(0);
    proxy.fault("POST", "uploadId=", Fault::NotImplemented, 1);
    let outcome = committer(&*sink).commit(&committable);
    let CommitOutcome::Refused(said) = outcome else { panic!("{outcome:?}") };
    assert!(said.contains(&format!("http://{}", proxy.address)) && said.contains("If-None-Match"), "{said}");
    // What was prepared is as it was.
    done(committer(&*sink).commit(&committable));
}

#[test]
fn an_upload_that_is_gone_or_in_whose_place_another_object_stands_is_for_the_user() {
    let Some(gateway) = Gateway::start() else { return };
    let bucket = Bucket::open(gateway.settings()).unwrap();
    let path = format!("s3://{BUCKET}/out");
    let sink = sink(gateway.address, &shape(), &[("path", &path), ("format", "json")]);
    let committable = prepare(&*sink, 0..10).remove(0);
    let key = format!("out/{}", committable.id);
    put(&bucket, &key, "somebody else's");
    lost(committer(&*sink).commit(&committable), "an object of 15 bytes that this job has not written");
    assert_eq!(bucket.get(&key).unwrap().unwrap(), "somebody else's");
    bucket.delete(std::slice::from_ref(&key)).unwrap();
    done(committer(&*sink).commit(&committable));

    let committable = prepare(&*sink, 10..20).remove(0);
    bucket.delete(std::slice::from_ref(&key)).unwrap();
    for upload in bucket.list_uploads("out").unwrap() {
        bucket.abort_upload(&upload).unwrap();
    }
    lost(committer(&*sink).commit(&committable), "neither is its upload");
    // The way out that the message tells of.
    let bytes = committable.payload["bytes"].as_u64().unwrap();
    put(&bucket, &key, vec![b'\n'; usize::try_from(bytes).unwrap()]);
    done(committer(&*sink).commit(&committable));
}

#[test]
fn only_leftovers_of_the_own_earlier_generations_are_aborted() {
    let Some(gateway) = Gateway::start() else { return };
    let bucket = Bucket::open(gateway.settings()).unwrap();
    let path = format!("s3://{BUCKET}/out");
    let sink = sink(gateway.address, &shape(), &[("path", &path), ("format", "json")]);
    let kept = prepare(&*sink, 0..10).remove(0);
    let mut begun = Vec::new();
    for (job, generation) in [("job", 4), ("job", 5), ("other", 1)] {
        let mut writer = writer(&*sink, job, generation).unwrap();
        writer.write(&rows(0..10)).unwrap();
        begun.push(writer);
    }
    let stems = || -> BTreeSet<String> {
        let uploads = bucket.list_uploads("out").unwrap();
        uploads.iter().map(|upload| upload.key.trim_end_matches("-0-0.json").to_owned()).collect()
    };
    let names = |stems: &[&str]| stems.iter().map(|stem| format!("out/part-{stem}")).collect::<BTreeSet<_>>();
    // They are begun beside the writers.
    while stems() != names(&["job-t-3", "job-t-4", "job-t-5", "other-t-1"]) {
        std::thread::yield_now();
    }
    let keep = Leftovers { committables: BTreeSet::from([kept.id.clone()]), writers: Vec::new() };
    committer(&*sink).remove_leftovers(Generation(5), &keep).unwrap();
    assert_eq!(stems(), names(&["job-t-3", "job-t-5", "other-t-1"]));
    done(committer(&*sink).commit(&kept));
}

/// A sink that has begun, and a store behind a proxy.
fn away(gateway: &Gateway) -> (Proxy, Arc<dyn Sink>) {
    let proxy = Proxy::start(gateway.address, gateway.data());
    let path = format!("s3://{BUCKET}/out");
    let sink = sink(proxy.address, &shape(), &[("path", &path), ("format", "csv")]);
    (proxy, sink)
}

/// A file is written while the store is away, for longer than requests are tried that have their limits.
fn written_while_away(gateway: &Gateway, stop: &Stop, then: impl FnOnce(&Proxy)) -> Result<Committable, Failure> {
    let (proxy, sink) = away(gateway);
    let mut writer = writer_until(&*sink, ("job", 1), stop).unwrap();
    proxy.is_away(true);
    std::thread::scope(|scope| {
        let written = scope.spawn(|| {
            // More than one part.
            (0..400_000).step_by(8000).try_for_each(|from| writer.write(&rows(from..from + 8000)))?;
            writer.prepare(CheckpointId(1), false)
        });
        while proxy.tries_while_away("POST", "?uploads") < 7 {
            assert!(!written.is_finished(), "it does not wait");
            std::thread::yield_now();
        }
        then(&proxy);
        written.join().unwrap().map(|mut prepared| prepared.committables.remove(0))
    })
}

#[test]
fn a_sink_waits_for_a_store_that_is_away_and_writes_each_row_once() {
    let Some(gateway) = Gateway::start() else { return };
    let bucket = Bucket::open(gateway.settings()).unwrap();
    let committable = written_while_away(&gateway, &Stop::default(), |proxy| proxy.is_away(false)).unwrap();
    done(committer(&*away(&gateway).1).commit(&committable));
    let expected: String = (0..400_000).map(|n| format!("{n},{}\n", text(n))).collect();
    assert!(bucket.get(&format!("out/{}", committable.id)).unwrap().unwrap() == expected.as_bytes());
    assert_eq!(bucket.list_uploads("out").unwrap(), []);
}

#[test]
fn a_sink_that_waits_for_a_store_ends_when_it_is_told() {
    let Some(gateway) = Gateway::start() else { return };
    let stop = Stop::default();
    let ended = written_while_away(&gateway, &stop, |_| stop.stop()).unwrap_err();
    assert_eq!(ended.kind, Kind::Cancelled, "{}", ended.chain());
}

#[test]
fn a_sink_waits_for_nothing_that_does_not_pass() {
    let Some(gateway) = Gateway::start() else { return };
    let table = [
        ("POST", "?uploads", Fault::Denied, "the credentials may not do this"),
        ("PUT", "partNumber=", Fault::Denied, "the credentials may not do this"),
        ("PUT", "partNumber=", Fault::NotImplemented, "refuses the request"),
    ];
    for (method, target, fault, expected) in table {
        let (proxy, sink) = away(&gateway);
        let mut writer = writer(&*sink, "job", 1).unwrap();
        proxy.fault(method, target, fault, usize::MAX);
        writer.write(&rows(0..10)).unwrap();
        let failure = writer.prepare(CheckpointId(1), false).unwrap_err();
        assert!(failure.kind == Kind::User && failure.chain().contains(expected), "{}", failure.chain());
        assert_eq!(proxy.met(), 1);
    }
}

#[test]
fn a_part_whose_answer_is_lost_is_in_the_file_once() {
    let Some(gateway) = Gateway::start() else { return };
    let bucket = Bucket::open(gateway.settings()).unwrap();
    // Once more often than requests are tried that have their limits.
    let table = [
        ("POST", "?uploads", Fault::AppliedThenError, 2),
        ("POST", "?uploads", Fault::AppliedThenCut, 1),
        ("PUT", "partNumber=1", Fault::AppliedThenError, 1),
        ("PUT", "partNumber=1", Fault::AppliedThenCut, 2),
        ("PUT", "partNumber=2", Fault::AppliedThenCut, 6),
    ];
    for (method, target, fault, times) in table {
        let (proxy, sink) = away(&gateway);
        proxy.fault(method, target, fault, times);
        let committable = prepare(&*sink, 0..250_000).remove(0);
        assert_eq!(proxy.met(), times);
        done(committer(&*sink).commit(&committable));
        let key = format!("out/{}", committable.id);
        let expected: String = (0..250_000).map(|n| format!("{n},{}\n", text(n))).collect();
        assert!(bucket.get(&key).unwrap().unwrap() == expected.as_bytes(), "{target} {fault:?}");
        bucket.delete(&[key]).unwrap();
        // An upload whose name was lost is given up by the next generation.
        committer(&*sink).remove_leftovers(Generation(4), &Leftovers::default()).unwrap();
        assert_eq!(bucket.list_uploads("out").unwrap(), []);
    }
}

#[test]
fn a_source_comes_back_to_a_store_that_is_away_where_it_was() {
    let Some(gateway) = Gateway::start() else { return };
    let bucket = Bucket::open(gateway.settings()).unwrap();
    let lines: String = (0..80_000).map(|n| format!("{{\"n\": {n}, \"s\": \"{}\"}}\n", text(n))).collect();
    put(&bucket, "in/a.json.zst", zstd::encode_all(lines.as_bytes(), 1).unwrap());
    put(&bucket, "in/b.json", lines);
    let proxy = Proxy::start(gateway.address, gateway.data());
    let path = format!("s3://{BUCKET}/in/");
    let source = source(proxy.address, &shape(), &[("path", &path), ("format", "json")]);
    let mut enumerator = source.enumerator().unwrap();
    let splits = enumerator.discover().unwrap();
    proxy.is_away(true);
    let failure = enumerator.discover().unwrap_err();
    assert!(failure.away && failure.kind == Kind::Transient, "{}", failure.chain());
    for split in splits {
        proxy.is_away(true);
        let mut reader = reader(&*source, 2);
        let start = fresh(split);
        reader.add_split(&start).unwrap();
        let mut found = Vec::new();
        loop {
            match reader.poll().unwrap() {
                Poll::Rows(read) => {
                    found.extend_from_slice(read.batch.column(0).as_primitive::<Int64Type>().values());
                    if read.last {
                        break;
                    }
                }
                Poll::Away(_) => {
                    assert_eq!(reader.positions(), std::slice::from_ref(&start), "a checkpoint says where it is");
                    proxy.is_away(false);
                }
                poll => assert!(matches!(poll, Poll::NotBefore(_)), "{poll:?}"),
            }
        }
        assert!(found == (0..80_000).collect::<Vec<i64>>(), "{}: {} rows", start.split, found.len());
    }
}

#[test]
fn partitions_are_folders_of_names() {
    let Some(gateway) = Gateway::start() else { return };
    let bucket = Bucket::open(gateway.settings()).unwrap();
    let shape = TableShape { partitioned_by: vec![1], ..shape() };
    let path = format!("s3://{BUCKET}/out");
    let pairs = [("path", path.as_str()), ("format", "parquet")];
    let written = sink(gateway.address, &shape, &pairs);
    // More than are open at a time.
    let committables = prepare(&*written, 0..300);
    assert_eq!(committables.len(), 300);
    let committables = committables.into_iter().map(|one| (one.id.clone(), one)).collect();
    let outcomes = committer(&*written).commit_all(&committables);
    assert!(outcomes.len() == 300 && outcomes.values().all(|outcome| matches!(outcome, CommitOutcome::Done)));
    let first = bucket.list("out/s=").unwrap().remove(0);
    assert!(first.key.contains("/part-job-t-3-0-"), "{first:?}");
    assert_eq!(numbers(&*source(gateway.address, &shape, &pairs)), (0..300).collect::<Vec<_>>());
}

#[test]
fn files_are_sealed_when_they_are_large_enough() {
    let Some(gateway) = Gateway::start() else { return };
    let path = format!("s3://{BUCKET}/out");
    let pairs = [("path", path.as_str()), ("format", "json"), ("sink.rolling-policy.file-size", "1 mb")];
    let sink = sink(gateway.address, &shape(), &pairs);
    let sizes: Vec<u64> =
        prepare(&*sink, 0..100_000).iter().map(|one| one.payload["bytes"].as_u64().unwrap()).collect();
    assert!(sizes.len() > 4 && sizes.iter().rev().skip(1).all(|bytes| *bytes >= 1 << 20), "{sizes:?}");
}

/// A store with a rule that ends uploads, as the test's server has none.
fn store_with_a_rule() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut lines = BufReader::new(client.try_clone().unwrap()).lines().map_while(Result::ok);
                while let Some(request) = lines.next() {
                    let _ = lines.by_ref().find(String::is_empty);
                    let body = if request.contains("lifecycle") {
                        "<LifecycleConfiguration><Rule><ID>tidy-up</ID><Filter><Prefix></Prefix></Filter><Status>Enabled\
                         </Status><AbortIncompleteMultipartUpload><DaysAfterInitiation>2</DaysAfterInitiation>\
                         </AbortIncompleteMultipartUpload></Rule></LifecycleConfiguration>"
                    } else if request.contains("list-type") {
                        "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
                    } else {
                        "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated></ListMultipartUploadsResult>"
                    };
                    let head =
                        format!("HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: {}", body.len());
                    write!(&client, "{head}\r\n\r\n{body}").unwrap();
                }
            });
        }
    });
    address
}

#[test]
fn a_bucket_that_ends_uploads_by_itself_is_refused() {
    let path = format!("s3://{BUCKET}/out");
    let sink = sink(store_with_a_rule(), &shape(), &[("path", &path), ("format", "json")]);
    let refused = writer(&*sink, "job", 1).err().unwrap();
    let said = refused.chain();
    assert_eq!(refused.kind, Kind::User, "{said}");
    assert!(said.contains("s3://states/out/: the rule 'tidy-up'") && said.contains("after 2 days"), "{said}");
}

#[test]
fn a_bucket_that_cannot_be_used_is_told_of_before_the_first_row() {
    let Some(gateway) = Gateway::start() else { return };
    for (path, key, expected) in [
        ("s3://elsewhere/out", KEY_ID, "there is no bucket 'elsewhere'"),
        ("s3://states/out", "nobody", "there are no good credentials"),
    ] {
        let endpoint = format!("http://{}", gateway.address);
        let pairs = [
            ("connector", "filesystem"),
            ("path", path),
            ("format", "json"),
            ("s3.endpoint", &endpoint),
            ("s3.region", "us-east-1"),
            ("s3.access-key", key),
            ("s3.secret-key", SECRET),
        ];
        let sink = connector::sink(&Options::of("t", &pairs), &shape(), &environment()).unwrap();
        let source = connector::source(&Options::of("t", &pairs), &shape(), &environment()).unwrap();
        let refused = [writer(&*sink, "job", 1).err().unwrap(), source.enumerator().unwrap().discover().unwrap_err()];
        for refused in refused {
            let said = refused.chain();
            assert_eq!(refused.kind, Kind::User, "{said}");
            assert!(said.contains(expected) && !said.contains(SECRET), "{said}");
        }
    }
}
