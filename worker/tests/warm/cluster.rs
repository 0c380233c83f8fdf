//! Worker processes of one job, looked at from outside.

use crate::address::free_address;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What does not come in this time does not come.
const PATIENCE: Duration = Duration::from_secs(240);

/// The processes.
pub struct Cluster {
    folder: tempfile::TempDir,
    control: String,
    api: String,
    workers: Vec<(Child, String)>,
}

impl Cluster {
    /// Starts `workers` of them for a job that counts numbers by key, on two of them, with a checkpoint every `interval`.
    pub fn start(workers: usize, interval: &str) -> Self {
        let mut cluster = Self {
            folder: tempfile::tempdir().unwrap(),
            control: free_address(),
            api: free_address(),
            workers: Vec::new(),
        };
        let out = cluster.path("out");
        let manifest = format!(
            "apiVersion: weir.dev/v1alpha1
kind: StreamJob
metadata: {{name: warm}}
spec:
  parallelism: 2
  checkpoint: {{interval: {interval}, retain: 2}}
  restart: {{exponentialDelay: {{initial: 20ms, max: 1s, resetAfter: 1s}}}}
  pipeline:
    sql: |
      CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '3000',
        'fields.n.min' = '0', 'fields.n.max' = '999');
      CREATE TABLE counts (k BIGINT, n BIGINT, total BIGINT)
        WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
      INSERT INTO counts SELECT n, count(*), sum(n) FROM numbers GROUP BY n;
",
            out.display()
        );
        fs::write(cluster.path("job.yaml"), manifest).unwrap();
        for ordinal in 0..workers {
            let started = cluster.spawn(ordinal);
            cluster.workers.push(started);
        }
        cluster
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn spawn(&self, ordinal: usize) -> (Child, String) {
        let errors = fs::OpenOptions::new().create(true).append(true).open(self.path(&format!("{ordinal}.log")));
        let health = free_address();
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.arg("worker").arg(self.path("job.yaml")).arg("--state-dir").arg(self.path("state"));
        command.arg("--copies").arg(self.path(&format!("copies-{ordinal}")));
        command.args(["--insecure", "--quiet", "--workers", "2", "--exchange", "127.0.0.1:0", "--pod", "here"]);
        command.args(["--ordinal", &ordinal.to_string(), "--health", &health]);
        match ordinal {
            0 => command.args(["--control", &self.control, "--api", &self.api]),
            _ => command.args(["--leader", &self.control]),
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors.unwrap()).spawn().unwrap();
        (child, health)
    }

    /// Kills one without a warning, and starts it again.
    pub fn restart(&mut self, ordinal: usize) {
        self.workers[ordinal].0.kill().unwrap();
        self.workers[ordinal].0.wait().unwrap();
        self.workers[ordinal] = self.spawn(ordinal);
    }

    /// Stops the job with a last checkpoint.
    pub fn stop(&mut self) {
        let leader = rustix::process::Pid::from_child(&self.workers[0].0);
        rustix::process::kill_process(leader, rustix::process::Signal::INT).unwrap();
        self.workers[0].0.wait().unwrap();
    }

    /// A metric of one worker, with a label such as `from="copy"`.
    pub fn metric(&self, ordinal: usize, name: &str, label: &str) -> Option<u64> {
        let text = ask(&self.workers[ordinal].1, "GET", "/metrics", "")?;
        let line = text.lines().find(|line| line.starts_with(name) && line.contains(label))?;
        line.rsplit_once(' ').map(|(_, number)| number.parse::<f64>().unwrap() as u64)
    }

    /// How many checkpoints have been completed since the leader began.
    pub fn checkpoints(&self) -> u64 {
        self.metric(0, "weir_checkpoints_total", "outcome=\"completed\"").unwrap_or(0)
    }

    /// Assigns so many workers, each with a subtask, and waits until the job runs on them.
    pub fn assign(&mut self, revision: u64, workers: u64) {
        let code = self.until("an assignment in force", |cluster| Some(cluster.assignment()?["code"].clone()));
        let wanted =
            serde_json::json!({"revision": revision, "parallelism": workers, "workers": workers, "code": code});
        ask(&self.api, "PUT", "/v1/assignment", &wanted.to_string()).unwrap();
        self.until("the change", |cluster| {
            let now = cluster.assignment()?;
            let job: Value = serde_json::from_str(&ask(&cluster.api, "GET", "/v1/job", "")?).ok()?;
            (now["revision"] == revision && now["change"].is_null() && job["state"] == "running").then_some(())
        });
    }

    fn assignment(&self) -> Option<Value> {
        serde_json::from_str(&ask(&self.api, "GET", "/v1/assignment", "")?).ok()
    }

    /// Looks until something is found.
    pub fn until<T>(&mut self, what: &str, mut look: impl FnMut(&mut Self) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(found) = look(self) {
                return found;
            }
            for (ordinal, (child, _)) in self.workers.iter_mut().enumerate() {
                let ended = child.try_wait().unwrap();
                assert!(ended.is_none(), "worker {ordinal} has ended: {ended:?}");
            }
            // The workers need the processors more.
            std::thread::park_timeout(Duration::from_millis(10));
        }
        panic!("{what} has not come");
    }

    /// The changelog in the sink's visible files, folded: how often each row is there, rows that are not there left out.
    pub fn output(&self) -> BTreeMap<String, i64> {
        let mut rows = BTreeMap::new();
        for entry in fs::read_dir(self.path("out")).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with('.') {
                continue;
            }
            for line in fs::read_to_string(path).unwrap().lines() {
                let mut row: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
                let op = row.remove("op").unwrap();
                let sign = if matches!(op.as_str().unwrap(), "+I" | "+U") { 1 } else { -1 };
                *rows.entry(Value::from(row).to_string()).or_default() += sign;
            }
        }
        rows.retain(|_, count| *count != 0);
        rows
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (child, _) in &mut self.workers {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for ordinal in 0..self.workers.len() {
                let log = fs::read_to_string(self.path(&format!("{ordinal}.log"))).unwrap_or_default();
                eprintln!("worker {ordinal}:\n{log}");
            }
        }
    }
}

/// The body of the answer; `None` when nobody answers.
fn ask(address: &str, method: &str, path: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: weir\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}
