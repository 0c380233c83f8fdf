//! Jobs that begin with the state of another one, all in a bucket, and go on when that one is gone.

use crate::bucket::gateway::{BUCKET, Gateway};
use crate::queries::{expected, folded, is_updated};
use crate::workers::{Job, Kept};
use rustix::process::{Signal, kill_process};
use std::fs;

const ALL: (Kept, Kept) = (Kept::Bucket, Kept::Bucket);

/// Queries, and how a manifest names the state of `origin`, whose folder in the bucket is `PLACE`.
const WAYS: [(&str, &str); 3] = [
    ("q11", "  restoreFrom: {job: {name: origin}}\n"),
    ("q17", "  restoreFrom: {path: 's3://BUCKET/PLACE/savepoints/named'}\n"),
    ("q11", "  restoreFrom: {savepoint: named}\n"),
];

/// Every row is counted by one of the two, also by a fork that is killed before and after its origin is deleted.
#[test]
fn a_fork_outlives_its_origin() {
    let Some(gateway) = Gateway::start() else { return };
    for (query, way) in WAYS {
        let folder = tempfile::tempdir().unwrap();
        let origin = Job::new(("origin", query), &gateway, folder.path(), ALL, "");
        let mut run = origin.start(&["--workers", "2", "--parallelism", "2", "--speed", "4"]);
        assert!(run.until(|| origin.links() >= 5), "{way}: the origin was too fast");
        let (code, said) = run.stop();
        assert_eq!(code, Some(3), "{way}: {said}");
        origin.done(&["savepoint", "create", "named"]);
        let place = origin.place().unwrap();
        let in_bucket = place.strip_prefix(gateway.data()).unwrap().display().to_string();
        let spec = way.replace("BUCKET", BUCKET).replace("PLACE", &in_bucket);

        let fork = Job::new(("fork", query), &gateway, folder.path(), ALL, &spec);
        let mut run = fork.start(&["--workers", "2", "--parallelism", "3", "--speed", "4"]);
        assert!(run.until(|| fork.links() >= 3), "{way}: the fork was too fast");
        drop(run.kill());
        origin.done(&["state", "delete"]);
        fs::remove_dir_all(&place).unwrap();

        let mut run = fork.start(&["--workers", "3", "--parallelism", "4", "--speed", "4"]);
        let links = fork.links() + 4;
        assert!(run.until(|| fork.links() >= links), "{way}: the fork was too fast");
        run.workers().first().map(|worker| kill_process(*worker, Signal::KILL).unwrap());
        let (code, said) = run.end();
        assert_eq!(code, Some(0), "{way}: {said}");
        let mut rows = [origin.rows(), fork.rows()].concat();
        if is_updated(query) {
            rows = folded(&rows);
        }
        rows.sort_unstable();
        let expected = expected(query);
        assert!(rows == expected, "{way}: {} rows, {} expected", rows.len(), expected.len());
    }
}
