//! Named histories of jobs that begin with state of another place which nobody keeps for them.

use crate::rig::{Objects, Rig, TASK, go_on, head, options, run_from, sink};
use weir_protocol::chain::{Link, Origin};
use weir_protocol::leader::{End, ErrorKind, Event, Mode, Notice, Operation, Resume, Running, Stops, Then};

/// A run that begins with the state of another job, whose writer goes on in a file.
fn begun_elsewhere(store: &mut Objects) -> Rig {
    let mut other = Objects::new();
    let mut rig = Rig::begun(&mut other, "other", go_on());
    (rig.writes, rig.hold_commits) = (Some("theirs"), true);
    rig.savepoint(&mut other, "one", Then::Continue);
    let Link::Checkpoint(mut manifest) = head(&other) else { unreachable!("a savepoint is a checkpoint") };
    manifest.operators.get_mut(&sink()).expect("it was in the snapshot").writers.push("tail".into());
    let mut options =
        options("a", run_from(Resume::Foreign { location: "/other".to_owned(), manifest, pin: None }, Stops::Obey));
    options.restored_from = Some("job other".to_owned());
    let mut rig = Rig::new();
    rig.tell(store, Event::Begin(Box::new(options)));
    rig
}

#[test]
fn state_of_another_place_comes_without_what_is_not_the_jobs_own_and_is_used_once() {
    let mut store = Objects::new();
    let mut rig = begun_elsewhere(&mut store);
    let Link::Start(start) = head(&store) else { unreachable!("it has begun") };
    let Origin::Foreign { location, manifest, .. } = &start.origin else { unreachable!("it begins elsewhere") };
    assert_eq!(location, "/other");
    assert!(manifest.committables.is_empty() && manifest.operators[&sink()].writers.is_empty());
    assert_eq!(start.restored_from.as_deref(), Some("job other"));
    rig.tell(&mut store, Event::StopRequested);
    assert!(head(&store).origin().is_own() && rig.committed.is_empty());
    Rig::begun(&mut store, "b", go_on());
    let Link::Start(start) = head(&store) else { unreachable!("it goes on") };
    assert_eq!(start.restored_from.as_deref(), Some("job other"), "later starts remember it");
}

#[test]
fn state_of_another_place_that_cannot_be_used_ends_the_run() {
    let mut store = Objects::new();
    let mut rig = begun_elsewhere(&mut store);
    let generation = rig.leader.status().generation.expect("it runs");
    let (kind, message) = (ErrorKind::Corrupt, "state/x is damaged".to_owned());
    rig.tell(&mut store, Event::TaskFailed { generation, task: TASK, kind, message });
    assert!(rig.failed().is_some_and(|(kind, _)| kind == ErrorKind::Corrupt), "{:?}", rig.end);
    let operations = vec![Operation::CreateSavepoint { name: "named".to_owned(), uid: "uid".to_owned() }];
    let maintained = Rig::begun(&mut store, "b", Mode::Maintain { operations, running: Running::Fence });
    assert!(maintained.notices.iter().any(|notice| matches!(notice, Notice::SavepointFailed { .. })));
    assert_eq!(maintained.end, Some(End::Maintained));
    assert!(!head(&store).origin().is_own(), "no manifest names files of another place");
}
