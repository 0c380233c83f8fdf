//! The command line of `weir-operator`, and how its parts run together.
//!
//! ```text
//!          standing: Holding                       SIGTERM
//!  lease ────────────────────▶ loops of all scopes ────────▶ loops end ─▶ lease is given back ─▶ exit 0
//!    │ lost: exit 1, at once
//! ```

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use jiff::Timestamp;
use kube::Client;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::certificates;
use crate::cluster::{Cluster, Scope};
use crate::controller::{Context, Loop, Notes};
use crate::events::Recorder;
use crate::leader_client::Https;
use crate::lease::{Candidate, End, Standing, Terms};
use crate::telemetry::{self, Health, LogFormat, Metrics};

/// Looks that are under way have this long to end before the process does.
const LAST_LOOKS: Duration = Duration::from_secs(15);

/// Weir's controller: it reconciles StreamJobs into worker pods.
#[derive(Debug, Parser)]
#[command(name = "weir-operator", version)]
pub struct Args {
    /// Namespaces to look after, separated by commas; all if empty.
    #[arg(long, env = "WEIR_NAMESPACES", value_delimiter = ',', default_value = "")]
    pub namespaces: Vec<String>,
    /// Image of workers whose StreamJob names none.
    #[arg(long, env = "WEIR_WORKER_IMAGE", default_value = concat!("weir/worker:", env!("CARGO_PKG_VERSION")))]
    pub worker_image: String,
    /// Namespace of the lease.
    #[arg(long, env = "WEIR_LEASE_NAMESPACE", default_value = "weir-system")]
    pub lease_namespace: String,
    /// Name of the lease. Two controllers for different namespaces need different ones.
    #[arg(long, env = "WEIR_LEASE_NAME", default_value = "weir-operator")]
    pub lease_name: String,
    /// What this replica is called; no two processes may share it. The uid of the pod is a good one.
    #[arg(long, env = "WEIR_IDENTITY")]
    pub identity: String,
    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, env = "WEIR_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// How log lines look; RUST_LOG says which.
    #[arg(long, env = "WEIR_LOG", value_enum, default_value = "json")]
    pub log: LogFormat,
    /// Jobs that are looked at at once, at most.
    #[arg(long, env = "WEIR_CONCURRENCY", default_value = "16", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: u16,
}

impl Args {
    /// What is looked after.
    #[must_use]
    pub fn scopes(&self) -> Vec<Scope> {
        let named = self.namespaces.iter().map(|name| name.trim()).filter(|name| !name.is_empty());
        let named: Vec<Scope> = named.map(|name| Scope::Namespace(name.to_owned())).collect();
        if named.is_empty() { vec![Scope::Cluster] } else { named }
    }
}

/// Runs the controller until it is told to stop (0), or must not act any longer (1).
pub fn main() -> ExitCode {
    let args = Args::parse();
    telemetry::log(args.log);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build();
    let ended = runtime.context("cannot start threads").and_then(|runtime| {
        let ended = runtime.block_on(run(&args));
        // Nothing waits for requests that are under way.
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the controller ends");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let told = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop");
    };
    let client = Client::try_default().await.context("no cluster: neither inside of one nor a usable KUBECONFIG")?;
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    controller(args, client, listener, told).await
}

/// Runs one replica until `told` is done (then the lease is given back), or the lease is lost (then it fails).
pub async fn controller(
    args: &Args,
    client: Client,
    listener: TcpListener,
    told: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::new());
    let (standing, mut standing_seen) = watch::channel(Standing::Unknown);
    let health = Arc::new(Health::new(standing.subscribe(), Arc::clone(&metrics)));
    let served = tokio::spawn(telemetry::serve(listener, Arc::clone(&health), std::future::pending()));

    let (release, released) = oneshot::channel();
    let lease = &args.lease_name;
    let candidate = Candidate::new(client.clone(), &args.lease_namespace, lease, &args.identity, Terms::default());
    let mut election = tokio::spawn(candidate.run(standing, released));
    let (stop, stopping) = watch::channel(false);
    let acting = async {
        let mut early = stopping.clone();
        tokio::select! {
            biased;
            _ = early.wait_for(|stop| *stop) => return,
            held = standing_seen.wait_for(|standing| *standing == Standing::Holding) => drop(held),
        }
        metrics.set_holding(true);
        loops(args, &client, &metrics, &health, &stopping).await;
    };
    let told = async {
        told.await;
        stop.send_replace(true);
        tokio::time::sleep(LAST_LOOKS).await;
    };
    tokio::pin!(acting, told);
    let ended = tokio::select! {
        biased;
        ended = &mut election => Some(ended.context("the task of the lease has failed")?),
        () = acting => None,
        () = told => None,
    };
    if let Some(End::Lost(why)) = ended {
        anyhow::bail!("{why}; another replica goes on");
    }
    if ended.is_none() {
        // Whoever waits for it is gone only if the election has ended.
        let _ = release.send(());
        election.await.context("the task of the lease has failed")?;
    }
    served.abort();
    anyhow::ensure!(*stop.borrow(), "the loops have ended, and nobody told them to");
    Ok(())
}

async fn loops(
    args: &Args,
    client: &Client,
    metrics: &Arc<Metrics>,
    health: &Arc<Health>,
    stop: &watch::Receiver<bool>,
) {
    let transport = Arc::new(Https::new());
    let mut loops = JoinSet::new();
    for scope in args.scopes() {
        tracing::info!(scope = ?scope, image = args.worker_image, "looking after jobs");
        let ctx = Arc::new(Context {
            client: client.clone(),
            cluster: Arc::new(Cluster::default()),
            transport: Arc::clone(&transport) as Arc<_>,
            notes: Notes::default(),
            events: Recorder::new(client.clone(), &args.identity),
            metrics: Arc::clone(metrics),
            default_image: args.worker_image.clone(),
            terms: certificates::Terms::default(),
            clock: Box::new(Timestamp::now),
        });
        let health = Arc::clone(health);
        loops.spawn(Loop { ctx, scope, concurrency: args.concurrency, health }.run(stop.clone()));
    }
    while loops.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_namespaces_all_are_looked_after() {
        let scopes = |text: &str| {
            let args = ["weir-operator", "--identity", "a", "--namespaces", text];
            Args::try_parse_from(args).map(|args| args.scopes()).map_err(|error| error.to_string())
        };
        assert_eq!(scopes(""), Ok(vec![Scope::Cluster]));
        let named = ["shop", "labs"].map(|name| Scope::Namespace(name.to_owned()));
        assert_eq!(scopes("shop, labs"), Ok(named.to_vec()));
    }
}
