//! Kills that are placed on purpose: a request is stopped on its way to the store, processes are killed, and the request
//! is lost, carried out before, or carried out when others have gone on.

use super::bucket::held::Held;
use super::cluster::{Cluster, Signal};
use super::output::{self, Rows};
use super::shape::{Pace, Shape, State};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What does not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(180);

/// How many cases run at a time: they wait more than they work.
const AT_A_TIME: usize = 3;

/// What leads to the request.
#[derive(Debug, Clone, Copy)]
enum Cause {
    /// The next checkpoint.
    Checkpoint,
    Savepoint,
    Rescale,
    /// A worker is killed; what was kept near is not.
    Restore,
}

#[derive(Debug, Clone, Copy)]
enum Victim {
    Leader,
    Worker,
    Both,
}

/// What becomes of the request.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// It never arrives.
    Lost,
    /// It was carried out before the kill, and nobody heard of it.
    Done,
    /// It is carried out when the next leader has claimed the job.
    Late,
    /// It is carried out just before the next leader's start.
    BeforeTheNextStart,
    /// It goes on after the kill as if nothing had been.
    GoesOn,
}

struct Case {
    name: &'static str,
    cause: Cause,
    /// Method, target, content, and how many such requests pass before.
    place: (&'static str, &'static str, &'static str, usize),
    victim: Victim,
    fate: Fate,
}

const fn case(
    name: &'static str,
    cause: Cause,
    place: (&'static str, &'static str, &'static str, usize),
    victim: Victim,
    fate: Fate,
) -> Case {
    Case { name, cause, place, victim, fate }
}

const MANIFEST: (&str, &str, &str, usize) = ("PUT", "/chain/", "{\"checkpoint\":{", 0);
const START: (&str, &str, &str, usize) = ("PUT", "/chain/", "{\"start\":{", 0);
const STOP: (&str, &str, &str, usize) = ("PUT", "/chain/", "\"stop\":{\"assignment\":", 0);
const STATE: (&str, &str, &str, usize) = ("PUT", "/state/", "", 0);
const SECOND_STATE: (&str, &str, &str, usize) = ("PUT", "/state/", "", 1);
const LOOK_BACK: (&str, &str, &str, usize) = ("GET", "/generations/", "", 0);
const COMMIT: (&str, &str, &str, usize) = ("POST", "uploadId=", "", 0);
const CLAIM: (&str, &str, &str, usize) = ("PUT", "/generations/", "", 0);
const ASSIGNMENT: (&str, &str, &str, usize) = ("PUT", "/assignments/", "", 0);
const POINTER: (&str, &str, &str, usize) = ("PUT", "/savepoints/", "", 0);
const READ: (&str, &str, &str, usize) = ("GET", "/state/", "", 0);

const CASES: [Case; 32] = [
    case("before the first acknowledgement", Cause::Checkpoint, STATE, Victim::Both, Fate::Lost),
    case("between acknowledgements, a worker", Cause::Checkpoint, SECOND_STATE, Victim::Worker, Fate::GoesOn),
    case("between acknowledgements, the leader", Cause::Checkpoint, SECOND_STATE, Victim::Leader, Fate::Done),
    case("before the manifest's write", Cause::Checkpoint, MANIFEST, Victim::Leader, Fate::Lost),
    case("during the manifest's write, a worker", Cause::Checkpoint, MANIFEST, Victim::Worker, Fate::GoesOn),
    case("during the manifest's write, which lands late", Cause::Checkpoint, MANIFEST, Victim::Leader, Fate::Late),
    case("during the manifest's write, all", Cause::Checkpoint, MANIFEST, Victim::Both, Fate::BeforeTheNextStart),
    case("after the manifest's write", Cause::Checkpoint, MANIFEST, Victim::Leader, Fate::Done),
    case("after the manifest's write, all", Cause::Checkpoint, MANIFEST, Victim::Both, Fate::Done),
    case("before the sinks' commit", Cause::Checkpoint, LOOK_BACK, Victim::Leader, Fate::Lost),
    case("before the sinks' commit, a worker", Cause::Checkpoint, LOOK_BACK, Victim::Worker, Fate::GoesOn),
    case("during the sinks' commit", Cause::Checkpoint, COMMIT, Victim::Leader, Fate::Lost),
    case("during the sinks' commit, which lands late", Cause::Checkpoint, COMMIT, Victim::Leader, Fate::Late),
    case("during the sinks' commit, a worker", Cause::Checkpoint, COMMIT, Victim::Worker, Fate::GoesOn),
    case("after the sinks' commit", Cause::Checkpoint, COMMIT, Victim::Leader, Fate::Done),
    case("after the sinks' commit, all", Cause::Checkpoint, COMMIT, Victim::Both, Fate::Done),
    case("before a savepoint's manifest", Cause::Savepoint, MANIFEST, Victim::Leader, Fate::Lost),
    case("between a savepoint's manifest and its pin", Cause::Savepoint, POINTER, Victim::Leader, Fate::Lost),
    case("after a savepoint's pin", Cause::Savepoint, POINTER, Victim::Leader, Fate::Done),
    case("before an assignment is stored", Cause::Rescale, ASSIGNMENT, Victim::Leader, Fate::Lost),
    case("after an assignment is stored", Cause::Rescale, ASSIGNMENT, Victim::Leader, Fate::Done),
    case("before the stop for an assignment", Cause::Rescale, STOP, Victim::Leader, Fate::Lost),
    case("during the stop for an assignment", Cause::Rescale, STOP, Victim::Worker, Fate::GoesOn),
    case("after the stop for an assignment", Cause::Rescale, STOP, Victim::Leader, Fate::Done),
    case("during the claim for an assignment", Cause::Rescale, CLAIM, Victim::Leader, Fate::Late),
    case("during the start for an assignment", Cause::Rescale, START, Victim::Leader, Fate::Late),
    case("after the start for an assignment", Cause::Rescale, START, Victim::Both, Fate::Done),
    case("during a restore, the leader", Cause::Restore, READ, Victim::Leader, Fate::Lost),
    case("during a restore, a worker", Cause::Restore, READ, Victim::Worker, Fate::GoesOn),
    case("during a restore's claim", Cause::Restore, CLAIM, Victim::Leader, Fate::Done),
    case("during a restore's start, which lands late", Cause::Restore, START, Victim::Leader, Fate::Late),
    case("during a restore's start, all", Cause::Restore, START, Victim::Both, Fate::Lost),
];

/// Who is killed when a checkpoint is complete, rows have been read since, and the next one has not begun.
const BETWEEN: [(&str, Victim); 3] = [
    ("between two checkpoints, a worker", Victim::Worker),
    ("between two checkpoints, the leader", Victim::Leader),
    ("between two checkpoints, all", Victim::Both),
];

fn held((method, target, content, passing): (&'static str, &'static str, &'static str, usize)) -> Held {
    Held::request(method, target).with(content).after(passing)
}

impl Victim {
    /// One that is just starting again dies, too.
    fn die(self, cluster: &mut Cluster) {
        let killed: &[u32] = match self {
            Self::Leader => &[0],
            Self::Worker => &[1],
            Self::Both => &[0, 1],
        };
        for ordinal in killed {
            cluster.until("a process to kill", PATIENCE, |cluster| cluster.signal(*ordinal, Signal::KILL));
        }
    }
}

/// No checkpoint begins by itself: those before and after are those of savepoints.
fn between(name: &str, victim: Victim, expected: &OnceLock<Rows>) {
    let shape = Shape {
        events: 40_000,
        pace: Pace::Slow,
        state: State::Bucket,
        interval: "1h",
        unaligned: false,
        workers: 2,
        copies: true,
    };
    let Some(mut cluster) = Cluster::new(shape) else { return };
    (0..2).for_each(|ordinal| cluster.start(ordinal));
    let more_rows = |cluster: &mut Cluster| {
        let read = cluster.rows_in();
        cluster.until("more rows", PATIENCE, |cluster| cluster.rows_in() > read);
    };
    let savepoint = |cluster: &mut Cluster, number: u64| {
        cluster.until("the savepoint's request", PATIENCE, |cluster| cluster.savepoint(number));
        cluster.until("its checkpoint", PATIENCE, |cluster| cluster.progress().checkpoint.is_some());
    };
    more_rows(&mut cluster);
    savepoint(&mut cluster, 0);
    let before = cluster.progress();
    more_rows(&mut cluster);
    victim.die(&mut cluster);
    assert_eq!(cluster.progress(), before, "{name}: a checkpoint has begun");
    cluster.until("the next start", PATIENCE, |cluster| cluster.progress().link > before.link);
    more_rows(&mut cluster);
    savepoint(&mut cluster, 1);
    cluster.finish(PATIENCE);
    output::check(&cluster.output(), expected.get_or_init(|| cluster.quiet()), name);
}

impl Case {
    fn run(&self, expected: &OnceLock<Rows>) {
        let workers = 2;
        let shape = Shape {
            events: 40_000,
            pace: Pace::Slow,
            state: State::Bucket,
            interval: "200ms",
            unaligned: false,
            workers,
            copies: !matches!(self.cause, Cause::Restore),
        };
        let Some(mut cluster) = Cluster::new(shape) else { return };
        (0..=workers).for_each(|ordinal| cluster.start(ordinal));
        cluster.until("a checkpoint", PATIENCE, |cluster| cluster.progress().checkpoint > Some(2));
        let stopped = self.lead_to(&mut cluster);
        cluster.until(self.name, PATIENCE, |_| stopped.comes(Duration::ZERO));
        let before = cluster.progress();
        self.strike(&mut cluster, &stopped);
        cluster.until("a checkpoint of the next generation", PATIENCE, |cluster| {
            let now = cluster.progress();
            now.generation > before.generation && now.checkpoint.is_some() && now.link > before.link
        });
        stopped.lose();
        cluster.finish(PATIENCE);
        let expected = expected.get_or_init(|| cluster.quiet());
        output::check(&cluster.output(), expected, self.name);
        // Who asked for a savepoint and was answered has it.
        if self.place.1 == POINTER.1 {
            assert_eq!(cluster.objects("savepoints"), ["s0"], "{}", self.name);
        }
    }

    /// The request stops on its way.
    fn lead_to(&self, cluster: &mut Cluster) -> Arc<Held> {
        let stopped = cluster.proxy.hold(held(self.place));
        match self.cause {
            Cause::Checkpoint => {}
            Cause::Savepoint => {
                cluster.until("the savepoint's request", PATIENCE, |cluster| cluster.savepoint(0));
            }
            Cause::Rescale => {
                // Who stores it answers after that.
                let mut asked = false;
                cluster.until("the assignment's request", PATIENCE, |cluster| {
                    asked = asked || cluster.assign(3, 3);
                    asked || stopped.comes(Duration::ZERO)
                });
            }
            Cause::Restore => {
                assert!(cluster.signal(1, Signal::KILL));
            }
        }
        stopped
    }

    fn strike(&self, cluster: &mut Cluster, stopped: &Held) {
        let generation = cluster.progress().generation;
        if matches!(self.fate, Fate::Done) {
            stopped.carry_out();
        }
        self.victim.die(cluster);
        match self.fate {
            Fate::Lost => stopped.lose(),
            Fate::Done => {}
            Fate::GoesOn => stopped.let_go(),
            Fate::Late => {
                let claimed = |cluster: &mut Cluster| cluster.progress().generation > generation;
                cluster.until("the next claim", PATIENCE, claimed);
                stopped.carry_out();
            }
            Fate::BeforeTheNextStart => {
                let start = cluster.proxy.hold(held(START));
                cluster.until("the next start", PATIENCE, |_| start.comes(Duration::ZERO));
                stopped.carry_out();
                start.let_go();
            }
        }
    }
}

#[test]
fn a_kill_at_any_place_loses_and_repeats_nothing() {
    let only = std::env::var("WEIR_CHAOS_CASE").unwrap_or_default();
    let cases: Vec<&Case> = CASES.iter().filter(|case| case.name.contains(&only)).collect();
    let (next, expected) = (AtomicUsize::new(0), OnceLock::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    eprintln!("{}: {:?}, {:?}, {:?}", case.name, case.cause, case.victim, case.fate);
                    case.run(&expected);
                }
            });
        }
    });
}

#[test]
fn a_kill_between_two_checkpoints_loses_and_repeats_nothing() {
    let only = std::env::var("WEIR_CHAOS_CASE").unwrap_or_default();
    let expected = OnceLock::new();
    std::thread::scope(|scope| {
        for (name, victim) in BETWEEN.iter().filter(|(name, _)| name.contains(&only)) {
            let expected = &expected;
            let case = std::thread::Builder::new().name((*name).to_owned());
            case.spawn_scoped(scope, move || between(name, *victim, expected)).unwrap();
        }
    });
}
