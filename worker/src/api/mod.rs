//! The HTTP API of a job: what it does, its checkpoints and savepoints, health and metrics.
//!
//! A job in one process serves all of it on one address, to everybody who reaches it. A worker of many serves its own
//! health and metrics, plain and for reading alone; the leader serves the job besides, to those who show a certificate
//! of the job's authority, and changes something only for the controller.
//!
//! A server has one thread with a runtime of its own; nothing of the engine waits for it. Handlers read the job's board
//! and send requests to the job's leader; they hold no state but the last seconds of counters, from which rates come.
//! Every answer but `/metrics` is JSON; a refusal is `{"error": …, "hint": …}`.

mod assignment;
mod checkpoints;
mod guard;
mod health;
mod job;
mod metrics;
mod plan;
mod rates;
mod refusal;
mod routes;
mod savepoints;
mod server;
#[cfg(test)]
mod tests;

pub use health::{Probe, Vitals};
pub use metrics::{JobNumbers, ProcessNumbers, TableNumbers, TaskNumbers};
pub use server::Server;

use crate::failure::Result;
use crate::job::board::{Board, LastFailure};
use crate::job::message::Handle;
use crate::numbers::Numbers;
use crate::tls::Security;
use parking_lot::Mutex;
use rates::Rates;
use server::{Content, LIMITS, Limits};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The job that a server shows and steers.
pub struct View {
    /// Its name.
    pub name: String,
    /// What is known of it.
    pub board: Arc<Board>,
    /// Steers it.
    pub handle: Handle,
}

/// How often counters are noted for rates.
const SAMPLE: Duration = Duration::from_secs(1);

/// What all handlers of a job see.
struct Site {
    view: View,
    paths: Vec<&'static str>,
    rates: Mutex<Rates>,
    stopping: watch::Receiver<bool>,
}

/// Serves all about a job that runs in this process on `address`, which is `HOST:PORT`; port 0 takes a free one. Metrics
/// have `more` numbers besides. Fails with kind `User` when the address is malformed or cannot be had.
pub fn serve(address: &str, view: View, more: Vec<Arc<dyn Numbers>>) -> Result<Server> {
    let board = Arc::clone(&view.board);
    let tasks = Arc::clone(&board);
    let mut numbers: Vec<Arc<dyn Numbers>> = vec![
        Arc::new(TaskNumbers(move || tasks.readings())),
        Arc::new(JobNumbers(Arc::clone(&board))),
        Arc::new(ProcessNumbers),
        Arc::new(TableNumbers(Arc::clone(&board.plan))),
        Arc::clone(&board.reused) as _,
    ];
    numbers.extend(board.store.get().map(|meter| Arc::clone(meter) as _));
    numbers.extend(board.copies.get().map(|copies| Arc::clone(copies) as _));
    numbers.extend(more);
    let vitals = Vitals { alive: Box::new(|| Ok(())), ready: Box::new(move || health::job_runs(&board)), numbers };
    server::start(address, Security::Insecure, LIMITS, |stopping| {
        let all = [routes::OF_JOB, routes::OF_PROCESS].concat();
        let site = Site::new(view, all.iter().map(|(path, _)| *path).collect(), stopping);
        let router = routes::of_job(Arc::clone(&site)).merge(routes::of_process(vitals));
        Content { router: routes::closed(router, all), beside: Box::pin(site.sample()) }
    })
}

/// Serves a job where its leader is: to workers for reading, to the controller for changes. Fails as [`serve`].
pub fn serve_leader(address: &str, security: Security, view: View) -> Result<Server> {
    serve_leader_within(LIMITS, address, security, view)
}

fn serve_leader_within(limits: Limits, address: &str, security: Security, view: View) -> Result<Server> {
    server::start(address, security, limits, |stopping| {
        let all = [routes::OF_JOB, routes::OF_LEADER].concat();
        let site = Site::new(view, all.iter().map(|(path, _)| *path).collect(), stopping);
        let router = routes::of_job(Arc::clone(&site)).merge(routes::of_leader(Arc::clone(&site)));
        Content { router: routes::closed(router, all), beside: Box::pin(site.sample()) }
    })
}

/// Serves what a job failed of that did not even begin, such as a mistake in its SQL, as [`serve_leader`] would serve the
/// job: the process stays so that the failure can be read. Fails as [`serve`].
pub fn serve_failure(address: &str, security: Security, name: &str, failure: &LastFailure) -> Result<Server> {
    server::start(address, security, LIMITS, |_| Content {
        router: routes::of_failure(name, failure),
        beside: Box::pin(std::future::pending()),
    })
}

/// Serves the health and the metrics of this process and nothing else, to everybody who reaches it. Fails as [`serve`].
pub fn serve_vitals(address: &str, vitals: Vitals) -> Result<Server> {
    server::start(address, Security::Insecure, LIMITS, |_| {
        let router = routes::closed(routes::of_process(vitals), routes::OF_PROCESS.to_vec());
        Content { router, beside: Box::pin(std::future::pending()) }
    })
}

impl Site {
    fn new(view: View, paths: Vec<&'static str>, stopping: watch::Receiver<bool>) -> Arc<Self> {
        let rates = Mutex::new(Rates::starting_with(Instant::now(), view.board.readings()));
        Arc::new(Self { view, paths, rates, stopping })
    }

    async fn sample(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(SAMPLE);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.rates.lock().note(Instant::now(), self.view.board.readings());
        }
    }
}
