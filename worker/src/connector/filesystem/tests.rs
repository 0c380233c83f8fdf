#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use crate::batch::Batch;
use crate::connector::options::Options;
use crate::connector::{self, BadRecord, Environment, Poll, ReaderContext, Source, TableShape};
use crate::failure::{Failure, Kind};
use crate::stop::Stop;
use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use weir_protocol::EventTime;
use weir_protocol::snapshot::SplitProgress;

/// Options as they are written.
type Pairs<'a> = &'a [(&'a str, &'a str)];

fn shape(fields: Vec<Field>) -> TableShape {
    TableShape {
        name: "t".to_owned(),
        schema: Arc::new(Schema::new(fields)),
        metadata: Vec::new(),
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
    }
}

fn numbers() -> TableShape {
    shape(vec![Field::new("n", DataType::Int64, true), Field::new("s", DataType::Utf8View, true)])
}

fn open(folder: &Path, shape: &TableShape, options: &[(&str, &str)]) -> Result<Arc<dyn Source>, String> {
    let mut all = vec![("connector", "filesystem")];
    all.extend_from_slice(options);
    let environment = Environment { working_directory: folder.to_owned(), ..Environment::default() };
    connector::source(&Options::of("t", &all), shape, &environment).map_err(|mistakes| {
        let told = mistakes.iter().map(|mistake| match &mistake.hint {
            Some(hint) => format!("{mistake} ({hint})"),
            None => mistake.to_string(),
        });
        told.collect::<Vec<_>>().join("; ").replace(&folder.display().to_string(), "DIR")
    })
}

fn context(columns: usize) -> ReaderContext {
    ReaderContext {
        projection: (0..columns).collect(),
        subtask: 0,
        parallelism: 1,
        max_rows: ReaderContext::FULL_BATCH,
        stop: Stop::default(),
    }
}

fn fresh(split: connector::Split) -> SplitProgress {
    SplitProgress { split: split.name, position: split.start, watermark: EventTime::MIN, finished: false }
}

fn fresh_name(name: &str) -> SplitProgress {
    fresh(connector::Split { name: name.to_owned(), start: serde_json::Value::Null })
}

/// Reads all splits one after the other.
fn read_all(source: &dyn Source, columns: usize) -> Result<(Vec<Batch>, Vec<BadRecord>), Failure> {
    let mut reader = source.reader(context(columns))?;
    let mut splits = source.enumerator()?.discover()?.into_iter();
    let (mut batches, mut bad) = (Vec::new(), Vec::new());
    loop {
        match reader.poll()? {
            Poll::Rows(rows) => {
                batches.push(rows.batch);
                bad.extend(rows.bad);
            }
            Poll::NeedSplit => match splits.next() {
                Some(split) => reader.add_split(&fresh(split))?,
                None => return Ok((batches, bad)),
            },
            Poll::NotBefore(_) | Poll::Away(_) => unreachable!("files do not wait"),
        }
    }
}

fn firsts(batches: &[Batch]) -> Vec<i64> {
    let values = batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
    values.collect()
}

/// Rows as text, the columns separated by a bar.
fn draw(batches: &[Batch]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches.iter().filter(|batch| !batch.is_empty()) {
        let drawn = arrow::util::pretty::pretty_format_batches(std::slice::from_ref(&batch.rows)).unwrap().to_string();
        let rows = drawn.lines().skip(3).filter(|line| line.starts_with('|'));
        lines.extend(rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().join("|")));
    }
    lines
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn nexmark() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8View, true);
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    let time = |name: &str| Field::new(name, DataType::Timestamp(TimeUnit::Millisecond, None), true);
    let person = vec![
        number("id"),
        text("name"),
        text("emailAddress"),
        text("creditCard"),
        text("city"),
        text("state"),
        time("dateTime"),
        text("extra"),
    ];
    let auction = vec![
        number("id"),
        text("itemName"),
        text("description"),
        number("initialBid"),
        number("reserve"),
        time("dateTime"),
        time("expires"),
        number("seller"),
        number("category"),
        text("extra"),
    ];
    let bid = vec![
        number("auction"),
        number("bidder"),
        number("price"),
        text("channel"),
        text("url"),
        time("dateTime"),
        text("extra"),
    ];
    let row = |name: &str, fields: Vec<Field>| Field::new(name, DataType::Struct(fields.into()), true);
    let kind = Field::new("event_type", DataType::Int32, true);
    Arc::new(Schema::new(vec![kind, row("person", person), row("auction", auction), row("bid", bid)]))
}

#[test]
fn the_example_events_are_read_whole() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/nexmark");
    let shape = TableShape { schema: nexmark(), ..numbers() };
    let source = open(&folder, &shape, &[("path", "events.jsonl.gz"), ("format", "json")]).unwrap();
    assert!(source.is_bounded());
    let (batches, bad) = read_all(&*source, 4).unwrap();
    assert_eq!(bad, []);
    let mut counts = [0; 3];
    let mut expected = flate2_lines(&folder.join("events.jsonl.gz")).into_iter();
    for batch in batches {
        let kinds = batch.column(0).as_primitive::<arrow::datatypes::Int32Type>().clone();
        let mut written = Vec::new();
        let mut writer = arrow::json::WriterBuilder::new()
            .with_explicit_nulls(true)
            .with_timestamp_format("%Y-%m-%d %H:%M:%S%.3f".to_owned())
            .build::<_, arrow::json::writer::LineDelimited>(&mut written);
        writer.write(&batch.rows).unwrap();
        writer.finish().unwrap();
        for (line, kind) in String::from_utf8(written).unwrap().lines().zip(kinds.values()) {
            counts[*kind as usize] += 1;
            let ours: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(ours, expected.next().unwrap());
        }
    }
    assert_eq!(counts, [400, 1_200, 18_400]);
}

/// The events as serde_json reads them, their times with three digits.
fn flate2_lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::io::read_to_string(flate2::read::GzDecoder::new(fs::File::open(path).unwrap())).unwrap();
    let mut events: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for event in &mut events {
        for row in ["person", "auction", "bid"] {
            for field in ["dateTime", "expires"] {
                if let Some(serde_json::Value::String(time)) = event[row].get_mut(field) {
                    let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
                    *time = format!("{seconds}.{fraction:0<3}");
                }
            }
        }
    }
    events
}

#[test]
fn mistakes_in_options_are_told_at_plan_time() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.json"), "").unwrap();
    let json = ("format", "json");
    let table: [(Pairs, &str); 24] = [
        (&[json], "table 't' needs the option 'path' (add 'path' = '…' to its WITH clause)"),
        (&[("path", "a.json")], "table 't' needs the option 'format' (add 'format' = '…' to its WITH clause)"),
        (
            &[("path", "no.json"), json],
            "table 't': there is no file or folder 'no.json' (DIR/no.json) (relative paths start in the folder that weir was started in)",
        ),
        (
            &[("path", "x/*.json"), json],
            "table 't': there is no folder 'DIR/x/', the folder of the pattern 'x/*.json' (DIR/x/*.json), (relative paths start in the folder that weir was started in)",
        ),
        (
            &[("path", "gs://bucket/a"), json],
            "table 't': the path 'gs://bucket/a' is on gs://, which is not available in this version (use a path of this machine, such as '/data/events' or 'file:///data/events', or one of a bucket, such as 's3://bucket/events')",
        ),
        (
            &[("path", "s3://b/a"), json],
            "table 't': the path 's3://b/a' names no bucket: 3 to 63 of a-z, 0-9, '-' and '.' expected (write 's3://<bucket>/<folder>')",
        ),
        (
            &[("path", "s3://bucket/{a"), json],
            "table 't': the path 's3://bucket/{a' is no pattern: a '{' is not closed (a pattern is such as",
        ),
        (
            &[("path", "s3://bucket/a"), json, ("s3.endpiont", "http://minio:9000")],
            "table 't' has an unknown option 's3.endpiont' (did you mean 's3.endpoint'?)",
        ),
        (
            &[("path", "s3://bucket/a"), json, ("s3.endpoint", "minio:9000")],
            "table 't': 'minio:9000' is no value for 's3.endpoint': an address such as 'http://minio:9000' expected",
        ),
        (
            &[("path", "s3://bucket/a"), json, ("s3.path-style-access", "yes")],
            "table 't': 'yes' is no value for 's3.path-style-access': true or false expected",
        ),
        (
            &[("path", "s3://bucket/a"), json, ("s3.secret-key", "hush")],
            "table 't': 's3.secret-key' needs 's3.access-key' beside it (add 's3.access-key' = '${secret:…}', or leave both to the environment)",
        ),
        (
            &[("path", "a.json"), json, ("s3.region", "eu-west-1")],
            "table 't': 's3.region' has a meaning only for a path on s3:// (leave it out)",
        ),
        (
            &[("path", "ftp://b/a"), json],
            "table 't': the path 'ftp://b/a' has the unknown scheme 'ftp' (use a path of this machine, such as '/data/events' or 'file:///data/events', or one of a bucket, such as 's3://bucket/events')",
        ),
        (&[("path", "a.json"), ("format", "jsn")], "table 't': there is no format 'jsn' (did you mean 'json'?)"),
        (
            &[("path", "a.json"), ("format", "avro")],
            "table 't': the format 'avro' is not available in this version (available here: json, csv, parquet)",
        ),
        (
            &[("path", "a.json"), json, ("json.ignore-parse-error", "true")],
            "table 't' has an unknown option 'json.ignore-parse-error' (did you mean 'json.ignore-parse-errors'?)",
        ),
        (
            &[("path", "a.json"), json, ("json.ignore-parse-errors", "true"), ("json.fail-on-missing-field", "true")],
            "table 't': 'json.fail-on-missing-field' and 'json.ignore-parse-errors' exclude each other (keep one of the two)",
        ),
        (
            &[("path", "a.json"), json, ("bad-records", "ignore")],
            "table 't': 'ignore' is no value for 'bad-records': one of fail, skip, table expected",
        ),
        (
            &[("path", "a.json"), json, ("bad-records", "table")],
            "table 't': 'bad-records' = 'table' needs a table (add 'bad-records.table' = '<name>', a table with the columns raw STRING and reason STRING)",
        ),
        (
            &[("path", "a.json"), json, ("bad-records.table", "b")],
            "table 't': 'bad-records.table' is set, but bad records do not go to a table (set 'bad-records' = 'table')",
        ),
        (
            &[("path", "a.json"), json, ("source.split-size", "1")],
            "table 't': 'source.split-size' is 1 bytes: at least 1024 expected",
        ),
        (
            &[("path", "a.json"), json, ("source.monitor-interval", "often")],
            "table 't': 'often' is no value for 'source.monitor-interval': a duration such as '10 s' or '500 ms' expected",
        ),
        (
            &[("path", "a.json"), json, ("source.path.regex-pattern", "(")],
            "table 't': '(' is no value for 'source.path.regex-pattern': a regular expression expected",
        ),
        (
            &[("path", "a.json"), ("format", "csv"), ("csv.field-delimiter", "ab")],
            "table 't': 'ab' is no value for 'csv.field-delimiter': one ASCII character expected, such as ',' or '\\t'",
        ),
    ];
    for (options, expected) in table {
        let told = open(folder.path(), &numbers(), options).err().unwrap();
        assert!(told.starts_with(expected), "{told}\n{expected}");
    }
}

#[test]
fn files_are_found_in_the_order_of_their_paths() {
    let folder = tempfile::tempdir().unwrap();
    let at = |file: &str| folder.path().join(file);
    for name in ["b.json", "a/2.json", "a/1.json", "a.json", ".hidden.json", "_tmp/x.json", "c.txt"] {
        fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        fs::write(at(name), "{}\n").unwrap();
    }
    fs::write(at("empty.json"), "").unwrap();
    let url = format!("file://{}", folder.path().display());
    let table: [(Pairs, &[&str]); 6] = [
        (&[("path", ".")], &["a/1.json@0-3", "a/2.json@0-3", "a.json@0-3", "b.json@0-3", "c.txt@0-3"]),
        (&[("path", &url)], &["a/1.json@0-3", "a/2.json@0-3", "a.json@0-3", "b.json@0-3", "c.txt@0-3"]),
        (&[("path", "*.json")], &["a.json@0-3", "b.json@0-3"]),
        (&[("path", "a*")], &["a/1.json@0-3", "a/2.json@0-3", "a.json@0-3"]),
        (&[("path", "."), ("source.path.regex-pattern", ".*/a/.*")], &["a/1.json@0-3", "a/2.json@0-3"]),
        (&[("path", "b.json")], &["b.json@0-3"]),
    ];
    for (options, expected) in table {
        let options: Vec<_> = options.iter().copied().chain([("format", "json")]).collect();
        let source = open(folder.path(), &numbers(), &options).unwrap();
        let splits = source.enumerator().unwrap().discover().unwrap();
        let names: Vec<&str> = splits.iter().map(|split| split.name.as_str()).collect();
        assert_eq!(names, expected, "{options:?}");
    }
}

#[test]
fn a_watched_folder_is_looked_at_again() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("b"), "{}").unwrap();
    let options = [("path", "."), ("format", "json"), ("source.monitor-interval", "2 s")];
    let source = open(folder.path(), &numbers(), &options).unwrap();
    assert!(!source.is_bounded());
    let mut listing = source.enumerator().unwrap();
    assert_eq!(listing.look_again(), Some(std::time::Duration::from_secs(2)));
    assert_eq!(listing.discover().unwrap().len(), 1);
    fs::write(folder.path().join("a"), "{}").unwrap();
    assert_eq!(listing.discover().unwrap().len(), 2);
}

#[test]
fn bad_records_follow_the_policy_of_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "{\"n\": 1}\n\n{\"n\": \"x\"}\nnot json\n{\"n\": 2}";
    fs::write(folder.path().join("in"), lines).unwrap();
    let base = [("path", "in"), ("format", "json")];

    let failure = read_all(&*open(folder.path(), &numbers(), &base).unwrap(), 2).unwrap_err();
    assert_eq!(failure.kind, Kind::User);
    let expected = "table 't', file DIR/in: bad record at line 3: column 'n': 'x' is no BIGINT: {\"n\": \"x\"}; correct it, \
                    or set 'bad-records' = 'skip' or 'table' to go on without such records";
    assert_eq!(failure.chain().replace(&folder.path().display().to_string(), "DIR"), expected);

    for policy in [&[("bad-records", "skip")][..], &[("bad-records", "table"), ("bad-records.table", "b")]] {
        let options: Vec<_> = base.iter().chain(policy).copied().collect();
        let (batches, bad) = read_all(&*open(folder.path(), &numbers(), &options).unwrap(), 2).unwrap();
        assert_eq!(firsts(&batches), [1, 2]);
        let bad: Vec<(&str, &str)> = bad.iter().map(|bad| (bad.raw.as_str(), bad.reason.as_str())).collect();
        let object = "in, line 4: a JSON object expected, 'not json' found";
        assert_eq!(bad, [("{\"n\": \"x\"}", "in, line 3: column 'n': 'x' is no BIGINT"), ("not json", object)]);
    }

    let options: Vec<_> = base.iter().chain(&[("json.ignore-parse-errors", "true")]).copied().collect();
    let (batches, bad) = read_all(&*open(folder.path(), &numbers(), &options).unwrap(), 2).unwrap();
    assert_eq!((draw(&batches), bad.len()), (vec!["1|".to_owned(), "|".to_owned(), "2|".to_owned()], 1));
}

#[test]
fn a_line_that_is_too_long_is_one_bad_record() {
    let folder = tempfile::tempdir().unwrap();
    let long = format!("{{\"n\": 1}}\n{{\"s\": \"{}\"}}\n{{\"n\": 2}}\n", "x".repeat(1 << 20));
    fs::write(folder.path().join("in"), long).unwrap();
    let options = [("path", "in"), ("format", "json"), ("source.max-record-size", "64kb"), ("bad-records", "skip")];
    let (batches, bad) = read_all(&*open(folder.path(), &numbers(), &options).unwrap(), 2).unwrap();
    assert_eq!(firsts(&batches), [1, 2]);
    assert_eq!(bad.len(), 1);
    assert_eq!(bad[0].reason, "in, line 2: the record is longer than 65536 bytes ('source.max-record-size')");
    assert!(bad[0].raw.len() < 300);
}

#[test]
fn partitions_and_metadata_come_from_the_path() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in
        [("day=2024-01-01/k=a%20b", "{\"n\": 1}\n"), ("day=2024-01-02/k=__HIVE_DEFAULT_PARTITION__", "{\"n\": 2}\n")]
    {
        let below = folder.path().join(name);
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join("f.json"), text).unwrap();
    }
    let fields = vec![
        Field::new("day", DataType::Date32, true),
        Field::new("n", DataType::Int64, true),
        Field::new("k", DataType::Utf8View, true),
    ];
    let metadata = vec![("f".to_owned(), "file.name".to_owned()), ("z".to_owned(), "file.size".to_owned())];
    let shape = TableShape { partitioned_by: vec![0, 2], metadata, ..shape(fields) };
    let source = open(folder.path(), &shape, &[("path", "."), ("format", "json")]).unwrap();
    let (batches, _) = read_all(&*source, 3).unwrap();
    assert_eq!(draw(&batches), ["2024-01-01|1|a b|f.json|9", "2024-01-02|2||f.json|9"]);
}

#[test]
fn a_file_that_is_not_what_it_was_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in");
    fs::write(&path, "{\"n\": 1}\n{\"n\": 2}\n").unwrap();
    let source = open(folder.path(), &numbers(), &[("path", "in"), ("format", "json")]).unwrap();
    let split = fresh(source.enumerator().unwrap().discover().unwrap().remove(0));
    let outcome = |split: &SplitProgress| {
        let mut reader = source.reader(context(2)).unwrap();
        reader.add_split(split).unwrap();
        match reader.poll() {
            Ok(Poll::Rows(rows)) => format!("{} rows", rows.batch.num_rows()),
            Ok(_) => unreachable!("a split was given"),
            Err(failure) => {
                format!("{:?} {}", failure.kind, failure.chain()).replace(&path.display().to_string(), "FILE")
            }
        }
    };
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"n\": 3}\n").unwrap();
    assert_eq!(outcome(&split), "2 rows", "what was appended later is not read");
    fs::write(&path, "{\"n\": 1}\n").unwrap();
    let again = "since the job began to read it; put the old file back, or begin anew with --fresh";
    assert_eq!(outcome(&split), format!("User the file FILE has shrunk from 18 to 9 bytes {again}"));
    let other = fs::File::create(&path).unwrap();
    (&other).write_all(&[b'\n'; 18]).unwrap();
    other.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(outcome(&split), format!("User the file FILE was replaced or written again {again}"));
    fs::remove_file(&path).unwrap();
    assert_eq!(outcome(&split), "User the file FILE is gone; put it back, or begin anew with --fresh");
}

#[test]
fn a_file_that_has_grown_is_cut_as_the_checkpoint_knows_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in");
    let lines = |range: std::ops::Range<i64>| range.map(|n| format!("{{\"n\": {n:>10}}}\n")).collect::<String>();
    fs::write(&path, lines(0..400)).unwrap();
    let options = [("path", "in"), ("format", "json"), ("source.split-size", "1 kb")];
    let source = open(folder.path(), &numbers(), &options).unwrap();
    let before = source.enumerator().unwrap().discover().unwrap();
    fs::write(&path, lines(0..800)).unwrap();
    let larger = [("path", "in"), ("format", "json"), ("source.split-size", "3 kb")];
    let mut listing = open(folder.path(), &numbers(), &larger).unwrap().enumerator().unwrap();
    let finished = BTreeSet::from([before[0].name.clone()]);
    listing.resume(&[fresh(before[2].clone())], &finished).unwrap();
    let ends = |splits: &[connector::Split]| splits.last().unwrap().start["end"].clone();
    let after = listing.discover().unwrap();
    assert_eq!(after[..3], before[..3]);
    assert_eq!(ends(&after), ends(&before));
    let mut at = 0;
    for split in after {
        assert_eq!(split.start["start"], at, "parts neither overlap nor leave a gap");
        at = split.start["end"].as_u64().unwrap();
    }
}

#[test]
fn damaged_compressed_files_are_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let packed = gzip("{\"n\": 1}\n".repeat(10_000).as_bytes());
    fs::write(folder.path().join("in.gz"), &packed[..packed.len() / 2]).unwrap();
    fs::write(folder.path().join("in.zst"), b"no zstd").unwrap();
    for file in ["in.gz", "in.zst"] {
        let source = open(folder.path(), &numbers(), &[("path", file), ("format", "json")]).unwrap();
        let failure = read_all(&*source, 2).unwrap_err();
        assert_eq!(failure.kind, Kind::User, "{}", failure.chain());
        assert!(failure.chain().contains("is damaged or ends too early"), "{}", failure.chain());
    }
}

#[test]
fn a_part_that_begins_with_a_line_owns_it() {
    let folder = tempfile::tempdir().unwrap();
    // Lines of 32 bytes: each border between parts of a kilobyte is one between lines.
    let lines: String = (0..200).map(|n| format!("{{\"n\": {n:>24}}}\n")).collect();
    assert_eq!(lines.len(), 200 * 32);
    fs::write(folder.path().join("in"), lines).unwrap();
    let options = [("path", "in"), ("format", "json"), ("source.split-size", "1 kb")];
    let source = open(folder.path(), &numbers(), &options).unwrap();
    assert_eq!(firsts(&read_all(&*source, 2).unwrap().0), (0..200).collect::<Vec<_>>());
}

/// What is written to a file of numbered rows, in one of the formats.
fn encode(format: &str, lengths: &[usize], last_line_end: bool) -> Vec<u8> {
    let text = |n: usize, length: usize| format!("{n}:{}", "ü,\n".repeat(length));
    let mut out = String::new();
    match format {
        "parquet" => return parquet(lengths),
        "csv" => lengths.iter().enumerate().for_each(|(n, length)| out += &format!("{n},\"{}\"\n", text(n, *length))),
        _ => {
            for (n, length) in lengths.iter().enumerate() {
                out += &format!("{}\n", serde_json::json!({"s": text(n, *length), "n": n}));
            }
        }
    }
    if !last_line_end {
        out.pop();
    }
    out.into_bytes()
}

fn parquet(lengths: &[usize]) -> Vec<u8> {
    use arrow::array::{Int64Array, RecordBatch, StringArray};
    let numbers = Int64Array::from_iter_values(0..i64::try_from(lengths.len()).unwrap());
    let texts = StringArray::from_iter_values(lengths.iter().map(|length| "y".repeat(*length)));
    let schema = Schema::new(vec![Field::new("n", DataType::Int64, false), Field::new("s", DataType::Utf8, true)]);
    let rows = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(numbers), Arc::new(texts)]).unwrap();
    let properties =
        parquet::file::properties::WriterProperties::builder().set_max_row_group_row_count(Some(37)).build();
    let mut out = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut out, rows.schema(), Some(properties)).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    out
}

/// Reads with a restart after every few batches: positions are taken, all else is forgotten.
fn read_with_restarts(source: &dyn Source, max_rows: usize, restart_every: usize) -> Vec<i64> {
    let mut rows_read = Vec::new();
    let mut known: BTreeMap<String, SplitProgress> = BTreeMap::new();
    loop {
        let mut listing = source.enumerator().unwrap();
        let unfinished: Vec<SplitProgress> = known.values().filter(|split| !split.finished).cloned().collect();
        let finished = known.values().filter(|split| split.finished).map(|split| split.split.clone()).collect();
        listing.resume(&unfinished, &finished).unwrap();
        let mut reader = source.reader(ReaderContext { max_rows, ..context(2) }).unwrap();
        known.values().filter(|split| !split.finished).for_each(|split| reader.add_split(split).unwrap());
        let seen: BTreeSet<String> = known.keys().cloned().collect();
        let mut unseen = listing.discover().unwrap().into_iter().filter(|split| !seen.contains(&split.name));
        for _ in 0..restart_every {
            match reader.poll().unwrap() {
                Poll::Rows(rows) => {
                    rows_read.extend(firsts(&[rows.batch]));
                    if rows.last {
                        let progress = SplitProgress { finished: true, ..fresh_name(&rows.split) };
                        known.insert(rows.split.to_string(), progress);
                    }
                }
                Poll::NeedSplit => match unseen.next() {
                    Some(split) => reader.add_split(&fresh(split)).unwrap(),
                    None => return rows_read,
                },
                Poll::NotBefore(_) | Poll::Away(_) => unreachable!("files do not wait"),
            }
        }
        for split in reader.positions() {
            let stored = serde_json::from_slice(&serde_json::to_vec(&split).unwrap()).unwrap();
            known.insert(split.split.clone(), stored);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_record_is_read_once_however_files_are_cut_and_readers_restart(
        lengths in prop::collection::vec(prop_oneof![4 => 0..20_usize, 1 => 0..700_usize], 1..400),
        split_size in 1024..6000_u64,
        max_rows in 1..80_usize,
        restart_every in 1..9_usize,
        format in prop::sample::select(vec!["json", "csv", "parquet"]),
        packing in prop::sample::select(vec!["", ".gz", ".zst"]),
        last_line_end: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let bytes = encode(format, &lengths, last_line_end);
        let (name, bytes) = match packing {
            ".gz" if format != "parquet" => ("in.gz", gzip(&bytes)),
            ".zst" if format != "parquet" => ("in.zst", zstd::encode_all(&bytes[..], 1).unwrap()),
            _ => ("in", bytes),
        };
        fs::write(folder.path().join(name), bytes).unwrap();
        let size = split_size.to_string();
        let options = [("path", name), ("format", format), ("source.split-size", size.as_str())];
        let source = open(folder.path(), &numbers(), &options).unwrap();
        let expected: Vec<i64> = (0..i64::try_from(lengths.len()).unwrap()).collect();
        prop_assert_eq!(read_with_restarts(&*source, max_rows, restart_every), expected);
    }

    #[test]
    fn random_files_neither_panic_nor_take_memory_without_bound(
        bytes in prop::collection::vec(any::<u8>(), 0..3000),
        format in prop::sample::select(vec!["json", "csv", "parquet"]),
        name in prop::sample::select(vec!["in", "in.gz", "in.zst"]),
    ) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(name), bytes).unwrap();
        let options = [("path", name), ("format", format), ("bad-records", "skip")];
        let source = open(folder.path(), &numbers(), &options).unwrap();
        if let Err(failure) = read_all(&*source, 2) {
            prop_assert_eq!(failure.kind, Kind::User, "{}", failure.chain());
        }
    }

    /// Whatever a checkpoint says of where to go on: it is refused, or gone on from.
    #[test]
    fn random_positions_neither_panic_nor_take_memory_without_bound(
        numbers_of in prop::array::uniform4(prop_oneof![0..400_u64, 0..1_u64 << 62]),
        size in 0..200_u64,
        file in prop::sample::select(vec!["in", "", ".", "../in", "none"]),
        kind in prop::sample::select(vec!["records", "rows", "none", "other"]),
        format in prop::sample::select(vec!["json", "csv", "parquet"]),
        name in prop::sample::select(vec!["in", "in.gz", "in.zst"]),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let bytes = encode(format, &[3; 20], true);
        let bytes = match name {
            "in.gz" => gzip(&bytes),
            "in.zst" => zstd::encode_all(&bytes[..], 1).unwrap(),
            _ => bytes,
        };
        fs::write(folder.path().join(name), bytes).unwrap();
        let options = [("path", name), ("format", format), ("bad-records", "skip")];
        let source = open(folder.path(), &numbers(), &options).unwrap();
        let [start, end, offset, count] = numbers_of;
        let mut split = fresh(source.enumerator().unwrap().discover().unwrap().remove(0));
        let found = split.position["file"].as_str().unwrap_or_default().to_owned();
        split.position["file"] = if file == "in" { found.into() } else { file.into() };
        for (field, value) in [("size", size), ("start", start), ("end", end)] {
            split.position[field] = value.into();
        }
        split.position["read"] = match kind {
            "records" => serde_json::json!({"records": {"offset": offset, "lines": count}}),
            "rows" => serde_json::json!({"rows": count}),
            "none" => serde_json::Value::Null,
            _ => serde_json::json!([offset, count]),
        };
        let mut reader = source.reader(context(2)).unwrap();
        let outcome = reader.add_split(&split).and_then(|()| {
            while !matches!(reader.poll()?, Poll::NeedSplit) {}
            Ok(())
        });
        if let Err(failure) = outcome {
            prop_assert!(matches!(failure.kind, Kind::User | Kind::Corrupt | Kind::Transient), "{}", failure.chain());
        }
    }

    #[test]
    fn damaged_parquet_is_refused_or_read(at in any::<prop::sample::Index>(), flip in 1..=255_u8) {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = parquet(&[3; 100]);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        fs::write(folder.path().join("in"), bytes).unwrap();
        let source = open(folder.path(), &numbers(), &[("path", "in"), ("format", "parquet")]).unwrap();
        if let Err(failure) = read_all(&*source, 2) {
            prop_assert_eq!(failure.kind, Kind::User, "{}", failure.chain());
        }
    }
}

#[test]
fn what_was_read_of_a_compressed_file_is_passed_over_in_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let line = |n: u64| format!("{{\"n\":{n},\"s\":\"{}\"}}\n", "x".repeat(100));
    let text: String = (0..200_000).map(line).collect();
    let offset = (0..150_000).map(|n| line(n).len() as u64).sum::<u64>();
    for (name, bytes) in
        [("a.json.gz", gzip(text.as_bytes())), ("a.json.zst", zstd::encode_all(text.as_bytes(), 1).unwrap())]
    {
        let inside = folder.path().join(name.rsplit_once('.').unwrap().1);
        fs::create_dir(&inside).unwrap();
        fs::write(inside.join(name), bytes).unwrap();
        let source = open(&inside, &numbers(), &[("path", "."), ("format", "json")]).unwrap();
        let mut split = fresh(source.enumerator().unwrap().discover().unwrap().remove(0));
        split.position["read"] = serde_json::json!({"records": {"offset": offset, "lines": 150_000}});
        let mut reader = source.reader(context(1)).unwrap();
        reader.add_split(&split).unwrap();
        let (mut turns, mut numbers) = (0, Vec::new());
        loop {
            match reader.poll().unwrap() {
                Poll::NotBefore(_) => {
                    turns += 1;
                    let positions = reader.positions();
                    assert_eq!(positions, [split.clone()], "a checkpoint meanwhile says where it is to go on");
                }
                Poll::Rows(rows) => numbers.extend(firsts(&[rows.batch])),
                Poll::NeedSplit => break,
                Poll::Away(_) => unreachable!("files of this machine are there"),
            }
        }
        assert!(turns >= 3, "{name}: {turns} turns over {offset} bytes");
        assert_eq!(numbers, (150_000..200_000).collect::<Vec<i64>>(), "{name}");
    }
}
