//! `weir worker`: one of several processes that run a job together.

mod config;
pub(super) mod fleet;

use super::exit::{Code, Refusal};
use super::job::{self, OpenState, Planned};
use super::progress::Progress;
use super::{restore, run};
use crate::api::{self, Server, View};
use crate::control::{self, Client, Outcome, Patience};
use crate::dataflow::graph::Graph;
use crate::exchange::{Exchange, Settings};
use crate::job::agent::{Agent, Reports, Work};
use crate::job::board::Board;
use crate::job::runner::{Job, Runner};
use crate::job::workers::{BUILD, Here, Workers};
use crate::job::{budget, settings};
use crate::tls::{Identity, Security};
pub(super) use config::with_config;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use weir_protocol::chain::Claimant;
use weir_protocol::leader::{Mode, Resume, Stops};
use weir_protocol::members::Registration;

/// Run one worker of a job that has several.
///
/// The worker with ordinal 0 leads the job; the others register with it and get their tasks from it. All need the same
/// manifest and the same storage. `weir run --workers N` starts them on one machine; on Kubernetes the controller does.
/// Every option can also be an environment variable, or a line `option: value` in the file that --config names.
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
    /// How many workers the job runs on; by default spec.parallelism divided by spec.slotsPerWorker.
    #[arg(long, value_name = "N", env = "WEIR_WORKERS", value_parser = clap::value_parser!(u32).range(1..))]
    workers: Option<u32>,
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
    /// A folder with tls.crt, tls.key and ca.crt: who this worker is, and whose certificates it believes.
    #[arg(long, value_name = "DIR", env = "WEIR_TLS", conflicts_with = "insecure")]
    tls: Option<PathBuf>,
    /// No certificates: whoever reaches the ports is believed to be a worker.
    #[arg(long, env = "WEIR_INSECURE")]
    insecure: bool,
    /// Subtasks of every keyed operator, instead of spec.parallelism.
    #[arg(long, value_name = "N", env = "WEIR_PARALLELISM", value_parser = clap::value_parser!(u32).range(1..))]
    parallelism: Option<u32>,
    /// Begin anew: forget the state of earlier runs; for ordinal 0.
    #[arg(long, conflicts_with = "restore")]
    fresh: bool,
    /// Begin with a savepoint of this job, or with a checkpoint of another; for ordinal 0.
    #[arg(long, value_name = "NAME|PATH", env = "WEIR_RESTORE")]
    restore: Option<String>,
    /// The directory of the job's state, which all workers reach.
    #[arg(long, value_name = "DIR", env = "WEIR_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// A folder of secrets, <DIR>/<name>/<key>; without it secrets come from environment variables NAME_KEY.
    #[arg(long, value_name = "DIR", env = "WEIR_SECRETS")]
    secrets: Option<PathBuf>,
    /// Memory that this worker's state may take, such as 512mb.
    #[arg(long, value_name = "SIZE", env = "WEIR_STATE_BUDGET", value_parser = crate::connector::options::parse_bytes)]
    state_budget: Option<u64>,
    /// Replay event time at this many times its own pace.
    #[arg(long, value_name = "FACTOR", env = "WEIR_SPEED", value_parser = run::parse_speed)]
    speed: Option<f64>,
    /// Serve the job's state, checkpoints, savepoints and metrics on this address; for ordinal 0.
    #[arg(long, value_name = "HOST:PORT", env = "WEIR_HTTP")]
    http: Option<String>,
    /// Workers and leader say something at least this often, such as 1s.
    #[arg(long, value_name = "TIME", env = "WEIR_HEARTBEAT", default_value = "1s")]
    heartbeat: weir_crds::Duration,
    /// So many heartbeats in a row may be missed.
    #[arg(long, value_name = "N", env = "WEIR_MISSED_HEARTBEATS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    missed_heartbeats: u32,
    /// The revision of the job that this worker belongs to.
    #[arg(long, value_name = "N", env = "WEIR_REVISION", default_value_t = 0)]
    revision: u64,
    /// The attempt to run this worker: a lower one never takes the job from a higher one.
    #[arg(long, value_name = "N", env = "WEIR_ATTEMPT", default_value_t = 0)]
    attempt: u64,
    /// Unique for the place where this worker runs, such as the pod's uid: restarts there go on, others are refused.
    #[arg(long, value_name = "ID", env = "WEIR_POD")]
    pod: Option<String>,
    /// No progress on standard error; errors still are.
    #[arg(long, short)]
    quiet: bool,
    /// End when this process does.
    #[arg(long, value_name = "PID", hide = true)]
    parent: Option<i32>,
}

/// Runs the worker.
pub(super) fn run(arguments: &Arguments) -> Result<Code, Refusal> {
    if let Some(parent) = arguments.parent {
        fleet::end_with(parent)?;
    }
    let file = arguments.file.as_ref().or(arguments.manifest.as_ref());
    let file = file.expect("the command line demands one of the two");
    let planned = job::plan(file, arguments.secrets.as_deref())?;
    let security = security(arguments)?;
    if arguments.ordinal == 0 { lead(arguments, &planned, security) } else { follow(arguments, &planned, security) }
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

/// The way to other workers, and where they find this one.
fn exchange(arguments: &Arguments, security: Security, uid: &str) -> Result<(Arc<Exchange>, String), Refusal> {
    let exchange = Exchange::listen(arguments.exchange, security, Settings::new(uid, arguments.ordinal))?;
    let host = arguments.advertise.unwrap_or_else(|| arguments.exchange.ip());
    if host.is_unspecified() {
        return Err(Refusal::user(format!(
            "error: other workers cannot reach this one at {host}\nhint: name its address with --advertise"
        )));
    }
    let address = SocketAddr::new(host, exchange.address().port()).to_string();
    Ok((exchange, address))
}

fn lead(arguments: &Arguments, planned: &Planned, security: Security) -> Result<Code, Refusal> {
    let (name, quiet) = (&planned.job.name, arguments.quiet);
    let parallelism = arguments.parallelism.unwrap_or(planned.job.parallelism);
    run::check_parallelism(planned, parallelism)?;
    let directory = job::directory_of(&planned.job, arguments.state_dir.as_deref())?;
    let resume = match arguments.fresh {
        true => Resume::Empty,
        false => restore::resume(&planned.job, &directory, arguments.restore.as_deref())?,
    };
    let state = job::join_state(&planned.job, arguments.state_dir.as_deref())?;
    let mode = Mode::Run { resume, stops: Stops::Lift };
    let mut options = settings::options(&planned.job, &planned.plan, parallelism, mode)
        .map_err(|error| Refusal::user(format!("error: {error}")))?;
    options.claimant = claimant(arguments);
    let patience = patience(arguments);
    let count = arguments.workers.unwrap_or_else(|| planned.job.workers());
    let mut runner = Runner::new(Job {
        plan: Arc::clone(&planned.plan),
        options,
        store: Arc::clone(&state.store) as _,
        uid: state.uid.clone(),
        workers: Workers { count, heartbeat: patience.heartbeat, missed_heartbeats: patience.missed_heartbeats },
    });
    let (exchange, address) = exchange(arguments, security.clone(), &state.uid)?;
    let control = control::serve(&arguments.control, security, runner.handle(), patience)?;
    runner.work_here(Here {
        ordinal: 0,
        exchange: Some(exchange),
        address,
        speed: arguments.speed,
        state_budget: arguments.state_budget.unwrap_or_else(budget::of_this_machine),
        store: None,
    });
    let server = serve(arguments, name, &runner)?;
    run::on_signals(runner.handle())?;
    let progress = Progress::start(name, runner.board(), quiet);
    let end = runner.run();
    drop((server, progress, control));
    run::tell(name, end, quiet)
}

fn claimant(arguments: &Arguments) -> Claimant {
    Claimant {
        revision: arguments.revision,
        attempt: arguments.attempt,
        pod: arguments.pod.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
    }
}

fn serve(arguments: &Arguments, name: &str, runner: &Runner) -> Result<Option<Server>, Refusal> {
    let Some(address) = &arguments.http else { return Ok(None) };
    let view = View { name: name.to_owned(), board: runner.board(), handle: runner.handle() };
    Ok(Some(api::serve(address, view)?))
}

fn follow(arguments: &Arguments, planned: &Planned, security: Security) -> Result<Code, Refusal> {
    let Some(leader) = arguments.leader.clone() else {
        return Err(Refusal::user(
            "error: a worker needs its leader: name the address where worker 0 takes registrations (--leader HOST:PORT)",
        ));
    };
    let state = job::join_state(&planned.job, arguments.state_dir.as_deref())?;
    let (exchange, address) = exchange(arguments, security.clone(), &state.uid)?;
    let graph = Arc::new(Graph::of(&planned.plan));
    let board = Arc::new(Board::new(Arc::clone(&planned.plan), Arc::clone(&graph)));
    let work = work(arguments, planned, (&state, exchange), (graph, Arc::clone(&board)));
    let (reports, received) = tokio::sync::mpsc::unbounded_channel();
    let agent = Agent::start(work, Reports::new(move |report| drop(reports.send(report))));
    let client = Client {
        leader,
        security,
        registration: Registration {
            job: state.uid.clone(),
            ordinal: arguments.ordinal,
            build: BUILD.to_owned(),
            plan: settings::plan_of(&planned.plan, planned.job.allow_dropped_state).fingerprint,
            exchange: address,
        },
        patience: patience(arguments),
        agent: agent.commands(),
        reports: received,
        board,
    };
    match client.run() {
        Outcome::Ended(how) => {
            if !arguments.quiet {
                eprintln!("worker {}: {how}", arguments.ordinal);
            }
            Ok(Code::Done)
        }
        Outcome::Failed(why) => Err(Refusal::failed(format!("error: worker {}: {why}", arguments.ordinal))),
        Outcome::Refused(why) => Err(Refusal::user(format!("error: worker {}: {why}", arguments.ordinal))),
    }
}

fn work(
    arguments: &Arguments,
    planned: &Planned,
    (state, exchange): (&OpenState, Arc<Exchange>),
    (graph, board): (Arc<Graph>, Arc<Board>),
) -> Work {
    Work {
        worker: arguments.ordinal,
        plan: Arc::clone(&planned.plan),
        graph,
        store: Arc::clone(&state.store) as _,
        job_uid: state.uid.clone(),
        speed: arguments.speed,
        state_budget: arguments.state_budget.unwrap_or_else(budget::of_this_machine),
        board,
        exchange: Some(exchange),
    }
}
