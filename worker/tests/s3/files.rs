//! Jobs that read their input from a bucket and write their output to it, as a user runs them.

use crate::bucket::gateway::{BUCKET, Gateway, KEY_ID, SECRET};
use crate::moments::Moments;
use crate::queries::{expected, unpacked};
use crate::run::{self, APPENDING, PATIENCE};
use bytes::Bytes;
use std::fs;
use std::time::Duration;
use weir_worker::checkpoint::store::s3::{Bucket, Condition, Put};

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
        let access = format!(
            "'s3.endpoint' = 'http://{address}', 's3.region' = 'us-east-1', 's3.path-style-access' = 'true', \
             's3.access-key' = '{KEY_ID}', 's3.secret-key' = {secret}"
        );
        let source = format!(
            "'connector' = 'filesystem', 'path' = 's3://{BUCKET}/in/*.jsonl', 'format' = 'json', \
                     'source.split-size' = '200 kb', {access}"
        );
        let sink = format!(
            "'connector' = 'filesystem', 'path' = 's3://{bucket}/{}', 'format' = 'csv', \
             'csv.field-delimiter' = '\\t', {access}",
            self.output()
        );
        let script = run::script(query, &source, &sink);
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
        let mut command = run::weir(self.folder.path(), &["run", "job.yaml", "--quiet"]);
        command.args(arguments);
        run::run_until(moment, command)
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

/// The frozen events, not compressed, so that several tasks read parts of them.
pub(crate) fn put_events(bucket: &Bucket) {
    if bucket.head("in/events.jsonl").unwrap().is_none() {
        let put = bucket.put("in/events.jsonl", Bytes::from(unpacked("events.jsonl.gz")), Condition::None);
        assert!(matches!(put, Put::Done(_)), "{put:?}");
    }
}

#[test]
fn queries_from_bucket_to_bucket_give_what_flink_gave() {
    let Some(gateway) = Gateway::start() else { return };
    for query in APPENDING {
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
    let mut moments = Moments(seed);
    for query in APPENDING {
        let job = Job::new(&gateway, query, "30ms");
        for kill in 0..10 {
            let parallelism = ["1", "2", "3"][kill % 3];
            let (code, said) = job.run_until(
                Duration::from_millis(200) + moments.next(1_500),
                &["--speed", "10", "--parallelism", parallelism],
            );
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
