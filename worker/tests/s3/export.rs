//! Savepoints as Parquet, from a bucket and into it.

use crate::bucket::gateway::{BUCKET, Gateway};
use crate::bucket::proxy::{Fault, Proxy};
use crate::run::weir;
use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use weir_worker::checkpoint::store::s3::{Bucket, Condition};

/// A job in a bucket that counts numbers by their remainders.
struct Job(tempfile::TempDir);

impl Job {
    fn new(server: SocketAddr) -> Self {
        let job = Self(tempfile::tempdir().unwrap());
        job.reached_at(server);
        job
    }

    /// Writes the manifest.
    fn reached_at(&self, server: SocketAddr) {
        let text = format!(
            "apiVersion: weir.dev/v1alpha1\nkind: StreamJob\nmetadata: {{name: counts, namespace: tests}}\nspec:\n  \
             parallelism: 2\n  storage:\n    s3: {{bucket: {BUCKET}, prefix: jobs, endpoint: 'http://{server}', \
             region: us-east-1, forcePathStyle: true}}\n  pipeline:\n    sql: |\n      \
             CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '1000000',\n      \
             'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '999');\n      \
             CREATE TABLE counts (k BIGINT, n BIGINT) WITH ('connector' = 'blackhole');\n      \
             INSERT INTO counts SELECT k, count(*) FROM (SELECT MOD(n, CAST(150 AS BIGINT)) AS k FROM numbers) GROUP BY k;\n"
        );
        fs::write(self.0.path().join("job.yaml"), text).unwrap();
    }

    fn check(&self, arguments: &[&str], code: i32, parts: &[&str]) {
        let output = weir(self.0.path(), arguments).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "weir {}\n{said}", arguments.join(" "));
        for part in parts {
            assert!(said.contains(part), "weir {} does not say {part:?}:\n{said}", arguments.join(" "));
        }
    }
}

/// The exported counts below a prefix.
fn counts(bucket: &Bucket, prefix: &str) -> BTreeMap<i64, i64> {
    let mut counts = BTreeMap::new();
    let entries = bucket.list(prefix).unwrap();
    assert!(entries.iter().any(|entry| entry.key == format!("{prefix}index.json")), "{entries:?}");
    for entry in entries.iter().filter(|entry| entry.key.ends_with(".parquet")) {
        let body = bucket.get(&entry.key).unwrap().unwrap();
        for batch in ParquetRecordBatchReaderBuilder::try_new(body).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let column = |name: &str| batch.column_by_name(name).unwrap().as_primitive::<Int64Type>().values().to_vec();
            counts.extend(column("k").into_iter().zip(column("count(*)")));
        }
    }
    counts
}

#[test]
fn a_savepoint_in_a_bucket_is_exported_into_it_as_a_whole_or_not_at_all() {
    let Some(gateway) = Gateway::start() else { return };
    let bucket = Bucket::open(gateway.settings()).unwrap();
    let job = Job::new(gateway.address);
    job.check(&["run", "job.yaml", "--quiet"], 0, &[]);
    job.check(&["savepoint", "create", "named", "job.yaml"], 0, &[]);
    let expected: BTreeMap<i64, i64> = (0..150).map(|k| (k, if k < 100 { 7 } else { 6 })).collect();

    let export = |prefix: &str, code: i32, parts: &[&str]| {
        let to = format!("s3://{BUCKET}/{prefix}");
        job.check(&["savepoint", "export", "named", "job.yaml", "--to", &to], code, parts);
    };
    export("plain", 0, &["150 rows of 1 tables in 1 files", "s3://states/plain/"]);
    assert_eq!(counts(&bucket, "plain/"), expected);
    export("plain/", 2, &["s3://states/plain/ is not empty"]);
    export("full/of", 0, &[]);

    let proxy = Proxy::start(gateway.address, gateway.data());
    job.reached_at(proxy.address);
    for (method, target, fault, prefix) in [
        ("POST", "slow/", Fault::SlowDown, "slow"),
        ("POST", "lost/", Fault::AppliedThenCut, "lost"),
        ("PUT", "erred/", Fault::AppliedThenError, "erred"),
        ("PUT", "index/index.json", Fault::AppliedThenCut, "index"),
    ] {
        proxy.fault(method, target, fault, 1);
        export(prefix, 0, &[]);
        assert_eq!(counts(&bucket, &format!("{prefix}/")), expected, "{prefix}");
    }
    assert_eq!(proxy.met(), 4);

    let state = bucket.list("jobs/tests/").unwrap().into_iter().find(|entry| entry.key.contains("/state/")).unwrap();
    let mut body = bucket.get(&state.key).unwrap().unwrap().to_vec();
    let at = body.len() / 3;
    body[at] ^= 1;
    bucket.put(&state.key, Bytes::from(body), Condition::None);
    export("damaged", 2, &["table groups", "nothing was exported"]);
    assert_eq!(bucket.list("damaged/").unwrap(), []);
    assert_eq!(bucket.list_uploads("").unwrap(), []);
}
