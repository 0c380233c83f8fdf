//! The HTTP API of a job: what it does, its checkpoints and savepoints, health and metrics.
//!
//! A server has one thread with a runtime of its own; nothing of the engine waits for it. Handlers read the job's board
//! and send requests to the job's leader; they hold no state but the last seconds of counters, from which rates come.
//! Every answer but `/metrics` is JSON; a refusal is `{"error": …, "hint": …}`.

mod checkpoints;
mod health;
mod job;
mod metrics;
mod plan;
mod rates;
mod refusal;
mod savepoints;
mod store_metrics;
#[cfg(test)]
mod tests;

use crate::diagnostic::nearest;
use crate::failure::{Failure, Result};
use crate::job::board::Board;
use crate::job::message::Handle;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, StatusCode, Uri};
use axum::routing::{get, post};
use parking_lot::Mutex;
use rates::Rates;
use refusal::Refusal;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
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

/// A running server. It stops when it is dropped, after the answers that are on their way.
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

/// How often counters are noted for rates.
const SAMPLE: Duration = Duration::from_secs(1);

/// How long a stopping server waits for the clients of its last answers.
const GRACE: Duration = Duration::from_secs(2);

/// Larger than any request.
const BODY_LIMIT: usize = 64 * 1024;

const PATHS: [&str; 10] = [
    "/v1/job",
    "/v1/job/plan",
    "/v1/checkpoints",
    "/v1/checkpoints/{number}",
    "/v1/savepoints",
    "/v1/savepoints/{name}",
    "/healthz",
    "/readyz",
    "/metrics",
    "/",
];

/// What all handlers see.
struct Site {
    view: View,
    rates: Mutex<Rates>,
    stopping: watch::Receiver<bool>,
}

impl Site {
    fn new(view: View, stopping: watch::Receiver<bool>) -> Arc<Self> {
        let rates = Mutex::new(Rates::starting_with(Instant::now(), view.board.readings()));
        Arc::new(Self { view, rates, stopping })
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

/// Serves `view` on `address`, which is `HOST:PORT`; port 0 takes a free one. Fails with kind `User` when the address
/// is malformed or cannot be had.
pub fn serve(address: &str, view: View) -> Result<Server> {
    let listener = bind(address)?;
    let failed = |what: &str, error: std::io::Error| {
        Failure::transient(format!("the HTTP server on {address} {what}")).because(error)
    };
    let local = listener.local_addr().map_err(|error| failed("has no address", error))?;
    listener.set_nonblocking(true).map_err(|error| failed("could not be set up", error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failed("could not be set up", error))?;
    let (stop, stopping) = watch::channel(false);
    let site = Site::new(view, stopping.clone());
    let run = move || {
        if let Err(error) = runtime.block_on(run(listener, site, stopping)) {
            tracing::error!(%error, "the http server has ended");
        }
    };
    let thread = std::thread::Builder::new().name("http".to_owned()).spawn(run);
    let thread = thread.map_err(|error| failed("could not be started", error))?;
    Ok(Server { address: local, stop, thread: Some(thread) })
}

impl Server {
    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic of the server is in the log and no business of the job.
            let _ = thread.join();
        }
    }
}

fn bind(address: &str) -> Result<TcpListener> {
    TcpListener::bind(address).map_err(|error| {
        use std::io::ErrorKind as E;
        let hint = match error.kind() {
            E::AddrInUse => "another process listens there; choose another port, or port 0 for a free one",
            E::PermissionDenied => "ports below 1024 need privileges; choose another one",
            E::AddrNotAvailable => "no interface of this machine has that address; 127.0.0.1 always is one",
            _ => "give HOST:PORT, such as 127.0.0.1:8081, or 0.0.0.0:8081 to be reached from other machines",
        };
        Failure::user(format!("cannot serve HTTP on '{address}': {error}\nhint: {hint}"))
    })
}

async fn run(listener: TcpListener, site: Arc<Site>, mut stopping: watch::Receiver<bool>) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let sampler = tokio::spawn(Arc::clone(&site).sample());
    let mut stopped = stopping.clone();
    let graceful = async move {
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let server = axum::serve(listener, router(site)).with_graceful_shutdown(graceful);
    let late = async move {
        let _ = stopped.wait_for(|stop| *stop).await;
        tokio::time::sleep(GRACE).await;
    };
    let outcome = tokio::select! {
        outcome = async { server.await } => outcome,
        () = late => Ok(()),
    };
    sampler.abort();
    outcome
}

fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/v1/job", get(job::show))
        .route("/v1/job/plan", get(plan::show))
        .route("/v1/checkpoints", get(checkpoints::list))
        .route("/v1/checkpoints/{number}", get(checkpoints::show))
        .route("/v1/savepoints", post(savepoints::create).get(savepoints::list))
        .route("/v1/savepoints/{name}", get(savepoints::show).delete(savepoints::delete))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::show))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(site)
}

async fn index(State(site): State<Arc<Site>>) -> axum::Json<serde_json::Value> {
    axum::Json(serde_json::json!({
        "job": site.view.name,
        "version": env!("CARGO_PKG_VERSION"),
        "paths": PATHS,
    }))
}

async fn unknown_path(uri: Uri) -> Refusal {
    let hint = match nearest(uri.path(), PATHS) {
        Some(path) => format!("did you mean {path}?"),
        None => format!("the paths are {}", PATHS.join(", ")),
    };
    Refusal::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()), hint)
}

async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    let known = match uri.path() {
        "/v1/savepoints" => "GET and POST",
        path if path.starts_with("/v1/savepoints/") => "GET and DELETE",
        _ => "GET",
    };
    let error = format!("{} does not take {method}", uri.path());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, error, format!("it takes {known}"))
}
