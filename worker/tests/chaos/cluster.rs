//! Worker processes of one job on machines of their own, started again when they end, and replaced when they are missed.

use super::api::ask;
use super::bucket::gateway::{BUCKET, Gateway, KEY_ID, SECRET};
use super::bucket::proxy::Proxy;
use super::network::{CONTROL, From, Machine, Network};
use super::output::{self, Rows};
use super::relay::Relay;
use super::shape::{Pace, Shape, State};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use weir_worker::tls::{Authority, Role, self_made};

const TABLES: &str = include_str!("../nexmark/tables.sql");

/// Exit codes of a worker that finds a mistake of the user's, whose place another one has, that handed its part over, and that was cut short.
const MISTAKEN: i32 = 2;
const REPLACED: i32 = 4;
const HANDED_OVER: i32 = 5;
const INTERRUPTED: i32 = 130;

/// One that was replaced has noticed by then, however slow the machine is.
const NOTICED: Duration = Duration::from_secs(120);

const API: u16 = 7073;

/// A job and all that it runs on.
pub struct Cluster {
    workers: BTreeMap<u32, Worker>,
    /// They were replaced, and do not know yet.
    zombies: Vec<Worker>,
    service: Relay,
    pub proxy: Proxy,
    gateway: Gateway,
    network: Network,
    folder: tempfile::TempDir,
    /// The job's certificates.
    authority: Authority,
    shape: Shape,
    revision: u64,
    attempts: u64,
    store_back: Option<Instant>,
    /// What has happened, and how often.
    pub counts: BTreeMap<&'static str, u64>,
}

struct Worker {
    ordinal: u32,
    attempt: u64,
    child: Child,
    /// It goes on then.
    stopped_until: Option<Instant>,
    /// It is no longer cut off then.
    cut_until: Option<Instant>,
    /// Since when it might know that it was replaced.
    alone_since: Option<Instant>,
    machine: Machine,
}

impl Cluster {
    /// `None` where there is no S3 server.
    pub fn new(shape: Shape) -> Option<Self> {
        let gateway = Gateway::start()?;
        let network = Network::new();
        let proxy = Proxy::listen(network.store(), gateway.address, gateway.data());
        let folder = tempfile::tempdir().unwrap();
        let cluster = Self {
            workers: BTreeMap::new(),
            zombies: Vec::new(),
            service: Relay::start(network.service(), None),
            proxy,
            gateway,
            network,
            authority: self_made(&folder.path().join("certificates")).unwrap(),
            folder,
            shape,
            revision: 0,
            attempts: 0,
            store_back: None,
            counts: BTreeMap::new(),
        };
        let pace = match shape.pace {
            Pace::Rate(rate) => format!(", 'rate' = '{rate}'"),
            Pace::Slow => String::new(),
        };
        cluster.write_manifest("job", &format!("s3://{BUCKET}/out"), &pace);
        Some(cluster)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write_manifest(&self, name: &str, windows: &str, pace: &str) {
        let Shape { events, interval, unaligned, workers, .. } = self.shape;
        let overtaking = if unaligned { ", unaligned: {after: 0s}" } else { "" };
        let source = format!("'connector' = 'nexmark', 'events.num' = '{events}', 'first-event.rate' = '200'{pace}");
        let script = format!(
            "{}
            CREATE TABLE windows (auction BIGINT, n BIGINT, price BIGINT, ends TIMESTAMP(3))
                WITH ('connector' = 'filesystem', 'path' = '{windows}/windows', 'format' = 'csv');
            CREATE TABLE counts (bidder BIGINT, n BIGINT, price BIGINT)
                WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
            EXECUTE STATEMENT SET BEGIN
            INSERT INTO windows SELECT auction, count(*), max(price), window_end
                FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
                GROUP BY auction, window_start, window_end;
            INSERT INTO counts SELECT bidder, count(*), sum(price) FROM bid GROUP BY bidder;
            END;",
            TABLES.replace("SOURCE", &source),
            self.path(name).join("counts").display(),
        );
        let storage = match self.shape.state {
            State::Bucket if name == "job" => {
                format!(
                    "  storage:\n    s3: {{bucket: {BUCKET}, prefix: weir, region: us-east-1, forcePathStyle: true}}\n"
                )
            }
            _ => String::new(),
        };
        let manifest = format!(
            "apiVersion: weir.dev/v1alpha1\nkind: StreamJob\nmetadata: {{name: chaos, namespace: tests}}\nspec:\n  \
             parallelism: {workers}\n  checkpoint: {{interval: {interval}, tolerableFailures: 10{overtaking}}}\n{storage}  \
             restart: {{exponentialDelay: {{initial: 20ms, max: 1s, resetAfter: 1s}}}}\n  pipeline:\n    sql: |\n      {}\n",
            script.replace('\n', "\n      ")
        );
        fs::write(self.path(&format!("{name}.yaml")), manifest).unwrap();
    }

    /// The output of a run to which nothing happens.
    pub fn quiet(&self) -> Rows {
        let out = self.path("quiet");
        self.write_manifest("quiet", &out.display().to_string(), "");
        let mut run = Command::new(env!("CARGO_BIN_EXE_weir"));
        run.arg("run").arg(self.path("quiet.yaml")).arg("--quiet").arg("--state-dir").arg(self.path("quiet-state"));
        let output = run.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output::read(&out.join("windows"), &out.join("counts"))
    }

    /// What the job has made visible.
    pub fn output(&self) -> Rows {
        output::read(&self.gateway.data().join("out/windows"), &self.path("job").join("counts"))
    }

    /// Starts the worker with this ordinal on a machine of its own.
    pub fn start(&mut self, ordinal: u32) {
        let machine = self.network.machine(self.proxy.address, self.service.address);
        self.attempts += 1;
        let attempt = self.attempts;
        let child = self.spawn(ordinal, attempt, &machine);
        if ordinal == 0 {
            self.service.point_to(Some(machine.control()));
        }
        let worker =
            Worker { ordinal, attempt, child, stopped_until: None, cut_until: None, alone_since: None, machine };
        self.workers.insert(ordinal, worker);
    }

    fn spawn(&self, ordinal: u32, attempt: u64, machine: &Machine) -> Child {
        let log = self.path(&format!("{ordinal}-{attempt}.log"));
        let errors = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let mut command = machine.command(env!("CARGO_BIN_EXE_weir"));
        command.arg("worker").arg(self.path("job.yaml"));
        if self.shape.state == State::Directory {
            command.arg("--state-dir").arg(self.path("state"));
        }
        let (exchange, advertised) = machine.exchange();
        command.arg("--tls").arg(self.authority.folder_of(Role::Worker));
        command.args(["--workers", &self.shape.workers.to_string()]);
        command.args(["--exchange", &exchange.to_string(), "--advertise", &advertised.to_string()]);
        command.args(["--heartbeat", "400ms", "--drain-timeout", "5s", "--ordinal", &ordinal.to_string()]);
        command.args(["--attempt", &attempt.to_string(), "--pod", &format!("pod-{attempt}")]);
        if self.shape.copies {
            command.arg("--copies").arg(self.path(&format!("copies-{attempt}")));
        }
        if self.shape.pace == Pace::Slow {
            command.args(["--speed", "2"]);
        }
        match ordinal {
            0 => command.args(["--control", &machine.at(CONTROL).to_string(), "--api", &machine.at(API).to_string()]),
            _ => command.args(["--leader", &machine.leader(self.service.address).to_string()]),
        };
        let store = machine.store(self.proxy.address);
        command.env("AWS_ENDPOINT_URL", format!("http://{store}")).env("AWS_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", KEY_ID).env("AWS_SECRET_ACCESS_KEY", SECRET);
        command.env("AWS_EC2_METADATA_DISABLED", "true");
        for name in ["AWS_PROFILE", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL_S3"] {
            command.env_remove(name);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn().unwrap()
    }

    /// Sees to what is due, and starts again what has ended; true when the job has.
    pub fn look(&mut self) -> bool {
        self.let_go();
        let has_rival = self.zombies.iter().any(|zombie| zombie.ordinal == 0);
        self.look_at_zombies();
        let ended: Vec<(u32, ExitStatus)> = self
            .workers
            .iter_mut()
            .filter_map(|(ordinal, worker)| Some((*ordinal, worker.child.try_wait().unwrap()?)))
            .collect();
        for (ordinal, status) in ended {
            match status.code() {
                Some(0) if ordinal == 0 => return true,
                // It has heard of the job's end before its leader's process was gone.
                Some(0) => {
                    self.workers.remove(&ordinal);
                }
                // One that it has replaced, but that does not know, may store an assignment and claim with its revision.
                Some(REPLACED) if ordinal == 0 && has_rival => {
                    self.count("leaders whose place one before them took back");
                    self.restart(ordinal);
                }
                None | Some(HANDED_OVER | INTERRUPTED) => self.restart(ordinal),
                // Who has never reached the store cannot know whether its address is wrong.
                Some(MISTAKEN) if says_no_store(&self.log(ordinal)) => {
                    self.count("starts without a store");
                    self.restart(ordinal);
                }
                Some(_) => panic!("worker {ordinal} ended with {status}:\n{}", self.log(ordinal)),
            }
        }
        false
    }

    /// On the same machine, as the same attempt.
    fn restart(&mut self, ordinal: u32) {
        let Some(worker) = self.workers.get(&ordinal) else { return };
        let child = self.spawn(ordinal, worker.attempt, &worker.machine);
        let worker = self.workers.get_mut(&ordinal).unwrap();
        worker.child = child;
        worker.stopped_until = None;
    }

    /// Ends what was to last until now.
    fn let_go(&mut self) {
        let now = Instant::now();
        for worker in self.workers.values_mut().chain(&mut self.zombies) {
            if worker.stopped_until.is_some_and(|until| until <= now) {
                worker.stopped_until = None;
                signal(worker, Signal::CONT);
            }
            if worker.cut_until.is_some_and(|until| until <= now) {
                worker.cut_until = None;
                worker.machine.join();
            }
            if worker.stopped_until.is_none() && worker.cut_until.is_none() {
                worker.alone_since.get_or_insert(now);
            } else {
                worker.alone_since = None;
            }
        }
        if self.store_back.is_some_and(|back| back <= now) {
            self.store_back = None;
            self.proxy.is_away(false);
        }
    }

    fn look_at_zombies(&mut self) {
        let mut ended = Vec::new();
        for (at, zombie) in self.zombies.iter_mut().enumerate() {
            match zombie.child.try_wait().unwrap() {
                Some(status) => ended.push((at, status)),
                None => {
                    let silent = zombie.alone_since.is_some_and(|since| since.elapsed() > NOTICED);
                    assert!(!silent, "worker {} does not notice that it was replaced", zombie.ordinal);
                }
            }
        }
        for (at, status) in ended.into_iter().rev() {
            let zombie = self.zombies.remove(at);
            let log = fs::read_to_string(self.path(&format!("{}-{}.log", zombie.ordinal, zombie.attempt)));
            let no_store = log.as_ref().is_ok_and(|log| says_no_store(log));
            match status.code() {
                Some(MISTAKEN) if no_store => {}
                Some(REPLACED) => self.count("zombies that ended by themselves"),
                // It was already ending, or was killed, when it was replaced.
                None | Some(0 | HANDED_OVER | INTERRUPTED) => {}
                _ => panic!("a replaced worker {} ended with {status}:\n{}", zombie.ordinal, log.unwrap_or_default()),
            }
        }
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn log(&self, ordinal: u32) -> String {
        let attempt = self.workers.get(&ordinal).map_or(0, |worker| worker.attempt);
        fs::read_to_string(self.path(&format!("{ordinal}-{attempt}.log"))).unwrap_or_default()
    }

    /// Sends a signal to a worker that runs.
    pub fn signal(&mut self, ordinal: u32, what: Signal) -> bool {
        self.workers
            .get_mut(&ordinal)
            .is_some_and(|worker| worker.child.try_wait().unwrap().is_none() && signal(worker, what))
    }

    /// Stops a worker for a while.
    pub fn stop(&mut self, ordinal: u32, time: Duration) -> bool {
        let stopped = self.signal(ordinal, Signal::STOP);
        if let Some(worker) = self.workers.get_mut(&ordinal).filter(|_| stopped) {
            worker.stopped_until = Some(Instant::now() + time);
        }
        stopped
    }

    /// Cuts a worker off for a while.
    pub fn cut(&mut self, ordinal: u32, from: From, time: Duration) -> bool {
        let Some(worker) = self.workers.get_mut(&ordinal) else { return false };
        worker.machine.cut(from);
        worker.cut_until = Some(Instant::now() + time);
        true
    }

    /// Cuts two workers off from each other alone for a while; their addresses. `None` where that cannot be done.
    pub fn cut_apart(&mut self, [one, other]: [u32; 2], time: Duration) -> Option<[IpAddr; 2]> {
        let address = |ordinal: u32| Some(self.workers.get(&ordinal)?.machine.address());
        let addresses = [address(one)?, address(other)?];
        let done = self.tells_machines_apart()
            && self.cut(one, From::Machine(addresses[1]), time)
            && self.cut(other, From::Machine(addresses[0]), time);
        done.then_some(addresses)
    }

    /// True as long as a worker is cut off.
    pub fn is_cut(&self, ordinal: u32) -> bool {
        self.workers.get(&ordinal).is_some_and(|worker| worker.cut_until.is_some())
    }

    /// Another one takes a worker's place. The one before does not know.
    pub fn replace(&mut self, ordinal: u32) {
        let Some(before) = self.workers.remove(&ordinal) else { return };
        self.zombies.push(Worker { alone_since: None, ..before });
        self.start(ordinal);
    }

    /// The store answers nobody for a while.
    pub fn store_away(&mut self, time: Duration) {
        self.proxy.is_away(true);
        self.store_back = Some(Instant::now() + time);
    }

    /// Assigns another parallelism and number of workers; true when that was accepted.
    pub fn assign(&mut self, parallelism: u64, workers: u64) -> bool {
        let Some((_, now)) = self.ask("GET", "/v1/assignment", "") else { return false };
        let known: serde_json::Value = serde_json::from_str(&now).unwrap_or_default();
        let Some(code) = known["code"].as_str() else { return false };
        self.revision += 1;
        let wanted = serde_json::json!({
            "revision": self.revision, "parallelism": parallelism, "workers": workers, "code": code,
        });
        self.ask("PUT", "/v1/assignment", &wanted.to_string()).is_some_and(|(status, _)| status == 202)
    }

    /// Asks for a savepoint; true when that was heard.
    pub fn savepoint(&self, number: u64) -> bool {
        let answer = self.ask("POST", "/v1/savepoints", &format!(r#"{{"name": "s{number}"}}"#));
        answer.is_some_and(|(status, _)| matches!(status, 200 | 202))
    }

    /// The status and the body of the leader's answer; `None` when nobody answers.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
        let identity = self.authority.folder_of(Role::Controller);
        ask(&identity, self.workers.get(&0)?.machine.at(API), method, path, body)
    }

    /// Rows that the generation's sources have read, as its leader has heard; 0 when nobody answers.
    pub fn rows_in(&self) -> u64 {
        let answer = self.ask("GET", "/v1/job", "");
        let job = answer.and_then(|(_, body)| serde_json::from_str::<serde_json::Value>(&body).ok());
        job.and_then(|job| job["totals"]["rowsIn"].as_u64()).unwrap_or(0)
    }

    /// How far the job is, as its chain says.
    pub fn progress(&self) -> Progress {
        let folder = self.state_folder();
        let newest = |kind: &str| -> Option<(u64, PathBuf)> {
            let entries = fs::read_dir(folder.join(kind)).ok()?.flatten().map(|entry| entry.path());
            entries.filter_map(|path| Some((path.file_name()?.to_str()?.parse().ok()?, path))).max()
        };
        let generation = newest("generations").map_or(0, |(number, _)| number);
        let Some((link, path)) = newest("chain") else { return Progress { generation, ..Progress::default() } };
        let text = fs::read_to_string(path).unwrap_or_default();
        let body: serde_json::Value =
            text.lines().nth(1).and_then(|body| serde_json::from_str(body).ok()).unwrap_or_default();
        Progress { generation, link, checkpoint: body["checkpoint"]["checkpoint"].as_u64() }
    }

    /// Waits until the job is there, seeing to what is due; panics when it does not come.
    pub fn until(&mut self, what: &str, patience: Duration, mut there: impl FnMut(&mut Self) -> bool) {
        let began = Instant::now();
        while !there(self) {
            assert!(!self.look(), "the job has ended before {what}");
            assert!(began.elapsed() < patience, "{what} does not come: {:?}", self.progress());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Who was replaced is no longer cut off, and no longer stands still; their addresses.
    pub fn join_zombies(&mut self) -> Vec<IpAddr> {
        for zombie in &mut self.zombies {
            zombie.cut_until = None;
            zombie.machine.join();
            if zombie.stopped_until.take().is_some() {
                signal(zombie, Signal::CONT);
            }
        }
        self.zombies.iter().map(|zombie| zombie.machine.address()).collect()
    }

    /// Runs the job to its end as fast as it goes.
    pub fn finish(&mut self, patience: Duration) {
        self.shape.pace = Pace::Rate(0);
        let began = Instant::now();
        let workers: Vec<u32> = self.workers.keys().copied().collect();
        for ordinal in workers {
            self.signal(ordinal, Signal::KILL);
        }
        while !self.look() {
            assert!(began.elapsed() < patience, "the job does not end: {:?}", self.progress());
            std::thread::park_timeout(Duration::from_millis(20));
        }
        self.await_zombies();
    }

    /// Names of the objects of this kind of the job's state in the bucket.
    pub fn objects(&self, kind: &str) -> Vec<String> {
        let entries = fs::read_dir(self.state_folder().join(kind)).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    fn state_folder(&self) -> PathBuf {
        if self.shape.state == State::Directory {
            return self.path("state");
        }
        let jobs = fs::read_dir(self.gateway.data().join("weir/tests"));
        let mut folders = jobs.into_iter().flatten().flatten().map(|entry| entry.path());
        folders.find(|path| path.is_dir()).unwrap_or_default()
    }

    /// True when the store sees who asks.
    pub fn tells_machines_apart(&self) -> bool {
        self.network.tells_machines_apart()
    }

    /// Replaced leaders notice also after the job's end; a replaced worker has nobody to ask then.
    pub fn await_zombies(&mut self) {
        let began = Instant::now();
        while self.zombies.iter().any(|zombie| zombie.ordinal == 0) {
            assert!(began.elapsed() < NOTICED, "a replaced leader does not notice that the job has ended");
            self.let_go();
            self.look_at_zombies();
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

/// How far a job is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    pub generation: u64,
    pub link: u64,
    /// `None` when the newest link is a start.
    pub checkpoint: Option<u64>,
}

fn says_no_store(log: &str) -> bool {
    log.lines().rev().find(|line| !line.is_empty()).is_some_and(|line| line.contains("nobody answers at"))
}

fn signal(worker: &Worker, signal: Signal) -> bool {
    kill_process(Pid::from_child(&worker.child), signal).is_ok()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for worker in self.workers.values_mut().chain(&mut self.zombies) {
            let _ = worker.child.kill();
            let _ = worker.child.wait();
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
