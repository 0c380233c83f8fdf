//! What the controller tells about itself and its jobs: logs, metrics, health.
//!
//! `/healthz` fails when the process should be started again, `/readyz` until it knows its standing and, holding the
//! Lease, has seen the cluster. Both replicas are ready: one acts, one waits.

mod jobs;
mod metrics;
mod server;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub use jobs::{JobNumbers, Jobs};
pub use metrics::{Metrics, Outcome, resident_bytes};
pub use server::{Health, serve};

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For humans.
    Text,
}

/// Sends log lines to standard error; `RUST_LOG` says which.
pub fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube_runtime=warn"));
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Json => registry.with(lines.json().flatten_event(true).with_current_span(true)).init(),
        LogFormat::Text => registry.with(lines.with_target(false)).init(),
    }
}
