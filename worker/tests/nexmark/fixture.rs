//! A Nexmark query as a job in a folder of its own, run by the binary.

use crate::queries::{QUERIES, UNIONS, expected, folded, is_updated, root};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// The source and the views of the benchmark; `SOURCE` are the source's options.
const TABLES: &str = include_str!("tables.sql");

/// The rest of `checkpoint:`; barriers overtake all that waits.
pub const UNALIGNED: &str = "20ms, unaligned: {after: 0s}";

/// A run that takes longer is stuck.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// One job in a folder of its own.
pub struct Job {
    pub folder: tempfile::TempDir,
    pub query: &'static str,
    source: String,
    pub sink_options: &'static str,
}

impl Job {
    pub fn new(query: &'static str, interval: &str) -> Self {
        let events = root().join("examples/nexmark/events.jsonl.gz");
        let source = format!("'connector' = 'filesystem', 'path' = '{}', 'format' = 'json'", events.display());
        Self::reading(&source, query, interval)
    }

    /// A job with another source.
    pub fn reading(source: &str, query: &'static str, interval: &str) -> Self {
        let job = Self { folder: tempfile::tempdir().unwrap(), query, source: source.to_owned(), sink_options: "" };
        job.write_manifest(interval);
        job
    }

    /// The same job, where it is now, in another folder.
    pub fn copy(&self, interval: &str) -> Self {
        let copy = Self::new(self.query, interval);
        copy_folder(self.folder.path(), copy.folder.path());
        copy.write_manifest(interval);
        copy
    }

    pub fn write_manifest(&self, interval: &str) {
        let (folder, query) = (&self.folder, self.query);
        let (_, columns, select) = QUERIES.iter().chain(&UNIONS).find(|(name, ..)| *name == query).unwrap();
        // A changelog can only be written as JSON; what only grows is compared as it was written.
        let format = if is_updated(query) { "'json'" } else { "'csv', 'csv.field-delimiter' = '\\t'" };
        let sink = format!(
            "CREATE TABLE sink ({columns}) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = {format}{});\n\
             INSERT INTO sink {select};",
            folder.path().join("out").display(),
            self.sink_options
        );
        let tables = TABLES.replace("SOURCE", &self.source);
        let script = format!("{tables}\n{sink}").replace('\n', "\n      ");
        let manifest = format!(
            "apiVersion: weir.dev/v1alpha1\nkind: StreamJob\nmetadata: {{name: {query}}}\nspec:\n  parallelism: 2\n  \
             checkpoint: {{interval: {interval}}}\n  pipeline:\n    sql: |\n      {script}\n"
        );
        fs::write(folder.path().join("job.yaml"), manifest).unwrap();
    }

    pub fn start(&self, arguments: &[&str]) -> Child {
        let path = |name: &str| self.folder.path().join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.arg("run").arg(path("job.yaml")).arg("--quiet").arg("--state-dir").arg(path("state"));
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs to the end of the process; the answer is its exit code.
    pub fn run(&self, arguments: &[&str]) -> i32 {
        let (status, errors) = self.run_until(PATIENCE, arguments);
        let code = status.code().unwrap_or(-1);
        assert!(code == 0, "{} ended with {status}: {errors}", self.query);
        code
    }

    /// Runs until `moment` and kills the process; true when it had ended before.
    pub fn run_and_kill(&self, moment: Duration, arguments: &[&str]) -> bool {
        let (status, errors) = self.run_until(moment, arguments);
        // Killed by the signal, it has no code.
        assert!(matches!(status.code(), None | Some(0)), "{} ended with {status}: {errors}", self.query);
        status.code() == Some(0)
    }

    /// Runs for `moment` and kills the process when its newest checkpoint has rows in flight; false when it ended before.
    pub fn run_and_kill_with_rows_in_flight(&self, moment: Duration, arguments: &[&str]) -> bool {
        let mut child = self.start(arguments);
        let process = Pid::from_child(&child);
        let began = Instant::now();
        std::thread::park_timeout(moment);
        let mut found = false;
        while !found && began.elapsed() < PATIENCE && child.try_wait().unwrap().is_none() {
            std::thread::park_timeout(Duration::from_millis(2));
            // What is seen of a stopped process stays so until it is killed.
            if self.rows_in_flight() > 0 && kill_process(process, Signal::STOP).is_ok() {
                found = self.rows_in_flight() > 0;
                let next = if found { Signal::KILL } else { Signal::CONT };
                kill_process(process, next).unwrap();
            }
        }
        let _ = child.kill();
        let mut errors = String::new();
        let _ = child.stderr.take().unwrap().read_to_string(&mut errors);
        let status = child.wait().unwrap();
        assert!(matches!(status.code(), None | Some(0)), "{} ended with {status}: {errors}", self.query);
        found
    }

    /// Runs until it ends or `moment` comes, which kills it.
    pub fn run_until(&self, moment: Duration, arguments: &[&str]) -> (ExitStatus, String) {
        let mut child = self.start(arguments);
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
        (child.wait().unwrap(), reader.join().unwrap())
    }

    /// The output as a table, in the form of the expected results.
    pub fn output(&self) -> Vec<String> {
        let mut rows = Vec::new();
        for entry in fs::read_dir(self.folder.path().join("out")).unwrap() {
            let path = entry.unwrap().path();
            let hidden = path.file_name().unwrap().to_str().unwrap().starts_with('.');
            assert!(!hidden, "{} is left over", path.display());
            rows.extend(fs::read_to_string(path).unwrap().lines().map(str::to_owned));
        }
        if is_updated(self.query) {
            rows = folded(&rows);
        }
        rows.sort_unstable();
        rows
    }

    /// How many rows are in flight in the newest checkpoint.
    pub fn rows_in_flight(&self) -> u64 {
        let Ok(links) = fs::read_dir(self.folder.path().join("state/chain")) else { return 0 };
        let newest = links.map(|entry| entry.unwrap().path()).max();
        let text = newest.map_or_else(String::new, |path| fs::read_to_string(path).unwrap_or_default());
        let body: serde_json::Value =
            text.lines().nth(1).map_or_else(Default::default, |body| serde_json::from_str(body).unwrap());
        let files = body["checkpoint"]["inFlight"].as_array().cloned().unwrap_or_default();
        files.iter().map(|file| file["rows"].as_u64().unwrap()).sum()
    }

    pub fn check(&self) {
        self.check_against(&expected(self.query));
    }

    pub fn check_against(&self, expected: &[String]) {
        let actual = self.output();
        let first = actual.iter().zip(expected).find(|(actual, expected)| actual != expected);
        assert!(
            actual == expected,
            "{}: {} rows, {} expected; the first that differ: {first:?}",
            self.query,
            actual.len(),
            expected.len()
        );
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}
