//! Queries of the benchmark on several worker processes, one of which is killed on the way, with their state and files in a
//! bucket or in folders.

use crate::bucket::gateway::{BUCKET, Gateway, KEY_ID, SECRET};
use crate::files::put_events;
use crate::moments::Moments;
use crate::queries::{expected, folded, is_updated, root};
use crate::run::{self, PATIENCE};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use weir_worker::checkpoint::store::s3::Bucket;

/// Where something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Bucket,
    Folder,
}

/// A query from files to files.
pub(crate) struct Job<'a> {
    pub(crate) name: &'a str,
    pub(crate) query: &'static str,
    pub(crate) gateway: &'a Gateway,
    pub(crate) bucket: Bucket,
    /// Everything that is not in the bucket.
    pub(crate) folder: &'a Path,
    pub(crate) state: Kept,
    pub(crate) files: Kept,
}

impl<'a> Job<'a> {
    /// A job beside others of the same folder, with `spec` in its manifest.
    pub(crate) fn new(
        (name, query): (&'a str, &'static str),
        gateway: &'a Gateway,
        folder: &'a Path,
        (state, files): (Kept, Kept),
        spec: &str,
    ) -> Self {
        let bucket = Bucket::open(gateway.settings()).unwrap();
        put_events(&bucket);
        let job = Self { name, query, gateway, bucket, folder, state, files };
        fs::write(job.manifest(), job.text(spec)).unwrap();
        job
    }

    fn manifest(&self) -> PathBuf {
        self.folder.join(format!("{}.yaml", self.name))
    }

    fn text(&self, spec: &str) -> String {
        let (name, address) = (self.name, self.gateway.address);
        let access = format!(
            ", 's3.endpoint' = 'http://{address}', 's3.region' = 'us-east-1', 's3.path-style-access' = 'true', \
             's3.access-key' = '{KEY_ID}', 's3.secret-key' = '{SECRET}'"
        );
        let (input, output, access) = match self.files {
            Kept::Bucket => (format!("s3://{BUCKET}/in/*.jsonl"), format!("s3://{BUCKET}/{}", self.output()), access),
            Kept::Folder => {
                let input = root().join("examples/nexmark/events.jsonl.gz").display().to_string();
                (input, self.folder.join(self.output()).display().to_string(), String::new())
            }
        };
        let format = if is_updated(self.query) { "'json'" } else { "'csv', 'csv.field-delimiter' = '\\t'" };
        let source = format!(
            "'connector' = 'filesystem', 'path' = '{input}', 'format' = 'json', 'source.split-size' = '200 kb'{access}"
        );
        let sink = format!("'connector' = 'filesystem', 'path' = '{output}', 'format' = {format}{access}");
        let storage = match self.state {
            Kept::Folder => String::new(),
            Kept::Bucket => format!(
                "  storage:\n    s3: {{bucket: {BUCKET}, prefix: weir/workers, endpoint: 'http://{address}', \
                 region: us-east-1, forcePathStyle: true}}\n"
            ),
        };
        format!(
            "apiVersion: weir.dev/v1alpha1\nkind: StreamJob\nmetadata: {{name: {name}, namespace: {}}}\nspec:\n  \
             checkpoint: {{interval: 100ms, retain: 1}}\n{spec}{storage}  pipeline:\n    sql: |\n      {}\n",
            self.namespace(),
            run::script(self.query, &source, &sink)
        )
    }

    /// A name that no other test with the same bucket has.
    fn namespace(&self) -> String {
        let name = self.folder.file_name().unwrap().to_str().unwrap().to_ascii_lowercase();
        name.chars().filter(char::is_ascii_alphanumeric).collect()
    }

    fn output(&self) -> String {
        format!("out-{}-{}", self.namespace(), self.name)
    }

    /// The folder of the job's state, once there is one.
    pub(crate) fn place(&self) -> Option<PathBuf> {
        let (above, begin) = match self.state {
            Kept::Folder => (self.folder.join(".weir"), self.name.to_owned()),
            Kept::Bucket => {
                (self.gateway.data().join("weir/workers").join(self.namespace()), format!("{}-", self.name))
            }
        };
        let folders = fs::read_dir(above).ok()?.map(|entry| entry.unwrap().path());
        let mut own = folders
            .filter(|folder| folder.is_dir() && folder.file_name().unwrap().to_str().unwrap().starts_with(&begin));
        own.next()
    }

    /// How many links the job's chain has had.
    pub(crate) fn links(&self) -> u64 {
        let entries = self.place().and_then(|place| fs::read_dir(place.join("chain")).ok());
        let names = entries.into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter_map(|name| name.parse().ok()).max().unwrap_or(0)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = run::weir(self.folder, arguments);
        command.arg(self.manifest());
        command
    }

    /// Runs a command on the job, which must succeed.
    pub(crate) fn done(&self, arguments: &[&str]) {
        let output = self.command(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "weir {arguments:?} for {}: {said}", self.name);
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Run {
        let mut command = self.command(&["run", "--quiet"]);
        let mut child = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut errors = child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = errors.read_to_string(&mut text);
            text
        });
        Run { child, errors: Some(errors) }
    }

    /// The rows that are written, as a table.
    pub(crate) fn rows(&self) -> Vec<String> {
        let texts: Vec<String> = match self.files {
            Kept::Bucket => {
                assert_eq!(self.bucket.list_uploads(&self.output()).unwrap(), [], "{}: uploads are left", self.name);
                let keys = self.bucket.list(&self.output()).unwrap().into_iter().map(|entry| entry.key);
                let read = |key: String| String::from_utf8(self.bucket.get(&key).unwrap().unwrap().to_vec()).unwrap();
                keys.map(read).collect()
            }
            Kept::Folder => {
                let entries = fs::read_dir(self.folder.join(self.output())).unwrap();
                let paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
                let is_hidden = |path: &&PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with('.');
                assert_eq!(paths.iter().find(is_hidden), None, "{}: something is left over", self.name);
                paths.iter().map(|path| fs::read_to_string(path).unwrap()).collect()
            }
        };
        texts.iter().flat_map(|text| text.lines()).map(str::to_owned).collect()
    }
}

/// A run of a job with several workers.
pub(crate) struct Run {
    child: Child,
    errors: Option<std::thread::JoinHandle<String>>,
}

impl Run {
    /// Waits until `what` holds; false when the run has ended before.
    pub(crate) fn until(&mut self, what: impl Fn() -> bool) -> bool {
        let began = Instant::now();
        while !what() {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(began.elapsed() < PATIENCE, "nothing happens any more");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        true
    }

    /// The processes of its workers.
    pub(crate) fn workers(&self) -> Vec<Pid> {
        let path = format!("/proc/{0}/task/{0}/children", self.child.id());
        let text = fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
    }

    /// Waits for its end; its exit code and what it said.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let ended = |child: &mut Child| child.try_wait().unwrap();
        let began = Instant::now();
        while ended(&mut self.child).is_none() && began.elapsed() < PATIENCE {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        self.kill()
    }

    /// Stops it as a user does, with a last checkpoint.
    pub(crate) fn stop(self) -> (Option<i32>, String) {
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
        self.end()
    }

    /// Kills it with its workers.
    pub(crate) fn kill(mut self) -> (Option<i32>, String) {
        let _ = self.child.kill();
        let code = self.child.wait().unwrap().code();
        (code, self.errors.take().unwrap().join().unwrap())
    }
}

/// Queries, workers, parallelism, and where state and files are. Every query has both in the bucket at least once; every
/// parallelism and each number of workers is there.
const CASES: [(&str, &str, &str, Kept, Kept); 10] = [
    ("q0", "2", "2", Kept::Bucket, Kept::Bucket),
    ("q0", "4", "8", Kept::Bucket, Kept::Folder),
    ("q1", "3", "4", Kept::Bucket, Kept::Bucket),
    ("q2", "4", "7", Kept::Bucket, Kept::Bucket),
    ("q11", "2", "5", Kept::Bucket, Kept::Bucket),
    ("q11", "3", "3", Kept::Folder, Kept::Bucket),
    ("q11", "4", "8", Kept::Bucket, Kept::Bucket),
    ("q17", "2", "1", Kept::Bucket, Kept::Folder),
    ("q17", "3", "6", Kept::Bucket, Kept::Bucket),
    ("q22", "2", "3", Kept::Bucket, Kept::Bucket),
];

#[test]
fn queries_on_several_workers_of_which_one_is_killed_give_what_flink_gave() {
    let Some(gateway) = Gateway::start() else { return };
    let seed = std::env::var("WEIR_KILL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_121_u64);
    eprintln!("WEIR_KILL_SEED={seed}");
    let mut chance = Moments(seed);
    let mut killed = 0;
    for (query, workers, parallelism, state, files) in CASES {
        let folder = tempfile::tempdir().unwrap();
        let job = Job::new((query, query), &gateway, folder.path(), (state, files), "");
        let what = format!("{query} on {workers} workers, parallelism {parallelism}, {state:?}, {files:?}");
        let mut run = job.start(&["--workers", workers, "--parallelism", parallelism, "--speed", "10"]);
        let links = 2 + chance.below(6);
        if run.until(|| job.links() >= links) {
            let processes = run.workers();
            let chosen = processes.get(chance.below(processes.len().max(1) as u64) as usize);
            killed += u32::from(chosen.is_some_and(|worker| kill_process(*worker, Signal::KILL).is_ok()));
        }
        let (code, said) = run.end();
        assert_eq!(code, Some(0), "{what}: {said}");
        let mut rows = job.rows();
        if is_updated(query) {
            rows = folded(&rows);
        }
        rows.sort_unstable();
        let expected = expected(query);
        assert!(rows == expected, "{what}: {} rows, {} expected", rows.len(), expected.len());
    }
    // On a slow machine a run may end before it has so many links.
    assert!(killed > 0, "the runs were too fast");
}
