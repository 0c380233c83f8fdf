//! `weir worker`: one of several processes that run a job together.

mod begin;
mod config;
mod departure;
pub(super) mod fleet;
mod follow;
mod lead;

use super::exit::{Code, Refusal};
use super::job::Planned;
use super::run;
use crate::api::{self, JobNumbers, ProcessNumbers, Server, TableNumbers, TaskNumbers, View, Vitals};
use crate::checkpoint::store::Store;
use crate::checkpoint::store::copies::Copies;
use crate::checkpoint::store::s3::settings;
use crate::control::Patience;
use crate::exchange::{Compression, Exchange, Settings};
use crate::job::board::Board;
use crate::job::directory::place::Held;
use crate::job::readiness::{Pulse, Readiness};
use crate::job::runner::Runner;
use crate::numbers::Numbers;
use crate::tls::{Identity, Security};
pub(super) use config::with_config;
use departure::Departure;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use weir_protocol::chain::Claimant;
use weir_protocol::leader::End;

/// Run one worker of a job that has several.
///
/// The worker with ordinal 0 leads the job; the others register with it and get their tasks from it. All need the same
/// manifest and the same storage. `weir run --workers N` starts them on one machine; on Kubernetes the controller does.
/// Every option can also be an environment variable, or a line `option: value` in the file that --config names: what an
/// option says wins over its variable, and both over the file. An option without a value is `true` or `false` there.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = "Examples:
  weir worker job.yaml --ordinal 0 --workers 2 --advertise 10.0.0.5 --tls /etc/weir/tls
  weir worker job.yaml --ordinal 1 --workers 2 --leader 10.0.0.5:6123 --advertise 10.0.0.6 --tls /etc/weir/tls
  weir worker --config worker.yaml")]
pub(super) struct Arguments {
    /// The manifest: a StreamJob in YAML.
    #[arg(required_unless_present = "manifest")]
    file: Option<String>,
    /// The manifest, as an option.
    #[arg(long, value_name = "FILE", env = "WEIR_MANIFEST", hide = true)]
    manifest: Option<String>,
    /// A file of options in YAML, by their long names. Options given otherwise win.
    #[arg(long, value_name = "FILE", env = "WEIR_CONFIG")]
    config: Option<PathBuf>,
    /// This worker's number among the job's workers, from 0.
    #[arg(long, value_name = "N", env = "WEIR_ORDINAL")]
    ordinal: u32,
    /// How many workers the job runs on; by default its parallelism divided by --slots.
    #[arg(long, value_name = "N", env = "WEIR_WORKERS", value_parser = clap::value_parser!(u32).range(1..))]
    workers: Option<u32>,
    /// Subtasks of an operator that share a worker, where --workers does not say how many there are; by default
    /// spec.slotsPerWorker.
    #[arg(long, value_name = "N", env = "WEIR_SLOTS", value_parser = clap::value_parser!(u32).range(1..))]
    slots: Option<u32>,
    /// Where the worker with ordinal 0 takes registrations; for all others.
    #[arg(long, value_name = "HOST:PORT", env = "WEIR_LEADER")]
    leader: Option<String>,
    /// Where to take registrations; for ordinal 0.
    #[arg(long, value_name = "IP:PORT", env = "WEIR_CONTROL", default_value = "0.0.0.0:6123")]
    control: String,
    /// Where to take rows from other workers; port 0 takes any that is free.
    #[arg(long, value_name = "IP:PORT", env = "WEIR_EXCHANGE", default_value = "0.0.0.0:6121")]
    exchange: SocketAddr,
    /// The address at which other workers reach this one, if --exchange is not it.
    #[arg(long, value_name = "IP", env = "WEIR_ADVERTISE")]
    advertise: Option<IpAddr>,
    /// How rows that leave for other workers are compressed; others may choose otherwise.
    #[arg(long, value_name = "NAME", env = "WEIR_COMPRESS", value_enum, default_value_t)]
    compress: Compress,
    /// A folder with tls.crt, tls.key and ca.crt: who this worker is, and whose certificates it believes.
    #[arg(long, value_name = "DIR", env = "WEIR_TLS")]
    tls: Option<PathBuf>,
    /// No certificates: whoever reaches the ports is believed to be a worker.
    #[arg(long, env = "WEIR_INSECURE")]
    insecure: bool,
    /// Subtasks of every keyed operator, instead of spec.parallelism.
    #[arg(long, value_name = "N", env = "WEIR_PARALLELISM", value_parser = clap::value_parser!(u32).range(1..))]
    parallelism: Option<u32>,
    /// Begin anew: forget the state of earlier runs; for ordinal 0.
    #[arg(long, env = "WEIR_FRESH")]
    fresh: bool,
    /// Begin with a savepoint of this job, or with a checkpoint of another; for ordinal 0.
    #[arg(long, value_name = "NAME|PATH", env = "WEIR_RESTORE")]
    restore: Option<String>,
    /// Where the job's state is, instead of spec.storage: a directory that all workers reach, or s3://BUCKET/PREFIX/….
    #[arg(long, value_name = "DIR", env = "WEIR_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// A folder of secrets, <DIR>/<name>/<key>; without it secrets come from environment variables NAME_KEY.
    #[arg(long, value_name = "DIR", env = "WEIR_SECRETS")]
    secrets: Option<PathBuf>,
    /// A folder of this worker's own, where it keeps copies of the state files that it wrote: after a failure elsewhere it
    /// goes on from them.
    #[arg(long, value_name = "DIR", env = "WEIR_COPIES")]
    copies: Option<PathBuf>,
    /// What these copies may take; the oldest go first.
    #[arg(long, value_name = "SIZE", env = "WEIR_COPIES_SIZE", default_value = "4gb",
        value_parser = crate::connector::options::parse_bytes)]
    copies_size: u64,
    /// Memory that this worker's state may take, such as 512mb.
    #[arg(long, value_name = "SIZE", env = "WEIR_STATE_BUDGET", value_parser = crate::connector::options::parse_bytes)]
    state_budget: Option<u64>,
    /// Replay event time at this many times its own pace.
    #[arg(long, value_name = "FACTOR", env = "WEIR_SPEED", value_parser = run::parse_speed)]
    speed: Option<f64>,
    /// Serve the job's state, checkpoints and savepoints on this address, to those who show a certificate; for ordinal 0.
    #[arg(long, value_name = "HOST:PORT", env = "WEIR_API")]
    api: Option<String>,
    /// Serve health and metrics of this worker on this address, to everybody.
    #[arg(long, value_name = "HOST:PORT", env = "WEIR_HEALTH")]
    health: Option<String>,
    /// Serve all of that on one address, to everybody, as weir run does; for ordinal 0, of a run or with --insecure.
    #[arg(long, value_name = "HOST:PORT", env = "WEIR_HTTP", hide = true)]
    http: Option<String>,
    /// Workers and leader say something at least this often, such as 1s.
    #[arg(long, value_name = "TIME", env = "WEIR_HEARTBEAT", default_value = "1s")]
    heartbeat: weir_crds::Duration,
    /// So many heartbeats in a row may be missed.
    #[arg(long, value_name = "N", env = "WEIR_MISSED_HEARTBEATS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    missed_heartbeats: u32,
    /// After SIGTERM the worker's tasks get this long to take a checkpoint and go on elsewhere.
    #[arg(long, value_name = "TIME", env = "WEIR_DRAIN_TIMEOUT", default_value = "20s")]
    drain_timeout: weir_crds::Duration,
    /// The revision of the job that this worker belongs to.
    #[arg(long, value_name = "N", env = "WEIR_REVISION", default_value_t = 0)]
    revision: u64,
    /// What runs, as assignments name it; by default the build and the fingerprint of the plan.
    ///
    /// With it the worker does what it is assigned and nothing else: worker 0 waits for its first assignment, and stays
    /// when the job has ended or failed; the others wait for a leader of the same code.
    #[arg(long, value_name = "CODE", env = "WEIR_CODE")]
    code: Option<String>,
    /// Run as these options say, whatever was assigned before.
    #[arg(long, hide = true)]
    by_hand: bool,
    /// The attempt to run this worker: a lower one never takes the job from a higher one.
    #[arg(long, value_name = "N", env = "WEIR_ATTEMPT", default_value_t = 0)]
    attempt: u64,
    /// Unique for the place where this worker runs, such as the pod's uid: restarts there go on, others are refused.
    #[arg(long, value_name = "ID", env = "WEIR_POD")]
    pod: Option<String>,
    /// No progress on standard error; errors still are.
    #[arg(long, short, env = "WEIR_QUIET")]
    quiet: bool,
    /// End when this process does.
    #[arg(long, value_name = "PID", hide = true)]
    parent: Option<i32>,
}

/// Runs the worker.
pub(super) fn run(arguments: &Arguments) -> Result<Code, Refusal> {
    arguments.check()?;
    if let Some(parent) = arguments.parent {
        fleet::end_with(parent)?;
    }
    if arguments.stays() || arguments.parent.is_some() {
        settings::keep_asking();
    }
    let departure = Departure::on_signals(arguments)?;
    let begun = begin::until_begun(arguments)?;
    if arguments.ordinal == 0 {
        lead::lead(arguments, begun, departure)
    } else {
        follow::follow(arguments, begun, departure)
    }
}

impl Arguments {
    /// Whether the options go together. To clap an option is given, too, whose variable is `false`.
    fn check(&self) -> Result<(), Refusal> {
        if self.fresh && self.restore.is_some() {
            return Err(Refusal::user(
                "error: --fresh forgets all state and --restore begins with some\nhint: leave one of them out",
            ));
        }
        if self.insecure && self.tls.is_some() {
            return Err(Refusal::user(
                "error: --tls names certificates and --insecure does without\nhint: leave one of them out",
            ));
        }
        if self.http.is_some() && self.parent.is_none() && !self.insecure {
            return Err(Refusal::user(
                "error: --http lets everybody who reaches it change the job, without a certificate\n\
                 hint: --api serves the job to those with a certificate; or do without certificates everywhere (--insecure)",
            ));
        }
        Ok(())
    }

    /// Whether the worker stays when it cannot run the job, or the job has ended: whoever started it says what it runs, and
    /// looks what has become of it.
    fn stays(&self) -> bool {
        self.code.is_some()
    }

    fn file(&self) -> &str {
        self.file.as_ref().or(self.manifest.as_ref()).expect("the command line demands one of the two")
    }

    /// How many workers a job of this parallelism runs on, if its manifest has so many slots per worker.
    fn workers(&self, parallelism: u32, slots_per_worker: u32) -> u32 {
        self.workers.unwrap_or_else(|| parallelism.div_ceil(self.slots.unwrap_or(slots_per_worker)))
    }

    /// What runs, as assignments name it.
    fn code(&self, planned: &Planned) -> String {
        self.code.clone().unwrap_or_else(|| format!("{}-{:016x}", env!("CARGO_PKG_VERSION"), planned.plan.fingerprint))
    }
}

fn security(arguments: &Arguments) -> Result<Security, Refusal> {
    match (&arguments.tls, arguments.insecure) {
        (Some(folder), _) => Ok(Security::Mutual(Identity::in_folder(folder)?)),
        (None, true) => Ok(Security::Insecure),
        (None, false) => Err(Refusal::user(
            "error: workers need certificates: name a folder with tls.crt, tls.key and ca.crt (--tls)\n\
             hint: --insecure does without, where nobody else reaches the network",
        )),
    }
}

fn patience(arguments: &Arguments) -> Patience {
    Patience {
        heartbeat: Duration::from(arguments.heartbeat).max(Duration::from_millis(1)),
        missed_heartbeats: arguments.missed_heartbeats,
    }
}

/// How rows are compressed on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum Compress {
    /// They go as they are: the best choice for a fast network.
    #[default]
    None,
    /// By LZ4: for a network slower than that takes.
    Lz4,
}

impl From<Compress> for Compression {
    fn from(chosen: Compress) -> Self {
        match chosen {
            Compress::None => Self::None,
            Compress::Lz4 => Self::Lz4,
        }
    }
}

/// The way to other workers, and where they find this one.
fn exchange(arguments: &Arguments, security: Security, uid: &str) -> Result<(Arc<Exchange>, String), Refusal> {
    let settings = Settings {
        compression: arguments.compress.into(),
        lost_after: patience(arguments).lost_after(),
        ..Settings::new(uid, arguments.ordinal)
    };
    let exchange = Exchange::listen(arguments.exchange, security, settings)?;
    let host = arguments.advertise.unwrap_or_else(|| arguments.exchange.ip());
    if host.is_unspecified() {
        return Err(Refusal::user(format!(
            "error: other workers cannot reach this one at {host}\nhint: name its address with --advertise"
        )));
    }
    let address = SocketAddr::new(host, exchange.address().port()).to_string();
    Ok((exchange, address))
}

/// Requests to a bucket are counted where the metrics are read.
fn show_store(state: &Held, board: &Board) {
    if let Some(meter) = &state.meter {
        board.store.get_or_init(|| Arc::clone(meter));
    }
}

/// The store as the worker's tasks see it.
fn store_of(arguments: &Arguments, state: &Held, board: &Board) -> Result<Arc<dyn Store>, Refusal> {
    let Some(folder) = &arguments.copies else { return Ok(Arc::clone(&state.store)) };
    let copies = Arc::new(Copies::open(Arc::clone(&state.store), folder, arguments.copies_size)?);
    board.copies.get_or_init(|| Arc::clone(&copies));
    Ok(copies)
}

fn claimant(arguments: &Arguments) -> Claimant {
    Claimant {
        revision: arguments.revision,
        attempt: arguments.attempt,
        pod: arguments.pod.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
    }
}

fn serve(
    arguments: &Arguments,
    (name, runner): (&str, &Runner),
    security: &Security,
    exchange: &Arc<Exchange>,
) -> Result<Vec<Server>, Refusal> {
    let view = || View { name: name.to_owned(), board: runner.board(), handle: runner.handle() };
    let secure = arguments.api.iter().map(|address| api::serve_leader(address, security.clone(), view()));
    let plain = arguments.http.iter().map(|address| api::serve(address, view(), vec![Arc::clone(exchange) as _]));
    Ok(secure.chain(plain).collect::<Result<_, _>>()?)
}

/// What a worker's health and metrics are made of.
struct Shown {
    board: Arc<Board>,
    exchange: Arc<Exchange>,
    readiness: Readiness,
    pulse: Pulse,
}

fn health(arguments: &Arguments, security: &Security, shown: Shown) -> Result<Option<Server>, Refusal> {
    let Some(address) = &arguments.health else { return Ok(None) };
    let Shown { board, exchange, readiness, pulse } = shown;
    let ended = Arc::clone(&board);
    let tasks = Arc::clone(&board);
    let mut numbers: Vec<Arc<dyn Numbers>> =
        vec![Arc::new(TaskNumbers(move || tasks.readings_here())), exchange, Arc::new(ProcessNumbers)];
    if let Security::Mutual(identity) = security {
        numbers.push(Arc::clone(identity) as _);
    }
    numbers.push(Arc::new(TableNumbers(Arc::clone(&board.plan))));
    numbers.push(Arc::clone(&board.reused) as _);
    numbers.extend(board.store.get().map(|meter| Arc::clone(meter) as _));
    numbers.extend(board.copies.get().map(|copies| Arc::clone(copies) as _));
    if arguments.ordinal == 0 {
        numbers.push(Arc::new(JobNumbers(board)));
    }
    let ready = move || match ended.end().zip(ended.last_failure()) {
        Some((End::Failed { .. } | End::Stalled { .. }, failure)) => {
            Err(format!("the job has failed: {}", failure.message))
        }
        _ => readiness.state(),
    };
    let vitals = Vitals { alive: Box::new(move || pulse.state()), ready: Box::new(ready), numbers };
    Ok(Some(api::serve_vitals(address, vitals)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::Arguments;
    use clap::FromArgMatches;

    #[test]
    fn parallelism_and_slots_say_how_many_workers_there_are_unless_somebody_else_does() {
        let command = <Arguments as clap::Args>::augment_args(clap::Command::new("worker"));
        let table =
            [(&[][..], 4), (&["--slots", "3"], 3), (&["--slots", "8"], 1), (&["--slots", "3", "--workers", "5"], 5)];
        for (options, expected) in table {
            let line = [&["worker", "job.yaml", "--ordinal", "0"], options].concat();
            let matches = command.clone().try_get_matches_from(line).unwrap();
            let workers = Arguments::from_arg_matches(&matches).unwrap().workers(7, 2);
            assert_eq!(workers, expected, "{options:?}");
        }
    }

    #[test]
    fn every_option_has_a_variable_of_its_name() {
        let command = <Arguments as clap::Args>::augment_args(clap::Command::new("worker"));
        let options = command.get_arguments().filter(|option| !option.is_hide_set());
        for (option, long) in options.filter_map(|option| Some((option, option.get_long()?))) {
            let variable = format!("WEIR_{}", long.to_ascii_uppercase().replace('-', "_"));
            assert_eq!(option.get_env().and_then(|name| name.to_str()), Some(variable.as_str()), "--{long}");
        }
    }
}
