//! What many StreamJobs cost the controller: `cargo run --release -p weir-operator --example load -- 1000`.
//!
//! An etcd and a kube-apiserver on loopback, with the programs that `.ci/run` builds for the end-to-end tests; nodes that
//! say of each pod that it runs; and leaders behind mutual TLS that do at once what they are told. The controller is this
//! program once more, or the one that `WEIR_OPERATOR` names, as a process of its own, with nothing but its settings in the
//! environment.
//!
//! Jobs come up, all at once; rest (for the seconds of the second argument, 300 if there is none); are taken over by
//! another controller, as after a failover; and are rescaled, all at once. Told of each part are the controller's memory,
//! how long looks took, and its requests to the API server as that one has logged them.

#![allow(clippy::print_stdout, reason = "a command that answers on standard output")]
#![allow(clippy::unwrap_used, reason = "a measurement fails by panicking")]

mod controller;
mod jobs;
mod nodes;
mod requests;
mod server;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use controller::Controller;
use jobs::Jobs;
use server::Server;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Where everything happens.
const NAMESPACE: &str = "shop";

fn main() -> ExitCode {
    // This process is the controller.
    if std::env::var_os("WEIR_IDENTITY").is_some() {
        return weir_operator::cli::main();
    }
    let number = |at: usize, default| std::env::args().nth(at).and_then(|text| text.parse().ok()).unwrap_or(default);
    let (jobs, rest) = (number(1, 1_000), Duration::from_secs(number(2, 300) as u64));
    let Some(programs) = server::programs() else {
        println!("there is no kube-apiserver: run e2e/up once, or set WEIR_CACHE to where .ci/run keeps its programs");
        return ExitCode::FAILURE;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().unwrap();
    let server = Server::start(&programs);
    runtime.block_on(measure(&server, jobs, rest));
    ExitCode::SUCCESS
}

async fn measure(server: &Server, jobs: usize, rest: Duration) {
    let client = server.prepared().await;
    let leaders = Arc::new(nodes::Leaders::new(client.clone()));
    nodes::start(&client, &leaders);
    let seen = Jobs::watch(&client);
    Jobs::create(&client, jobs).await;
    println!("{jobs} StreamJobs with two workers each");

    let mut first = Controller::start(server, "first");
    let began = Instant::now();
    first.meanwhile(seen.until_all_run(jobs, 2)).await;
    first.tell(&format!("all came up within {:.1?}", began.elapsed()), server).await;
    // What was begun before is over.
    tokio::time::sleep(Duration::from_secs(20)).await;
    first.part_begins(server).await;
    first.meanwhile(tokio::time::sleep(rest)).await;
    first.tell(&format!("{rest:?} at rest"), server).await;
    drop(first);

    let mut second = Controller::start(server, "second");
    let began = Instant::now();
    second.until_looks(jobs as u64).await;
    second.tell(&format!("another controller has looked at all within {:.1?}", began.elapsed()), server).await;
    second.part_begins(server).await;
    let began = Instant::now();
    Jobs::rescale(&client, jobs, 1).await;
    second.meanwhile(seen.until_all_run(jobs, 1)).await;
    second.tell(&format!("all were rescaled within {:.1?}", began.elapsed()), server).await;
}
