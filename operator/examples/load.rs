//! What many StreamJobs cost the controller: `cargo run --release -p weir-operator --example load -- 1000`.
//!
//! The API server is in memory, in this process; jobs come up, then a second controller begins anew (as after a failover),
//! then every job is changed at once. Told are the controller's own memory (what the process grows by from before its
//! second beginning until all jobs have been looked at) and how long looks take.

#![allow(clippy::print_stdout, reason = "a command that answers on standard output")]
#![allow(clippy::unwrap_used, reason = "a measurement fails by panicking")]

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../tests/cluster/api.rs"]
mod api;
#[path = "../tests/cluster/store.rs"]
mod store;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use weir_operator::certificates;
use weir_operator::cluster::{Cluster, Scope};
use weir_operator::controller::{Context, Loop, Notes};
use weir_operator::events::Recorder;
use weir_operator::leader_client::{Answer, Error, Peer, Request, Transport};
use weir_operator::lease::Standing;
use weir_operator::telemetry::{Health, Metrics, resident_bytes};

use api::Server;
use store::{Kind, Place};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const NAMESPACE: &str = "shop";

fn kind(group: &str, plural: &str) -> Kind {
    (group.to_owned(), plural.to_owned())
}

/// Leaders that do at once what they are told, by address.
#[derive(Default)]
struct Leaders {
    assignments: Mutex<BTreeMap<String, Value>>,
}

impl Leaders {
    fn answer(&self, address: &str, request: &Request) -> Value {
        if let Some(body) = &request.body {
            self.assignments.lock().insert(address.to_owned(), body.clone());
            return json!({});
        }
        let terms = self.assignments.lock().get(address).cloned().unwrap_or_else(|| json!({"revision": 0}));
        match request.path.as_str() {
            "/v1/job" => {
                let state = if terms["revision"] == 0 { "awaiting" } else { "running" };
                json!({"state": state, "generation": 1, "registered": terms["workers"]})
            }
            "/v1/assignment" => terms,
            "/v1/checkpoints" => json!({"completed": 3, "history": [], "retained": [
                {"link": 3, "checkpoint": 3, "completedUnixMs": 1_767_225_600_000_u64, "sizes": {"totalBytes": 1000}}]}),
            _ => json!({"savepoints": []}),
        }
    }
}

impl Transport for Leaders {
    fn send<'a>(&'a self, peer: &'a Peer, request: Request) -> BoxFuture<'a, Result<Answer, Error>> {
        let body = Bytes::from(self.answer(&peer.address.ip().to_string(), &request).to_string());
        async move { Ok(Answer { status: 200, body }) }.boxed()
    }
}

fn job(number: usize) -> Value {
    let columns = (0..30).map(|column| format!("c{column} BIGINT")).collect::<Vec<_>>().join(", ");
    json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": "StreamJob",
        "metadata": {"name": format!("job-{number}"), "namespace": NAMESPACE},
        "spec": {
            "parallelism": 2,
            "pipeline": {"sql": format!("CREATE TABLE a ({columns}) WITH ('connector'='datagen');\
                CREATE TABLE b (c0 BIGINT) WITH ('connector'='blackhole'); INSERT INTO b SELECT c0 FROM a;")},
            "storage": {"s3": {"bucket": "weir-state", "prefix": "jobs"}},
        },
    })
}

/// Pods start at once.
async fn kubelet(server: Server) {
    let mut addresses = 0_u32;
    loop {
        let waiting = |pod: &Value| pod["status"]["podIP"].is_null();
        let pods = server.store.lock().list(&kind("", "pods"), None, "");
        for pod in pods.into_iter().filter(waiting) {
            addresses += 1;
            let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
            let place: Place = (kind("", "pods"), NAMESPACE.to_owned(), name);
            let status = json!({"phase": "Running", "podIP": format!("10.{}.{}.{}", addresses >> 16, addresses >> 8 & 255, addresses & 255),
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": [{"name": "worker", "ready": true, "restartCount": 0, "image": "", "imageID": "",
                    "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]});
            server.edit(|store| store.merge(&place, &json!({"status": status}), true).unwrap());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

struct Run {
    metrics: Arc<Metrics>,
    stop: watch::Sender<bool>,
    ended: tokio::task::JoinHandle<()>,
}

fn controller(server: &Server, leaders: &Arc<Leaders>) -> Run {
    let metrics = Arc::new(Metrics::new());
    let ctx = Context {
        client: server.client(),
        cluster: Arc::new(Cluster::default()),
        transport: Arc::clone(leaders) as Arc<_>,
        notes: Notes::default(),
        events: Recorder::new(server.client(), "load"),
        metrics: Arc::clone(&metrics),
        default_image: "weir/worker:1".to_owned(),
        terms: certificates::Terms::default(),
        clock: Box::new(Timestamp::now),
    };
    let (_standing, seen) = watch::channel(Standing::Holding);
    let health = Arc::new(Health::new(seen, Arc::clone(&metrics)));
    let (stop, stopping) = watch::channel(false);
    let looped = Loop { ctx: Arc::new(ctx), scope: Scope::Cluster, concurrency: 16, health };
    Run { metrics, stop, ended: tokio::spawn(looped.run(stopping)) }
}

fn running(server: &Server, parallelism: u64) -> usize {
    let jobs = server.store.lock().list(&kind("weir.dev", "streamjobs"), None, "");
    jobs.iter().filter(|job| job["status"]["state"] == "Running" && job["status"]["replicas"] == parallelism).count()
}

async fn until_running(server: &Server, parallelism: u64, jobs: usize) -> Duration {
    let began = Instant::now();
    while running(server, parallelism) < jobs {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    began.elapsed()
}

/// The least bound of the histogram that a share of all looks keeps, in seconds, and how many looks there were.
fn quantile(metrics: &Metrics, share: f64) -> (String, u64) {
    let text = String::from_utf8(metrics.text()).unwrap();
    let buckets = text.lines().filter_map(|line| {
        let (bound, count) = line.strip_prefix("weir_operator_reconcile_seconds_bucket{le=\"")?.split_once("\"} ")?;
        Some((bound.to_owned(), count.parse::<u64>().ok()?))
    });
    let buckets: Vec<_> = buckets.collect();
    let all = buckets.last().map_or(0, |(_, count)| *count);
    let found = buckets.iter().find(|(_, count)| *count as f64 >= all as f64 * share);
    (found.map(|(bound, _)| bound.clone()).unwrap_or_default(), all)
}

fn mib(bytes: i64) -> i64 {
    bytes / 1024 / 1024
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let jobs: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1_000);
    let (server, leaders) = (Server::default(), Arc::new(Leaders::default()));
    server.edit(|store| store.now = Timestamp::now());
    tokio::spawn(kubelet(server.clone()));
    let base = resident_bytes().unwrap_or_default();
    for number in 0..jobs {
        server.edit(|store| store.create(&kind("weir.dev", "streamjobs"), NAMESPACE, job(number)).unwrap());
    }
    let first = controller(&server, &leaders);
    let took = until_running(&server, 2, jobs).await;
    let (p99, looks) = quantile(&first.metrics, 0.99);
    println!("{jobs} jobs came up within {took:.1?}: {looks} looks, p99 at most {p99} s");
    first.stop.send_replace(true);
    first.ended.await.unwrap();
    server.edit(|store| store.log.clear());

    let before = resident_bytes().unwrap_or_default();
    let second = controller(&server, &leaders);
    while quantile(&second.metrics, 0.99).1 < jobs as u64 * 2 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let after = resident_bytes().unwrap_or_default();
    let (p99, looks) = quantile(&second.metrics, 0.99);
    println!("a new controller: {looks} looks, p99 at most {p99} s; it takes {} MiB more", mib(after - before));
    for number in 0..jobs {
        let place: Place = (kind("weir.dev", "streamjobs"), NAMESPACE.to_owned(), format!("job-{number}"));
        server.edit(|store| store.merge(&place, &json!({"spec": {"parallelism": 1}}), false).unwrap());
    }
    let took = until_running(&server, 1, jobs).await;
    let (p99, looks) = quantile(&second.metrics, 0.99);
    println!("all were rescaled within {took:.1?}: {looks} looks in all, p99 at most {p99} s");
    println!(
        "the process had {} MiB before the first job, {} MiB now, server and all",
        mib(base),
        mib(resident_bytes().unwrap_or_default())
    );
    second.stop.send_replace(true);
    second.ended.await.unwrap();
}
