//! A folder with a job in it, and `weir` at work there.

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

pub(crate) const FINISHED: i32 = 0;
pub(crate) const FAILED: i32 = 1;
pub(crate) const USER_ERROR: i32 = 2;
pub(crate) const STOPPED: i32 = 3;
pub(crate) const HANDED_OVER: i32 = 5;
pub(crate) const INTERRUPTED: i32 = 130;

/// A run that takes longer is stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

pub(crate) const BIDS: &str = "CREATE TABLE bids (auction BIGINT, price BIGINT, name STRING, at TIMESTAMP(3),
        WATERMARK FOR at AS at - INTERVAL '1' SECOND)
        WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'json');";
pub(crate) const TOTALS: &str = "CREATE TABLE totals (auction BIGINT, n BIGINT)
        WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'json');";
pub(crate) const COUNT: &str = "INSERT INTO totals SELECT auction, count(*) FROM bids GROUP BY auction;";
pub(crate) const PRICES: &str = "INSERT INTO totals SELECT auction, price FROM bids;";

/// A row of the input.
pub(crate) const ROW: &str = "{\"auction\":1,\"price\":2,\"name\":\"7\",\"at\":\"2026-01-01 00:00:00\"}\n";

/// A manifest; `spec` is added to its spec, the script is `statements` from line 8 on.
pub(crate) fn manifest(spec: &str, statements: &[&str]) -> String {
    let script = statements.join("\n      ");
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: StreamJob\nmetadata: {{name: job}}\nspec:\n  parallelism: 2\n{spec}  pipeline:\n    \
         sql: |\n      {script}\n"
    )
}

/// A job over the usual tables.
pub(crate) fn job(insert: &str) -> String {
    manifest("", &[BIDS, TOTALS, insert])
}

/// A job whose source or sink is declared otherwise: `old` is `new`.
pub(crate) fn but(old: &str, new: &str) -> String {
    let text = job(COUNT);
    assert!(text.contains(old), "{old}");
    text.replace(old, new)
}

/// A folder with `in/a.json` and `job.yaml`.
pub(crate) struct Place(pub(crate) tempfile::TempDir);

impl Place {
    pub(crate) fn new(manifest: &str, rows: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("in")).unwrap();
        place.write("in/a.json", rows);
        place.write("job.yaml", manifest);
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(arguments).current_dir(self.0.path()).stdout(Stdio::null()).stderr(Stdio::piped());
        Running::new(command.spawn().unwrap())
    }

    /// Runs the job where no file may have more than 64 KiB, until [`Running::allow_large_files`].
    pub(crate) fn start_with_small_files(&self, arguments: &[&str]) -> Running {
        let script = "trap '' XFSZ; ulimit -S -f 64; exec \"$@\"";
        let mut command = Command::new("bash");
        command.args(["-c", script, "bash", env!("CARGO_BIN_EXE_weir"), "run", "job.yaml"]).args(arguments);
        command.current_dir(self.0.path()).stdout(Stdio::null()).stderr(Stdio::piped());
        Running::new(command.spawn().unwrap())
    }

    /// Runs `weir`, which must end by itself with this code and say all of `parts`.
    pub(crate) fn check(&self, what: &str, arguments: &[&str], code: i32, parts: &[&str]) {
        let (actual, said) = self.start(arguments).end(PATIENCE);
        assert_eq!(actual, Some(code), "{what}: {said}");
        for part in parts {
            assert!(said.contains(part), "{what}: {part:?} is not said:\n{said}");
        }
        assert!(!said.contains("panic"), "{what}: {said}");
    }

    /// The lines of the files in a folder. Files that are not committed are hidden, for this as for any reader.
    pub(crate) fn lines(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(folder)) else { return Vec::new() };
        let paths = entries.map(|entry| entry.unwrap().path()).filter(|path| is_visible(path));
        let texts = paths.map(|path| fs::read_to_string(path).unwrap());
        let mut lines: Vec<String> =
            texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        lines.sort_unstable();
        lines
    }

    pub(crate) fn has_only(&self, what: &str, names: &[&str]) {
        let mut found: Vec<_> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        found.sort_unstable();
        assert_eq!(found, names, "{what}");
    }
}

pub(crate) fn is_visible(path: &Path) -> bool {
    !path.file_name().unwrap().to_str().unwrap().starts_with('.')
}

/// What a job's API answers.
pub(crate) fn ask(address: &str, method: &str, path: &str, body: &str) -> serde_json::Value {
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    write!(stream, "{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// A process whose errors are collected.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) ended: mpsc::Receiver<()>,
    said: Arc<Mutex<String>>,
    reader: std::thread::JoinHandle<()>,
}

impl Running {
    pub(crate) fn new(mut child: Child) -> Self {
        let errors = BufReader::new(child.stderr.take().unwrap());
        let (sender, ended) = mpsc::channel();
        let said = Arc::<Mutex<String>>::default();
        let text = Arc::clone(&said);
        let reader = std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                text.lock().unwrap().extend([&line, "\n"]);
            }
            let _ = sender.send(());
        });
        Self { child, ended, said, reader }
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits until something is so. It fails when the process ends before, or when that does not come in time.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        for _ in 0..PATIENCE.as_millis() / 10 {
            if is_so() {
                return;
            }
            let ended = self.ended.recv_timeout(Duration::from_millis(10)).is_ok();
            assert!(!ended || is_so(), "{what}: the process has ended: {}", self.said());
        }
        panic!("{what}: it is not so after a long time: {}", self.said());
    }

    /// The address of the job's API, as soon as it is said.
    pub(crate) fn api(&self) -> String {
        self.until("it has an address", || self.said().contains("http://"));
        let said = self.said();
        said.lines().find_map(|line| line.strip_prefix("http://")).unwrap().to_owned()
    }

    /// Waits for its end, and kills it when that does not come in time: then there is no code.
    pub(crate) fn end(mut self, patience: Duration) -> (Option<i32>, String) {
        if self.ended.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = self.child.kill();
        }
        let code = self.child.wait().unwrap().code();
        self.reader.join().unwrap();
        let said = self.said.lock().unwrap().clone();
        (code, said)
    }

    pub(crate) fn allow_large_files(&self) {
        let unlimited = Rlimit { current: None, maximum: None };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Fsize, unlimited).unwrap();
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Kills the worker with this ordinal, of those that it has started.
    pub(crate) fn kill_worker(&self, ordinal: u32) {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.child.id())).unwrap();
        let argument = format!("\0--ordinal\0{ordinal}\0");
        let is_it =
            |id: &&str| fs::read_to_string(format!("/proc/{id}/cmdline")).is_ok_and(|of| of.contains(&argument));
        let worker = children.split_whitespace().find(is_it).unwrap();
        kill_process(Pid::from_raw(worker.parse().unwrap()).unwrap(), Signal::KILL).unwrap();
    }

    /// Ends it as an operator would.
    pub(crate) fn stop(self) -> (Option<i32>, String) {
        self.signal("TERM");
        self.end(PATIENCE)
    }
}
