//! Named histories of jobs that begin from another job's state.

use crate::rig::{Objects, Rig, assignment, go_on, guided, head, links, options, run_from, sink};
use weir_protocol::CheckpointId;
use weir_protocol::chain::{Assignment, Link, Manifest, Origin, RestoreFrom};
use weir_protocol::leader::{
    AssignmentAnswer, End, ErrorKind, Event, Mode, Notice, Operation, Options, Resume, Running, Stops, Then,
};

/// A job with a checkpoint under the name `pin`, of which something is not committed yet.
fn origin(store: &mut Objects) -> (Rig, Box<Manifest>) {
    let mut rig = Rig::begun(store, "o", go_on());
    (rig.writes, rig.writes_files, rig.hold_commits) = (Some("its own"), true, true);
    rig.savepoint(store, "pin", Then::Continue);
    let Link::Checkpoint(manifest) = head(store) else { panic!("a checkpoint") };
    (rig, manifest)
}

fn fork(manifest: Box<Manifest>) -> Options {
    let resume = Resume::Foreign { location: "origin".to_owned(), manifest, pin: Some("pin".to_owned()) };
    options("f", run_from(resume, Stops::Lift))
}

#[test]
fn a_fork_keeps_its_origin_until_its_own_first_checkpoint_and_refers_to_nothing_of_it_after() {
    let mut origin_store = Objects::new();
    let (mut origin, manifest) = origin(&mut origin_store);
    let mut store = Objects::new();
    let rig = Rig::begun_with(&mut store, fork(manifest));
    let (start, restore) = &rig.deployed[0];
    assert!(matches!(&start.origin, Origin::Foreign { .. }));
    assert_eq!(restore.as_ref().and_then(|restore| restore.location.as_deref()), Some("origin"));
    assert_eq!((rig.committed.len(), start.committables.len()), (0, 0), "its committables are the origin's");
    // Before its own first checkpoint a crash begins from the origin again.
    let mut rig = Rig::begun(&mut store, "g", go_on());
    assert!(rig.deployed[0].1.as_ref().is_some_and(|restore| restore.location.is_some()));
    assert_eq!(rig.released, Vec::<String>::new());
    (rig.writes, rig.writes_files) = (Some("x"), true);
    rig.savepoint(&mut store, "s", Then::Continue);
    let link = head(&store);
    let files: Vec<&str> = link.manifest().expect("a checkpoint").files().map(|file| file.path.as_str()).collect();
    assert_eq!((files, rig.released.as_slice()), (vec!["state/sum/2-1"], ["pin".to_owned()].as_slice()));
    assert_eq!(rig.committed, ["x"]);
    // The origin goes on and finally lets its state go; it is deleted, and the fork does not mind.
    origin.tell(&mut origin_store, Event::SavepointReleased { name: "pin".to_owned() });
    drop(origin_store);
    let mut next = Rig::begun(&mut store, "h", go_on());
    let restore = next.deployed[0].1.as_ref().expect("it goes on");
    assert_eq!((restore.location.as_deref(), restore.manifest.checkpoint), (None, CheckpointId(1)));
    next.savepoint(&mut store, "t", Then::Continue);
    assert!(head(&store).holds().is_empty(), "what is released is forgotten");
    assert_eq!(next.end, None);
}

#[test]
fn a_fork_whose_origin_is_deleted_before_its_first_checkpoint_says_so() {
    let mut origin_store = Objects::new();
    let (_, manifest) = origin(&mut origin_store);
    let mut store = Objects::new();
    let mut rig = Rig::begun_with(&mut store, fork(manifest));
    let (generation, kind) = (rig.generation(), ErrorKind::Corrupt);
    let message = "origin/state/sum/1-1 is not there".to_owned();
    rig.tell(&mut store, Event::DeployFailed { generation, kind, message });
    // The rig deploys at once, so the failure comes from a task.
    let message = "origin/state/sum/1-1 is not there".to_owned();
    rig.tell(&mut store, Event::TaskFailed { generation, task: crate::rig::TASK, kind, message });
    assert!(
        rig.failed().is_some_and(|(kind, message)| kind == ErrorKind::Corrupt && message.contains("origin/state")),
        "{:?}",
        rig.end
    );
    assert_eq!(links(&store).len(), 1);
}

#[test]
fn maintenance_gives_a_fork_no_name_before_its_own_first_checkpoint() {
    let mut origin_store = Objects::new();
    let (_, manifest) = origin(&mut origin_store);
    let mut store = Objects::new();
    Rig::begun_with(&mut store, fork(manifest));
    let operations = vec![Operation::CreateSavepoint { name: "s".to_owned(), uid: "s".to_owned() }];
    let rig = Rig::begun(&mut store, "m", Mode::Maintain { operations, running: Running::Fence });
    assert_eq!(rig.end, Some(End::Maintained));
    assert!(rig.notices.iter().any(|notice| matches!(notice, Notice::SavepointFailed { .. })));
    assert!(links(&store).values().all(|link| link.manifest().is_none()), "the origin's files are not ours to list");
    assert!(matches!(head(&store).origin(), Origin::Foreign { .. }));
}

#[test]
fn a_crash_before_the_pin_is_released_leaves_it_to_the_next() {
    let mut origin_store = Objects::new();
    let (_, manifest) = origin(&mut origin_store);
    let mut store = Objects::new();
    let mut rig = Rig::begun_with(&mut store, fork(manifest));
    rig.hold_commits = true;
    rig.writes_files = true;
    rig.savepoint(&mut store, "s", Then::Continue);
    assert_eq!(head(&store).holds().len(), 1, "the manifest was written before");
    let next = Rig::begun(&mut store, "g", go_on());
    assert_eq!(next.released, ["pin"]);
}

#[test]
fn a_fork_whose_own_first_checkpoint_is_damaged_does_not_go_back_to_its_origin() {
    let mut origin_store = Objects::new();
    let (_, manifest) = origin(&mut origin_store);
    let mut store = Objects::new();
    let mut rig = Rig::begun_with(&mut store, fork(manifest));
    rig.writes_files = true;
    rig.savepoint(&mut store, "s", Then::Continue);
    let (generation, kind, message) = (rig.generation(), ErrorKind::Corrupt, "a file is damaged".to_owned());
    let mut next = Rig::begun(&mut store, "g", go_on());
    assert!(generation < next.generation());
    let generation = next.generation();
    next.tell(&mut store, Event::TaskFailed { generation, task: crate::rig::TASK, kind, message });
    next.settle(&mut store);
    let refused = |(kind, message): (ErrorKind, &str)| kind == ErrorKind::Corrupt && message.contains("no older");
    assert!(next.failed().is_some_and(refused), "{:?}", next.end);
}

#[test]
fn a_fork_can_be_assigned_and_an_overtaken_one_gives_its_pin_up() {
    let mut origin_store = Objects::new();
    let (_, manifest) = origin(&mut origin_store);
    let mut store = Objects::new();
    let mut rig = Rig::begun_with(&mut store, guided("a", "a"));
    let restore = |pin: &str| {
        let (location, manifest) = ("origin".to_owned(), manifest.clone());
        Some(RestoreFrom::Foreign { location, manifest, pin: Some(pin.to_owned()), asked: None })
    };
    let wanted = Assignment { restore_from: restore("one"), ..assignment(1, "a", 1) };
    assert_eq!(rig.assign(&mut store, wanted), [AssignmentAnswer::Accepted]);
    assert!(rig.deployed.last().is_some_and(|(_, restore)| restore.as_ref().is_some_and(|of| of.location.is_some())));
    assert_eq!(rig.released.len(), 0);
    // Overtaken before it began: nobody needs what it kept.
    rig.hold_workers = true;
    let wanted = Assignment { restore_from: restore("two"), ..assignment(2, "a", 1) };
    rig.assign(&mut store, wanted);
    rig.hold_workers = false;
    rig.assign(&mut store, assignment(3, "a", 2));
    rig.released.sort_unstable();
    rig.released.dedup();
    assert_eq!((rig.revision(), rig.released.as_slice()), (3, ["one".to_owned(), "two".to_owned()].as_slice()));
}

#[test]
fn a_fork_that_is_assigned_again_must_be_asked_for_by_the_same_words() {
    let mut origin_store = Objects::new();
    let (_, manifest) = origin(&mut origin_store);
    let mut store = Objects::new();
    let mut rig = Rig::begun_with(&mut store, guided("a", "a"));
    let found = |words: &str, location: &str| {
        let (location, manifest, asked) = (location.to_owned(), manifest.clone(), Some(words.to_owned()));
        let restore = RestoreFrom::Foreign { location, manifest, pin: None, asked };
        Assignment { restore_from: Some(restore), ..assignment(1, "a", 1) }
    };
    let asked = |words: &str, parallelism: u32| {
        let restore_from = Some(RestoreFrom::Asked(words.to_owned()));
        Assignment { restore_from, ..assignment(1, "a", parallelism) }
    };
    use AssignmentAnswer::{Accepted, Conflict, Stale};
    assert_eq!(rig.assign(&mut store, asked("job x", 1)), [Stale { highest: 0 }], "nobody has looked it up");
    assert_eq!(rig.assign(&mut store, found("job x", "origin")), [Accepted]);
    let stored = store.clone();
    let again = [
        (asked("job x", 1), Accepted),
        (found("job x", "where it is now"), Accepted),
        (asked("job y", 1), Conflict),
        (found("path /origin", "origin"), Conflict),
        (asked("job x", 2), Conflict),
        (assignment(1, "a", 1), Conflict),
    ];
    for (wanted, expected) in again {
        let what = format!("{:?}", wanted.parallelism);
        assert_eq!(rig.assign(&mut store, wanted), [expected], "{what}");
    }
    assert_eq!(store, stored);
}

#[test]
fn a_fork_of_another_shape_is_refused_before_anything_is_stored() {
    let mut origin_store = Objects::new();
    let (_, mut manifest) = origin(&mut origin_store);
    manifest.operators.get_mut(&sink()).expect("it has one").kind = "another sink".to_owned();
    let mut store = Objects::new();
    let mut rig = Rig::begun_with(&mut store, guided("a", "a"));
    rig.assign(&mut store, assignment(1, "a", 1));
    let before = store.clone();
    let restore =
        RestoreFrom::Foreign { location: "origin".to_owned(), manifest: manifest.clone(), pin: None, asked: None };
    let wanted = Assignment { restore_from: Some(restore), ..assignment(2, "a", 1) };
    let answers = rig.assign(&mut store, wanted);
    assert!(matches!(answers.as_slice(), [AssignmentAnswer::UnknownRestorePoint { .. }]), "{answers:?}");
    assert_eq!(store, before);
    let by_hand = Rig::begun_with(&mut Objects::new(), fork(manifest));
    assert!(matches!(by_hand.end, Some(End::Failed { kind: ErrorKind::User, .. })));
    assert!(!by_hand.notices.iter().any(|notice| matches!(notice, Notice::Started { .. })));
}
