//! How long things take on this cluster: measured, printed as a table, and not judged.
//!
//! The job writes each change of a count at once, and a checkpoint commits them ten times a second, so a file in the
//! bucket tells to a tenth of a second when the job worked. The times are those of the files, and of the moment before
//! the command that does the harm: a `kubectl` that starts is in them.

use crate::cluster::{self, Beside, SYSTEM, kubectl};
use crate::failures::{delete, kill_container};
use crate::job::{Job, is, runs_at};
use crate::namespace::Namespace;
use crate::output::{self, File};
use crate::{pods, watch};
use serde_json::json;
use std::env;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// How often each is measured.
const TIMES: usize = 3;

/// What was measured, in seconds.
struct Figure {
    what: &'static str,
    seconds: Vec<f64>,
}

impl Figure {
    const fn of(what: &'static str) -> Self {
        Self { what, seconds: Vec::new() }
    }

    fn line(&self) -> String {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let each: Vec<String> = self.seconds.iter().map(|seconds| format!("{seconds:.2}")).collect();
        format!("{:<46} {:>8.2} {:>20}", self.what, sorted[sorted.len() / 2], each.join(" "))
    }
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// A job without end that counts bids.
fn counting(name: &str, parallelism: u32) -> Job {
    let mut job = Job::endless(name, parallelism);
    job.checkpoint = "{interval: 100ms}".to_owned();
    // Workers are as patient as they are where nobody says anything.
    job.worker = json!({});
    job.query = "SELECT max(`dateTime`), bidder, count(*), sum(price) FROM bid GROUP BY bidder".to_owned();
    job
}

/// The first file that a generation after this one has written.
fn first_after(folder: &str, generation: u64) -> File {
    watch::ask("the next generation writes", || {
        let files = output::files(folder).into_iter().filter(|file| file.generation > generation);
        files.min_by(|one, other| one.at.total_cmp(&other.at))
    })
}

/// The longest time without a new file, between two moments.
fn pause(folder: &str, from: f64, to: f64) -> f64 {
    let mut at: Vec<f64> = output::files(folder).iter().map(|file| file.at).collect();
    at.sort_by(f64::total_cmp);
    let within = at.windows(2).filter(|pair| pair[1] >= from && pair[0] <= to);
    within.map(|pair| pair[1] - pair[0]).fold(0.0, f64::max)
}

fn runs(namespace: &Namespace, job: &Job) {
    job.until(namespace, "the job runs", |job| is(job, "Ready", "True", "Running"));
    let wanted = job.parallelism as usize;
    namespace.until("its workers are ready", &["pods", "-l", &pods::selector(job)], |pods| {
        let ready = pods.values().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null() && pods::is_ready(pod));
        (ready.count() == wanted).then_some(())
    });
}

#[test]
fn figures() {
    if env::var_os("WEIR_E2E_FIGURES").is_none() {
        return eprintln!("figures: passed over, as WEIR_E2E_FIGURES is not set (see e2e/run)");
    }
    let Some(_turn) = cluster::enter_nodes("figures", Beside::Nobody) else { return };
    let started = Instant::now();
    let namespace = Namespace::new("figures");
    let mut first = Figure::of("apply to first output row");
    let mut killed = Figure::of("container killed to first new output");
    let mut deleted = Figure::of("pod deleted to first new output");
    let mut lost = Figure::of("leader's pod deleted to first new output");
    let mut rescaled = Figure::of("longest pause of the output in a rescale");
    let mut settled = Figure::of("scale to done");
    for turn in 0..TIMES {
        let job = counting(&format!("count-{turn}"), 2);
        let folder = job.folder(&namespace);
        let before = now();
        namespace.apply(&job.manifest(&namespace)).good();
        first.seconds.push(first_after(&folder, 0).at - before);
        for (figure, ordinal, harm) in
            [(&mut killed, 1, Harm::Kill), (&mut deleted, 1, Harm::Delete), (&mut lost, 0, Harm::Delete)]
        {
            runs(&namespace, &job);
            let (pod, generation) = (pods::with_ordinal(&namespace, &job, ordinal), output::newest(&folder));
            let before = match harm {
                Harm::Kill => kill_container(&namespace, &pod),
                Harm::Delete => {
                    let before = now();
                    delete(&namespace, &[&pod]);
                    before
                }
            };
            figure.seconds.push(first_after(&folder, generation).at - before);
        }
        runs(&namespace, &job);
        let (before, generation) = (now(), output::newest(&folder));
        namespace.kubectl(&["scale", "streamjob", &job.name, "--replicas=3"]).good();
        job.until(&namespace, "the job is scaled", |job| runs_at(job, 3));
        settled.seconds.push(now() - before);
        let after = first_after(&folder, generation).at;
        rescaled.seconds.push(pause(&folder, before, after));
        namespace.kubectl(&["delete", "streamjob", &job.name, "--timeout=10m"]).good();
    }
    let mut table = vec![format!("{:<46} {:>8} {:>20}", "seconds", "median", "each")];
    table.extend([first, killed, deleted, lost, rescaled, settled, failover()].iter().map(Figure::line));
    eprintln!("{}\nmeasured in {} s", table.join("\n"), started.elapsed().as_secs());
}

#[derive(Clone, Copy)]
enum Harm {
    Kill,
    Delete,
}

/// Freezes the replica that holds the Lease, until another one holds it.
fn failover() -> Figure {
    let mut figure = Figure::of("controller frozen until another one acts");
    let lease = ["-n", SYSTEM, "leases"];
    let holder = || {
        watch::until("a controller holds the Lease", &lease, |leases| {
            let holder = leases.get(cluster::RELEASE)?["spec"]["holderIdentity"].as_str()?.to_owned();
            (!holder.is_empty()).then_some(holder)
        })
    };
    for _ in 0..TIMES {
        let held = holder();
        let selection = ["-n", SYSTEM, "pods", "-l", "app.kubernetes.io/name=weir-operator"];
        let (name, frozen) = watch::until("the holder is seen", &selection, |pods| {
            pods.iter()
                .find(|(_, pod)| pod["metadata"]["uid"] == held.as_str())
                .map(|(name, pod)| (name.clone(), pod.clone()))
        });
        let before = crate::failures::signal(&frozen, "SIGSTOP");
        watch::until("another controller holds the Lease", &lease, |leases| {
            let holder = leases.get(cluster::RELEASE)?["spec"]["holderIdentity"].as_str()?;
            (!holder.is_empty() && holder != held).then_some(())
        });
        figure.seconds.push(now() - before);
        kubectl(&["-n", SYSTEM, "delete", "pod", &name, "--grace-period=0", "--force"]).good();
        kubectl(&["-n", SYSTEM, "rollout", "status", "deployment", cluster::RELEASE, "--timeout=10m"]).good();
    }
    figure
}
