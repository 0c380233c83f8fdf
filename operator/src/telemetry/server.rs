//! The plain port: health and metrics, nothing else.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::Metrics;
use crate::lease::Standing;

/// What health is judged by.
pub struct Health {
    standing: watch::Receiver<Standing>,
    seen: AtomicBool,
    metrics: Arc<Metrics>,
}

impl Health {
    /// Health of a process whose standing is told by `standing`.
    #[must_use]
    pub fn new(standing: watch::Receiver<Standing>, metrics: Arc<Metrics>) -> Self {
        Self { standing, seen: AtomicBool::new(false), metrics }
    }

    /// All watches have delivered what there is.
    pub fn saw_cluster(&self) {
        self.seen.store(true, Ordering::Relaxed);
    }

    fn ready(&self) -> Result<&'static str, &'static str> {
        match *self.standing.borrow() {
            Standing::Unknown => Err("the lease could not be read yet: is the API server reachable, may it be read?"),
            Standing::Waiting => Ok("another replica acts"),
            Standing::Holding if self.seen.load(Ordering::Relaxed) => Ok("this replica acts"),
            Standing::Holding => Err("the cluster has not been seen yet: may the resources be listed and watched?"),
        }
    }
}

/// Serves `/healthz`, `/readyz` and `/metrics` until `stop` is done.
pub async fn serve(
    listener: TcpListener,
    health: Arc<Health>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(|| async { "alive" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health);
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

async fn ready(State(health): State<Arc<Health>>) -> (StatusCode, &'static str) {
    match health.ready() {
        Ok(why) => (StatusCode::OK, why),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

async fn metrics(State(health): State<Arc<Health>>) -> ([(HeaderName, &'static str); 1], Vec<u8>) {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], health.metrics.text())
}
