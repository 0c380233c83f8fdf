//! Jobs whose store goes away for longer than any request waits, and comes back: they wait for it, in the generation in
//! which they are.

use crate::bucket::gateway::{BUCKET, Gateway, KEY_ID, SECRET};
use crate::bucket::proxy::Proxy;
use crate::files::put_events;
use crate::jobs::get;
use crate::queries::expected;
use crate::run::{self, PATIENCE};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use weir_worker::checkpoint::store::s3::Bucket;

/// More often is no request tried that has its limits.
const LIMIT: usize = 6;

/// What is in the bucket that goes away. All else is in a folder, or in the bucket without a proxy before it.
#[derive(Clone, Copy)]
struct Through {
    state: bool,
    source: bool,
    sink: bool,
}

/// A query: number 0 writes every bid as it comes, number 11 keeps state.
struct Job<'a> {
    query: &'static str,
    gateway: &'a Gateway,
    proxy: Proxy,
    bucket: Bucket,
    folder: tempfile::TempDir,
}

/// A run of the job.
struct Run {
    child: Child,
    said: mpsc::Receiver<String>,
    lines: Vec<String>,
}

impl<'a> Job<'a> {
    fn new(query: &'static str, gateway: &'a Gateway, through: Through) -> Self {
        let bucket = Bucket::open(gateway.settings()).unwrap();
        put_events(&bucket);
        let proxy = Proxy::start(gateway.address, gateway.data());
        let job = Self { query, gateway, proxy, bucket, folder: tempfile::tempdir().unwrap() };
        let at = |through: bool| if through { job.proxy.address } else { gateway.address };
        let access = |address: SocketAddr| {
            format!(
                "'s3.endpoint' = 'http://{address}', 's3.region' = 'us-east-1', 's3.path-style-access' = 'true', \
                 's3.access-key' = '{KEY_ID}', 's3.secret-key' = '{SECRET}'"
            )
        };
        let source = format!(
            "'connector' = 'filesystem', 'path' = 's3://{BUCKET}/in/*.jsonl', 'format' = 'json', \
             'source.split-size' = '200 kb', {}",
            access(at(through.source))
        );
        let sink = match through.sink {
            true => format!("'path' = 's3://{BUCKET}/out', {}", access(job.proxy.address)),
            false => format!("'path' = '{}'", job.folder.path().join("out").display()),
        };
        let sink = format!("'connector' = 'filesystem', 'format' = 'csv', 'csv.field-delimiter' = '\\t', {sink}");
        let storage = match through.state {
            true => format!(
                "  storage:\n    s3: {{bucket: {BUCKET}, prefix: weir, endpoint: 'http://{}', region: us-east-1, \
                 forcePathStyle: true}}\n",
                job.proxy.address
            ),
            false => String::new(),
        };
        let manifest = format!(
            "apiVersion: weir.dev/v1alpha1\nkind: StreamJob\nmetadata: {{name: away, namespace: tests}}\nspec:\n  \
             parallelism: 2\n  checkpoint: {{interval: 50ms}}\n{storage}  pipeline:\n    sql: |\n      {}\n",
            run::script(query, &source, &sink)
        );
        fs::write(job.folder.path().join("job.yaml"), manifest).unwrap();
        job
    }

    /// Starts it at the pace of its events, which last 20 seconds, and waits until it has completed checkpoints.
    fn start(&self, arguments: &[&str]) -> Run {
        let mut command = run::weir(self.folder.path(), &["run", "job.yaml", "--speed", "2"]);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (say, said) = mpsc::channel();
        // It ends with the process.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| drop(say.send(line))));
        let mut run = Run { child, said, lines: Vec::new() };
        run.until("checkpoints complete", |_| self.links() >= 2);
        run
    }

    /// The folder of its state, once there is one.
    fn place(&self) -> Option<PathBuf> {
        let in_bucket = fs::read_dir(self.gateway.data().join("weir/tests")).into_iter().flatten();
        let mut folders = in_bucket.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
        folders.next().or_else(|| Some(self.folder.path().join(".weir/away")).filter(|folder| folder.is_dir()))
    }

    /// The highest number in a folder of its state.
    fn highest(&self, folder: &str) -> u64 {
        let entries = self.place().and_then(|place| fs::read_dir(place.join(folder)).ok()).into_iter().flatten();
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter_map(|name| name.parse().ok()).max().unwrap_or(0)
    }

    fn links(&self) -> u64 {
        self.highest("chain")
    }

    /// How often a sink has tried one request while the store was away: to begin an upload, or to write a part of it.
    fn sink_tries(&self) -> usize {
        self.proxy.tries_while_away("PUT", "partNumber=").max(self.proxy.tries_while_away("POST", "?uploads"))
    }

    /// Every row is there once, written by the only generation that there was.
    fn check(&self, run: Run) {
        let said = self.check_rows(run);
        assert_eq!(self.highest("generations"), 1, "the job has begun again: {said}");
    }

    /// Every row is there once; what was said.
    fn check_rows(&self, run: Run) -> String {
        let (code, said) = run.end();
        assert_eq!(code, Some(0), "{said}");
        let mut texts: Vec<String> = Vec::new();
        for entry in self.bucket.list("out").unwrap() {
            texts.push(String::from_utf8(self.bucket.get(&entry.key).unwrap().unwrap().to_vec()).unwrap());
        }
        for entry in fs::read_dir(self.folder.path().join("out")).into_iter().flatten() {
            texts.push(fs::read_to_string(entry.unwrap().path()).unwrap());
        }
        let mut rows: Vec<&str> = texts.iter().flat_map(|text| text.lines()).collect();
        rows.sort_unstable();
        let expected = expected(self.query);
        assert!(rows == expected, "{} rows, {} expected: {said}", rows.len(), expected.len());
        assert_eq!(self.bucket.list_uploads("out").unwrap(), [], "uploads are left over");
        said
    }
}

impl Run {
    /// Waits until something holds of what was said.
    fn until(&mut self, what: &str, mut holds: impl FnMut(&[String]) -> bool) {
        let began = Instant::now();
        loop {
            self.lines.extend(self.said.try_iter());
            if holds(&self.lines) {
                return;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < PATIENCE, "{what}: {ended:?}, {:?}", self.lines);
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Waits for its end; its exit code and what it said.
    fn end(mut self) -> (Option<i32>, String) {
        let began = Instant::now();
        while self.child.try_wait().unwrap().is_none() && began.elapsed() < PATIENCE {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let code = self.child.wait().unwrap().code();
        self.lines.extend(self.said.iter());
        (code, self.lines.join("\n"))
    }
}

impl Drop for Run {
    /// Of a test that fails nothing stays.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn has(lines: &[String], part: &str) -> bool {
    lines.iter().any(|line| line.contains(part))
}

/// How often requests of a sink were tried again, as the job's metrics say.
fn tried_again(metrics: &str) -> u64 {
    let retries = |line: &&str| line.starts_with("weir_store_retries_total{") && line.contains("sink=\"sink\"");
    let uploads = metrics.lines().filter(retries).filter(|line| line.contains("upload"));
    uploads.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

#[test]
fn a_job_whose_store_goes_away_waits_for_it_in_its_generation() {
    let Some(gateway) = Gateway::start() else { return };
    let job = Job::new("q0", &gateway, Through { state: true, source: false, sink: true });
    let mut run = job.start(&["--http", "127.0.0.1:0"]);
    let address = run.lines.iter().find(|line| line.starts_with("http://")).unwrap().clone();
    job.proxy.is_away(true);
    run.until("the sink waits", |_| job.sink_tries() > LIMIT);
    run.until("it is said", |lines| has(lines, "the store is away"));
    assert!(tried_again(&get(&address, "/metrics")) > LIMIT as u64);
    assert!(!has(&run.lines, "the store is back"), "{:?}", run.lines);
    let said = run.lines.iter().filter(|line| line.contains("the store is away")).count();
    assert!(said <= 2, "the tables' bucket and that of the state are each told of once: {:?}", run.lines);
    job.proxy.is_away(false);
    run.until("it is back", |lines| has(lines, "the store is back"));
    job.check(run);
}

#[test]
fn workers_whose_tables_are_in_a_store_that_goes_away_wait_for_it() {
    let Some(gateway) = Gateway::start() else { return };
    let job = Job::new("q0", &gateway, Through { state: false, source: true, sink: true });
    let mut run = job.start(&["--workers", "2", "--parallelism", "3"]);
    job.proxy.is_away(true);
    run.until("a sink waits", |_| job.sink_tries() > LIMIT);
    job.proxy.is_away(false);
    job.check(run);
}

#[test]
fn a_source_whose_store_goes_away_waits_for_it_and_lets_barriers_pass() {
    let Some(gateway) = Gateway::start() else { return };
    let job = Job::new("q0", &gateway, Through { state: false, source: true, sink: false });
    let mut run = job.start(&[]);
    job.proxy.is_away(true);
    run.until("the source waits", |_| job.proxy.tries_while_away("GET", "in/events.jsonl") > LIMIT);
    let links = job.links();
    run.until("checkpoints complete meanwhile", |_| job.links() > links + 1);
    job.proxy.is_away(false);
    job.check(run);
}

#[test]
fn a_job_that_waits_for_its_store_ends_at_the_second_signal() {
    let Some(gateway) = Gateway::start() else { return };
    let job = Job::new("q0", &gateway, Through { state: false, source: false, sink: true });
    let mut run = job.start(&[]);
    job.proxy.is_away(true);
    run.until("the sink waits", |_| job.sink_tries() > LIMIT);
    // Two that come together are one.
    while run.child.try_wait().unwrap().is_none() {
        let _ = kill_process(Pid::from_child(&run.child), Signal::TERM);
        std::thread::park_timeout(Duration::from_millis(20));
    }
    let (code, said) = run.end();
    assert_eq!(code, Some(130), "{said}");
}

#[test]
fn a_worker_that_dies_while_sinks_wait_ends_their_generation() {
    let Some(gateway) = Gateway::start() else { return };
    let job = Job::new("q0", &gateway, Through { state: false, source: false, sink: true });
    let mut run = job.start(&["--workers", "2", "--parallelism", "3"]);
    job.proxy.is_away(true);
    run.until("a sink waits", |_| job.sink_tries() > LIMIT);
    let path = format!("/proc/{0}/task/{0}/children", run.child.id());
    let workers = fs::read_to_string(path).unwrap();
    let last = workers.split_whitespace().next_back().unwrap().parse().unwrap();
    kill_process(Pid::from_raw(last).unwrap(), Signal::KILL).unwrap();
    // The others have ended before, though what they waited for is still away.
    run.until("the next generation begins", |_| job.highest("generations") > 1);
    job.proxy.is_away(false);
    job.check_rows(run);
}

#[test]
fn a_job_whose_checkpoints_cannot_be_stored_for_a_while_goes_on_in_its_generation() {
    let Some(gateway) = Gateway::start() else { return };
    let job = Job::new("q11", &gateway, Through { state: true, source: false, sink: false });
    let mut run = job.start(&[]);
    job.proxy.is_away(true);
    let unanswered = || job.proxy.met_by_fault().get("Away").copied().unwrap_or(0);
    run.until("checkpoints fail", |_| unanswered() > 4 * LIMIT);
    job.proxy.is_away(false);
    job.check(run);
}
