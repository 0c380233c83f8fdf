//! Named histories of two leaders, one of which must not act.

use crate::rig::{Objects, Rig, execute, go_on, head, links, maintain, options};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use weir_protocol::chain::{Link, ObjectName, Origin, Prefix, Stop};
use weir_protocol::leader::{
    Action, End, ErrorKind, Event, Mode, Notice, Operation, Outcome, Request, Running, State, Then,
};
use weir_protocol::{Generation, LinkNumber, Now};

#[test]
fn nobody_goes_on_with_a_job_that_was_deleted() {
    let mut store = Objects::new();
    let mut rig = Rig::begun(&mut store, "a", go_on());
    rig.writes = Some("x");
    rig.savepoint(&mut store, "s", Then::Continue);
    let delete = Mode::Maintain { operations: vec![Operation::DeleteJob], running: Running::Fence };
    let deleting = Rig::begun(&mut store, "b", delete);
    assert_eq!(deleting.end, Some(End::Maintained));
    assert!(store.contains_key("deleted"));
    rig.savepoint(&mut store, "t", Then::Continue);
    assert!(matches!(rig.end, Some(End::Fenced { .. })), "{:?}", rig.end);
    let next = Rig::begun(&mut store, "c", go_on());
    assert!(matches!(&next.end, Some(End::Failed { message, .. }) if message.contains("has been deleted")));
}

#[test]
fn a_deletion_that_lands_behind_a_newer_claim_ends_that_leader_too() {
    let delete = || Mode::Maintain { operations: vec![Operation::DeleteJob], running: Running::Fence };
    // The mark lands while the newer leader runs, or while its start is under way.
    for held in [None, Some("chain/")] {
        let mut store = Objects::new();
        Rig::begun(&mut store, "a", go_on());
        let mut deleting = Rig::new();
        deleting.hold_puts_of = Some("deleted");
        deleting.tell(&mut store, Event::Begin(Box::new(options("b", delete()))));
        let (op, mark) = deleting.take_held();
        let mut next = Rig::new();
        (next.writes, next.hold_puts_of) = (Some("x"), held);
        next.tell(&mut store, Event::Begin(Box::new(options("c", go_on()))));
        assert_eq!(next.end, None, "nothing says yet that the job is deleted");
        let outcome = execute(&mut store, mark);
        deleting.tell(&mut store, Event::Stored { op, outcome });
        assert_eq!(deleting.end, Some(End::Maintained));
        match held {
            None => next.savepoint(&mut store, "s", Then::Continue),
            Some(_) => {
                let (op, start) = next.take_held();
                let outcome = execute(&mut store, start);
                next.tell(&mut store, Event::Stored { op, outcome });
            }
        }
        assert!(matches!(&next.end, Some(End::Fenced { message }) if message.contains("deleted")), "{:?}", next.end);
        assert_eq!((next.deployed.len(), next.committed.len()), (usize::from(held.is_none()), 0));
    }
}

#[test]
fn a_manifest_that_lands_for_a_fenced_leader_is_the_next_ones_to_commit() {
    let mut store = Objects::new();
    let mut frozen = Rig::begun(&mut store, "a", go_on());
    (frozen.writes, frozen.hold_puts_of) = (Some("x"), Some("chain/"));
    frozen.savepoint(&mut store, "one", Then::Continue);
    let Some(Action::Store { op, request }) = frozen.held.pop() else { unreachable!("its manifest is held") };
    let mut next = Rig::new();
    next.hold_puts_of = Some("chain/");
    next.tell(&mut store, Event::Begin(Box::new(options("b", go_on()))));
    // The next leader has looked and is about to put its start: only now the manifest lands.
    assert_eq!(execute(&mut store, request), Outcome::Done);
    let Some(Action::Store { op: late, request }) = next.held.pop() else { unreachable!("its start is held") };
    next.hold_puts_of = None;
    let outcome = execute(&mut store, request);
    assert_eq!(outcome, Outcome::Exists);
    next.tell(&mut store, Event::Stored { op: late, outcome });
    assert_eq!(next.committed, ["x"], "it went on from what landed");
    frozen.tell(&mut store, Event::Stored { op, outcome: Outcome::Done });
    assert!(matches!(frozen.end, Some(End::Fenced { .. })));
    assert_eq!(frozen.committed, Vec::<String>::new());
}

#[test]
fn a_leader_whose_workers_have_gone_to_another_one_notices() {
    let mut store = Objects::new();
    let mut alone = Rig::new();
    alone.hold_tasks = true;
    alone.tell(&mut store, Event::Begin(Box::new(options("a", go_on()))));
    // As long as nobody else is there it waits.
    (0..10).for_each(|_| alone.wait(&mut store));
    assert_eq!((alone.deployed.len(), alone.end.clone()), (1, None));
    let next = Rig::begun(&mut store, "b", go_on());
    assert_eq!(next.deployed.len(), 1);
    alone.wait(&mut store);
    assert!(matches!(alone.end, Some(End::Fenced { .. })), "{:?}", alone.end);
}

#[test]
fn a_start_that_lands_in_a_retired_links_place_does_not_stand() {
    let mut store = Objects::new();
    Rig::begun(&mut store, "a", go_on());
    let mut frozen = Rig::new();
    frozen.hold_puts_of = Some("chain/");
    frozen.tell(&mut store, Event::Begin(Box::new(options("b", go_on()))));
    let Some(Action::Store { op, request }) = frozen.held.pop() else { unreachable!("its start is held") };
    let mut next = Rig::begun(&mut store, "c", go_on());
    next.tell(&mut store, Event::StopRequested);
    let mut later = Rig::begun(&mut store, "d", go_on());
    later.tell(&mut store, Event::StopRequested);
    assert!(!links(&store).contains_key(&2), "its place was taken and is retired");
    let before = head(&store);
    assert_eq!(execute(&mut store, request), Outcome::Done);
    frozen.tell(&mut store, Event::Stored { op, outcome: Outcome::Done });
    assert!(matches!(frozen.end, Some(End::Fenced { .. })));
    assert_eq!(head(&store), before);
}

#[test]
fn a_put_of_unknown_outcome_is_put_again_until_it_is_known() {
    let mut store = Objects::new();
    let mut rig = Rig::begun(&mut store, "a", go_on());
    (rig.writes, rig.hold_puts_of) = (Some("x"), Some("chain/"));
    rig.savepoint(&mut store, "one", Then::Continue);
    let Some(Action::Store { op, request }) = rig.held.pop() else { unreachable!("its manifest is held") };
    let outcome = Outcome::Unknown { message: "cut off".to_owned() };
    rig.tell(&mut store, Event::Stored { op, outcome });
    // Far beyond the checkpoint's time-out, and still nothing is given up.
    rig.now = Now(100_000);
    rig.tell(&mut store, Event::Tick);
    assert!(rig.notices.iter().all(|notice| !matches!(notice, Notice::CheckpointFailed { .. })));
    // The first put lands, the second finds it, and it is ours.
    assert_eq!(execute(&mut store, request), Outcome::Done);
    let Some(Action::Store { op, .. }) = rig.held.pop() else { unreachable!("it was sent again") };
    rig.tell(&mut store, Event::Stored { op, outcome: Outcome::Exists });
    assert_eq!(rig.committed, ["x"]);
}

#[test]
fn the_state_of_another_job_and_a_folder_in_use_are_refused() {
    let mut store = Objects::new();
    Rig::begun(&mut store, "a", go_on());
    let before = store.clone();
    let mut other = options("b", go_on());
    other.job = "other".to_owned();
    let mut rig = Rig::new();
    rig.tell(&mut store, Event::Begin(Box::new(other)));
    assert!(rig.failed().is_some_and(|(kind, message)| kind == ErrorKind::User && message.contains("belongs to job")));
    let mut elsewhere = options("c", go_on());
    elsewhere.claimant.pod = "another pod".to_owned();
    let mut rig = Rig::new();
    rig.tell(&mut store, Event::Begin(Box::new(elsewhere)));
    assert!(rig.failed().is_some_and(|(kind, message)| kind == ErrorKind::User && message.contains("in use")));
    assert_eq!(store, before, "nothing was written");
}

#[test]
fn a_leader_frozen_with_its_manifests_put_in_flight_loses_to_the_next() {
    let mut store = Objects::new();
    let mut frozen = Rig::begun(&mut store, "a", go_on());
    (frozen.writes, frozen.hold_puts_of) = (Some("x"), Some("chain/"));
    frozen.savepoint(&mut store, "one", Then::Continue);
    let (op, request) = frozen.take_held();
    let mut next = Rig::begun(&mut store, "b", go_on());
    next.writes = Some("y");
    next.savepoint(&mut store, "two", Then::Continue);
    let before = store.clone();
    let outcome = execute(&mut store, request);
    assert_eq!(outcome, Outcome::Exists, "its place is taken");
    frozen.tell(&mut store, Event::Stored { op, outcome });
    assert!(matches!(frozen.end, Some(End::Fenced { .. })));
    assert_eq!((frozen.committed.len(), next.committed.as_slice()), (0, ["y".to_owned()].as_slice()));
    assert_eq!(store, before, "who is fenced touches nothing");
}

#[test]
fn maintenance_fences_a_frozen_leader() {
    let mut store = Objects::new();
    let mut frozen = Rig::begun(&mut store, "a", go_on());
    (frozen.writes, frozen.hold_puts_of) = (Some("x"), Some("chain/"));
    frozen.tell(&mut store, Event::StopRequested);
    let (op, request) = frozen.take_held();
    // Its stop is under way; somebody believes that it is dead.
    let operations = vec![Operation::DeleteSavepoint { name: "none".to_owned() }];
    let maintenance = Rig::begun(&mut store, "b", Mode::Maintain { operations, running: Running::Fence });
    assert_eq!(maintenance.end, Some(End::Maintained));
    let outcome = execute(&mut store, request);
    assert_eq!(outcome, Outcome::Exists);
    frozen.tell(&mut store, Event::Stored { op, outcome });
    assert!(matches!(frozen.end, Some(End::Fenced { .. })));
    assert_eq!((frozen.committed.len(), head(&store).stop()), (0, None));
    // Now the same with a manifest that lands first: maintenance copies its flag and commits what it lists.
    let mut store = Objects::new();
    let mut frozen = Rig::begun(&mut store, "a", go_on());
    (frozen.writes, frozen.hold_puts_of) = (Some("x"), Some("chain/"));
    frozen.tell(&mut store, Event::StopRequested);
    let (op, request) = frozen.take_held();
    let outcome = execute(&mut store, request);
    let maintenance = Rig::begun(&mut store, "b", maintain(Vec::new()));
    assert_eq!(
        (&maintenance.end, maintenance.committed.as_slice()),
        (&Some(End::Maintained), ["x".to_owned()].as_slice())
    );
    assert_eq!(head(&store).stop(), Some(Stop::Suspended));
    frozen.tell(&mut store, Event::Stored { op, outcome });
    assert!(matches!(frozen.end, Some(End::Fenced { .. })));
    assert_eq!(frozen.committed.len(), 0);
}

#[test]
fn a_put_that_lands_after_it_was_given_up_is_the_next_generations_to_go_on_from() {
    let mut store = Objects::new();
    let mut rig = Rig::begun(&mut store, "a", go_on());
    (rig.writes, rig.hold_puts_of) = (Some("x"), Some("chain/"));
    rig.savepoint(&mut store, "one", Then::Continue);
    let (op, manifest) = rig.take_held();
    let outcome = Outcome::Unknown { message: "cut off".to_owned() };
    rig.tell(&mut store, Event::Stored { op, outcome });
    // The generation fails, and with it the attempt is given up; the put is still on its way.
    let (generation, task, message) = (rig.generation(), crate::rig::TASK, "chance".to_owned());
    rig.tell(&mut store, Event::TaskFailed { generation, task, kind: ErrorKind::Transient, message });
    rig.wait(&mut store);
    let (op, start) = rig.take_held();
    assert_eq!(execute(&mut store, manifest), Outcome::Done);
    rig.hold_puts_of = None;
    let outcome = execute(&mut store, start);
    rig.tell(&mut store, Event::Stored { op, outcome });
    let (_, restore) = rig.deployed.last().expect("deployed");
    assert!(restore.is_some(), "it goes on from what landed");
    assert_eq!((rig.generation(), rig.committed.as_slice()), (Generation(2), ["x".to_owned()].as_slice()));
}

#[test]
fn what_an_old_generation_says_is_ignored() {
    let mut store = Objects::new();
    let mut rig = Rig::begun(&mut store, "a", go_on());
    let old = rig.generation();
    let (task, kind) = (crate::rig::TASK, ErrorKind::Transient);
    let failed = |generation| Event::TaskFailed { generation, task, kind, message: "chance".to_owned() };
    rig.tell(&mut store, failed(old));
    rig.wait(&mut store);
    assert_eq!(rig.generation(), Generation(2));
    rig.silent = [0].into();
    rig.savepoint(&mut store, "s", Then::Continue);
    let checkpoint = rig.barriers.last().expect("a barrier was sent").0;
    let (operators, cost) = (std::collections::BTreeMap::new(), weir_protocol::snapshot::SnapshotCost::default());
    let snapshot = Box::new(weir_protocol::snapshot::TaskSnapshot { task, operators, in_flight: None, cost });
    let cause = weir_protocol::leader::DeclineCause::Task;
    let before = (store.clone(), rig.leader.status());
    let tasks = || [task].into();
    for late in [
        Event::Acked { generation: old, checkpoint, snapshot },
        Event::Declined { generation: old, checkpoint, task, cause, message: "chance".to_owned() },
        failed(old),
        Event::DeployFailed { generation: old, kind, message: "chance".to_owned() },
        Event::Deployed { generation: old, tasks: tasks(), sources: tasks() },
        Event::SourceEnded { generation: old, task },
        Event::Cancelled { generation: old },
    ] {
        let said = format!("{late:?}");
        rig.tell(&mut store, late);
        assert_eq!((&store, rig.leader.status()), (&before.0, before.1.clone()), "{said}");
    }
}

#[test]
fn a_leader_that_was_replaced_notices_although_the_job_never_stands_still() {
    let mut store = Objects::new();
    let mut before = Rig::begun(&mut store, "a", go_on());
    let mut next = Rig::begun(&mut store, "b", go_on());
    let lost = Event::WorkerLost { generation: Generation(1), worker: 1, message: "it is away".to_owned() };
    let mut events = VecDeque::from([lost]);
    let mut names = (0..).map(|number| format!("s{number}"));
    for _ in 0..100 {
        let event = events.pop_front().unwrap_or(Event::Tick);
        before.now = before.leader.deadline().filter(|_| matches!(event, Event::Tick)).unwrap_or(before.now);
        for action in before.leader.step(before.now, event) {
            match action {
                Action::Cancel { generation } => events.push_back(Event::Cancelled { generation }),
                Action::End(end) => return assert!(matches!(end, End::Fenced { .. }), "{end:?}"),
                Action::Store { op, request } => {
                    // Before every answer another checkpoint is there.
                    next.savepoint(&mut store, &names.next().expect("there is always one more"), Then::Continue);
                    events.push_back(Event::Stored { op, outcome: execute(&mut store, request) });
                }
                _ => {}
            }
        }
    }
    panic!("it looks for ever");
}

#[test]
fn a_leader_that_was_replaced_notices_although_its_checkpoint_hangs() {
    let mut store = Objects::new();
    let mut patient = options("a", go_on());
    patient.checkpoint.timeout_ms = 600_000;
    let mut before = Rig::begun_with(&mut store, patient);
    before.silent = [0].into();
    before.savepoint(&mut store, "s", Then::Continue);
    before.wait(&mut store);
    assert_eq!(before.end, None, "nobody has replaced it");
    Rig::begun(&mut store, "b", go_on());
    before.wait(&mut store);
    assert!(matches!(before.end, Some(End::Fenced { .. })), "{:?}", before.end);
    assert!(before.now < Now(60_000), "{:?}", before.now);
}

#[test]
fn a_leader_that_was_replaced_notices_although_its_commits_hang() {
    let mut store = Objects::new();
    let mut stopping = Rig::begun(&mut store, "a", go_on());
    stopping.hold_commits = true;
    stopping.writes = Some("x");
    stopping.tell(&mut store, Event::StopRequested);
    assert_eq!(stopping.leader.status().state, State::Stopping);
    let mut settling = Rig::new();
    settling.hold_commits = true;
    settling.tell(&mut store, Event::Begin(Box::new(options("b", go_on()))));
    assert_eq!(settling.leader.status().state, State::Settling);
    Rig::begun(&mut store, "c", go_on());
    for mut before in [stopping, settling] {
        before.settle(&mut store);
        assert!(matches!(before.end, Some(End::Fenced { .. })), "{:?}", before.end);
        assert!(before.now < Now(60_000), "{:?}", before.now);
    }
}

/// A leader begins while another one completes a checkpoint before each of these requests.
fn check_claim_beside_checkpoints(retain: u32, before: fn(&Request) -> bool) {
    let mut store = Objects::new();
    let mut at_work = options("a", go_on());
    (at_work.checkpoint.interval_ms, at_work.checkpoint.retain) = (Some(10), retain);
    let mut at_work = Rig::begun_with(&mut store, at_work);
    at_work.wait(&mut store);
    let before_it = Rc::new(RefCell::new(at_work));
    let at_work = Rc::clone(&before_it);
    let mut next = Rig::new();
    next.meanwhile = Some(Box::new(move |store, request| {
        let mut at_work = at_work.borrow_mut();
        if before(request) && at_work.end.is_none() {
            at_work.writes = Some(format!("x{}", at_work.listed.len()).leak());
            at_work.wait(store);
        }
    }));
    next.tell(&mut store, Event::Begin(Box::new(options("b", go_on()))));
    assert!(!store.contains_key("generations/00000000000000000003"), "one claim is enough");
    next.settle(&mut store);
    let before_it = before_it.borrow();
    assert!(matches!(before_it.end, Some(End::Fenced { .. })), "{:?}", before_it.end);
    let [(start, restore)] = next.deployed.as_slice() else { panic!("it has begun {} times", next.deployed.len()) };
    let manifests: Vec<LinkNumber> = links(&store)
        .values()
        .filter_map(|link| Some(link.manifest()?.number))
        .filter(|at| *at < start.number)
        .collect();
    assert_eq!(start.origin, Origin::Link(*manifests.last().expect("there was a checkpoint")), "the newest there is");
    assert!(restore.is_some());
    let newest = format!("x{}", before_it.listed.len() - 1);
    assert_eq!(next.committed, [newest], "what is not confirmed yet");
    assert!(before_it.listed.iter().all(|id| before_it.committed.contains(id) || next.committed.contains(id)));
}

#[test]
fn a_new_leader_claims_although_the_old_one_checkpoints_between_any_two_of_its_looks() {
    let listing = |request: &Request| matches!(request, Request::List { prefix: Prefix::Chain });
    check_claim_beside_checkpoints(1, listing);
    check_claim_beside_checkpoints(3, listing);
    // Whatever it reads: of what it has listed, all but the head is gone by then.
    let listing_and_reading = |request: &Request| match request {
        Request::List { prefix } => *prefix == Prefix::Chain,
        Request::Get { key } => *key == ObjectName::Link(LinkNumber(1)),
        _ => false,
    };
    check_claim_beside_checkpoints(2, listing_and_reading);
}

#[test]
fn what_lands_in_a_retired_heads_place_permits_no_claim() {
    let mut store = Objects::new();
    let mut first = Rig::begun(&mut store, "a", go_on());
    let mut second = Rig::new();
    second.hold_puts_of = Some("chain/");
    second.tell(&mut store, Event::Begin(Box::new(options("b", go_on()))));
    let (op, late) = second.take_held();
    // Its start loses the place behind the head to the manifest of the one before.
    first.savepoint(&mut store, "s", Then::Continue);
    assert!(matches!(first.end, Some(End::Fenced { .. })));
    let head_then = ObjectName::Link(head(&store).number());
    let mut next = Rig::new();
    let mut second = Some((second, op, late));
    next.meanwhile = Some(Box::new(move |store, request| {
        if *request != (Request::Get { key: head_then.clone() }) {
            return;
        }
        let Some((mut second, op, late)) = second.take() else { return };
        second.hold_puts_of = None;
        second.tell(store, Event::Stored { op, outcome: Outcome::Exists });
        second.tell(store, Event::SavepointReleased { name: "s".to_owned() });
        second.savepoint(store, "t", Then::Continue);
        assert_eq!(execute(store, late.clone()), Outcome::Done, "its place is retired");
    }));
    next.tell(&mut store, Event::Begin(Box::new(options("c", go_on()))));
    assert!(!store.contains_key("generations/00000000000000000003"), "{:?}", head(&store));
    next.settle(&mut store);
    let Link::Start(start) = head(&store) else { panic!("it has begun") };
    assert_eq!(start.generation, Generation(3));
}
