//! The whole controller, with its lease, watches and loop, against the server in memory.

use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::{oneshot, watch};
use weir_operator::cluster::Scope;
use weir_operator::controller::Loop;
use weir_operator::lease::{Candidate, End, Standing, Terms};
use weir_operator::telemetry::{Health, Metrics};

use crate::api::Server;
use crate::leader::Job;
use crate::world::{NAMESPACE, context, job_place, manifest};

/// Longer than anything takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// Waits until something holds; the cluster goes on meanwhile.
async fn until(server: &Server, job: &Arc<Mutex<Job>>, what: &str, holds: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        server.edit(|store| job.lock().tick(store));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_job_is_started_rescaled_and_mended_by_events_alone() {
    let (server, job) = (Server::default(), Arc::<Mutex<Job>>::default());
    let now = Arc::new(Mutex::new(Timestamp::now()));
    let mut ctx = context(&server, &job, &now);
    ctx.clock = Box::new(Timestamp::now);
    server.edit(|store| store.now = Timestamp::now());
    let (_standing, seen) = watch::channel(Standing::Holding);
    let health = Arc::new(Health::new(seen, Arc::new(Metrics::new())));
    let (stop, stopping) = watch::channel(false);
    let looped = Loop { ctx: Arc::new(ctx), scope: Scope::Namespace(NAMESPACE.to_owned()), concurrency: 4, health };
    let looped = tokio::spawn(looped.run(stopping));

    server.edit(|store| store.create(&job_place().0, NAMESPACE, manifest(2, "weir:1"))).unwrap();
    let state = || server.store.lock().get(&job_place()).unwrap()["status"].clone();
    until(&server, &job, "it runs", || state()["state"] == "Running" && state()["replicas"] == 2).await;
    server.edit(|store| store.merge(&job_place(), &json!({"spec": {"parallelism": 3}}), false)).unwrap();
    until(&server, &job, "it is wider", || state()["state"] == "Running" && state()["replicas"] == 3).await;

    stop.send_replace(true);
    tokio::time::timeout(PATIENCE, looped).await.unwrap().unwrap();
}

/// A lease that nobody loses by being slow.
const LONG: Terms = Terms {
    duration: Duration::from_secs(120),
    give_up_after: Duration::from_secs(60),
    interval: Duration::from_millis(100),
};

/// A lease that is soon lost.
const SHORT: Terms = Terms {
    duration: Duration::from_millis(1_200),
    give_up_after: Duration::from_millis(800),
    interval: Duration::from_millis(100),
};

struct Replica {
    standing: watch::Receiver<Standing>,
    release: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<End>,
}

fn replica(server: &Server, identity: &str, terms: Terms) -> Replica {
    let (standing, seen) = watch::channel(Standing::Unknown);
    let (release, released) = oneshot::channel();
    let candidate = Candidate::new(server.client(), "weir-system", "weir-operator", identity, terms);
    Replica { standing: seen, release, ended: tokio::spawn(candidate.run(standing, released)) }
}

impl Replica {
    async fn is(&mut self, standing: Standing) {
        tokio::time::timeout(PATIENCE, self.standing.wait_for(|now| *now == standing)).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_lease_that_is_given_back_passes_on() {
    let server = Server::default();
    let mut first = replica(&server, "a", LONG);
    first.is(Standing::Holding).await;
    let mut second = replica(&server, "b", LONG);
    second.is(Standing::Waiting).await;
    first.release.send(()).unwrap();
    assert_eq!(first.ended.await.unwrap(), End::Released);
    second.is(Standing::Holding).await;
    second.release.send(()).unwrap();
    assert_eq!(second.ended.await.unwrap(), End::Released);
}

#[tokio::test]
async fn a_holder_that_cannot_renew_ends_and_another_takes_over() {
    let server = Server::default();
    let mut first = replica(&server, "a", SHORT);
    first.is(Standing::Holding).await;
    // Its client is cut off; another replica has its own.
    let other = Server { script: Arc::default(), ..server.clone() };
    server.script.lock().dead = true;
    assert!(matches!(first.ended.await.unwrap(), End::Lost(_)));
    let mut second = replica(&other, "b", SHORT);
    second.is(Standing::Holding).await;
    drop(second.release);
    assert_eq!(second.ended.await.unwrap(), End::Released);
}

#[test]
fn the_command_line_has_an_identity() {
    let args = weir_operator::cli::Args::try_parse_from(["weir-operator"]);
    assert!(args.unwrap_err().to_string().contains("--identity"));
}
