//! `weir run`: a job on this machine.

use super::exit::{self, Code, Refusal};
use super::job::{self, Planned};
use super::progress::Progress;
use super::restore;
use super::worker::{Compress, fleet};
use crate::api::{self, Server, View};
use crate::job::budget;
use crate::job::message::Handle;
use crate::job::runner::{Job, Runner};
use crate::job::settings;
use crate::job::workers::{Here, Workers};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::path::PathBuf;
use std::sync::Arc;
use weir_protocol::leader::{Already, End, ErrorKind, Mode, Resume, Stops};

/// Run a job on this machine.
///
/// A plain run goes on where the job was; its state lies in .weir/<name> unless told otherwise. The first Ctrl-C takes a
/// last checkpoint and ends; the next run goes on from there. A job whose input has ended is finished and says so.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  weir run examples/bids.yaml
  weir run job.yaml --parallelism 4 --http 127.0.0.1:8081
  weir run job.yaml --fresh
  weir run job.yaml --restore before-upgrade
  weir run copy.yaml --restore .weir/bids-per-auction
  generate-job | weir run -")]
pub(super) struct Arguments {
    /// The manifest: a StreamJob in YAML; - reads standard input.
    pub(super) file: String,
    /// Subtasks of every keyed operator, instead of spec.parallelism.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) parallelism: Option<u32>,
    /// Begin anew: forget the state of earlier runs. Output that they had prepared is committed first.
    #[arg(long, conflicts_with = "restore")]
    pub(super) fresh: bool,
    /// Begin with a savepoint of this job, or with a checkpoint of another.
    ///
    /// A value with a slash is a path: a state directory (its newest checkpoint), <DIR>/savepoints/<name> or
    /// <DIR>/chain/<number>. The other job keeps its state, and what it has prepared for its sinks.
    #[arg(long, value_name = "NAME|PATH")]
    pub(super) restore: Option<String>,
    /// Where the job's state is, instead of spec.storage: a directory, or a job's folder s3://BUCKET/PREFIX/….
    #[arg(long, value_name = "DIR")]
    pub(super) state_dir: Option<PathBuf>,
    /// Replay event time at this many times its own pace, for input with a watermark.
    #[arg(long, value_name = "FACTOR", value_parser = parse_speed)]
    pub(super) speed: Option<f64>,
    /// A folder of secrets, <DIR>/<name>/<key>; without it secrets come from environment variables NAME_KEY.
    #[arg(long, value_name = "DIR")]
    pub(super) secrets: Option<PathBuf>,
    /// Memory that state may take, such as 512mb; past it the job fails and says which operator has it.
    #[arg(long, value_name = "SIZE", value_parser = crate::connector::options::parse_bytes)]
    pub(super) state_budget: Option<u64>,
    /// Serve the job's state, checkpoints, savepoints and metrics on this address, such as 127.0.0.1:8081.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) http: Option<String>,
    /// Run the job in this many processes of its own, restarted when they die.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    workers: Option<u32>,
    /// How rows between these processes are compressed.
    #[arg(long, value_name = "NAME", value_enum, requires = "workers")]
    pub(super) compress: Option<Compress>,
    /// No progress on standard error; errors still are.
    #[arg(long, short)]
    pub(super) quiet: bool,
}

pub(super) fn parse_speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed > 0.0 && speed.is_finite() => Ok(speed),
        _ => Err("a number above 0 expected, such as 0.5 or 10".to_owned()),
    }
}

/// Runs the job.
pub(super) fn run(arguments: &Arguments) -> Result<Code, Refusal> {
    if let Some(workers) = arguments.workers {
        return fleet::run(arguments, workers);
    }
    let planned = job::plan(&arguments.file, arguments.secrets.as_deref())?;
    let parallelism = arguments.parallelism.unwrap_or(planned.job.parallelism);
    check_parallelism(&planned, parallelism)?;
    let bucket = job::bucket_of(&planned.job, arguments.secrets.as_deref())?;
    let place = job::place_of(&planned.job, arguments.state_dir.as_deref(), bucket.as_ref())?;
    let resume = match arguments.fresh {
        true => Resume::Empty,
        false => restore::resume(&planned.job, &place, arguments.restore.as_deref(), bucket.as_ref())?,
    };
    let state = place.hold(&planned.job.name)?;
    restore::check(&planned, &place, &resume)?;
    if let (Resume::Foreign { location, manifest, .. }, false) = (&resume, arguments.quiet) {
        let (checkpoint, job) = (manifest.checkpoint, &manifest.job);
        eprintln!("job {} begins with checkpoint {checkpoint} of job {job} in {location}", planned.job.name);
    }
    let mode = Mode::Run { resume, stops: Stops::Lift };
    let options = settings::options(&planned.job, &planned.plan, state.claimant.clone(), parallelism, mode)
        .map_err(|error| Refusal::user(format!("error: {error}")))?;
    for warning in planned.plan.warnings.iter().filter(|_| !arguments.quiet) {
        eprintln!("warning: {warning}");
    }
    let mut runner = Runner::new(Job {
        plan: Arc::clone(&planned.plan),
        options,
        store: Arc::clone(&state.store),
        uid: state.uid.clone(),
        workers: Workers::default(),
    });
    let budget = arguments.state_budget.unwrap_or_else(budget::of_this_machine);
    runner.work_here(Here::alone(arguments.speed, budget));
    if let Some(meter) = &state.meter {
        runner.board().store.get_or_init(|| Arc::clone(meter));
    }
    let server = serve(arguments, &planned.job.name, &runner)?;
    on_signals(runner.handle())?;
    let progress = Progress::start(&planned.job.name, runner.board(), arguments.quiet);
    let end = runner.run();
    drop((server, progress));
    tell(&planned.job.name, end, arguments.quiet)
}

fn serve(arguments: &Arguments, name: &str, runner: &Runner) -> Result<Option<Server>, Refusal> {
    let Some(address) = &arguments.http else { return Ok(None) };
    let view = View { name: name.to_owned(), board: runner.board(), handle: runner.handle() };
    let server = api::serve(address, view, Vec::new())?;
    if !arguments.quiet {
        eprintln!("http://{}", server.address());
    }
    Ok(Some(server))
}

pub(super) fn check_parallelism(planned: &Planned, parallelism: u32) -> Result<(), Refusal> {
    if parallelism > planned.job.max_parallelism {
        return Err(Refusal::user(format!(
            "error: --parallelism {parallelism} is above spec.maxParallelism, which is {}\n\
             hint: the number of key groups is fixed with the job's first checkpoint; a fresh job may choose a larger one",
            planned.job.max_parallelism
        )));
    }
    Ok(())
}

/// The first signal stops the job, the second one ends the process.
pub(super) fn on_signals(job: Handle) -> Result<(), Refusal> {
    let mut signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Refusal::failed(format!("error: signals cannot be caught: {error}")))?;
    std::thread::spawn(move || {
        let mut seen = 0;
        for _ in &mut signals {
            seen += 1;
            if seen > 1 {
                exit::cut_short(exit::SECOND_SIGNAL);
            }
            job.stop();
        }
    });
    Ok(())
}

pub(super) fn tell(name: &str, end: End, quiet: bool) -> Result<Code, Refusal> {
    let say = |text: String| exit::say(&text, quiet);
    match end {
        End::Finished { already: Already::No, .. } => {
            say(format!("job {name} has finished"));
            Ok(Code::Done)
        }
        End::Finished { already: Already::Yes, .. } => {
            say(format!("job {name} has finished before; --fresh begins anew"));
            Ok(Code::Done)
        }
        End::Stopped { checkpoint, .. } => {
            let from = checkpoint
                .map_or_else(|| "at its beginning".to_owned(), |checkpoint| format!("from checkpoint {checkpoint}"));
            say(format!("job {name} has stopped; the next run goes on {from}"));
            Ok(Code::Stopped)
        }
        End::Maintained => Ok(Code::Done),
        End::HandedOver { revision } => {
            say(format!("job {name} goes on as revision {revision} with another leader"));
            Ok(Code::HandedOver)
        }
        End::Stalled { revision, message } => {
            Err(Refusal::user(format!("error: job {name}: revision {revision} cannot be carried out: {message}")))
        }
        End::Fenced { message } => Err(Refusal::new(Code::Fenced, format!("error: job {name}: {message}"))),
        End::GivenUp { message } => Err(Refusal::new(
            Code::GivenUp,
            format!("error: job {name}: {message}\nhint: start it again: it goes on from its last checkpoint"),
        )),
        End::Failed { kind: ErrorKind::User, message } => Err(Refusal::user(format!("error: job {name}: {message}"))),
        End::Failed { kind: ErrorKind::Corrupt, message } => Err(Refusal::user(format!(
            "error: job {name}: {message}\nhint: weir run --restore NAME|PATH begins with another state, --fresh anew"
        ))),
        End::Failed { message, .. } => Err(Refusal::failed(format!("error: job {name} has failed: {message}"))),
    }
}
