//! A job, and its workers as processes that know nothing but their environment.

use crate::address::free_address;
use crate::client::{self, Method};
use crate::gateway::{self, Gateway};
use crate::output::{self, Rows};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use serde_json::{Value, json};
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use weir_worker::tls::{self, Authority, Role};

/// What does not happen by then will not.
const PATIENCE: Duration = Duration::from_secs(240);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

const TABLES: &str = include_str!("../nexmark/tables.sql");

/// The uid of every job.
pub const UID: &str = "0b8e5a3c-7d1f-4a62-9c35-6e0f1d2a4b77";

/// Where a job keeps its state and its output.
#[derive(Clone, Copy)]
pub enum Storage<'a> {
    Directory,
    Bucket(&'a Gateway),
}

/// What a manifest says.
#[derive(Debug, Clone, Default)]
pub struct Spec {
    /// Events per second; as fast as it goes otherwise.
    pub rate: Option<u64>,
    /// One more statement.
    pub also: &'static str,
    /// Whether state that no statement needs any more may go.
    pub drops: bool,
    /// Instead of the usual statement that counts.
    pub counts: Option<&'static str>,
    /// Instead of the job's own address of the bucket.
    pub endpoint: Option<String>,
    /// Instead of the job's own bucket.
    pub bucket: Option<&'static str>,
}

impl Spec {
    /// A statement with a state of its own, whose results nobody looks at.
    pub const COUNTS_AUCTIONS: &'static str =
        "INSERT INTO nowhere SELECT seller, count(*) FROM auction GROUP BY seller;";
}

/// A job with its certificates.
pub struct Job<'a> {
    folder: tempfile::TempDir,
    storage: Storage<'a>,
    authority: Authority,
    events: u64,
    attempts: Cell<u64>,
}

impl<'a> Job<'a> {
    pub fn new(storage: Storage<'a>, events: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = tls::self_made(&folder.path().join("tls")).unwrap();
        Self { folder, storage, authority, events, attempts: Cell::new(0) }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a manifest, and says where.
    pub fn manifest(&self, name: &str, spec: &Spec) -> PathBuf {
        let file = self.path(&format!("{name}.yaml"));
        fs::write(&file, self.text(spec, "job")).unwrap();
        file
    }

    fn text(&self, spec: &Spec, output: &str) -> String {
        let pace = spec.rate.map(|rate| format!(", 'rate' = '{rate}'")).unwrap_or_default();
        let source =
            format!("'connector' = 'nexmark', 'events.num' = '{}', 'first-event.rate' = '1000'{pace}", self.events);
        let (options, storage) = match (self.storage, output) {
            (Storage::Bucket(gateway), "job") => {
                let bucket = spec.bucket.unwrap_or(gateway::BUCKET);
                let endpoint = spec.endpoint.clone().unwrap_or_else(|| format!("http://{}", gateway.address));
                let (id, secret) = (gateway::KEY_ID, gateway::SECRET);
                let options = format!(
                    ", 's3.endpoint' = '{endpoint}', 's3.region' = 'us-east-1', 's3.access-key' = '{id}', 's3.secret-key' = '{secret}'"
                );
                let storage = format!(
                    "  storage: {{s3: {{bucket: {bucket}, prefix: weir, endpoint: \"{endpoint}\", region: us-east-1, \
                     forcePathStyle: true, credentialsSecretRef: {{name: store}}}}}}\n"
                );
                (options, storage)
            }
            (_, "job") => {
                (String::new(), format!("  storage: {{local: {{path: {}}}}}\n", self.path("state").display()))
            }
            _ => (String::new(), String::new()),
        };
        let place = |sink: &str| match (self.storage, output) {
            (Storage::Bucket(_), "job") => format!("s3://{}/out/{sink}", gateway::BUCKET),
            _ => self.path(output).join(sink).display().to_string(),
        };
        let counts = spec.counts.unwrap_or("SELECT bidder, count(*), sum(price) FROM bid GROUP BY bidder");
        let script = format!(
            "{}
            CREATE TABLE windows (auction BIGINT, n BIGINT, price BIGINT, ends TIMESTAMP(3))
                WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv'{options});
            CREATE TABLE counts (bidder BIGINT, n BIGINT, price BIGINT)
                WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json'{options});
            CREATE TABLE nowhere (seller BIGINT, n BIGINT) WITH ('connector' = 'blackhole');
            EXECUTE STATEMENT SET BEGIN
            INSERT INTO windows SELECT auction, count(*), max(price), window_end
                FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
                GROUP BY auction, window_start, window_end;
            INSERT INTO counts {counts};
            {}
            END;",
            TABLES.replace("SOURCE", &source),
            place("windows"),
            place("counts"),
            spec.also
        );
        let uid = if output == "job" { format!(", namespace: live, uid: {UID}") } else { String::new() };
        format!(
            "apiVersion: weir.dev/v1alpha1\nkind: StreamJob\nmetadata: {{name: bids{uid}}}\nspec:\n  parallelism: 2\n  \
             allowDroppedState: {}\n  checkpoint: {{interval: 200ms, tolerableFailures: 10}}\n  \
             restart: {{exponentialDelay: {{initial: 20ms, max: 1s, resetAfter: 1s}}}}\n{storage}  pipeline:\n    sql: |\n      {}\n",
            spec.drops,
            script.replace('\n', "\n      ")
        )
    }

    /// The names of the job's objects, where its uid says that they are.
    pub fn objects(&self) -> Vec<String> {
        let folder = match self.storage {
            Storage::Directory => self.path("state"),
            Storage::Bucket(gateway) => gateway.data().join("weir"),
        };
        names_in(&folder.join(format!("live/bids-{UID}")))
    }

    /// Runs a command of the binary as a pod of its own would; its exit code, what it printed, and its last words.
    pub fn command(&self, arguments: &[&str], manifest: &Path) -> (Option<i32>, String, String) {
        self.attempts.set(self.attempts.get() + 1);
        let (attempt, last) = (self.attempts.get(), self.path("last-of-command"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(arguments).arg(manifest).env("WEIR_REVISION", "1").env("WEIR_ATTEMPT", attempt.to_string());
        command.env("WEIR_POD", format!("pod-{attempt}")).env("WEIR_TERMINATION_LOG", &last);
        command.env("STORE_AWS_ACCESS_KEY_ID", gateway::KEY_ID).env("STORE_AWS_SECRET_ACCESS_KEY", gateway::SECRET);
        let output = command.env("AWS_EC2_METADATA_DISABLED", "true").output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        eprint!("{}", text(output.stderr));
        (output.status.code(), text(output.stdout), fs::read_to_string(last).unwrap_or_default())
    }

    /// Compares with the output of a run to which nothing happens.
    pub fn check_output(&self) {
        let quiet = self.path("quiet.yaml");
        fs::write(&quiet, self.text(&Spec::default(), "quiet")).unwrap();
        let mut run = Command::new(env!("CARGO_BIN_EXE_weir"));
        run.arg("run").arg(quiet).arg("--quiet").arg("--state-dir").arg(self.path("quiet-state"));
        let done = run.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let expected: Rows = read(&self.path("quiet"));
        assert!(!expected.is_empty());
        let written = match self.storage {
            Storage::Directory => self.path("job"),
            Storage::Bucket(gateway) => gateway.data().join("out"),
        };
        output::check(&read(&written), &expected, "all that happened");
    }

    /// Starts worker 0 of this code, for a revision.
    pub fn leader(&self, manifest: &Path, code: &str, revision: u64) -> Pod {
        let control = free_address();
        let own = vec![("WEIR_CONTROL", control.clone()), ("WEIR_API", free_address())];
        self.pod(manifest, (code, revision, 0), own, control)
    }

    /// Starts another worker, which follows `leader`.
    pub fn worker(&self, manifest: &Path, code: &str, revision: u64, ordinal: u32, leader: &Pod) -> Pod {
        let own = vec![("WEIR_LEADER", leader.control.clone())];
        self.pod(manifest, (code, revision, ordinal), own, leader.control.clone())
    }

    fn pod(
        &self,
        manifest: &Path,
        (code, revision, ordinal): (&str, u64, u32),
        own: Vec<(&'static str, String)>,
        control: String,
    ) -> Pod {
        self.attempts.set(self.attempts.get() + 1);
        let attempt = self.attempts.get();
        let health = free_address();
        let shown = |name: &str| self.path(&format!("{name}-{attempt}")).display().to_string();
        let mut environment = vec![
            ("WEIR_ORDINAL", ordinal.to_string()),
            ("WEIR_EXCHANGE", "127.0.0.1:0".to_owned()),
            ("WEIR_ADVERTISE", "127.0.0.1".to_owned()),
            // What a frame holds says the frame: workers need not agree.
            ("WEIR_COMPRESS", if ordinal == 1 { "lz4" } else { "none" }.to_owned()),
            ("WEIR_HEALTH", health.clone()),
            ("WEIR_TLS", self.authority.folder_of(Role::Worker).display().to_string()),
            ("WEIR_POD", format!("pod-{attempt}")),
            ("WEIR_REVISION", revision.to_string()),
            ("WEIR_ATTEMPT", attempt.to_string()),
            ("WEIR_CODE", code.to_owned()),
            ("WEIR_COPIES", shown("copies")),
            ("WEIR_DRAIN_TIMEOUT", "100s".to_owned()),
            ("WEIR_TERMINATION_LOG", shown("last")),
            ("STORE_AWS_ACCESS_KEY_ID", gateway::KEY_ID.to_owned()),
            ("STORE_AWS_SECRET_ACCESS_KEY", gateway::SECRET.to_owned()),
        ];
        environment.extend(own);
        let mut pod = Pod {
            manifest: manifest.to_owned(),
            environment,
            health,
            control,
            certificates: self.authority.folder_of(Role::Controller),
            log: self.path(&format!("{code}{ordinal}-{attempt}.log")),
            child: None,
        };
        pod.start_again();
        pod
    }
}

fn read(folder: &Path) -> Rows {
    output::read(&folder.join("windows"), &folder.join("counts"))
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        match path.is_dir() {
            true => names.extend(names_in(&path).into_iter().map(|below| format!("{name}/{below}"))),
            false if name == "job.json" => {}
            false => names.push(name),
        }
    }
    names
}

/// A worker's place: its process can end and be started again there.
pub struct Pod {
    manifest: PathBuf,
    environment: Vec<(&'static str, String)>,
    health: String,
    control: String,
    certificates: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Pod {
    fn variable(&self, name: &str) -> &str {
        &self.environment.iter().find(|(variable, _)| *variable == name).unwrap().1
    }

    /// What a kubelet does when a container has ended.
    pub fn start_again(&mut self) {
        let errors = fs::OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.arg("worker").arg(&self.manifest).env("WEIR_LOG", "warn").env("AWS_EC2_METADATA_DISABLED", "true");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.child = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn().unwrap());
    }

    /// The next process there is told otherwise.
    pub fn is_told(&mut self, name: &'static str, value: &str) {
        self.environment.retain(|(known, _)| *known != name);
        self.environment.push((name, value.to_owned()));
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.as_ref().unwrap().id() as i32).unwrap(), signal).unwrap();
    }

    fn ended(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        let status = eventually(|| child.try_wait().unwrap());
        if status.is_none() {
            let _ = child.kill();
            let _ = child.wait();
        }
        status.unwrap_or_else(|| panic!("it does not end:\n{}", self.shown()))
    }

    pub fn ends_with(&mut self, code: i32) {
        self.ends_with_one_of(&[code]);
    }

    pub fn ends_with_one_of(&mut self, codes: &[i32]) {
        let status = self.ended();
        assert!(status.code().is_some_and(|code| codes.contains(&code)), "{status}: {}", self.shown());
    }

    pub fn ends_by_signal(&mut self) {
        assert_eq!(self.ended().code(), None);
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_none()
    }

    /// What a kubelet would tell of the container's end.
    pub fn last_words(&self) -> String {
        fs::read_to_string(self.variable("WEIR_TERMINATION_LOG")).unwrap_or_default()
    }

    /// What it said last on standard error.
    pub fn last_line(&self) -> String {
        self.shown().lines().next_back().unwrap_or_default().to_owned()
    }

    /// A plain request for health.
    pub fn health(&self, path: &str) -> (u16, Value) {
        self.waits(|| client::ask_plainly(&self.health, path), "an answer")
    }

    /// Waits until health is said to be this.
    pub fn health_becomes(&self, path: &str, status: u16) -> Value {
        let look = || client::ask_plainly(&self.health, path).filter(|(found, _)| *found == status);
        self.waits(look, &format!("{path} to be {status}")).1
    }

    /// A request of the controller's; `None` while nobody answers.
    pub fn try_ask(&self, method: Method, path: &str, body: Option<&Value>) -> Option<(u16, Value)> {
        client::ask(&self.certificates, self.variable("WEIR_API"), method, path, body)
    }

    pub fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        self.waits(|| self.try_ask(method, path, body), path)
    }

    pub fn ask_as_worker(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let identity = Path::new(self.variable("WEIR_TLS"));
        client::ask(identity, self.variable("WEIR_API"), method, path, body).unwrap()
    }

    pub fn job(&self) -> Value {
        self.ask(Method::Get, "/v1/job", None).1
    }

    /// Assigns, again and again as a controller does, until it is accepted.
    pub fn assign(&self, wanted: &Value) {
        let accepted = || {
            let answer = self.try_ask(Method::Put, "/v1/assignment", Some(wanted))?;
            assert!(matches!(answer.0, 202 | 503), "{answer:?}\n{}", self.shown());
            (answer.0 == 202).then_some(())
        };
        self.waits(accepted, &format!("{wanted} to be accepted"));
    }

    /// Waits until `/v1/job` says this.
    pub fn reports(&self, field: &str, value: &str) -> Value {
        let look = || self.try_ask(Method::Get, "/v1/job", None).filter(|(_, job)| job[field] == json!(value));
        self.waits(look, &format!("{field} to be {value}")).1
    }

    /// Waits until the job runs as this revision.
    pub fn in_force(&self, revision: u64) {
        let look = || {
            let (_, assignment) = self.try_ask(Method::Get, "/v1/assignment", None)?;
            let (_, job) = self.try_ask(Method::Get, "/v1/job", None)?;
            (assignment["revision"] == json!(revision) && job["state"] == json!("running")).then_some(())
        };
        self.waits(look, &format!("revision {revision} to run"));
    }

    pub fn generation(&self) -> u64 {
        self.job()["generation"].as_u64().unwrap()
    }

    pub fn runs_as_generation_above(&self, before: u64) {
        let look = || {
            let (_, job) = self.try_ask(Method::Get, "/v1/job", None)?;
            (job["generation"].as_u64()? > before && job["state"] == json!("running")).then_some(())
        };
        self.waits(look, &format!("a generation above {before}"));
    }

    /// Waits for one more checkpoint.
    pub fn completes_a_checkpoint(&self) {
        let completed = || self.try_ask(Method::Get, "/v1/checkpoints", None)?.1["completed"].as_u64();
        let before = self.waits(completed, "checkpoints");
        self.waits(|| completed().filter(|now| *now > before), "one more checkpoint");
    }

    #[track_caller]
    pub fn waits<T>(&self, look: impl FnMut() -> Option<T>, what: &str) -> T {
        eventually(look).unwrap_or_else(|| {
            let job = self.environment.iter().any(|(name, _)| *name == "WEIR_API").then(|| {
                let answer = |path| self.try_ask(Method::Get, path, None);
                (answer("/v1/job"), answer("/v1/assignment"))
            });
            panic!("waited in vain for {what}: {job:?}\n{}", self.shown())
        })
    }

    /// How many rows the job has read, as a leader says when it ends.
    pub fn rows_in_at_the_end(&self) -> u64 {
        let log = self.shown();
        let read = log.lines().rev().find_map(|line| line.split_once(" rows in, ")?.0.rsplit(' ').next()?.parse().ok());
        read.unwrap_or_else(|| panic!("no rows are told: {log}"))
    }

    fn shown(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Looks until there is something; `None` when it takes too long.
fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(found) = look() {
            return Some(found);
        }
        std::thread::park_timeout(LOOK);
    }
    None
}

impl Drop for Pod {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.log.display(), self.shown());
        }
    }
}
