//! Jobs that read their input from a bucket and write their output to it, as a user runs them.

use crate::gateway::{BUCKET, Gateway, KEY_ID, SECRET};
use bytes::Bytes;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use weir_worker::checkpoint::store::s3::{Bucket, Condition, Put};

/// A run that takes longer is stuck.
const PATIENCE: Duration = Duration::from_secs(120);
const TABLES: &str = include_str!("../nexmark/tables.sql");

/// Queries of the benchmark: their sinks' columns, and what they select.
const QUERIES: [(&str, &str, &str); 2] = [
    (
        "q0",
        "auction BIGINT, bidder BIGINT, price BIGINT, `dateTime` TIMESTAMP(3), extra VARCHAR",
        "SELECT auction, bidder, price, `dateTime`, extra FROM bid",
    ),
    (
        "q11",
        "bidder BIGINT, bid_count BIGINT, starttime TIMESTAMP(3), endtime TIMESTAMP(3)",
        "SELECT B.bidder, count(*), SESSION_START(B.`dateTime`, INTERVAL '10' SECOND), \
         SESSION_END(B.`dateTime`, INTERVAL '10' SECOND) \
         FROM bid B GROUP BY B.bidder, SESSION(B.`dateTime`, INTERVAL '10' SECOND)",
    ),
];

/// A query whose input, output and state are in a bucket.
struct Job<'a> {
    gateway: &'a Gateway,
    bucket: Bucket,
    folder: tempfile::TempDir,
    query: &'static str,
}

impl<'a> Job<'a> {
    /// The query with its own folders in the bucket; `interval` is that of its checkpoints.
    fn new(gateway: &'a Gateway, query: &'static str, interval: &str) -> Self {
        let bucket = Bucket::open(gateway.settings()).unwrap();
        put_events(&bucket);
        let job = Self { gateway, bucket, folder: tempfile::tempdir().unwrap(), query };
        job.write_manifest(interval, BUCKET, "'${secret:store/secret}'");
        job
    }

    fn write_manifest(&self, interval: &str, bucket: &str, secret: &str) {
        let (query, address) = (self.query, self.gateway.address);
        let (_, columns, select) = QUERIES.iter().find(|(name, ..)| *name == query).unwrap();
        let access = format!(
            "'s3.endpoint' = 'http://{address}', 's3.region' = 'us-east-1', 's3.path-style-access' = 'true', \
             's3.access-key' = '{KEY_ID}', 's3.secret-key' = {secret}"
        );
        let source = format!(
            "'connector' = 'filesystem', 'path' = 's3://{BUCKET}/in/*.jsonl', 'format' = 'json', \
                     'source.split-size' = '200 kb', {access}"
        );
        let sink = format!(
            "CREATE TABLE sink ({columns}) WITH ('connector' = 'filesystem', 'path' = 's3://{bucket}/{}', \
             'format' = 'csv', 'csv.field-delimiter' = '\\t', {access});\nINSERT INTO sink {select};",
            self.output()
        );
        let script = format!("{}\n{sink}", TABLES.replace("SOURCE", &source)).replace('\n', "\n      ");
        let manifest = format!(
            "apiVersion: weir.dev/v1alpha1\nkind: StreamJob\nmetadata: {{name: {query}, namespace: {}}}\nspec:\n  \
             parallelism: 2\n  checkpoint: {{interval: {interval}}}\n  storage:\n    s3: {{bucket: {BUCKET}, \
             prefix: weir/files, endpoint: 'http://{address}', region: us-east-1, forcePathStyle: true}}\n  \
             pipeline:\n    sql: |\n      {script}\n",
            self.unique()
        );
        fs::write(self.folder.path().join("job.yaml"), manifest).unwrap();
    }

    /// A name that no other job of the same bucket has.
    fn unique(&self) -> String {
        let name = self.folder.path().file_name().unwrap().to_str().unwrap().to_ascii_lowercase();
        name.chars().filter(char::is_ascii_alphanumeric).collect()
    }

    fn output(&self) -> String {
        format!("out-{}", self.unique())
    }

    /// Runs until it ends or `moment` comes, which kills it; its exit code, if it had one, and what it said.
    fn run_until(&self, moment: Duration, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(["run", "job.yaml", "--quiet"]).args(arguments).current_dir(self.folder.path());
        // What this machine has of its own says nothing here.
        for name in ["AWS_REGION", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE", "AWS_PROFILE"] {
            command.env_remove(name);
        }
        command.env("AWS_EC2_METADATA_DISABLED", "true").env("STORE_SECRET", SECRET);
        command.env("AWS_ACCESS_KEY_ID", KEY_ID).env("AWS_SECRET_ACCESS_KEY", SECRET);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut errors = child.stderr.take().unwrap();
        let (ended, end) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = errors.read_to_string(&mut text);
            let _ = ended.send(());
            text
        });
        let _ = end.recv_timeout(moment);
        let _ = child.kill();
        (child.wait().unwrap().code(), reader.join().unwrap())
    }

    fn finish(&self, arguments: &[&str]) {
        let (code, said) = self.run_until(PATIENCE, arguments);
        assert_eq!(code, Some(0), "{}: {said}", self.query);
    }

    /// Every row is there once, and nothing else of the job's.
    fn check_output(&self) {
        let mut rows = Vec::new();
        for entry in self.bucket.list(&self.output()).unwrap() {
            let name = entry.key.rsplit('/').next().unwrap();
            assert!(name.starts_with("part-") && name.ends_with(".csv"), "{}", entry.key);
            let content = self.bucket.get(&entry.key).unwrap().unwrap();
            rows.extend(std::str::from_utf8(&content).unwrap().lines().map(str::to_owned));
        }
        rows.sort_unstable();
        let expected = expected(self.query);
        assert!(rows == expected, "{}: {} rows, {} expected", self.query, rows.len(), expected.len());
        assert_eq!(self.bucket.list_uploads(&self.output()).unwrap(), [], "{}: uploads are left over", self.query);
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn unpacked(path: &str) -> String {
    let mut text = String::new();
    let file = fs::File::open(root().join("examples/nexmark").join(path)).unwrap();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    text
}

fn expected(query: &str) -> Vec<String> {
    let mut rows: Vec<String> = unpacked(&format!("expected/{query}.tsv.gz")).lines().map(str::to_owned).collect();
    rows.sort_unstable();
    rows
}

/// The frozen events, not compressed, so that several tasks read parts of them.
fn put_events(bucket: &Bucket) {
    if bucket.head("in/events.jsonl").unwrap().is_none() {
        let put = bucket.put("in/events.jsonl", Bytes::from(unpacked("events.jsonl.gz")), Condition::None);
        assert!(matches!(put, Put::Done(_)), "{put:?}");
    }
}

#[test]
fn queries_from_bucket_to_bucket_give_what_flink_gave() {
    let Some(gateway) = Gateway::start() else { return };
    for (query, ..) in QUERIES {
        for (parallelism, interval) in [("1", "1h"), ("2", "50ms"), ("4", "20ms")] {
            let job = Job::new(&gateway, query, interval);
            job.finish(&["--parallelism", parallelism]);
            job.check_output();
        }
    }
}

#[test]
fn a_killed_job_leaves_each_row_once_and_no_upload() {
    let Some(gateway) = Gateway::start() else { return };
    let seed = std::env::var("WEIR_KILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_121_u64);
    eprintln!("WEIR_KILL_SEED={seed}");
    let mut state = seed;
    let mut moment = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Duration::from_millis(200 + state % 1_500)
    };
    for (query, ..) in QUERIES {
        let job = Job::new(&gateway, query, "30ms");
        for kill in 0..10 {
            let parallelism = ["1", "2", "3"][kill % 3];
            let (code, said) = job.run_until(moment(), &["--speed", "10", "--parallelism", parallelism]);
            assert!(matches!(code, None | Some(0)), "{query}: {said}");
            if code == Some(0) {
                break;
            }
        }
        job.finish(&["--speed", "1000"]);
        job.check_output();
    }
}

#[test]
fn what_is_wrong_with_a_tables_bucket_ends_the_job_at_its_start() {
    let Some(gateway) = Gateway::start() else { return };
    let job = Job::new(&gateway, "q0", "1h");
    let table = [
        ("elsewhere", "'${secret:store/secret}'", "there is no bucket 'elsewhere' at http://127.0.0.1"),
        (BUCKET, "'wrong'", "there are no good credentials for http://127.0.0.1"),
        (BUCKET, "'${secret:store/none}'", "STORE_NONE is not set"),
    ];
    for (bucket, secret, expected) in table {
        job.write_manifest("1h", bucket, secret);
        let (code, said) = job.run_until(PATIENCE, &[]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(expected) && !said.contains(SECRET), "{expected:?} is not in: {said}");
    }
}
