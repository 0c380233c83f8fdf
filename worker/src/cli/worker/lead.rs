//! The worker with ordinal 0, which leads the job.

use super::begin::Begun;
use super::departure::{Departure, LEAVES, Wish};
use super::{Arguments, Shown, claimant, exchange, health, patience, serve, show_store, store_of};
use crate::cli::exit::{Code, Refusal};
use crate::cli::progress::Progress;
use crate::cli::run;
use crate::control;
use crate::job::message::Handle;
use crate::job::origin::Origins;
use crate::job::readiness::Readiness;
use crate::job::runner::{Job, Runner};
use crate::job::workers::{AfterEnd, Here, Workers};
use crate::job::{budget, settings};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::sync::Arc;
use weir_protocol::leader::{Guide, Mode, Options, Stops};

/// Instead of an address: the standard input is a socket that listens already.
pub(super) const INHERITED: &str = "-";

/// Leads the job, and works on it.
pub(super) fn lead(arguments: &Arguments, begun: Begun, departure: Departure) -> Result<Code, Refusal> {
    let options = options(arguments, &begun)?;
    let Begun { planned, security, state, place, bucket, .. } = begun;
    let (name, quiet) = (&planned.job.name, arguments.quiet);
    let patience = patience(arguments);
    let workers = Workers {
        count: options.direction.workers,
        heartbeat: patience.heartbeat,
        missed_heartbeats: patience.missed_heartbeats,
        after_end: if arguments.stays() { AfterEnd::Stay } else { AfterEnd::Leave },
    };
    let job = Job {
        plan: Arc::clone(&planned.plan),
        options,
        store: Arc::clone(&state.store),
        uid: state.uid.clone(),
        workers,
    };
    let mut runner = Runner::new(job);
    show_store(&state, &runner.board());
    let origins = Origins { own: place, bucket, store: Arc::clone(&state.store), uid: state.uid.clone() };
    runner.board().origins.get_or_init(|| Arc::new(origins));
    let (exchange, address) = exchange(arguments, security.clone(), &state.uid)?;
    let readiness = Readiness::not_yet("it has not begun to lead");
    let shown = Shown {
        board: runner.board(),
        exchange: Arc::clone(&exchange),
        readiness: readiness.clone(),
        pulse: runner.pulse(),
    };
    let store = store_of(arguments, &state, &runner.board())?;
    let health = health(arguments, &security, shown)?;
    let servers = serve(arguments, (name, &runner), &security, &exchange)?;
    let control = match arguments.control.as_str() {
        INHERITED => control::serve_on(inherited()?, security, runner.handle(), patience)?,
        address => control::serve(address, security, runner.handle(), patience)?,
    };
    readiness.begins();
    runner.work_here(Here {
        ordinal: 0,
        exchange: Some(exchange),
        address,
        speed: arguments.speed,
        state_budget: arguments.state_budget.unwrap_or_else(budget::of_this_machine),
        store: Some(store),
    });
    leave_on_signals(arguments, departure, runner.handle(), readiness);
    let progress = Progress::start(name, runner.board(), quiet);
    let end = runner.run();
    drop((servers, health, progress, control));
    run::tell(name, end, quiet)
}

fn options(arguments: &Arguments, begun: &Begun) -> Result<Options, Refusal> {
    let Begun { planned, resume, .. } = begun;
    let parallelism = arguments.parallelism.unwrap_or(planned.job.parallelism);
    // Whoever assigns says with a new revision that a stopped job goes on.
    let stops = if arguments.stays() { Stops::Obey } else { Stops::Lift };
    let mode = Mode::Run { resume: resume.clone(), stops };
    let options = settings::options(&planned.job, &planned.plan, claimant(arguments), parallelism, mode);
    let mut options = options.map_err(|error| Refusal::user(format!("error: {error}")))?;
    options.direction.workers = arguments.workers(parallelism, planned.job.slots_per_worker);
    options.direction.code = arguments.code(planned);
    options.direction.guide = match (arguments.by_hand, arguments.stays()) {
        (true, _) => Guide::Hand,
        (false, true) => Guide::AssignmentsAbove(0),
        (false, false) => Guide::Assignments,
    };
    Ok(options)
}

/// SIGTERM hands the job over with a checkpoint. So does SIGINT where others say what the job shall be; by hand it stops
/// the job.
fn leave_on_signals(arguments: &Arguments, departure: Departure, job: Handle, readiness: Readiness) {
    let stays = arguments.stays();
    departure.by(move |wish| {
        readiness.ends(LEAVES);
        if wish == Wish::Leave || stays { job.leave() } else { job.stop() }
    });
}

fn inherited() -> Result<TcpListener, Refusal> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned();
    let socket = socket.map_err(|error| Refusal::failed(format!("error: the socket cannot be taken over: {error}")))?;
    Ok(TcpListener::from(socket))
}
