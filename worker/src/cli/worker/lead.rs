//! The worker with ordinal 0, which leads the job.

use super::{Arguments, Shown, claimant, exchange, health, lead_until_signals, patience, serve, show_store, store_of};
use crate::cli::exit::{Code, Refusal};
use crate::cli::job::{self, Planned};
use crate::cli::progress::Progress;
use crate::cli::{restore, run};
use crate::control;
use crate::job::readiness::Readiness;
use crate::job::runner::{Job, Runner};
use crate::job::workers::{BUILD, Here, Workers};
use crate::job::{budget, settings};
use crate::tls::Security;
use std::sync::Arc;
use weir_protocol::leader::{Guide, Mode, Resume, Stops};

/// Leads the job, and works on it.
pub(super) fn lead(arguments: &Arguments, planned: &Planned, security: Security) -> Result<Code, Refusal> {
    let (name, quiet) = (&planned.job.name, arguments.quiet);
    let parallelism = arguments.parallelism.unwrap_or(planned.job.parallelism);
    run::check_parallelism(planned, parallelism)?;
    let bucket = job::bucket_of(&planned.job, arguments.secrets.as_deref())?;
    let place = job::place_of(&planned.job, arguments.state_dir.as_deref(), bucket.as_ref())?;
    let resume = match arguments.fresh {
        true => Resume::Empty,
        false => restore::resume(&planned.job, &place, arguments.restore.as_deref(), bucket.as_ref())?,
    };
    let state = super::state(arguments, planned)?;
    let mode = Mode::Run { resume, stops: Stops::Lift };
    let mut options = settings::options(&planned.job, &planned.plan, claimant(arguments), parallelism, mode)
        .map_err(|error| Refusal::user(format!("error: {error}")))?;
    let patience = patience(arguments);
    let count = arguments.workers.unwrap_or_else(|| planned.job.workers());
    options.direction.workers = count;
    options.direction.guide = if arguments.by_hand { Guide::Hand } else { Guide::Assignments };
    options.direction.code = match &arguments.code {
        Some(code) => code.clone(),
        None => format!("{BUILD}-{}", options.plan.fingerprint),
    };
    let mut runner = Runner::new(Job {
        plan: Arc::clone(&planned.plan),
        options,
        store: Arc::clone(&state.store),
        uid: state.uid.clone(),
        workers: Workers { count, heartbeat: patience.heartbeat, missed_heartbeats: patience.missed_heartbeats },
    });
    show_store(&state, &runner.board());
    let (exchange, address) = exchange(arguments, security.clone(), &state.uid)?;
    let readiness = Readiness::not_yet("it has not begun to lead");
    let shown = Shown { board: runner.board(), exchange: Arc::clone(&exchange), readiness: readiness.clone() };
    let health = health(arguments, &security, shown)?;
    let servers = serve(arguments, name, &runner, &security)?;
    let control = control::serve(&arguments.control, security, runner.handle(), patience)?;
    readiness.begins();
    runner.work_here(Here {
        ordinal: 0,
        exchange: Some(exchange),
        address,
        speed: arguments.speed,
        state_budget: arguments.state_budget.unwrap_or_else(budget::of_this_machine),
        store: Some(store_of(arguments, &state)?),
    });
    lead_until_signals(runner.handle(), readiness, arguments.drain_timeout)?;
    let progress = Progress::start(name, runner.board(), quiet);
    let end = runner.run();
    drop((servers, health, progress, control));
    run::tell(name, end, quiet)
}
