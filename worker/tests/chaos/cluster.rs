//! Worker processes of one job, started again when they end.

use super::output::{self, Rows};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// The processes of a job.
pub struct Cluster {
    folder: tempfile::TempDir,
    control: String,
    api: String,
    workers: BTreeMap<u32, Child>,
    revision: u64,
    events: u64,
    rate: u64,
}

const TABLES: &str = include_str!("../nexmark/tables.sql");

/// The exit code of a worker that handed its part over.
const HANDED_OVER: i32 = 5;

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

impl Cluster {
    /// A job that reads `events` events, `rate` a second.
    pub fn new(events: u64, rate: u64) -> Self {
        let cluster = Self {
            folder: tempfile::tempdir().unwrap(),
            control: free_address(),
            api: free_address(),
            workers: BTreeMap::new(),
            revision: 0,
            events,
            rate,
        };
        cluster.write_manifest("job", &format!(", 'rate' = '{}'", cluster.rate));
        cluster
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write_manifest(&self, name: &str, pace: &str) {
        let source =
            format!("'connector' = 'nexmark', 'events.num' = '{}', 'first-event.rate' = '1000'{pace}", self.events);
        let out = |sink: &str| self.path(name).join(sink).display().to_string();
        let (windows, counts) = (out("windows"), out("counts"));
        let script = format!(
            "{}
            CREATE TABLE windows (auction BIGINT, n BIGINT, price BIGINT, ends TIMESTAMP(3))
                WITH ('connector' = 'filesystem', 'path' = '{windows}', 'format' = 'csv');
            CREATE TABLE counts (bidder BIGINT, n BIGINT, price BIGINT)
                WITH ('connector' = 'filesystem', 'path' = '{counts}', 'format' = 'json');
            EXECUTE STATEMENT SET BEGIN
            INSERT INTO windows SELECT auction, count(*), max(price), window_end
                FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
                GROUP BY auction, window_start, window_end;
            INSERT INTO counts SELECT bidder, count(*), sum(price) FROM bid GROUP BY bidder;
            END;",
            TABLES.replace("SOURCE", &source)
        );
        let manifest = format!(
            "apiVersion: weir.dev/v1alpha1\nkind: StreamJob\nmetadata: {{name: chaos}}\nspec:\n  parallelism: 2\n  \
             checkpoint: {{interval: 200ms, tolerableFailures: 10}}\n  \
             restart: {{exponentialDelay: {{initial: 20ms, max: 1s, resetAfter: 1s}}}}\n  pipeline:\n    sql: |\n      {}\n",
            script.replace('\n', "\n      ")
        );
        fs::write(self.path(&format!("{name}.yaml")), manifest).unwrap();
    }

    /// The output of a run to which nothing happens.
    pub fn quiet(&self) -> Rows {
        self.write_manifest("quiet", "");
        let mut run = Command::new(env!("CARGO_BIN_EXE_weir"));
        run.arg("run").arg(self.path("quiet.yaml")).arg("--quiet").arg("--state-dir").arg(self.path("quiet-state"));
        let output = run.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output::read(&self.path("quiet"))
    }

    /// Starts the worker with this ordinal.
    pub fn start(&mut self, ordinal: u32) {
        let errors =
            fs::OpenOptions::new().create(true).append(true).open(self.path(&format!("{ordinal}.log"))).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.arg("worker").arg(self.path("job.yaml")).arg("--state-dir").arg(self.path("state"));
        command.args(["--insecure", "--quiet", "--workers", "2", "--exchange", "127.0.0.1:0", "--pod", "here"]);
        command.args(["--heartbeat", "250ms", "--drain-timeout", "5s", "--ordinal", &ordinal.to_string()]);
        match ordinal {
            0 => command.args(["--control", &self.control, "--api", &self.api]),
            _ => command.args(["--leader", &self.control]),
        };
        let worker = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn().unwrap();
        self.workers.insert(ordinal, worker);
    }

    /// Starts again what has ended; true when the job has.
    pub fn look(&mut self) -> bool {
        let ended: Vec<(u32, ExitStatus)> = self
            .workers
            .iter_mut()
            .filter_map(|(ordinal, worker)| Some((*ordinal, worker.try_wait().unwrap()?)))
            .collect();
        for (ordinal, status) in ended {
            match status.code() {
                Some(0) if ordinal == 0 => return true,
                // It has heard of the job's end before its leader's process was gone.
                Some(0) => {
                    self.workers.remove(&ordinal);
                }
                None | Some(HANDED_OVER | 130) => self.start(ordinal),
                Some(_) => panic!("worker {ordinal} ended with {status}:\n{}", self.log(ordinal)),
            }
        }
        false
    }

    fn log(&self, ordinal: u32) -> String {
        fs::read_to_string(self.path(&format!("{ordinal}.log"))).unwrap_or_default()
    }

    /// Sends a signal to a worker.
    pub fn signal(&self, ordinal: u32, signal: Signal) {
        if let Some(worker) = self.workers.get(&ordinal) {
            // One that has just ended needs none.
            let _ = kill_process(Pid::from_raw(worker.id() as i32).unwrap(), signal);
        }
    }

    /// Assigns another parallelism and number of workers.
    pub fn assign(&mut self, parallelism: u64, workers: u64) {
        let Some(now) = ask(&self.api, "GET", "/v1/assignment", "") else { return };
        let known: serde_json::Value = serde_json::from_str(&now).unwrap_or_default();
        let Some(code) = known["code"].as_str() else { return };
        self.revision += 1;
        let wanted = serde_json::json!({
            "revision": self.revision, "parallelism": parallelism, "workers": workers, "code": code,
        });
        ask(&self.api, "PUT", "/v1/assignment", &wanted.to_string());
    }

    /// Asks for a savepoint.
    pub fn savepoint(&self, number: u64) {
        ask(&self.api, "POST", "/v1/savepoints", &format!(r#"{{"name": "s{number}"}}"#));
    }

    /// What the job has made visible.
    pub fn output(&self) -> Rows {
        output::read(&self.path("job"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for worker in self.workers.values_mut() {
            let _ = worker.kill();
            let _ = worker.wait();
        }
        if std::thread::panicking() {
            for entry in fs::read_dir(self.folder.path()).into_iter().flatten().flatten() {
                let path: PathBuf = entry.path();
                if path.extension().is_some_and(|extension| extension == "log") {
                    eprintln!("{}:\n{}", shown(&path), fs::read_to_string(&path).unwrap_or_default());
                }
            }
        }
    }
}

fn shown(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The body of the answer; `None` when nobody answers.
fn ask(address: &str, method: &str, path: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: weir\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}
