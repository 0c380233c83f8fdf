//! Registration, heartbeats, deploying and cancelling over workers that come, go and lie.

use proptest::prelude::*;
use std::collections::BTreeSet;
use weir_protocol::leader::{self, ErrorKind};
use weir_protocol::members::{Action, Event, Members, Options, Process, Registration, Session};
use weir_protocol::{Generation, Now, TaskId};

fn options() -> Options {
    Options {
        job: "job".into(),
        build: "b1".into(),
        plan: "p1".into(),
        code: "c1".into(),
        heartbeat_ms: 1_000,
        missed_heartbeats: 3,
        cancel_timeout_ms: 30_000,
        tell_after_ms: 5_000,
    }
}

fn worker(ordinal: u32) -> Registration {
    Registration {
        job: "job".into(),
        ordinal,
        build: "b1".into(),
        plan: "p1".into(),
        code: "c1".into(),
        revision: 1,
        attempt: 1,
        exchange: format!("10.0.0.{ordinal}:6121"),
    }
}

fn registered(session: u64, ordinal: u32) -> Event {
    Event::Registered { session: Session(session), worker: worker(ordinal), process: Process::Other }
}

fn own() -> Event {
    Event::Registered { session: Session(1), worker: worker(0), process: Process::Own }
}

fn deploy(workers: u32) -> Event {
    Event::Deploy { generation: Generation(1), parallelism: 2, workers }
}

fn deployed(session: u64, subtask: u32) -> Event {
    let tasks = BTreeSet::from([TaskId { chain: 0, subtask }]);
    Event::Deployed { session: Session(session), generation: Generation(1), sources: tasks.clone(), tasks }
}

fn cancelled(session: u64) -> Event {
    Event::Cancelled { session: Session(session), generation: Generation(1) }
}

fn cancel() -> Event {
    Event::Cancel { generation: Generation(1) }
}

fn shown(action: &Action) -> String {
    match action {
        Action::Welcome { session } => format!("welcome {}", session.0),
        Action::Refuse { session, reason } => format!("refuse {}: {reason}", session.0),
        Action::Replace { session, .. } => format!("replace {}", session.0),
        Action::Close { session, .. } => format!("close {}", session.0),
        Action::Deploy { session, generation, .. } => format!("deploy {} g{generation}", session.0),
        Action::Cancel { session, generation } => format!("cancel {} g{generation}", session.0),
        Action::GiveUp { .. } => "give up".into(),
        Action::TellWaiting { missing } => format!("waiting for {missing:?}"),
        Action::Tell(leader::Event::Deployed { tasks, .. }) => format!("deployed {}", tasks.len()),
        Action::Tell(leader::Event::DeployFailed { .. }) => "deploy failed".into(),
        Action::Tell(leader::Event::WorkerLost { worker, .. }) => format!("lost {worker}"),
        Action::Tell(leader::Event::WorkersReady { revision }) => format!("ready {revision}"),
        Action::Tell(leader::Event::Cancelled { .. }) => "cancelled".into(),
        Action::Tell(other) => format!("{other:?}"),
    }
}

/// Each event with what follows from it at that moment, in milliseconds.
fn check(history: Vec<(u64, Event, &[&str])>) {
    let mut members = Members::new(options());
    for (at, event, expected) in history {
        let described = format!("{event:?}");
        let actions: Vec<String> = members.step(Now(at), event).iter().map(shown).collect();
        assert_eq!(actions, expected, "at {at}: {described}");
    }
}

#[test]
fn a_generation_is_deployed_once_all_its_workers_are_there() {
    check(vec![
        (0, registered(1, 0), &["welcome 1"]),
        (0, deploy(2), &[]),
        (10, registered(2, 1), &["welcome 2", "deploy 1 g1", "deploy 2 g1"]),
        (20, deployed(1, 0), &[]),
        (20, deployed(1, 0), &[]),
        (30, deployed(2, 1), &["deployed 2"]),
        (40, cancel(), &["cancel 1 g1", "cancel 2 g1"]),
        (50, cancelled(2), &[]),
        (60, cancelled(1), &["cancelled"]),
    ]);
}

#[test]
fn a_lost_worker_ends_the_generation_and_is_not_waited_for() {
    let lost = Event::Disconnected { session: Session(2), message: "reset".into() };
    check(vec![
        (0, registered(1, 0), &["welcome 1"]),
        (0, registered(2, 1), &["welcome 2"]),
        (0, deploy(2), &["deploy 1 g1", "deploy 2 g1"]),
        (1, deployed(1, 0), &[]),
        (2, lost, &["lost 1"]),
        (3, deployed(2, 1), &[]),
        (4, cancel(), &["cancel 1 g1"]),
        (5, cancelled(1), &["cancelled"]),
        (6, deploy(2), &[]),
        (7, registered(3, 1), &["welcome 3", "deploy 1 g1", "deploy 3 g1"]),
    ]);
}

#[test]
fn a_silent_worker_is_lost_after_three_heartbeats() {
    check(vec![
        (0, registered(1, 0), &["welcome 1"]),
        (0, deploy(1), &["deploy 1 g1"]),
        (1, deployed(1, 0), &["deployed 1"]),
        (2_000, Event::Heard { session: Session(1) }, &[]),
        (4_999, Event::Tick, &[]),
        (5_000, Event::Tick, &["close 1", "lost 0"]),
        (5_001, Event::Heard { session: Session(1) }, &[]),
        (5_002, cancel(), &["cancelled"]),
    ]);
}

#[test]
fn a_second_process_takes_the_place_of_the_first() {
    check(vec![
        (0, registered(1, 0), &["welcome 1"]),
        (0, deploy(1), &["deploy 1 g1"]),
        (1, registered(2, 0), &["replace 1", "lost 0", "welcome 2"]),
        (2, deployed(1, 0), &[]),
        (3, cancel(), &["cancelled"]),
    ]);
}

#[test]
fn workers_of_another_job_build_or_plan_are_refused() {
    let strange = |change: fn(&mut Registration)| {
        let mut worker = worker(0);
        change(&mut worker);
        Event::Registered { session: Session(7), worker, process: Process::Other }
    };
    check(vec![
        (
            0,
            strange(|worker| worker.job = "x".into()),
            &["refuse 7: this is the leader of job job, the worker is one of job x"],
        ),
        (
            0,
            strange(|worker| worker.build = "b2".into()),
            &["refuse 7: the leader is built as b1, the worker as b2: all workers of a job need the same image"],
        ),
        (
            0,
            strange(|worker| worker.plan = "p2".into()),
            &[
                "refuse 7: the leader's plan has the fingerprint p1, the worker's p2: all workers of a job need the same SQL",
            ],
        ),
        (
            0,
            strange(|worker| worker.code = "c2".into()),
            &["refuse 7: the leader runs the code c1, the worker c2: it waits for a leader of its own"],
        ),
        (0, deploy(1), &[]),
        (5_000, Event::Tick, &["waiting for {0}"]),
    ]);
}

#[test]
fn of_two_workers_in_one_place_the_newer_one_stays() {
    let of = |session: u64, revision: u64, attempt: u64| Event::Registered {
        session: Session(session),
        worker: Registration { revision, attempt, ..worker(0) },
        process: Process::Other,
    };
    let gone = |session: u64| Event::Disconnected { session: Session(session), message: "reset".into() };
    check(vec![
        (0, of(1, 3, 1), &["welcome 1"]),
        (0, of(2, 3, 2), &["replace 1", "welcome 2"]),
        (1, of(3, 3, 1), &["replace 3"]),
        (2, of(4, 2, 9), &["replace 4"]),
        (3, deploy(1), &["deploy 2 g1"]),
        (4, of(5, 4, 0), &["replace 2", "lost 0", "welcome 5"]),
        (5, of(6, 4, 0), &["replace 5", "welcome 6"]),
        (6, of(7, 3, 9), &["replace 7"]),
        (7, gone(2), &[]),
        (8, gone(6), &[]),
        // Better an old one than none.
        (9, of(8, 1, 1), &["welcome 8"]),
    ]);
}

#[test]
fn a_replaced_worker_does_not_take_its_place_back() {
    let of = |session: u64, attempt: u64| {
        let worker = Registration { attempt, ..worker(1) };
        Event::Registered { session: Session(session), worker, process: Process::Other }
    };
    check(vec![
        (0, own(), &["welcome 1"]),
        (0, of(2, 1), &["welcome 2"]),
        (0, deploy(2), &["deploy 1 g1", "deploy 2 g1"]),
        (1, deployed(1, 0), &[]),
        (2, deployed(2, 1), &["deployed 2"]),
        (3, of(3, 2), &["replace 2", "lost 1", "welcome 3"]),
        // It was only cut off, and comes back.
        (4, of(4, 1), &["replace 4"]),
        (5, cancel(), &["cancel 1 g1"]),
        (6, cancelled(4), &[]),
        (7, cancelled(1), &["cancelled"]),
        (8, Event::Deploy { generation: Generation(2), parallelism: 2, workers: 2 }, &["deploy 1 g2", "deploy 3 g2"]),
        (9, of(5, 1), &["replace 5"]),
    ]);
}

#[test]
fn workers_are_gathered_while_the_job_runs() {
    check(vec![
        (0, registered(1, 0), &["welcome 1"]),
        (0, deploy(1), &["deploy 1 g1"]),
        (1, deployed(1, 0), &["deployed 1"]),
        (2, Event::Gather { revision: 3, workers: 2 }, &[]),
        (3, registered(2, 1), &["welcome 2", "ready 3"]),
        (4, Event::Gather { revision: 4, workers: 2 }, &["ready 4"]),
        (5, Event::Gather { revision: 5, workers: 3 }, &[]),
        (6, Event::Gather { revision: 6, workers: 1 }, &["ready 6"]),
        (7, registered(3, 2), &["welcome 3"]),
    ]);
}

#[test]
fn a_worker_that_leaves_keeps_its_tasks_and_gets_no_new_ones() {
    check(vec![
        (0, registered(1, 0), &["welcome 1"]),
        (0, deploy(1), &["deploy 1 g1"]),
        (1, deployed(1, 0), &["deployed 1"]),
        (2, Event::Leaving { session: Session(1) }, &[]),
        (3, cancel(), &["cancel 1 g1"]),
        (4, cancelled(1), &["cancelled"]),
        (5, deploy(1), &[]),
        (6, registered(2, 0), &["replace 1", "welcome 2", "deploy 2 g1"]),
    ]);
}

#[test]
fn tasks_that_do_not_end_are_given_up_with_their_worker() {
    check(vec![
        (0, registered(1, 0), &["welcome 1"]),
        (0, deploy(1), &["deploy 1 g1"]),
        (1, cancel(), &["cancel 1 g1"]),
        (30_001, Event::Heard { session: Session(1) }, &["close 1", "cancelled"]),
    ]);
}

#[test]
fn a_leader_that_starved_keeps_its_own_worker() {
    check(vec![
        (0, own(), &["welcome 1"]),
        (0, registered(2, 1), &["welcome 2"]),
        (0, deploy(2), &["deploy 1 g1", "deploy 2 g1"]),
        (1, deployed(1, 0), &[]),
        (1, deployed(2, 1), &["deployed 2"]),
        (60_000, Event::Tick, &["close 2", "lost 1"]),
        (60_001, cancel(), &["cancel 1 g1"]),
        (60_002, cancelled(1), &["cancelled"]),
        (60_003, registered(3, 1), &["welcome 3"]),
        (
            60_004,
            Event::Deploy { generation: Generation(2), parallelism: 2, workers: 2 },
            &["deploy 1 g2", "deploy 3 g2"],
        ),
    ]);
}

#[test]
fn nobody_takes_the_place_of_the_leaders_own_worker() {
    check(vec![(0, own(), &["welcome 1"]), (1, registered(2, 0), &["replace 2"]), (2, deploy(1), &["deploy 1 g1"])]);
}

#[test]
fn a_leader_whose_own_tasks_end_late_goes_on_with_them_and_gives_up_if_they_never_do() {
    let second = || Event::Deploy { generation: Generation(2), parallelism: 2, workers: 1 };
    let cancel_second = Event::Cancel { generation: Generation(2) };
    check(vec![
        (0, own(), &["welcome 1"]),
        (0, registered(2, 1), &["welcome 2"]),
        (0, deploy(2), &["deploy 1 g1", "deploy 2 g1"]),
        (1, cancel(), &["cancel 1 g1", "cancel 2 g1"]),
        // The process stood still: what its tasks have to say is on its way.
        (40_000, Event::Heard { session: Session(2) }, &["close 2"]),
        (69_999, cancelled(1), &["cancelled"]),
        (70_000, second(), &["deploy 1 g2"]),
        (70_000, cancel_second, &["cancel 1 g2"]),
        (100_000, Event::Tick, &[]),
        (129_999, Event::Tick, &[]),
        (130_000, Event::Tick, &["give up"]),
    ]);
}

fn any_event() -> impl Strategy<Value = Event> {
    let (session, ordinal) = (1..6_u64, 0..3_u32);
    prop_oneof![
        (session.clone(), ordinal.clone()).prop_map(|(session, ordinal)| registered(session, ordinal)),
        session.clone().prop_map(|session| Event::Heard { session: Session(session) }),
        session.clone().prop_map(|session| Event::Leaving { session: Session(session) }),
        session.clone().prop_map(|s| Event::Disconnected { session: Session(s), message: String::new() }),
        (session.clone(), ordinal).prop_map(|(session, subtask)| deployed(session, subtask)),
        session.clone().prop_map(|s| Event::DeployFailed {
            session: Session(s),
            generation: Generation(1),
            kind: ErrorKind::Transient,
            message: String::new(),
        }),
        session.prop_map(cancelled),
        Just(Event::Tick),
    ]
}

proptest! {
    /// Whatever workers do, the leader hears of a generation at most one end, and a cancellation always ends in time.
    #[test]
    fn a_cancellation_always_ends(before in prop::collection::vec((0..2_000_u64, any_event()), 0..40), after in prop::collection::vec((0..2_000_u64, any_event()), 0..40)) {
        let mut members = Members::new(options());
        let mut now = 0;
        members.step(Now(now), deploy(2));
        let mut deployments = 0;
        for (wait, event) in before {
            now += wait;
            let actions = members.step(Now(now), event);
            deployments += actions.iter().filter(|action| shown(action).starts_with("deployed")).count();
        }
        prop_assert!(deployments <= 1);
        let ended = |actions: Vec<Action>| actions.iter().filter(|action| shown(action) == "cancelled").count();
        let mut ends = ended(members.step(Now(now), cancel()));
        for (wait, event) in after {
            now += wait;
            ends += ended(members.step(Now(now), event));
        }
        ends += ended(members.step(Now(now + 40_000), Event::Tick));
        prop_assert_eq!(ends, 1);
    }
}
