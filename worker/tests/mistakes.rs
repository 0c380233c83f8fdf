//! Every mistake that a user can make, as the binary answers it: what is wrong, where, what to do, and nothing written.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::too_many_lines, clippy::type_complexity, reason = "tests are tables")]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

const FINISHED: i32 = 0;
const USER_ERROR: i32 = 2;
const STOPPED: i32 = 3;

/// A run that takes longer is stuck.
const PATIENCE: Duration = Duration::from_secs(60);

const BIDS: &str = "CREATE TABLE bids (auction BIGINT, price BIGINT, name STRING, at TIMESTAMP(3),
        WATERMARK FOR at AS at - INTERVAL '1' SECOND)
        WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'json');";
const TOTALS: &str = "CREATE TABLE totals (auction BIGINT, n BIGINT)
        WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'json');";
const COUNT: &str = "INSERT INTO totals SELECT auction, count(*) FROM bids GROUP BY auction;";
const PRICES: &str = "INSERT INTO totals SELECT auction, price FROM bids;";

/// A row of the input.
const ROW: &str = "{\"auction\":1,\"price\":2,\"name\":\"7\",\"at\":\"2026-01-01 00:00:00\"}\n";

/// A manifest; `spec` is added to its spec, the script is `statements` from line 8 on.
fn manifest(spec: &str, statements: &[&str]) -> String {
    let script = statements.join("\n      ");
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: StreamJob\nmetadata: {{name: job}}\nspec:\n  parallelism: 2\n{spec}  pipeline:\n    \
         sql: |\n      {script}\n"
    )
}

/// A job over the usual tables.
fn job(insert: &str) -> String {
    manifest("", &[BIDS, TOTALS, insert])
}

/// A job whose source or sink is declared otherwise: `old` is `new`.
fn but(old: &str, new: &str) -> String {
    let text = job(COUNT);
    assert!(text.contains(old), "{old}");
    text.replace(old, new)
}

/// A folder with `in/a.json` and `job.yaml`.
struct Place(tempfile::TempDir);

impl Place {
    fn new(manifest: &str, rows: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("in")).unwrap();
        place.write("in/a.json", rows);
        place.write("job.yaml", manifest);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn start(&self, arguments: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(arguments).current_dir(self.0.path()).stdout(Stdio::null()).stderr(Stdio::piped());
        Running::new(command.spawn().unwrap())
    }

    /// Runs `weir`, which must end by itself with this code and say all of `parts`.
    fn check(&self, what: &str, arguments: &[&str], code: i32, parts: &[&str]) {
        let (actual, said) = self.start(arguments).end(PATIENCE);
        assert_eq!(actual, Some(code), "{what}: {said}");
        for part in parts {
            assert!(said.contains(part), "{what}: {part:?} is not said:\n{said}");
        }
        assert!(!said.contains("panic"), "{what}: {said}");
    }

    /// The lines of the files in a folder. Files that are not committed are hidden, for this as for any reader.
    fn lines(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(folder)) else { return Vec::new() };
        let paths = entries.map(|entry| entry.unwrap().path()).filter(|path| is_visible(path));
        let texts = paths.map(|path| fs::read_to_string(path).unwrap());
        let mut lines: Vec<String> =
            texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        lines.sort_unstable();
        lines
    }

    fn has_only(&self, what: &str, names: &[&str]) {
        let mut found: Vec<_> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort_unstable();
        assert_eq!(found, names, "{what}");
    }
}

fn is_visible(path: &Path) -> bool {
    !path.file_name().unwrap().to_str().unwrap().starts_with('.')
}

/// A process whose errors are collected.
struct Running {
    child: Child,
    ended: mpsc::Receiver<()>,
    reader: std::thread::JoinHandle<String>,
}

impl Running {
    fn new(mut child: Child) -> Self {
        let mut errors = child.stderr.take().unwrap();
        let (sender, ended) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = errors.read_to_string(&mut text);
            let _ = sender.send(());
            text
        });
        Self { child, ended, reader }
    }

    /// Waits for its end, and kills it when that does not come in time: then there is no code.
    fn end(mut self, patience: Duration) -> (Option<i32>, String) {
        if self.ended.recv_timeout(patience).is_err() {
            let _ = self.child.kill();
        }
        (self.child.wait().unwrap().code(), self.reader.join().unwrap())
    }

    /// Ends it as an operator would.
    fn stop(self) -> (Option<i32>, String) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.end(PATIENCE)
    }
}

/// Mistakes in the manifest.
fn of_manifests() -> Vec<(&'static str, String, Vec<&'static str>)> {
    let good = job(COUNT);
    let with = |spec: &str| manifest(spec, &[BIDS, TOTALS, COUNT]);
    vec![
        ("broken YAML", "kind: [StreamJob".to_owned(), vec!["line 1, column 7", "unclosed bracket"]),
        ("tab", good.replace("  parallelism", "\tparallelism"), vec!["line 5", "hint: indent with spaces"]),
        ("empty", String::new(), vec!["the manifest is empty", "hint: "]),
        ("list", "- a\n".to_owned(), vec!["line 1", "expected a StreamJob"]),
        (
            "unknown field",
            good.replace("parallelism", "paralelism"),
            vec!["line 5, column 3: spec.paralelism", "did you mean parallelism?"],
        ),
        ("kind", good.replace("StreamJob", "Streamjob"), vec!["line 2, column 7: kind: expected StreamJob"]),
        (
            "wrong type",
            good.replace("lism: 2", "lism: two"),
            vec!["line 5, column 16: spec.parallelism: expected a whole number"],
        ),
        ("negative", good.replace("lism: 2", "lism: -2"), vec!["spec.parallelism: expected a number from 1"]),
        ("no name", good.replace("{name: job}", "{}"), vec!["metadata.name: missing", "hint: name the job"]),
        (
            "name",
            good.replace("name: job", "name: A_b"),
            vec!["line 3", "metadata.name", "hint: names begin with a letter"],
        ),
        ("twice", good.replace("lism: 2", "lism: 2\n  parallelism: 3"), vec!["line 6, column 3", "twice"]),
        (
            "exclusive",
            with("  restart: {none: {}, fixedDelay: {}}\n"),
            vec!["line 6, column 13", "exclude each other", "keep one of"],
        ),
        (
            "both scripts",
            good.replace("    sql: |", "    sqlFrom: {configMapKeyRef: {name: a, key: b}}\n    sql: |"),
            vec!["sql and sqlFrom exclude each other"],
        ),
        (
            "duration",
            with("  checkpoint: {interval: soon}\n"),
            vec!["line 6, column 26: spec.checkpoint.interval", "for example 10s"],
        ),
        (
            "too parallel",
            with("  maxParallelism: 1\n"),
            vec!["line 5, column 16: spec.parallelism: 2 is above maxParallelism"],
        ),
    ]
}

/// Mistakes in SQL: the line is that of the manifest, `bids` is declared on 8 to 10, `totals` on 11 and 12, the query is 13.
fn of_queries() -> Vec<(&'static str, String, Vec<&'static str>)> {
    let tumble = "INSERT INTO totals SELECT auction, count(*) FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(at), INTERVAL '10' SECOND)) \
                  GROUP BY auction, window_start, window_end;";
    let unmarked = BIDS.replace(",\n        WATERMARK FOR at AS at - INTERVAL '1' SECOND", "\n        ");
    vec![
        (
            "syntax",
            job("INSERT INTO totals SELECT auction, count( FROM bids;"),
            vec!["line 13, column 54", "found: bids"],
        ),
        (
            "keyword",
            job("INSERT INTO totals SELCT auction FROM bids;"),
            vec!["line 13, column 26", "\n   |                          ^"],
        ),
        (
            "text without end",
            job("INSERT INTO totals SELECT auction, 'a FROM bids;"),
            vec!["line 13, column 42: unterminated string"],
        ),
        (
            "semicolon",
            job("INSERT INTO totals SELECT auction, price FROM bids\n      INSERT INTO a SELECT 1;"),
            vec!["line 14, column 14", "hint: a ; ends"],
        ),
        (
            "letters",
            job("INSERT INTO totals SELECT auction, CASE WHEN name = 'äöü€' THEN pric END FROM bids;"),
            vec!["line 13, column 71", "did you mean 'price'"],
        ),
        (
            "table",
            job("INSERT INTO totals SELECT auction, price FROM bid;"),
            vec!["line 13, column 53", "'bid'", "did you mean 'bids'"],
        ),
        (
            "sink",
            job("INSERT INTO total SELECT auction, price FROM bids;"),
            vec!["line 13, column 19", "did you mean 'totals'"],
        ),
        (
            "column",
            job("INSERT INTO totals SELECT auction, prise FROM bids;"),
            vec!["line 13, column 42", "did you mean 'price'"],
        ),
        (
            "key",
            job("INSERT INTO totals SELECT auction, count(*) FROM bids GROUP BY auctio;"),
            vec!["line 13, column 70", "did you mean 'auction'"],
        ),
        (
            "ungrouped",
            job("INSERT INTO totals SELECT auction, price FROM bids GROUP BY auction;"),
            vec!["line 13, column 42", "hint: add it to GROUP BY"],
        ),
        (
            "function",
            job("INSERT INTO totals SELECT auction, coutn(price) FROM bids;"),
            vec!["line 13, column 42", "did you mean 'COUNT'"],
        ),
        (
            "insert",
            job("INSERT INTO totals SELECT auction, name FROM bids;"),
            vec!["line 13, column 42: the column 'n' of table 'totals' is BIGINT", "CAST(… AS BIGINT)"],
        ),
        (
            "columns",
            job("INSERT INTO totals SELECT auction FROM bids;"),
            vec!["the query has 1 column, but table 'totals' takes 2"],
        ),
        (
            "types",
            job("INSERT INTO totals SELECT auction, name + 1 FROM bids;"),
            vec!["line 13, column 42: STRING + INT has no meaning", "CAST"],
        ),
        (
            "condition",
            job("INSERT INTO totals SELECT auction, price FROM bids WHERE name;"),
            vec!["line 13, column 64: a condition is BOOLEAN"],
        ),
        (
            "arguments",
            job("INSERT INTO totals SELECT auction, sum(name) FROM bids GROUP BY auction;"),
            vec!["line 13, column 42: SUM does not take (STRING)"],
        ),
        (
            "no watermark",
            manifest("", &[&unmarked, TOTALS, tumble]),
            vec!["line 13, column 92: a window needs event time", "hint: declare it in CREATE TABLE: WATERMARK FOR"],
        ),
        (
            "join",
            job("INSERT INTO totals SELECT a.auction, b.price FROM bids a JOIN bids b ON a.auction = b.auction;"),
            vec!["line 13, column 69: JOIN is not available in this version"],
        ),
        (
            "top-N",
            job(
                "INSERT INTO totals SELECT auction, price FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price) AS r FROM bids) WHERE r < 3;",
            ),
            vec!["line 13, column 64: ROW_NUMBER() OVER is not available"],
        ),
        (
            "OVER",
            job("INSERT INTO totals SELECT auction, sum(price) OVER (PARTITION BY auction ORDER BY at) FROM bids;"),
            vec!["line 13, column 42: SUM() OVER is not available"],
        ),
        (
            "DISTINCT",
            job("INSERT INTO totals SELECT auction, count(DISTINCT price) FROM bids GROUP BY auction;"),
            vec!["line 13, column 42: COUNT(DISTINCT …) is not available"],
        ),
        (
            "ORDER BY",
            job("INSERT INTO totals SELECT auction, price FROM bids ORDER BY price;"),
            vec!["line 13, column 67: ORDER BY is not available"],
        ),
        ("no insert", job("SELECT 1;"), vec!["line 13, column 7", "hint: write INSERT INTO"]),
        (
            "setting",
            job("SET 'table.exec.stat.ttl' = '1 h';"),
            vec!["line 13, column 7", "did you mean 'table.exec.state.ttl'"],
        ),
    ]
}

/// Mistakes in tables.
fn of_tables() -> Vec<(&'static str, String, Vec<&'static str>)> {
    let from = |new: &str| job(COUNT).replacen("'path' = 'in'", new, 1);
    vec![
        ("type", but("price BIGINT", "price BIGNT"), vec!["line 8, column 48: there is no type BIGNT"]),
        (
            "connector",
            but("'filesystem', 'path' = 'in'", "'filesytem', 'path' = 'in'"),
            vec!["line 10", "there is no connector 'filesytem'", "did you mean 'filesystem'"],
        ),
        ("option", from("'pth' = 'in'"), vec!["needs the option 'path'", "unknown option 'pth'"]),
        (
            "format",
            but("'path' = 'in', 'format' = 'json'", "'path' = 'in', 'format' = 'jsn'"),
            vec!["line 10", "there is no format 'jsn'", "did you mean 'json'"],
        ),
        (
            "kafka",
            but("'filesystem', 'path' = 'in'", "'kafka', 'topic' = 'in'"),
            vec!["line 10", "the connector 'kafka' is not available in this version"],
        ),
        (
            "another cloud",
            from("'path' = 'gs://bucket/in'"),
            vec!["line 10", "gs://, which is not available in this version", "hint: "],
        ),
        (
            "no name of a bucket",
            but("'path' = 'out'", "'path' = 's3://Bucket/out'"),
            vec!["line 12", "the path 's3://Bucket/out' names no bucket", "hint: "],
        ),
        (
            "option of a bucket",
            but("'path' = 'out'", "'path' = 's3://bucket/out', 's3.acces-key' = 'x'"),
            vec!["line 12", "an unknown option 's3.acces-key'", "did you mean 's3.access-key'"],
        ),
        (
            "object that goes on",
            but("'path' = 'out'", "'path' = 's3://bucket/out', 'sink.rolling-policy.on-checkpoint' = 'false'"),
            vec!["line 12", "ends at each checkpoint", "hint: leave the option out"],
        ),
        (
            "missing source",
            from("'path' = 'missing'"),
            vec!["line 10", "there is no file or folder 'missing'", "hint: relative paths start"],
        ),
        ("sink below a file", but("'path' = 'out'", "'path' = 'job.yaml/out'"), vec!["line 12", "is not a folder"]),
        (
            "write-only",
            but("'filesystem', 'path' = 'in', 'format' = 'json'", "'blackhole'"),
            vec!["'blackhole' can be written to only"],
        ),
        (
            "read-only",
            but("'filesystem', 'path' = 'out', 'format' = 'json'", "'datagen'"),
            vec!["'datagen' can be read only"],
        ),
        (
            "watermark",
            but("WATERMARK FOR at AS at", "WATERMARK FOR price AS price"),
            vec!["line 9", "a watermark needs a column of type TIMESTAMP(3)", "TO_TIMESTAMP_LTZ"],
        ),
        (
            "changes",
            but("'path' = 'out', 'format' = 'json'", "'path' = 'out', 'format' = 'csv'"),
            vec!["line 13", "takes new rows only", "hint: group by a window"],
        ),
        (
            "secret",
            from("'path' = '${secret:db/password}'"),
            vec!["line 10", "option 'path'", "DB_PASSWORD is not set", "--secrets"],
        ),
        ("policy", from("'path' = 'in', 'bad-records' = 'ignore'"), vec!["line 10", "one of fail, skip, table"]),
        (
            "side table",
            from("'path' = 'in', 'bad-records' = 'table'"),
            vec!["'bad-records' = 'table' needs a table", "raw STRING and reason STRING"],
        ),
        (
            "wrong side table",
            from("'path' = 'in', 'bad-records' = 'table', 'bad-records.table' = 'totals'"),
            vec!["'totals' cannot take bad records"],
        ),
    ]
}

#[test]
fn a_mistake_is_told_with_its_place_and_its_cure_and_nothing_is_written() {
    for (what, text, parts) in of_manifests().into_iter().chain(of_queries()).chain(of_tables()) {
        let place = Place::new(&text, ROW);
        let parts = [&["error: job.yaml"], parts.as_slice()].concat();
        place.check(what, &["check", "job.yaml"], USER_ERROR, &parts);
        place.check(what, &["run", "job.yaml"], USER_ERROR, &parts);
        place.has_only(what, &["in", "job.yaml"]);
    }
}

#[test]
fn a_row_that_cannot_be_computed_ends_the_job_at_once() {
    let row = |from: &str, to: &str| format!("{ROW}{}", ROW.replace(from, to));
    let windowed = "INSERT INTO totals SELECT auction, count(*) FROM TABLE(TUMBLE(TABLE bids, DESCRIPTOR(at), INTERVAL '10' SECOND)) \
                    GROUP BY auction, window_start, window_end;";
    let table: [(&str, &str, String, &[&str]); 5] = [
        (
            "division",
            "INSERT INTO totals SELECT auction, 10 / price FROM bids;",
            row("2,", "0,"),
            &["division by zero", "NULLIF"],
        ),
        (
            "cast",
            "INSERT INTO totals SELECT auction, CAST(name AS BIGINT) FROM bids;",
            row("\"7\"", "\"abc\""),
            &["'abc' is not a valid BIGINT", "TRY_CAST"],
        ),
        (
            "NULL time",
            windowed,
            row("\"2026-01-01 00:00:00\"", "null"),
            &["the event time at of a row is null", "WHERE at IS NOT NULL"],
        ),
        (
            "record",
            PRICES,
            row("2,", "\"x\","),
            &["source bids", "a.json", "line 2", "column 'price': 'x' is no BIGINT", "'bad-records' = 'skip'"],
        ),
        (
            "aggregate",
            "INSERT INTO totals SELECT auction, sum(10 / price) FROM bids GROUP BY auction;",
            row("2,", "0,"),
            &["division by zero"],
        ),
    ];
    for (what, insert, rows, parts) in table {
        let spec = "  restart: {exponentialDelay: {initial: 100ms}}\n  checkpoint: {interval: 20ms}\n";
        let place = Place::new(&manifest(spec, &[BIDS, TOTALS, insert]), &rows);
        place.check(
            what,
            &["run", "job.yaml"],
            USER_ERROR,
            &[&["generation 1 failed", "error: job job: "], parts].concat(),
        );
        assert_eq!(place.lines("out"), Vec::<String>::new(), "{what}");
        // The state of the failed run is no obstacle to the mended one.
        place.write("in/a.json", ROW);
        place.check(what, &["run", "job.yaml", "--fresh"], FINISHED, &["has finished"]);
        assert_eq!(place.lines("out").len(), 1, "{what}");
    }
}

/// Rows a hundredth of a second apart, numbered by price; every tenth is followed by a record that cannot be decoded.
fn numbered_rows(count: u32) -> String {
    let row = |n: u32| {
        let (minute, second, part) = (n / 6000, n / 100 % 60, n % 100 * 10);
        let bad = if n.is_multiple_of(10) { format!("{{\"price\": bad {n}}}\n") } else { String::new() };
        let auction = n % 7;
        format!(
            "{{\"auction\":{auction},\"price\":{n},\"at\":\"2026-01-01 00:{minute:02}:{second:02}.{part:03}\"}}\n{bad}"
        )
    };
    (0..count).map(row).collect()
}

/// A job that reads numbered rows, what to do with the bad ones among them, and its query.
fn numbered(policy: &str, sink: &str, insert: &str) -> String {
    let side = "CREATE TABLE bad (raw STRING, reason STRING) WITH ('connector' = 'filesystem', 'path' = 'bad', 'format' = 'json');";
    let bids = BIDS.replace("'path' = 'in'", &format!("'path' = 'in'{policy}"));
    manifest("  checkpoint: {interval: 20ms}\n", &[&bids, sink, side, insert])
}

const SKIP: &str = ", 'bad-records' = 'skip'";
const TABLE: &str = ", 'bad-records' = 'table', 'bad-records.table' = 'bad'";

/// The values of a field in lines of JSON, in order.
fn values(lines: &[String], field: &str) -> Vec<String> {
    let value = |line: &String| {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        object[field].as_str().map_or_else(|| object[field].to_string(), str::to_owned)
    };
    let mut values: Vec<String> = lines.iter().map(value).collect();
    values.sort_unstable();
    values
}

#[test]
fn bad_records_fail_the_job_or_are_skipped_or_go_to_their_table() {
    let rows = numbered_rows(100);
    for (policy, code, good, bad) in [("", USER_ERROR, 0, 0), (SKIP, FINISHED, 100, 0), (TABLE, FINISHED, 100, 10)] {
        let place = Place::new(&numbered(policy, TOTALS, PRICES), &rows);
        let parts = if code == FINISHED { "10 bad records left out" } else { "a.json: bad record at line 2: " };
        place.check(policy, &["run", "job.yaml"], code, &[parts]);
        assert_eq!((place.lines("out").len(), place.lines("bad").len()), (good, bad), "{policy}");
        let reasons = values(&place.lines("bad"), "reason");
        assert!(reasons.iter().all(|reason| reason.starts_with("a.json, line ")), "{reasons:?}");
    }
}

#[test]
fn a_killed_job_writes_each_bad_record_once() {
    let place = Place::new(&numbered(TABLE, TOTALS, PRICES), &numbered_rows(2000));
    for moment in [350, 500, 420, 610, 380, 550] {
        let (code, said) =
            place.start(&["run", "job.yaml", "--quiet", "--speed", "15"]).end(Duration::from_millis(moment));
        assert!(matches!(code, None | Some(FINISHED)), "{said}");
    }
    place.check("the last run", &["run", "job.yaml"], FINISHED, &["has finished"]);
    let expected = |numbers: &mut dyn Iterator<Item = String>| {
        let mut numbers: Vec<String> = numbers.collect();
        numbers.sort_unstable();
        numbers
    };
    let bad = values(&place.lines("bad"), "raw");
    assert_eq!(bad, expected(&mut (0..2000).step_by(10).map(|n| format!("{{\"price\": bad {n}}}"))));
    assert_eq!(values(&place.lines("out"), "n"), expected(&mut (0..2000).map(|n: u32| n.to_string())));
}

/// A job that was stopped on its way, with output where its sink has any.
fn after_a_stop(sink: &str) -> Place {
    let place = Place::new(&numbered(TABLE, sink, COUNT), &numbered_rows(3000));
    let running = place.start(&["run", "job.yaml", "--quiet", "--speed", "5"]);
    let has_output = || {
        fs::read_dir(place.path("bad")).is_ok_and(|mut entries| entries.any(|entry| is_visible(&entry.unwrap().path())))
    };
    let mut looks = PATIENCE.as_millis() / 10;
    while !has_output() && looks > 0 {
        looks -= 1;
        let _ = running.ended.recv_timeout(Duration::from_millis(10));
    }
    let (code, said) = running.stop();
    assert_eq!(code, Some(STOPPED), "{said}");
    place
}

#[test]
fn a_state_that_does_not_fit_is_told_and_nothing_goes_on() {
    let place = after_a_stop(TOTALS);
    let before = (place.lines("out"), place.lines("bad"));
    let good = fs::read_to_string(place.path("job.yaml")).unwrap();
    let group =
        ["group by auction", "group by price", "no longer has the operator", "new in the plan", "allowDroppedState"];
    let table: [(&str, String, &[&str], &[&str]); 4] = [
        (
            "other key",
            good.replace("SELECT auction, count(*)", "SELECT price, count(*)")
                .replace("GROUP BY auction", "GROUP BY price"),
            &[],
            &group,
        ),
        (
            "key groups",
            good.replace("parallelism: 2", "parallelism: 2\n  maxParallelism: 64"),
            &[],
            &["maxParallelism is 64", "written with 128"],
        ),
        (
            "other job",
            good.replace("name: job", "name: other"),
            &["--state-dir", ".weir/job"],
            &["belongs to the job 'job', not to 'other'"],
        ),
        (
            "too parallel",
            good.clone(),
            &["--parallelism", "129"],
            &["--parallelism 129 is above spec.maxParallelism", "hint: "],
        ),
    ];
    for (what, text, arguments, parts) in table {
        place.write("job.yaml", &text);
        place.check(what, &[&["run", "job.yaml"], arguments].concat(), USER_ERROR, parts);
        assert!((place.lines("out"), place.lines("bad")) == before, "{what}: output was repeated");
    }
    place.write("job.yaml", &good);
    place.check("the job as it was", &["run", "job.yaml"], FINISHED, &["has finished"]);
}

/// The files below a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort_unstable();
    found
}

fn flip(path: &Path) {
    let mut body = fs::read(path).unwrap();
    let middle = body.len() / 2;
    body[middle] ^= 1;
    fs::write(path, body).unwrap();
}

fn cut(path: &Path) {
    let body = fs::read(path).unwrap();
    fs::write(path, &body[..body.len() / 2]).unwrap();
}

#[test]
fn damage_is_named_and_repeats_no_output() {
    let damages: [(&str, fn(&Path)); 2] = [("flipped", flip), ("cut", cut)];
    for (how, damage) in damages {
        for (what, folder) in [("head", "chain"), ("state", "state")] {
            let place = after_a_stop(TOTALS);
            let before = (place.lines("out"), place.lines("bad"));
            let all = files(&place.path(".weir/job").join(folder));
            let damaged = if what == "head" { &all[all.len() - 1..] } else { &all[..] };
            damaged.iter().for_each(|file| damage(file));
            let parts: &[&str] = if what == "head" {
                &["chain/", "is damaged", "would repeat"]
            } else {
                &["state/group-aggregate-", "would repeat"]
            };
            place.check(&format!("{what} {how}"), &["run", "job.yaml", "--quiet"], USER_ERROR, parts);
            assert!((place.lines("out"), place.lines("bad")) == before, "{what} {how}: output was repeated");
        }
    }
}
