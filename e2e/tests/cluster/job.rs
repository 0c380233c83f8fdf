//! A job over generated events, its manifest for the cluster, and its output on a quiet run.

use crate::cluster::weir;
use crate::namespace::Namespace;
use crate::output;
use crate::watch::{self, condition};
use serde_json::{Value, json};
use std::process::Command;
use std::{fs, path::Path};

/// What a job counts. Event time passes as the clock does, so windows close while it runs.
const QUERY: &str = "SELECT window_end, bidder, count(*), sum(price)
      FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '1' SECOND))
      GROUP BY window_start, window_end, bidder";

/// A job with generated events.
#[derive(Clone)]
pub(crate) struct Job {
    /// `metadata.name`.
    pub(crate) name: String,
    /// How many events there are; 0: without end.
    pub(crate) events: u64,
    /// How many come in a second.
    pub(crate) rate: u64,
    /// `spec.parallelism`.
    pub(crate) parallelism: u32,
    /// `spec.checkpoint`.
    pub(crate) checkpoint: String,
    /// What stands in the INSERT.
    pub(crate) query: String,
    /// `spec.worker`.
    pub(crate) worker: Value,
    /// Further lines of `spec`, indented by two.
    pub(crate) further: String,
}

impl Job {
    /// One that runs for so many seconds.
    pub(crate) fn lasting(name: &str, seconds: u64, parallelism: u32) -> Self {
        let rate = 1_000;
        Self {
            name: name.to_owned(),
            events: seconds * rate,
            rate,
            parallelism,
            checkpoint: "{interval: 1s}".to_owned(),
            query: QUERY.to_owned(),
            worker: patient(),
            further: String::new(),
        }
    }

    /// One that runs for longer than any scenario takes.
    pub(crate) fn endless(name: &str, parallelism: u32) -> Self {
        Self::lasting(name, 36_000, parallelism)
    }

    /// The manifest for a namespace.
    pub(crate) fn manifest(&self, namespace: &Namespace) -> String {
        let rate = format!(", 'rate' = '{}'", self.rate);
        let storage = output::storage(&format!("{}/state", namespace.name));
        let sink = output::sink(&self.folder(namespace));
        let cluster = format!("  storage: {storage}\n  worker: {}\n{}", self.worker, self.further);
        self.text(&rate, &cluster, &sink)
    }

    /// Where its output lies in the bucket.
    pub(crate) fn folder(&self, namespace: &Namespace) -> String {
        format!("{}/out/{}", namespace.name, self.name)
    }

    /// The manifest, with the lines of `spec` that only a cluster needs.
    fn text(&self, rate: &str, cluster: &str, sink: &str) -> String {
        let Self { name, events, rate: per_second, parallelism, checkpoint, query, .. } = self;
        format!(
            "apiVersion: weir.dev/v1alpha1
kind: StreamJob
metadata:
  name: {name}
spec:
  parallelism: {parallelism}
  checkpoint: {checkpoint}
{cluster}  pipeline:
    sql: |
      CREATE TABLE events (
          event_type INT,
          bid ROW<bidder BIGINT, price BIGINT, `dateTime` TIMESTAMP(3)>,
          person ROW<`dateTime` TIMESTAMP(3)>,
          auction ROW<`dateTime` TIMESTAMP(3)>,
          `dateTime` AS CASE event_type WHEN 0 THEN person.`dateTime` WHEN 1 THEN auction.`dateTime`
              ELSE bid.`dateTime` END,
          WATERMARK FOR `dateTime` AS `dateTime` - INTERVAL '1' SECOND
      ) WITH ('connector' = 'nexmark', 'events.num' = '{events}', 'first-event.rate' = '{per_second}'{rate});
      CREATE VIEW bid AS SELECT bid.bidder, bid.price, `dateTime` FROM events WHERE event_type = 2;
      CREATE TABLE counts (window_end TIMESTAMP(3), bidder BIGINT, bids BIGINT, total BIGINT) WITH ({sink});
      INSERT INTO counts
      {query};
"
        )
    }

    /// The rows that it writes when nothing happens to it.
    pub(crate) fn quiet(&self) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("out");
        let sink = format!("'connector' = 'filesystem', 'path' = '{}', 'format' = 'json'", out.display());
        run_here(folder.path(), &self.text("", "", &sink));
        lines(&out)
    }

    /// Applies it and waits until it runs.
    pub(crate) fn start(&self, namespace: &Namespace) {
        namespace.apply(&self.manifest(namespace)).good();
        self.until(namespace, "the job runs", |job| is(job, "Ready", "True", "Running"));
    }

    /// Waits until it has written rows.
    pub(crate) fn wrote(&self, namespace: &Namespace) {
        let folder = self.folder(namespace);
        watch::ask("the job has written rows", || (!output::rows(&folder).is_empty()).then_some(()));
    }

    /// Merges a patch into the StreamJob.
    pub(crate) fn patch(&self, namespace: &Namespace, patch: &str) {
        namespace.kubectl(&["patch", "streamjob", &self.name, "--type=merge", "-p", patch]).good();
    }

    /// The same rows by other SQL: no price is below zero.
    pub(crate) fn by_other_sql(&self) -> Self {
        Self { query: self.query.replace("GROUP BY", "WHERE price >= 0 GROUP BY"), ..self.clone() }
    }

    /// Waits for something in the job's status.
    #[track_caller]
    pub(crate) fn until(&self, namespace: &Namespace, what: &str, mut good: impl FnMut(&Value) -> bool) -> Value {
        namespace.until(what, &["streamjobs", "--field-selector", &format!("metadata.name={}", self.name)], |jobs| {
            jobs.get(&self.name).filter(|job| good(job)).cloned()
        })
    }

    /// Its status as it is now.
    #[track_caller]
    pub(crate) fn status(&self, namespace: &Namespace) -> Value {
        namespace.get("streamjob", &self.name)["status"].clone()
    }

    /// Waits until the bounded job has finished and compares its output with the quiet run's.
    #[track_caller]
    pub(crate) fn check_output(&self, namespace: &Namespace) {
        self.until(namespace, "the job finishes", |job| job["status"]["state"] == "Finished");
        assert_same(&output::rows(&self.folder(namespace)), &self.quiet());
    }

    /// Waits until the job has closed another window than those that it has now, suspends it and compares its output
    /// with what a quiet run writes for the same windows: they close in order, so none of them may miss a row.
    #[track_caller]
    pub(crate) fn check_output_so_far(&self, namespace: &Namespace) {
        let folder = self.folder(namespace);
        let newest = || output::rows(&folder).iter().map(|row| window(row)).max();
        let before = newest();
        watch::ask("the job closes another window", || (newest() > before).then_some(()));
        self.patch(namespace, r#"{"spec": {"state": "Suspended"}}"#);
        self.until(namespace, "the job is suspended", |job| is(job, "Ready", "False", "Suspended"));
        self.check_what_is_left(namespace);
    }

    /// Compares the output of a job that does not run any more with what a quiet run writes for the same windows.
    #[track_caller]
    pub(crate) fn check_what_is_left(&self, namespace: &Namespace) {
        let rows = output::rows(&self.folder(namespace));
        let last = rows.iter().map(|row| window(row)).max().expect("the job has closed windows");
        // A window of a second has at most so many events, and the first one opens with the first event.
        let events = (seconds_of(&last) + 3) * self.rate;
        let mut quiet = Self { events, ..self.clone() }.quiet();
        quiet.retain(|row| window(row) <= last);
        assert_same(&rows, &quiet);
    }
}

/// Runs a job to its end in a folder of this machine.
pub(crate) fn run_here(folder: &Path, manifest: &str) {
    fs::write(folder.join("job.yaml"), manifest).unwrap();
    let mut command = Command::new(weir());
    command.args(["run", "job.yaml", "--quiet"]).current_dir(folder);
    let run = command.output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

/// Workers that do not take each other for lost when the whole cluster shares two busy cores.
fn patient() -> Value {
    json!({"podTemplate": {"spec": {"env": [{"name": "WEIR_MISSED_HEARTBEATS", "value": "20"}]}}})
}

/// The end of the window that a row is about.
pub(crate) fn window(row: &str) -> String {
    let row: Value = serde_json::from_str(row).unwrap();
    row["window_end"].as_str().unwrap().to_owned()
}

/// Seconds since the first event, of the text `2026-01-01 hh:mm:ss`.
pub(crate) fn seconds_of(window: &str) -> u64 {
    let clock = window.get(11..19).expect("a window ends on a date at a time");
    clock.split(':').fold(0, |seconds, part| seconds * 60 + part.parse::<u64>().unwrap())
}

/// Rows are those of a quiet run, each as often. Both are in order.
#[track_caller]
pub(crate) fn assert_same(rows: &[String], quiet: &[String]) {
    let missing = difference(quiet, rows);
    let further = difference(rows, quiet);
    assert!(
        missing.is_empty() && further.is_empty(),
        "{} rows, {} on a quiet run; missing: {missing:?}; further: {further:?}",
        rows.len(),
        quiet.len()
    );
}

/// Whether a condition that is about the spec as it is has this status and reason.
pub(crate) fn is(job: &Value, kind: &str, status: &str, reason: &str) -> bool {
    let current = job["status"]["observedGeneration"] == job["metadata"]["generation"];
    current && condition(job, kind) == Some((status, reason))
}

/// Whether the job runs and nothing is under way.
pub(crate) fn settled(job: &Value) -> bool {
    let settled = condition(job, "Reconciling").is_none_or(|(status, _)| status == "False");
    is(job, "Ready", "True", "Running") && settled
}

/// Whether the job runs at a parallelism and nothing is under way.
pub(crate) fn runs_at(job: &Value, parallelism: u32) -> bool {
    settled(job) && job["status"]["replicas"] == parallelism
}

/// What is in one sorted list and not in another, as often as it is; a few of them.
fn difference(these: &[String], those: &[String]) -> Vec<String> {
    let mut those = those.iter().peekable();
    let mut left = Vec::new();
    for this in these {
        while those.next_if(|that| *that < this).is_some() {}
        if those.next_if_eq(&this).is_none() {
            left.push(this.clone());
        }
    }
    left.truncate(5);
    left
}

/// The lines of all files in a folder, in order.
pub(crate) fn lines(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut rows: Vec<String> = files
        .flat_map(|file| fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    rows.sort_unstable();
    rows
}
