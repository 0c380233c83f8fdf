//! Jobs of several worker processes: what stops their output, and for how long; what checkpoints and other processes cost.
//!
//! The benchmark starts its own program as workers with certificates of their own, as `weir run --workers` does, and
//! watches them from outside: by their metrics and by the leader's API.

mod checkpoint;
mod http;
mod process;
mod recovery;
mod rescale;
mod speed;
mod state_job;
mod watch;

pub(super) use checkpoint::Checkpoint;
pub(super) use recovery::Recovery;
pub(super) use rescale::Rescale;
pub(super) use speed::Workers;

use super::Scratch;
use crate::cli::exit::{Code, Refusal};
use crate::cli::table::{self, Align};
use crate::tls::{self, Role};
use http::Api;
use process::Processes;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(20);

/// Whatever is waited for longer does not come.
const PATIENCE: Duration = Duration::from_secs(600);

/// Where the state goes.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Storage {
    /// Keep state in this bucket, with local copies beside the workers, instead of a local folder; credentials come from
    /// the environment.
    #[arg(long, value_name = "NAME")]
    bucket: Option<String>,
    /// The bucket's server, such as http://127.0.0.1:9000.
    #[arg(long, value_name = "URL", requires = "bucket")]
    endpoint: Option<String>,
}

/// A job to run.
struct JobSpec {
    name: String,
    sql: String,
    parallelism: u32,
    checkpoint_interval: Duration,
    storage: Storage,
}

/// A job that runs.
struct Cluster {
    processes: Processes,
    api: Api,
    _scratch: Scratch,
}

impl JobSpec {
    /// The manifest, in YAML's subset JSON.
    fn manifest(&self) -> Value {
        let mut spec = json!({
            "parallelism": self.parallelism,
            "maxParallelism": self.parallelism.max(128),
            "checkpoint": {"interval": format!("{}ms", self.checkpoint_interval.as_millis())},
            "pipeline": {"sql": self.sql},
        });
        if let Some(bucket) = &self.storage.bucket {
            let mut s3 =
                json!({"bucket": bucket, "prefix": format!("bench-{}", uuid::Uuid::new_v4()), "forcePathStyle": true});
            if let Some(endpoint) = &self.storage.endpoint {
                s3["endpoint"] = json!(endpoint);
            }
            spec["storage"] = json!({"s3": s3});
        }
        json!({"apiVersion": "weir.dev/v1alpha1", "kind": "StreamJob", "metadata": {"name": self.name}, "spec": spec})
    }
}

impl Cluster {
    /// Starts the job on `workers` processes; `more` of them wait for it to grow.
    fn start(spec: &JobSpec, workers: u32, more: u32) -> Result<Self, Refusal> {
        let scratch = Scratch::new()?;
        let manifest = scratch.0.join("job.yaml");
        std::fs::write(&manifest, spec.manifest().to_string())
            .map_err(|error| Refusal::failed(format!("error: the benchmark's job cannot be written: {error}")))?;
        let authority = tls::self_made(&scratch.0.join("tls"))?;
        let api = free_address()?;
        let launch = process::Launch {
            manifest,
            certificates: authority.folder_of(Role::Worker),
            state: spec.storage.bucket.is_none().then(|| scratch.0.join("state")),
            copies: spec.storage.bucket.is_some().then(|| scratch.0.join("copies")),
            control: free_address()?,
            api,
            workers,
        };
        let health = (0..workers + more).map(|_| free_address()).collect::<Result<Vec<_>, _>>()?;
        let api = Api::new(api, authority.identity(Role::Controller)?)
            .map_err(|error| Refusal::failed(format!("error: the benchmark cannot ask the leader: {error}")))?;
        Ok(Self { processes: Processes::start(launch, health)?, api, _scratch: scratch })
    }

    /// Waits until `look` finds something.
    fn until<T>(&mut self, what: &str, mut look: impl FnMut(&mut Self) -> Option<T>) -> Result<T, Refusal> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            self.processes.look()?;
            if let Some(found) = look(self) {
                return Ok(found);
            }
            std::thread::sleep(LOOK);
        }
        Err(Refusal::failed(format!("error: {what} has not come within {} minutes", PATIENCE.as_secs() / 60)))
    }

    /// The sum of a metric over all workers.
    fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        let texts = self.processes.health.iter().filter_map(|address| http::metrics(*address).ok());
        texts.map(|text| http::sum(&text, name, labels)).sum()
    }

    /// Bytes of state that tasks hold.
    fn state_bytes(&self) -> f64 {
        self.sum("weir_task_state_bytes", &[])
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Option<(u16, Value)> {
        self.api.ask(method, path, body).ok()
    }

    /// Waits for so many more completed checkpoints.
    fn await_checkpoints(&mut self, more: u32) -> Result<(), Refusal> {
        let completed = |cluster: &Self| cluster.sum("weir_checkpoints_total", &["outcome=\"completed\""]);
        let before = completed(self);
        self.until("a checkpoint", |cluster| (completed(cluster) >= before + f64::from(more)).then_some(()))
    }
}

/// An address for a server that is started later. Connections on this machine get ports of 127.0.0.1: where loopback has
/// other addresses too, no connection takes the port meanwhile.
fn free_address() -> Result<SocketAddr, Refusal> {
    let [one, two, three, ..] = uuid::Uuid::new_v4().into_bytes();
    let own = Ipv4Addr::new(127, one, two, three % 254 + 1);
    let bound = TcpListener::bind((own, 0)).or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let address = bound.and_then(|listener| listener.local_addr());
    address.map_err(|error| Refusal::failed(format!("error: no port of this machine can be had: {error}")))
}

/// Prints a table, or an object for each row.
fn print(is_json: bool, headings: &[&'static str], rows: &[Value]) -> Code {
    if is_json {
        rows.iter().for_each(|row| println!("{row}"));
        return Code::Done;
    }
    let shown = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64().filter(|_| !number.is_u64()) {
            Some(number) => format!("{number:.2}"),
            None => number.to_string(),
        },
        Value::Null => "?".to_owned(),
        other => other.to_string(),
    };
    let align = |place: usize| if place == 0 { Align::Left } else { Align::Right };
    let aligned: Vec<_> = headings.iter().enumerate().map(|(place, heading)| (*heading, align(place))).collect();
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| row.as_object().into_iter().flat_map(|row| row.values()).map(shown).collect()).collect();
    print!("{}", table::render(&aligned, &cells));
    Code::Done
}

fn megabytes(bytes: f64) -> u64 {
    (bytes / 1e6).round() as u64
}

fn ms(duration: Duration) -> u64 {
    duration.as_millis() as u64
}
