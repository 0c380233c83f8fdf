//! Workers and leaders that are cut off from the others, replaced, and come back: they end by themselves and touch
//! nothing.

use super::cluster::Cluster;
use super::network::From;
use super::output;
use super::shape::{Pace, Shape, State};
use std::time::Duration;

/// What does not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(180);

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(3_600);

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
}

const CUTS: [(&str, Replaced); 7] = [
    ("a leader away from everybody, replaced", Replaced::At { ordinal: 0, from: From::All }),
    ("a leader that reaches the store alone, replaced", Replaced::At { ordinal: 0, from: From::Workers }),
    ("a worker away from everybody, replaced", Replaced::At { ordinal: 1, from: From::All }),
    ("a worker that reaches the store alone, replaced", Replaced::At { ordinal: 1, from: From::Workers }),
    ("a leader away from everybody", Replaced::Nobody { ordinal: 0, from: From::All }),
    ("a worker away from everybody", Replaced::Nobody { ordinal: 1, from: From::All }),
    ("a worker away from the store", Replaced::Nobody { ordinal: 1, from: From::Store }),
];

fn run(name: &str, cut: Replaced) {
    let shape =
        Shape { events: 40_000, pace: Pace::Slow, state: State::Bucket, interval: "200ms", workers: 2, copies: true };
    let Some(mut cluster) = Cluster::new(shape) else { return };
    (0..2).for_each(|ordinal| cluster.start(ordinal));
    cluster.until("a checkpoint", PATIENCE, |cluster| cluster.progress().checkpoint > Some(2));
    let before = cluster.progress();
    match cut {
        Replaced::At { ordinal, from } => {
            assert!(cluster.cut(ordinal, from, LONG));
            cluster.replace(ordinal);
            cluster.until("a checkpoint without the one that was cut off", PATIENCE, |cluster| {
                let now = cluster.progress();
                now.generation > before.generation && now.checkpoint > before.checkpoint
            });
            let changes = cluster.proxy.changes().len();
            let by = cluster.join_zombies();
            let ended = "zombies that ended by themselves";
            cluster
                .until("the end of the one that was replaced", PATIENCE, |cluster| cluster.counts.contains_key(ended));
            if let Some(by) = by.filter(|_| cluster.tells_machines_apart()) {
                touched_nothing(name, &cluster, changes, by);
            }
        }
        Replaced::Nobody { ordinal, from } => {
            // Longer than it is waited for, and than a put is tried.
            assert!(cluster.cut(ordinal, from, Duration::from_secs(4)));
            cluster.until("the end of the cut", PATIENCE, |cluster| !cluster.is_cut(ordinal));
            let joined = cluster.progress();
            cluster.until("a checkpoint behind the cut", PATIENCE, |cluster| {
                let now = cluster.progress();
                now.link > joined.link && now.checkpoint > before.checkpoint
            });
        }
    }
    cluster.finish(PATIENCE);
    output::check(&cluster.output(), &cluster.quiet(), name);
}

/// Nothing of the job's chain, and no output, was written or deleted from there since.
fn touched_nothing(name: &str, cluster: &Cluster, since: usize, by: std::net::IpAddr) {
    let counts = ["/chain/", "/generations/", "/savepoints/", "/assignments/", "uploadId="];
    let changes = cluster.proxy.changes();
    let touched = changes[since..].iter().filter(|change| {
        change.by == by && (change.method == "DELETE" || counts.iter().any(|part| change.target.contains(part)))
    });
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
