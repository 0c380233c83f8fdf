//! Workers and leaders that are cut off from the others, or stand still, are replaced, and come back: they end by themselves
//! and touch nothing. Workers that are cut off from each other alone are noticed.

use super::bucket::proxy::Change;
use super::cluster::{Cluster, Progress};
use super::network::From;
use super::output;
use super::shape::{Pace, Shape, State};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// What does not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(180);

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(3_600);

/// So long a leader and its worker stand still. Every connection and every request that they know of is over by then.
const FROZEN: Duration = Duration::from_secs(31);

const PART: &str = "partNumber=";

/// What a request concerns that changes the job's chain or its output. The last is a part of an upload, which counts when
/// the upload is completed: who stood still may find itself within the writing of one.
const COUNTS: [&str; 6] = ["/chain/", "/generations/", "/savepoints/", "/assignments/", "uploadId=", PART];

/// So long two workers do not reach each other: many times as long as the others may be silent.
const APART: Duration = Duration::from_secs(20);

/// A job that has changed nothing in its store for so long is between two checkpoints.
const PAUSE: Duration = Duration::from_millis(300);

#[derive(Clone, Copy)]
enum Replaced {
    At {
        ordinal: u32,
        from: From,
    },
    /// Nobody is replaced: the cut ends again.
    Nobody {
        ordinal: u32,
        from: From,
    },
    /// A leader and its worker stand still together, and go on together.
    Frozen,
    /// Two workers reach everybody but each other, until the cut ends.
    Apart([u32; 2]),
}

const CUTS: [(&str, Replaced); 9] = [
    ("a leader away from everybody, replaced", Replaced::At { ordinal: 0, from: From::All }),
    ("a leader that reaches the store alone, replaced", Replaced::At { ordinal: 0, from: From::Workers }),
    ("a worker away from everybody, replaced", Replaced::At { ordinal: 1, from: From::All }),
    ("a worker that reaches the store alone, replaced", Replaced::At { ordinal: 1, from: From::Workers }),
    ("a leader away from everybody", Replaced::Nobody { ordinal: 0, from: From::All }),
    ("a worker away from everybody", Replaced::Nobody { ordinal: 1, from: From::All }),
    ("a worker away from the store", Replaced::Nobody { ordinal: 1, from: From::Store }),
    ("a leader and its worker that stand still, replaced", Replaced::Frozen),
    ("two workers apart", Replaced::Apart([1, 2])),
];

fn run(name: &str, cut: Replaced) {
    let (interval, events) = if matches!(cut, Replaced::Frozen) { ("2s", 80_000) } else { ("200ms", 40_000) };
    let (state, pace) = (State::Bucket, Pace::Slow);
    let workers = if matches!(cut, Replaced::Apart(_)) { 3 } else { 2 };
    let shape = Shape { events, pace, state, interval, unaligned: false, workers, copies: true };
    let Some(mut cluster) = Cluster::new(shape) else { return };
    (0..workers).for_each(|ordinal| cluster.start(ordinal));
    cluster.until("a checkpoint", PATIENCE, |cluster| cluster.progress().checkpoint > Some(2));
    let before = cluster.progress();
    match cut {
        Replaced::At { ordinal, from } => {
            assert!(cluster.cut(ordinal, from, LONG));
            cluster.replace(ordinal);
            goes_on_without(&mut cluster, before);
            come_back(name, &mut cluster, 1, &COUNTS);
        }
        Replaced::Frozen => {
            between_checkpoints(&mut cluster);
            let (before, stopped) = (cluster.progress(), Instant::now());
            for ordinal in 0..2 {
                assert!(cluster.stop(ordinal, LONG));
                cluster.replace(ordinal);
            }
            goes_on_without(&mut cluster, before);
            cluster.until("their time to go on", PATIENCE, |_| stopped.elapsed() >= FROZEN);
            come_back(name, &mut cluster, 2, &COUNTS[..COUNTS.len() - 1]);
        }
        Replaced::Nobody { ordinal, from } => {
            // Longer than it is waited for, and than a put is tried.
            assert!(cluster.cut(ordinal, from, Duration::from_secs(4)));
            goes_on_behind_the_cut(&mut cluster, ordinal, before);
        }
        Replaced::Apart(pair) => {
            let Some(addresses) = cluster.cut_apart(pair, APART) else {
                eprintln!("SKIPPED: {name}: relays cannot cut two workers off from each other");
                return;
            };
            is_noticed(&mut cluster, pair, addresses);
            goes_on_behind_the_cut(&mut cluster, pair[0], before);
        }
    }
    cluster.finish(PATIENCE);
    output::check(&cluster.output(), &cluster.quiet(), name);
}

/// Nothing that is asked of the store is under way.
fn between_checkpoints(cluster: &mut Cluster) {
    let (mut changes, mut since) = (0, Instant::now());
    cluster.until("a pause between two checkpoints", PATIENCE, |cluster| {
        let now = cluster.proxy.changes().len();
        if now != changes {
            (changes, since) = (now, Instant::now());
        }
        since.elapsed() > PAUSE
    });
}

/// The leader hears of it, says who does not reach whom, and tries again, all while the cut lasts.
fn is_noticed(cluster: &mut Cluster, pair: [u32; 2], addresses: [IpAddr; 2]) {
    let (before, began) = (cluster.progress(), Instant::now());
    let mut failure = String::new();
    cluster.until("word of the cut", PATIENCE, |cluster| {
        assert!(cluster.is_cut(pair[0]), "nobody noticed the cut while it lasted: {:?}", cluster.progress());
        let (_, job) = cluster.ask("GET", "/v1/job", "").unwrap_or_default();
        let job: serde_json::Value = serde_json::from_str(&job).unwrap_or_default();
        failure = job["lastFailure"]["message"].to_string();
        addresses.iter().all(|address| failure.contains(&address.to_string()))
            && cluster.progress().generation > before.generation
    });
    eprintln!("two workers apart: a new generation after {:?}: {failure}", began.elapsed());
}

fn goes_on_behind_the_cut(cluster: &mut Cluster, ordinal: u32, before: Progress) {
    cluster.until("the end of the cut", PATIENCE, |cluster| !cluster.is_cut(ordinal));
    let joined = cluster.progress();
    cluster.until("a checkpoint behind the cut", PATIENCE, |cluster| {
        let now = cluster.progress();
        now.link > joined.link && now.checkpoint > before.checkpoint
    });
}

fn goes_on_without(cluster: &mut Cluster, before: Progress) {
    cluster.until("a checkpoint without those that were replaced", PATIENCE, |cluster| {
        let now = cluster.progress();
        now.generation > before.generation && now.checkpoint > before.checkpoint
    });
}

/// So many that were replaced end by themselves, with the exit code for that, and change nothing of these. Who reaches the
/// store may have ended before.
fn come_back(name: &str, cluster: &mut Cluster, replaced: u64, counts: &[&str]) {
    let changes = cluster.proxy.changes().len();
    let back = cluster.join_zombies();
    let ended = |cluster: &mut Cluster| cluster.counts.get("zombies that ended by themselves").copied().unwrap_or(0);
    cluster.until("the end of all that were replaced", PATIENCE, |cluster| ended(cluster) == replaced);
    if cluster.tells_machines_apart() {
        let changes = cluster.proxy.changes().split_off(changes);
        touched_nothing(name, &changes, &back, counts);
    }
}

/// Nothing of the job's chain, and no output, was written or deleted from there.
fn touched_nothing(name: &str, changes: &[Change], by: &[IpAddr], counts: &[&str]) {
    let counts = |target: &str| match target.contains(PART) {
        true => counts.contains(&PART),
        false => counts.iter().any(|part| target.contains(part)),
    };
    let touched = changes
        .iter()
        .filter(|change| by.contains(&change.by) && (change.method == "DELETE" || counts(&change.target)));
    let touched: Vec<_> = touched.collect();
    assert!(touched.is_empty(), "{name}: {touched:?}");
}

#[test]
fn who_was_cut_off_and_replaced_ends_by_itself_and_touches_nothing() {
    let only = std::env::var("WEIR_CHAOS_CASE").unwrap_or_default();
    std::thread::scope(|scope| {
        for (name, cut) in CUTS.iter().filter(|(name, _)| name.contains(&only)) {
            let case = std::thread::Builder::new().name((*name).to_owned());
            case.spawn_scoped(scope, move || run(name, *cut)).unwrap();
        }
    });
}
