//! Named histories of assignments: asked, stored, followed, overtaken, taken back.

use crate::rig::{Objects, Rig, assignment, execute, go_on, guided, head, links, options, run_from, sum};
use weir_protocol::chain::{Assignment, Link, ObjectName, Origin, RestoreFrom, Stop};
use weir_protocol::leader::{
    Action, Already, AssignmentAnswer, BarrierKind, CommitResult, End, ErrorKind, Event, Guide, Notice, Options,
    Resume, State, Stops, Switching, Then,
};
use weir_protocol::{CheckpointId, Generation, LinkNumber, Now, OperatorId};

fn claims(store: &Objects) -> usize {
    store.keys().filter(|name| name.starts_with("generations/")).count()
}

/// A leader that hears of an assignment before it begins.
fn assigned(store: &mut Objects, options: Options, wanted: Assignment) -> Rig {
    let mut rig = Rig::new();
    let assignment = Box::new(wanted);
    rig.tell(store, Event::AssignmentRequested { request: "first".to_owned(), assignment });
    rig.tell(store, Event::Begin(Box::new(options)));
    rig
}

/// A job of code "a" that runs as revision 1.
fn running(store: &mut Objects) -> Rig {
    let rig = assigned(store, guided("a", "a"), assignment(1, "a", 1));
    assert_eq!((rig.revision(), rig.deployed.len()), (1, 1), "it does not begin without what it is told");
    rig
}

#[test]
fn an_assignment_is_stored_before_anything_happens() {
    let mut store = Objects::new();
    let mut rig = Rig::begun(&mut store, "a", go_on());
    rig.hold_puts_of = Some("assignments/");
    rig.writes = Some("x");
    assert_eq!(rig.assign(&mut store, assignment(2, "", 2)), []);
    assert_eq!((rig.barriers.len(), rig.prepared.len()), (0, 0));
    let (op, request) = rig.take_held();
    let outcome = execute(&mut store, request);
    rig.tell(&mut store, Event::Stored { op, outcome });
    assert!(rig.notices.iter().any(|notice| {
        matches!(notice, Notice::AssignmentAnswered { answer: AssignmentAnswer::Accepted, revision: 2, .. })
    }));
    assert_eq!(rig.barriers, [(CheckpointId(1), BarrierKind::Stop)]);
    assert_eq!((rig.prepared.as_slice(), rig.committed.as_slice()), ([2].as_slice(), ["x".to_owned()].as_slice()));
    let [(first, _), (second, restore)] = rig.deployed.as_slice() else { panic!("{:?}", rig.deployed) };
    assert_eq!(second.key_groups, first.key_groups.rescale(2).expect("two of four"));
    let manifest = &restore.as_ref().expect("it goes on from the stop").manifest;
    assert_eq!((manifest.stop, manifest.checkpoint), (Some(Stop::Assignment(2)), CheckpointId(1)));
    assert_eq!((second.terms.revision, second.claimant.revision, head(&store).stop()), (2, 2, None));
}

#[test]
fn a_leader_that_waits_for_its_first_assignment_claims_nothing_before() {
    let mut store = Objects::new();
    let mut waiting = guided("a", "a");
    waiting.direction.guide = Guide::AssignmentsAbove(0);
    let mut rig = Rig::new();
    rig.tell(&mut store, Event::Begin(Box::new(waiting)));
    assert_eq!((rig.leader.status().state, store.len()), (State::Awaiting, 0));
    assert_eq!(rig.assign(&mut store, assignment(1, "a", 2)), [AssignmentAnswer::Accepted]);
    assert_eq!((rig.revision(), rig.deployed.len()), (1, 1));
}

#[test]
fn what_has_ended_is_not_tried_again() {
    let mut store = Objects::new();
    running(&mut store);
    let mut again = guided("b", "a");
    again.direction.guide = Guide::AssignmentsAbove(1);
    let mut rig = Rig::new();
    rig.tell(&mut store, Event::Begin(Box::new(again)));
    assert_eq!((rig.leader.status().state, claims(&store), rig.deployed.len()), (State::Awaiting, 1, 0));
    assert_eq!(rig.assign(&mut store, assignment(2, "a", 2)), [AssignmentAnswer::Accepted]);
    assert_eq!((rig.revision(), rig.deployed.len()), (2, 1));
}

#[test]
fn what_cannot_be_assigned_is_refused_with_the_reason_and_changes_nothing() {
    let mut store = Objects::new();
    let mut rig = running(&mut store);
    assert_eq!(rig.assign(&mut store, assignment(5, "a", 2)), [AssignmentAnswer::Accepted]);
    let (before, deployed) = (store.clone(), rig.deployed.len());
    let mut check = |wanted: Assignment, expected: AssignmentAnswer| {
        assert_eq!(rig.assign(&mut store, wanted), [expected]);
        assert_eq!((&store, rig.deployed.len()), (&before, deployed));
    };
    check(assignment(5, "a", 2), AssignmentAnswer::Accepted);
    check(assignment(5, "a", 3), AssignmentAnswer::Conflict);
    check(assignment(4, "a", 3), AssignmentAnswer::Stale { highest: 5 });
    check(assignment(6, "a", 5), AssignmentAnswer::TooLargeParallelism { max_parallelism: 4 });
    let message = "there is no savepoint \"s\" of this job: there is none".to_owned();
    let unknown = Some(RestoreFrom::Savepoint("s".to_owned()));
    let wanted = Assignment { restore_from: unknown, ..assignment(6, "a", 1) };
    check(wanted, AssignmentAnswer::UnknownRestorePoint { message });
    let message = "revision is 0: revisions begin at 1".to_owned();
    check(assignment(0, "a", 1), AssignmentAnswer::Invalid { message });
    let message = "parallelism and workers must be at least 1".to_owned();
    check(assignment(6, "a", 0), AssignmentAnswer::Invalid { message });
}

#[test]
fn a_savepoint_that_does_not_fit_is_refused_by_the_leader_whose_plan_it_is() {
    let mut store = Objects::new();
    let mut counting = guided("a", "a");
    let operator = counting.plan.operators[&sum()].clone();
    counting.plan.operators.insert(OperatorId("counts".to_owned()), operator);
    let mut old = assigned(&mut store, counting, assignment(1, "a", 1));
    old.savepoint(&mut store, "s", Then::Continue);
    let anew = Assignment { restore_from: Some(RestoreFrom::Nothing), ..assignment(2, "b", 1) };
    old.assign(&mut store, anew.clone());
    let mut rig = assigned(&mut store, guided("b", "b"), anew);
    let (before, deployed) = (store.clone(), rig.deployed.len());
    let from =
        |code| Assignment { restore_from: Some(RestoreFrom::Savepoint("s".to_owned())), ..assignment(3, code, 1) };
    let answers = rig.assign(&mut store, from("b"));
    let [AssignmentAnswer::UnknownRestorePoint { message }] = answers.as_slice() else { panic!("{answers:?}") };
    assert!(message.contains("no longer has the operator counts"), "{message}");
    assert_eq!((&store, rig.deployed.len(), rig.revision()), (&before, deployed, 2));
    // Whether it fits another code's plan is for the leader of that code to say.
    assert_eq!(rig.assign(&mut store, from("a")), [AssignmentAnswer::Accepted]);
}

#[test]
fn an_assignment_that_another_leader_stored_is_found() {
    let check = |wanted: Assignment, expected: AssignmentAnswer| {
        let mut store = Objects::new();
        let mut rig = running(&mut store);
        rig.hold_puts_of = Some("assignments/");
        assert_eq!(rig.assign(&mut store, assignment(2, "a", 2)), []);
        let (op, _) = rig.take_held();
        rig.hold_puts_of = None;
        let mut other = Rig::begun_with(&mut store, guided("b", "b"));
        assert_eq!(other.assign(&mut store, wanted), [AssignmentAnswer::Accepted]);
        rig.tell(&mut store, Event::Stored { op, outcome: weir_protocol::leader::Outcome::Exists });
        let answer = rig.notices.iter().find_map(|notice| match notice {
            Notice::AssignmentAnswered { revision: 2, answer, .. } => Some(answer.clone()),
            _ => None,
        });
        assert_eq!(answer, Some(expected));
    };
    check(assignment(2, "a", 2), AssignmentAnswer::Accepted);
    check(assignment(2, "a", 3), AssignmentAnswer::Conflict);
}

#[test]
fn a_claim_by_an_old_attempt_or_an_unassigned_revision_is_refused() {
    let mut store = Objects::new();
    let mut first = guided("a", "a");
    first.claimant.attempt = 2;
    let mut rig = Rig::begun_with(&mut store, first);
    rig.assign(&mut store, assignment(2, "a", 1));
    let before = store.clone();
    // An old attempt of the same revision.
    let old = Rig::begun_with(&mut store, guided("b", "a"));
    assert!(matches!(&old.end, Some(End::Fenced { message }) if message.contains("attempt 2")), "{:?}", old.end);
    // The same attempt in another pod.
    let mut twin = guided("c", "a");
    (twin.claimant.attempt, twin.claimant.pod) = (2, "another pod".to_owned());
    let twin = Rig::begun_with(&mut store, twin);
    assert!(twin.failed().is_some_and(|(kind, message)| kind == ErrorKind::User && message.contains("in use")));
    // Another code, to which nothing is assigned.
    let mut unassigned = guided("d", "b");
    unassigned.claimant.attempt = 9;
    let mut unassigned = Rig::begun_with(&mut store, unassigned);
    for _ in 0..3 {
        unassigned.wait(&mut store);
    }
    assert_eq!((unassigned.leader.status().state, unassigned.end), (State::Awaiting, None));
    assert_eq!(store, before, "nothing was written");
}

#[test]
fn a_leader_hands_over_although_the_next_one_has_claimed_before_it_looks_back() {
    let mut store = Objects::new();
    let mut old = running(&mut store);
    old.writes = Some("x");
    let mut new = Rig::begun_with(&mut store, guided("b", "b"));
    new.assign(&mut store, assignment(2, "b", 2));
    old.hold_puts_of = Some("chain/");
    old.assign(&mut store, assignment(2, "b", 2));
    let Some(Action::Store { op, request }) = old.held.pop() else { unreachable!("its manifest is held") };
    let outcome = execute(&mut store, request);
    new.wait(&mut store);
    assert_eq!((claims(&store), new.committed), (2, vec!["x".to_owned()]), "it goes on and commits");
    for _ in 0..10 {
        old.wait(&mut store);
    }
    assert_eq!(old.end, None, "what it knows of its own put decides");
    old.tell(&mut store, Event::Stored { op, outcome });
    assert_eq!((old.end, old.committed), (Some(End::HandedOver { revision: 2 }), Vec::new()));
}

#[test]
fn a_leader_hands_over_although_its_commits_take_longer_than_the_next_one_takes_to_begin() {
    let mut store = Objects::new();
    let mut old = running(&mut store);
    (old.writes, old.commits_hang) = (Some("x"), true);
    let mut new = Rig::begun_with(&mut store, guided("b", "b"));
    new.assign(&mut store, assignment(2, "b", 2));
    old.assign(&mut store, assignment(2, "b", 2));
    new.wait(&mut store);
    assert_eq!((claims(&store), new.committed), (2, vec!["x".to_owned()]));
    old.now = Now(60_000);
    old.tell(&mut store, Event::Tick);
    assert_eq!((old.leader.status().state, &old.end), (State::Stopping, &None));
    old.tell(&mut store, Event::Committed { results: [("x".to_owned(), CommitResult::Done)].into() });
    assert_eq!(old.end, Some(End::HandedOver { revision: 2 }));
}

#[test]
fn another_code_waits_for_the_stop_and_the_old_one_hands_over() {
    let mut store = Objects::new();
    let mut old = running(&mut store);
    old.writes = Some("x");
    let mut new = Rig::begun_with(&mut store, guided("b", "b"));
    assert_eq!(new.assign(&mut store, assignment(2, "b", 2)), [AssignmentAnswer::Accepted]);
    assert_eq!((new.leader.status().state, claims(&store)), (State::Awaiting, 1));
    assert_eq!(old.assign(&mut store, assignment(2, "b", 2)), [AssignmentAnswer::Accepted]);
    assert_eq!(old.end, Some(End::HandedOver { revision: 2 }));
    assert_eq!(old.committed, ["x"]);
    assert_eq!(head(&store).stop(), Some(Stop::Assignment(2)));
    let again = Rig::begun_with(&mut store, guided("c", "a"));
    assert_eq!(again.leader.status().state, State::Awaiting, "the old code does not lift the flag");
    new.wait(&mut store);
    assert_eq!((new.revision(), head(&store).stop(), new.deployed.len()), (2, None, 1));
    assert!(!store.contains_key("assignments/00000000000000000001"), "what is overtaken is deleted");
    let late = Rig::begun_with(&mut store, guided("d", "a"));
    assert_eq!((late.leader.status().state, claims(&store)), (State::Awaiting, 2));
}

#[test]
fn a_forced_assignment_waits_for_nobody() {
    let mut store = Objects::new();
    let mut old = running(&mut store);
    let mut new = Rig::begun_with(&mut store, guided("b", "b"));
    new.assign(&mut store, Assignment { force: true, ..assignment(2, "b", 2) });
    assert_eq!(new.revision(), 2);
    old.savepoint(&mut store, "s", Then::Continue);
    assert!(matches!(old.end, Some(End::Fenced { .. })));
}

/// Code "b" runs as revision 2 after code "a" has handed over; whether its first checkpoint is complete.
fn upgraded(store: &mut Objects, checkpoint: bool, fits: bool) -> Rig {
    running(store).assign(store, assignment(2, "b", 1));
    let mut options = guided("b", "b");
    if !fits {
        let operator = options.plan.operators[&sum()].clone();
        options.plan.operators.insert(OperatorId("new".to_owned()), operator);
    }
    let mut rig = Rig::begun_with(store, options);
    assert_eq!(rig.revision(), 2);
    if checkpoint {
        rig.savepoint(store, "b", Then::Continue);
    }
    rig
}

fn rollback() -> Assignment {
    Assignment { rollback: Some("b".to_owned()), ..assignment(3, "a", 1) }
}

#[test]
fn a_rollback_goes_on_from_the_head_if_the_old_plan_fits_it() {
    let check = |checkpoint: bool, fits: bool| {
        let mut store = Objects::new();
        upgraded(&mut store, checkpoint, fits);
        let mut old = Rig::begun_with(&mut store, guided("c", "a"));
        assert_eq!(old.leader.status().state, State::Awaiting, "its own assignment is overtaken");
        let before = links(&store).len();
        assert_eq!(old.assign(&mut store, rollback()), [AssignmentAnswer::Accepted]);
        (old, before, store)
    };
    for (checkpoint, fits) in [(false, true), (false, false), (true, true)] {
        let (old, ..) = check(checkpoint, fits);
        assert_eq!((old.end, old.leader.status().course.terms.revision), (None, 3), "{checkpoint} {fits}");
    }
    let (old, before, store) = check(true, false);
    assert!(matches!(&old.end, Some(End::Stalled { revision: 3, .. })), "{:?}", old.end);
    assert_eq!((links(&store).len(), claims(&store)), (before, 2), "nothing was claimed or started");
}

fn newest_checkpoint(store: &Objects) -> LinkNumber {
    let newest = links(store).into_values().rev().find(|link| matches!(link, Link::Checkpoint(_)));
    newest.expect("a checkpoint is complete").number()
}

/// Code "b" begins with another state as revision 2, and is started twice without a checkpoint.
fn upgraded_elsewhere(store: &mut Objects, from: RestoreFrom) -> Rig {
    let mut old = running(store);
    old.savepoint(store, "early", Then::Continue);
    old.writes = Some("x");
    old.assign(store, Assignment { restore_from: Some(from), ..assignment(2, "b", 1) });
    drop(Rig::begun_with(store, guided("b", "b")));
    Rig::begun_with(store, guided("b2", "b"))
}

#[test]
fn a_rollback_takes_back_the_state_that_the_new_code_began_with() {
    for from in [RestoreFrom::Nothing, RestoreFrom::Savepoint("early".to_owned())] {
        let mut store = Objects::new();
        let mut new = upgraded_elsewhere(&mut store, from.clone());
        let stopped = newest_checkpoint(&store);
        assert_ne!(head(&store).origin(), Origin::Link(stopped), "{from:?}: the new code began with it");
        let mut old = Rig::begun_with(&mut store, guided("c", "a"));
        old.assign(&mut store, rollback());
        assert_eq!((&old.end, old.revision(), head(&store).origin()), (&None, 3, Origin::Link(stopped)), "{from:?}");
        new.savepoint(&mut store, "late", Then::Continue);
        assert!(matches!(new.end, Some(End::Fenced { .. })), "{:?}", new.end);
        // A restart of the rollback goes on from there, too.
        drop(old);
        Rig::begun_with(&mut store, guided("d", "a"));
        assert_eq!(head(&store).origin(), Origin::Link(stopped), "{from:?}");
    }
}

#[test]
fn a_rollback_after_the_first_checkpoint_from_another_state_goes_on_from_that_checkpoint() {
    let mut store = Objects::new();
    let mut new = upgraded_elsewhere(&mut store, RestoreFrom::Nothing);
    new.savepoint(&mut store, "b", Then::Continue);
    let newest = head(&store).origin();
    let mut old = Rig::begun_with(&mut store, guided("c", "a"));
    old.assign(&mut store, rollback());
    assert_eq!((old.revision(), head(&store).origin()), (3, newest));
}

#[test]
fn each_rollback_of_several_in_a_row_goes_back_to_what_its_code_has_left() {
    let mut store = Objects::new();
    drop(upgraded_elsewhere(&mut store, RestoreFrom::Nothing));
    let stopped = Origin::Link(newest_checkpoint(&store));
    let mut third = guided("c", "c");
    third.restored_from = Some("path".to_owned());
    let savepoint = Some(RestoreFrom::Savepoint("early".to_owned()));
    let from_savepoint = Assignment { restore_from: savepoint, force: true, ..assignment(3, "c", 1) };
    drop(assigned(&mut store, third, from_savepoint));
    assert_ne!(head(&store).origin(), Origin::Empty);
    let mut back = |of: &str, code: &str, revision| {
        let wanted = Assignment { rollback: Some(of.to_owned()), ..assignment(revision, code, 1) };
        drop(assigned(&mut store, guided(code, code), wanted));
        let Link::Start(start) = head(&store) else { unreachable!("it has begun") };
        assert_eq!((start.terms.revision, start.restored_from), (revision, None));
        start.origin
    };
    assert_eq!(back("c", "b", 4), Origin::Empty, "it was told to begin with nothing");
    assert_eq!(back("b", "a", 5), stopped);
}

#[test]
fn a_rollback_passes_over_no_link_that_may_be_a_checkpoint() {
    let mut store = Objects::new();
    drop(upgraded_elsewhere(&mut store, RestoreFrom::Nothing));
    let stopped = ObjectName::Link(newest_checkpoint(&store));
    store.insert(stopped.to_string(), b"damaged".to_vec());
    let mut old = Rig::begun_with(&mut store, guided("c", "a"));
    old.assign(&mut store, rollback());
    assert!(old.failed().is_some_and(|(kind, _)| kind == ErrorKind::Corrupt), "{:?}", old.end);
}

#[test]
fn a_rollback_that_races_with_the_new_codes_first_checkpoint_is_decided_anew() {
    let check = |fits: bool| {
        let mut store = Objects::new();
        let mut new = upgraded(&mut store, false, fits);
        new.hold_puts_of = Some("chain/");
        new.writes = Some("x");
        new.savepoint(&mut store, "b", Then::Continue);
        let (_, manifest) = new.take_held();
        let mut old = Rig::begun_with(&mut store, guided("c", "a"));
        old.hold_puts_of = Some("chain/");
        old.assign(&mut store, rollback());
        // The old code has claimed and is about to start from the state before; only now the manifest lands.
        let (op, start) = old.take_held();
        execute(&mut store, manifest);
        old.hold_puts_of = None;
        let outcome = execute(&mut store, start);
        old.tell(&mut store, Event::Stored { op, outcome });
        (old, store)
    };
    let (old, _) = check(true);
    assert_eq!((&old.end, old.revision()), (&None, 3));
    assert_eq!(old.committed, ["x"], "it goes on from what landed");
    let (old, store) = check(false);
    assert!(matches!(old.end, Some(End::Stalled { revision: 3, .. })), "{:?}", old.end);
    assert_eq!(head(&store).terms().code, "b");
}

#[test]
fn a_newer_assignment_overtakes_an_unfinished_one() {
    let mut store = Objects::new();
    let mut rig = running(&mut store);
    // The workers of revision 2 never come.
    rig.hold_workers = true;
    rig.assign(&mut store, assignment(2, "a", 4));
    assert_eq!(rig.leader.status().course.switching, Some(Switching::Gathering(2)));
    rig.hold_workers = false;
    // The stop for revision 3 hangs.
    rig.silent = [0].into();
    rig.assign(&mut store, assignment(3, "a", 3));
    assert_eq!(rig.leader.status().course.switching, Some(Switching::Stopping(3)));
    rig.silent.clear();
    rig.assign(&mut store, assignment(4, "a", 2));
    assert_eq!(rig.aborted, [CheckpointId(1)], "tasks go on before the next stop");
    assert_eq!((rig.revision(), rig.deployed.last().expect("deployed").0.key_groups.parallelism()), (4, 2));
    rig.tell(&mut store, Event::WorkersReady { revision: 2 });
    assert_eq!(rig.revision(), 4, "who comes late changes nothing");
}

#[test]
fn the_leader_does_not_wait_for_ever_for_warm_workers() {
    let mut store = Objects::new();
    let mut rig = running(&mut store);
    rig.hold_preparation = true;
    rig.assign(&mut store, assignment(2, "a", 2));
    assert_eq!((rig.leader.status().course.switching, rig.revision()), (Some(Switching::Preparing(2)), 1));
    rig.wait(&mut store);
    assert_eq!((rig.now.0, rig.revision()), (500, 2));
}

#[test]
fn a_stop_for_an_assignment_that_fails_leaves_the_job_as_it_was() {
    let mut store = Objects::new();
    let mut rig = running(&mut store);
    rig.silent = [0].into();
    rig.assign(&mut store, assignment(2, "a", 2));
    rig.wait(&mut store);
    assert!(rig.notices.iter().any(|notice| matches!(notice, Notice::AssignmentFailed { revision: 2, .. })));
    assert_eq!((rig.aborted.len(), &rig.end), (1, &None));
    rig.silent.clear();
    rig.settle(&mut store);
    rig.assign(&mut store, assignment(2, "a", 2));
    rig.settle(&mut store);
    assert_eq!(rig.revision(), 2, "asking again tries again");
}

#[test]
fn a_leader_that_dies_while_workers_are_awaited_goes_on_as_it_was() {
    let mut store = Objects::new();
    let mut rig = running(&mut store);
    rig.hold_workers = true;
    rig.assign(&mut store, assignment(2, "a", 4));
    let mut next = Rig::new();
    next.hold_workers = true;
    next.tell(&mut store, Event::Begin(Box::new(guided("b", "a"))));
    assert_eq!((next.revision(), next.deployed[0].0.claimant.revision), (1, 2), "it claims as the highest");
    assert_eq!(next.leader.status().course.switching, Some(Switching::Gathering(2)));
    next.tell(&mut store, Event::WorkersReady { revision: 2 });
    assert_eq!(next.revision(), 2);
}

#[test]
fn what_runs_without_an_assignment_goes_on_until_it_is_stopped_for_one() {
    let mut store = Objects::new();
    Rig::begun_with(&mut store, guided("a", "a"));
    let mut new = assigned(&mut store, guided("b", "b"), assignment(1, "b", 1));
    assert_eq!(new.leader.status().state, State::Awaiting);
    let next = Rig::begun_with(&mut store, guided("c", "a"));
    assert_eq!(
        (next.deployed[0].0.terms.revision, &next.end),
        (0, &Some(End::HandedOver { revision: 1 })),
        "it stops as soon as it runs"
    );
    new.wait(&mut store);
    assert_eq!(new.revision(), 1);
}

#[test]
fn a_suspended_job_is_lifted_by_a_newer_revision_only() {
    let mut store = Objects::new();
    let mut rig = running(&mut store);
    rig.hold_workers = true;
    rig.assign(&mut store, assignment(2, "a", 2));
    rig.tell(&mut store, Event::StopRequested);
    let stopped = |already| Some(End::Stopped { checkpoint: Some(CheckpointId(1)), already });
    assert_eq!(rig.end, stopped(Already::No));
    // Revision 2 was known when the job was stopped.
    assert_eq!(Rig::begun_with(&mut store, guided("b", "a")).end, stopped(Already::Yes));
    let next = assigned(&mut store, guided("c", "a"), assignment(3, "a", 2));
    assert_eq!((next.end, next.leader.status().course.terms.revision), (None, 3));
}

#[test]
fn a_state_to_begin_with_is_used_once() {
    let mut store = Objects::new();
    let mut rig = running(&mut store);
    rig.savepoint(&mut store, "s", Then::Continue);
    rig.savepoint(&mut store, "t", Then::Continue);
    let savepoint = Some(RestoreFrom::Savepoint("s".to_owned()));
    rig.assign(&mut store, Assignment { restore_from: savepoint, ..assignment(2, "a", 1) });
    let restored = |rig: &Rig| {
        let (_, restore) = rig.deployed.last().expect("deployed");
        restore.as_ref().map(|restore| restore.manifest.checkpoint)
    };
    assert_eq!((rig.revision(), restored(&rig)), (2, Some(CheckpointId(1))));
    rig.savepoint(&mut store, "u", Then::Continue);
    let next = Rig::begun_with(&mut store, guided("b", "a"));
    assert_eq!((next.revision(), restored(&next)), (2, rig.leader.status().last.map(|last| last.checkpoint)));
}

#[test]
fn a_state_to_begin_with_is_not_used_again_when_nobody_can_read_whether_it_was() {
    let damage = |store: &mut Objects| {
        for (name, body) in store.iter_mut() {
            if name.starts_with("chain/") {
                body[0] ^= 1;
            }
        }
    };
    let mut store = Objects::new();
    let mut rig = running(&mut store);
    rig.writes = Some("x");
    let nothing = Some(RestoreFrom::Nothing);
    rig.assign(&mut store, Assignment { restore_from: nothing.clone(), ..assignment(2, "a", 1) });
    rig.savepoint(&mut store, "s", Then::Continue);
    damage(&mut store);
    let next = Rig::begun_with(&mut store, guided("b", "a"));
    assert_eq!(next.failed().map(|(kind, _)| kind), Some(ErrorKind::Corrupt));
    // Who asks for it again is told that what the head alone lists would be lost.
    let next = assigned(&mut store, guided("c", "a"), Assignment { restore_from: nothing, ..assignment(3, "a", 1) });
    assert_eq!(next.failed().map(|(kind, _)| kind), Some(ErrorKind::User));
}

#[test]
fn a_drained_job_begins_again_at_once_from_where_it_was() {
    let mut store = Objects::new();
    let mut rig = Rig::begun(&mut store, "a", go_on());
    rig.writes = Some("x");
    rig.tell(&mut store, Event::DrainRequested);
    assert_eq!(rig.barriers, [(CheckpointId(1), BarrierKind::Stop)]);
    let (start, restore) = rig.deployed.last().expect("deployed");
    assert_eq!(
        (start.generation, restore.as_ref().map(|restore| restore.manifest.checkpoint)),
        (Generation(2), Some(CheckpointId(1)))
    );
    assert_eq!((rig.committed.as_slice(), head(&store).stop()), (["x".to_owned()].as_slice(), None));
    assert_eq!(rig.leader.status().restarts, 0, "nothing has failed");
}

#[test]
fn a_savepoint_that_is_withdrawn_is_not_taken() {
    let check = |then: Then| {
        let mut store = Objects::new();
        let mut rig = Rig::begun(&mut store, "a", go_on());
        rig.silent = [0].into();
        rig.savepoint(&mut store, "s", then);
        let uid = "s".to_owned();
        rig.tell(&mut store, Event::SavepointWithdrawn { name: "s".to_owned(), uid });
        assert!(rig.notices.iter().any(|notice| matches!(notice, Notice::SavepointWithdrawn { .. })));
        rig.silent.clear();
        rig.settle(&mut store);
        assert_eq!((&rig.end, head(&store).savepoints().len()), (&None, 0));
        (rig.aborted, rig.notices)
    };
    let (aborted, _) = check(Then::Continue);
    assert_eq!(aborted, [CheckpointId(1)], "it timed out, since its task stayed silent");
    let (aborted, notices) = check(Then::Stop);
    assert_eq!(aborted, [CheckpointId(1)], "sources go on at once");
    assert!(!notices.iter().any(|notice| matches!(notice, Notice::StopFailed { .. })));
}

#[test]
fn a_run_by_hand_keeps_its_own_parallelism_and_claims_above_what_was_assigned() {
    let mut store = Objects::new();
    running(&mut store).assign(&mut store, assignment(7, "a", 3));
    let mut by_hand = options("b", run_from(Resume::Head, Stops::Lift));
    by_hand.parallelism = 2;
    let mut rig = Rig::begun_with(&mut store, by_hand);
    let start = &rig.deployed[0].0;
    assert_eq!((start.claimant.revision, start.key_groups.parallelism()), (7, 2));
    rig.assign(&mut store, assignment(8, "", 4));
    assert_eq!(rig.deployed[1].0.key_groups.parallelism(), 4);
    let generation = rig.generation();
    let message = "chance".to_owned();
    rig.tell(&mut store, Event::TaskFailed { generation, task: crate::rig::TASK, kind: ErrorKind::Transient, message });
    rig.wait(&mut store);
    assert_eq!(rig.deployed[2].0.key_groups.parallelism(), 4, "a failure changes nothing");
}
