//! Named histories of leaders that die, or that give something up, and of what the next ones find.

use crate::rig::{Objects, Rig, TASK, assignment, go_on, guided, head, links, options, run_from, sink, sum};
use std::collections::BTreeSet;
use weir_protocol::chain::Stop;
use weir_protocol::leader::{Already, BarrierKind, End, Event, FailureCause, Notice, Resume, State, Stops, Then};
use weir_protocol::{CheckpointId, EventTime};

/// Kills a leader at its first, second, … request to the store, before or after that has done its work, until the
/// history ends without a death. `next` is what follows the death, with the request that was under way.
fn at_each_step(act: impl Fn(&mut Objects, &mut Rig), next: impl Fn(&mut Objects, &str) -> BTreeSet<String>) {
    for last_one_lands in [false, true] {
        for steps in 0.. {
            assert!(steps < 500, "it never ends");
            let mut store = Objects::new();
            let mut rig = Rig::begun_with(&mut store, guided("a", "a"));
            rig.assign(&mut store, assignment(1, "a", 1));
            rig.writes = Some("before");
            rig.savepoint(&mut store, "before", Then::Continue);
            (rig.writes, rig.dies_after, rig.last_one_lands) = (Some("last"), Some(steps), last_one_lands);
            act(&mut store, &mut rig);
            let context = format!("step {steps}, landed {last_one_lands}");
            let mut committed = next(&mut store, &context);
            committed.extend(rig.committed);
            assert!(rig.listed.is_subset(&committed), "{context}: {:?} are lost", rig.listed);
            if !rig.dead {
                break;
            }
        }
    }
}

#[test]
fn a_crash_at_each_step_of_an_assignment_loses_nothing_and_is_gone_on_from() {
    let act = |store: &mut Objects, rig: &mut Rig| {
        rig.assign(store, assignment(2, "a", 2));
    };
    at_each_step(act, |store, context| {
        let stored = store.contains_key("assignments/00000000000000000002");
        let mut next = Rig::begun_with(store, guided("b", "a"));
        assert_eq!(next.end, None, "{context}");
        assert_eq!(next.revision(), if stored { 2 } else { 1 }, "{context}");
        let start = &next.deployed.last().expect("it runs").0;
        assert_eq!(start.key_groups.parallelism(), if stored { 2 } else { 1 }, "{context}");
        next.savepoint(store, "after", Then::Continue);
        assert!(head(store).committables().is_empty(), "{context}");
        next.committed.into_iter().collect()
    });
}

#[test]
fn a_crash_at_each_step_of_a_stop_loses_nothing_and_stops_or_goes_on() {
    let act = |store: &mut Objects, rig: &mut Rig| rig.tell(store, Event::StopRequested);
    at_each_step(act, |store, context| {
        let flagged = head(store).stop() == Some(Stop::Suspended);
        let mut next = Rig::begun_with(store, guided("b", "a"));
        if !flagged {
            assert_eq!(next.end, None, "{context}");
            next.tell(store, Event::StopRequested);
        }
        let already = if flagged { Already::Yes } else { Already::No };
        assert!(
            matches!(&next.end, Some(End::Stopped { already: found, .. }) if *found == already),
            "{context}: {:?}",
            next.end
        );
        assert_eq!((head(store).stop(), head(store).committables().len()), (Some(Stop::Suspended), 0), "{context}");
        next.committed.into_iter().collect()
    });
}

#[test]
fn a_crash_at_each_step_of_a_hand_over_leaves_one_code_that_runs() {
    let act = |store: &mut Objects, rig: &mut Rig| {
        rig.assign(store, assignment(2, "b", 2));
    };
    at_each_step(act, |store, context| {
        let stored = store.contains_key("assignments/00000000000000000002");
        let mut old = Rig::begun_with(store, guided("b", "a"));
        let mut new = Rig::begun_with(store, guided("c", "b"));
        if stored && old.leader.status().state != State::Awaiting {
            assert_eq!(old.end, Some(End::HandedOver { revision: 2 }), "{context}");
        }
        if new.leader.status().state == State::Awaiting {
            new.wait(store);
        }
        assert_eq!(new.deployed.len(), usize::from(stored), "{context}");
        let runs = if stored { &mut new } else { &mut old };
        runs.savepoint(store, "after", Then::Continue);
        assert!(head(store).committables().is_empty(), "{context}");
        old.committed.into_iter().chain(new.committed).collect()
    });
}

#[test]
fn a_crash_between_a_savepoints_manifest_and_its_pin_is_completed_by_the_next() {
    let mut store = Objects::new();
    let mut rig = Rig::begun(&mut store, "a", go_on());
    rig.hold_puts_of = Some("savepoints/");
    rig.savepoint(&mut store, "s", Then::Continue);
    let done = |rig: &Rig| rig.notices.iter().any(|notice| matches!(notice, Notice::SavepointCompleted { .. }));
    assert!(!done(&rig) && !store.contains_key("savepoints/s"));
    let link = head(&store).number();
    let mut next = Rig::begun(&mut store, "b", go_on());
    assert!(done(&next) && store.contains_key("savepoints/s"));
    // Far more checkpoints than are retained, and the request once more.
    for name in ["t", "u", "v"] {
        next.savepoint(&mut store, name, Then::Continue);
        next.tell(&mut store, Event::SavepointReleased { name: name.to_owned() });
    }
    let before = links(&store).len();
    next.savepoint(&mut store, "s", Then::Continue);
    assert_eq!(links(&store).len(), before, "it is found, not taken again");
    assert!(links(&store).contains_key(&link.0), "its link is spared");
}

#[test]
fn a_checkpoint_that_times_out_after_deltas_were_handed_over_loses_none_of_them() {
    let mut store = Objects::new();
    let mut options = options("a", go_on());
    options.parallelism = 2;
    options.checkpoint.tolerable_failures = 1;
    let mut rig = Rig::begun_with(&mut store, options);
    (rig.writes, rig.writes_files, rig.silent) = (Some("x"), true, [1].into());
    rig.savepoint(&mut store, "s", Then::Continue);
    rig.wait(&mut store);
    assert_eq!(rig.aborted, [CheckpointId(1)]);
    let timeout = |notice: &Notice| matches!(notice, Notice::CheckpointFailed { cause: FailureCause::Timeout, .. });
    assert!(rig.notices.iter().any(timeout));
    (rig.writes, rig.silent) = (Some("y"), BTreeSet::new());
    rig.wait(&mut store);
    let link = head(&store);
    let manifest = link.manifest().expect("a checkpoint");
    let files: Vec<&str> = manifest.files().map(|file| file.path.as_str()).collect();
    assert_eq!(files, ["state/sum/1-1", "state/sum/1-2"]);
    assert_eq!(manifest.committables[&sink()].keys().collect::<Vec<_>>(), ["x", "y"]);
    assert_eq!(rig.committed, ["x", "y"]);
}

#[test]
fn files_that_are_being_uploaded_are_nobodys_orphans() {
    let mut store = Objects::new();
    let mut rig = Rig::begun(&mut store, "a", go_on());
    rig.writes_files = true;
    store.insert("state/sum/1-1".to_owned(), Vec::new());
    rig.savepoint(&mut store, "s", Then::Continue);
    // An upload of the checkpoint that the next leader interrupts, and one of the generation that begins.
    store.insert("state/sum/1-2".to_owned(), Vec::new());
    store.insert("state/sum/2-1".to_owned(), Vec::new());
    store.insert("state/sum/foreign".to_owned(), Vec::new());
    let mut later = options("b", go_on());
    later.checkpoint.tolerable_failures = 1;
    let mut next = Rig::begun_with(&mut store, later);
    let files = |store: &Objects| -> Vec<String> {
        store.keys().filter_map(|name| Some(name.strip_prefix("state/sum/")?.to_owned())).collect()
    };
    assert_eq!(files(&store), ["1-1", "2-1", "foreign"]);
    // Retention runs while the next checkpoint's files lie there and no manifest names them.
    next.writes_files = true;
    next.silent = [0].into();
    next.tell(&mut store, Event::SavepointReleased { name: "s".to_owned() });
    store.insert("state/sum/2-7".to_owned(), Vec::new());
    next.savepoint(&mut store, "t", Then::Continue);
    next.silent.clear();
    next.settle(&mut store);
    assert!(files(&store).contains(&"2-7".to_owned()));
}

#[test]
fn a_stop_that_is_aborted_after_a_timer_fired_changes_nothing() {
    let mut store = Objects::new();
    let mut options = options("a", go_on());
    options.parallelism = 2;
    options.checkpoint.tolerable_failures = 1;
    let mut rig = Rig::begun_with(&mut store, options);
    (rig.writes, rig.silent, rig.watermark) = (Some("x"), [1].into(), Some(EventTime(10)));
    rig.tell(&mut store, Event::StopRequested);
    assert_eq!(rig.barriers, [(CheckpointId(1), BarrierKind::Stop)]);
    // The first task has handed its part over; then the checkpoint's time is up, and a timer fires in the task.
    rig.wait(&mut store);
    assert_eq!(rig.aborted, [CheckpointId(1)], "sources go on");
    assert!(rig.notices.iter().any(|notice| matches!(notice, Notice::StopFailed { .. })));
    (rig.writes, rig.watermark, rig.silent) = (Some("y"), Some(EventTime(20)), BTreeSet::new());
    rig.savepoint(&mut store, "s", Then::Continue);
    rig.settle(&mut store);
    let link = head(&store);
    let manifest = link.manifest().expect("a checkpoint");
    assert_eq!((manifest.stop, manifest.operators[&sum()].watermarks[0].1), (None, EventTime(20)));
    assert_eq!((rig.committed.as_slice(), &rig.end), (["x".to_owned(), "y".to_owned()].as_slice(), &None));
}

#[test]
fn a_window_that_fired_before_a_crash_does_not_fire_again() {
    let mut store = Objects::new();
    let mut rig = Rig::begun(&mut store, "a", go_on());
    (rig.writes, rig.watermark) = (Some("window"), Some(EventTime(60)));
    rig.savepoint(&mut store, "s", Then::Continue);
    let next = Rig::begun(&mut store, "b", go_on());
    let restored = next.deployed[0].1.as_ref().expect("it goes on");
    let state = &restored.manifest.operators[&sum()];
    assert_eq!(state.watermarks.iter().map(|(_, watermark)| *watermark).collect::<Vec<_>>(), [EventTime(60)]);
    // What the window let out is committed by its own checkpoint, and by it alone.
    assert_eq!((rig.committed.as_slice(), next.committed.len()), (["window".to_owned()].as_slice(), 1));
}

#[test]
fn the_end_of_input_waits_for_its_commit_and_survives_a_crash() {
    let mut store = Objects::new();
    let mut rig = Rig::begun(&mut store, "a", go_on());
    (rig.writes, rig.hold_commits) = (Some("x"), true);
    rig.source_ends(&mut store);
    assert_eq!(rig.barriers, [(CheckpointId(1), BarrierKind::Final)]);
    assert_eq!((&rig.end, head(&store).stop()), (&None, Some(Stop::Finished)));
    for mode in [run_from(Resume::Head, Stops::Obey), go_on()] {
        let next = Rig::begun(&mut store, "b", mode);
        assert!(matches!(next.end, Some(End::Finished { already: Already::Yes, .. })), "{:?}", next.end);
        assert_eq!(next.deployed.len(), 0, "nothing runs again");
    }
    assert!(head(&store).committables().is_empty());
    // A task fails after the last manifest: it is finished all the same.
    let mut store = Objects::new();
    let mut rig = Rig::begun(&mut store, "a", go_on());
    (rig.writes, rig.hold_commits) = (Some("x"), true);
    rig.source_ends(&mut store);
    rig.hold_commits = false;
    let (generation, kind) = (rig.generation(), weir_protocol::leader::ErrorKind::Transient);
    rig.tell(&mut store, Event::TaskFailed { generation, task: TASK, kind, message: "chance".to_owned() });
    rig.wait(&mut store);
    assert!(matches!(rig.end, Some(End::Finished { .. })), "{:?}", rig.end);
    assert_eq!(rig.committed, ["x"]);
}
