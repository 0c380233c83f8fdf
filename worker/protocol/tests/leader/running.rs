//! Named histories of one leader and the next.

use crate::rig::{Objects, Rig, TASK, execute, go_on, head, links, maintain, options, run_from, sink};
use std::collections::BTreeSet;
use weir_protocol::chain::Stop;
use weir_protocol::leader::{
    Already, BarrierKind, CheckpointOptions, DeclineCause, End, ErrorKind, Event, Notice, Operation, Resume, Stops,
    Then,
};
use weir_protocol::{CheckpointId, Generation, LinkNumber, OperatorId};

#[test]
fn a_finished_job_stays_finished_until_it_begins_anew() {
    let mut store = Objects::new();
    let mut rig = Rig::begun(&mut store, "a", go_on());
    rig.writes = Some("x");
    rig.source_ends(&mut store);
    assert_eq!(rig.end, Some(End::Finished { checkpoint: CheckpointId(2), already: Already::No }));
    assert_eq!(rig.committed, ["x"]);
    assert!(head(&store).committables().is_empty(), "what was confirmed is written down");
    let before = store.clone();
    let again = Rig::begun(&mut store, "b", go_on());
    assert_eq!(again.end, Some(End::Finished { checkpoint: CheckpointId(2), already: Already::Yes }));
    assert_eq!(store, before, "looking changes nothing");
    let anew = Rig::begun(&mut store, "c", run_from(Resume::Empty, Stops::Obey));
    assert_eq!(anew.end, None);
    assert_eq!(head(&store).stop(), None);
}

#[test]
fn a_suspended_job_goes_on_only_when_somebody_lifts_the_stop() {
    let mut store = Objects::new();
    let mut rig = Rig::begun(&mut store, "a", go_on());
    rig.tell(&mut store, Event::StopRequested);
    let stopped = |already| Some(End::Stopped { checkpoint: Some(CheckpointId(1)), already });
    assert_eq!(rig.end, stopped(Already::No));
    assert_eq!(head(&store).stop(), Some(Stop::Suspended));
    assert_eq!(Rig::begun(&mut store, "b", run_from(Resume::Head, Stops::Obey)).end, stopped(Already::Yes));
    assert_eq!(Rig::begun(&mut store, "c", go_on()).end, None);
}

#[test]
fn a_leader_that_died_before_its_commit_leaves_it_to_the_next() {
    let mut store = Objects::new();
    let mut rig = Rig::begun(&mut store, "a", go_on());
    (rig.writes, rig.hold_commits) = (Some("x"), true);
    rig.source_ends(&mut store);
    assert_eq!((rig.end, rig.committed), (None, vec![]));
    let next = Rig::begun(&mut store, "b", go_on());
    assert_eq!(next.committed, ["x"]);
    // The second manifest writes down that everything is confirmed.
    assert_eq!(next.end, Some(End::Finished { checkpoint: CheckpointId(2), already: Already::Yes }));
    assert_eq!(head(&store).stop(), Some(Stop::Finished), "the stop flag is copied");
}

#[test]
fn a_commit_that_fails_while_the_next_checkpoint_completes_is_carried_on() {
    let mut store = Objects::new();
    let mut rig = Rig::begun(&mut store, "a", go_on());
    (rig.writes, rig.hold_commits) = (Some("x"), true);
    rig.savepoint(&mut store, "one", Then::Continue);
    rig.writes = Some("y");
    rig.savepoint(&mut store, "two", Then::Continue);
    let waiting: BTreeSet<String> = head(&store).committables()[&sink()].keys().cloned().collect();
    assert_eq!(waiting, ["x".to_owned(), "y".to_owned()].into());
    rig.hold_commits = false;
    rig.wait(&mut store);
    let all: BTreeSet<&str> = rig.committed.iter().map(String::as_str).collect();
    assert_eq!(all, ["x", "y"].into());
    rig.savepoint(&mut store, "three", Then::Continue);
    assert!(head(&store).committables().is_empty());
}

#[test]
fn a_corrupt_newest_checkpoint_is_skipped_only_if_no_sink_commits() {
    let check = |sinks: BTreeSet<OperatorId>, goes_on: bool| {
        let mut store = Objects::new();
        let begin = |incarnation: &str| {
            let mut options = options(incarnation, go_on());
            options.plan.sinks = sinks.clone();
            options.checkpoint.retain = 3;
            Event::Begin(Box::new(options))
        };
        let mut rig = Rig::new();
        rig.tell(&mut store, begin("a"));
        rig.savepoint(&mut store, "one", Then::Continue);
        rig.savepoint(&mut store, "two", Then::Continue);
        let (_, newest) = store.range_mut("chain/".to_owned().."chain0".to_owned()).next_back().expect("a link");
        let middle = newest.len() / 2;
        newest[middle] ^= 1;
        let mut next = Rig::new();
        next.tell(&mut store, begin("b"));
        let skipped = |notice: &Notice| matches!(notice, Notice::LinkUnusable { link: LinkNumber(3), .. });
        assert_eq!(next.notices.iter().any(skipped), goes_on);
        match next.failed() {
            None => assert!(goes_on),
            Some((kind, message)) => {
                assert!(!goes_on);
                assert_eq!(kind, ErrorKind::Corrupt);
                assert!(message.contains("chain/00000000000000000003 is damaged"), "{message}");
            }
        }
    };
    check(BTreeSet::new(), true);
    check([sink()].into(), false);
}

#[test]
fn beginning_anew_gives_up_what_only_a_damaged_head_lists_when_the_user_has_moved_it_away() {
    let mut store = Objects::new();
    let mut rig = Rig::begun(&mut store, "a", go_on());
    rig.hold_commits = true;
    rig.savepoint(&mut store, "one", Then::Continue);
    let (head_key, newest) = store.range_mut("chain/".to_owned().."chain0".to_owned()).next_back().expect("a link");
    let head_key = head_key.clone();
    newest[10] ^= 1;
    for resume in [Resume::Empty, Resume::Savepoint("one".to_owned())] {
        let refused = Rig::begun(&mut store, "b", run_from(resume, Stops::Lift));
        let is_said = |(kind, message): (ErrorKind, &str)| {
            kind == ErrorKind::User && message.contains(&head_key) && message.contains("away and run again")
        };
        assert!(refused.failed().is_some_and(is_said), "{:?}", refused.end);
        assert!(!refused.notices.iter().any(|notice| matches!(notice, Notice::Started { .. })));
    }
    store.remove(&head_key);
    let anew = Rig::begun(&mut store, "c", run_from(Resume::Empty, Stops::Lift));
    assert!(anew.notices.iter().any(|notice| matches!(notice, Notice::Started { restored: None, .. })));
}

#[test]
fn savepoints_of_a_stopped_job_are_made_and_given_up_by_a_leader_too() {
    let mut store = Objects::new();
    let mut rig = Rig::begun(&mut store, "a", go_on());
    let create = Operation::CreateSavepoint { name: "s".to_owned(), uid: "u".to_owned() };
    let refused = Rig::begun(&mut store, "b", maintain(vec![create.clone()]));
    assert!(refused.failed().is_some_and(|(_, message)| message.contains("is not stopped")), "{:?}", refused.end);
    rig.tell(&mut store, Event::StopRequested);
    let made = Rig::begun(&mut store, "c", maintain(vec![create]));
    assert_eq!(made.end, Some(End::Maintained));
    assert!(store.contains_key("savepoints/s"));
    assert_eq!(head(&store).stop(), Some(Stop::Suspended), "the stop flag is copied");
    assert!(head(&store).savepoints().contains_key("s"));
    let delete = Operation::DeleteSavepoint { name: "s".to_owned() };
    assert_eq!(Rig::begun(&mut store, "d", maintain(vec![delete])).end, Some(End::Maintained));
    assert!(!store.contains_key("savepoints/s"));
    assert_eq!((head(&store).stop(), head(&store).savepoints().len()), (Some(Stop::Suspended), 0));
}

#[test]
fn the_same_request_is_never_answered_with_a_second_savepoint() {
    let mut store = Objects::new();
    let mut rig = Rig::begun(&mut store, "a", go_on());
    rig.savepoint(&mut store, "s", Then::Continue);
    let first = links(&store).len();
    rig.savepoint(&mut store, "s", Then::Continue);
    assert_eq!(links(&store).len(), first);
    let other = Event::SavepointRequested { name: "s".to_owned(), uid: "other".to_owned(), then: Then::Continue };
    rig.tell(&mut store, other);
    assert!(matches!(rig.notices.last(), Some(Notice::SavepointFailed { .. })));
    rig.savepoint(&mut store, "../x", Then::Continue);
    assert!(matches!(rig.notices.last(), Some(Notice::SavepointFailed { .. })));
}

#[test]
fn a_name_that_is_taken_is_found_when_the_start_stands_whoever_asked_before() {
    let mut store = Objects::new();
    let mut rig = Rig::begun(&mut store, "a", go_on());
    rig.savepoint(&mut store, "s", Then::Continue);
    let pin = head(&store).savepoints()["s"].clone();
    let mut next = Rig::new();
    next.hold_puts_of = Some("chain/");
    next.tell(&mut store, Event::Begin(Box::new(options("b", go_on()))));
    let ask =
        |uid: &str, name: &str, then| Event::SavepointRequested { name: name.to_owned(), uid: uid.to_owned(), then };
    next.tell(&mut store, ask("other", "s", Then::Stop));
    next.tell(&mut store, ask("t", "t", Then::Continue));
    let (op, request) = next.take_held();
    next.hold_puts_of = None;
    let outcome = execute(&mut store, request);
    next.tell(&mut store, Event::Stored { op, outcome });
    let failed = |notice: &Notice| matches!(notice, Notice::SavepointFailed { uid, message, .. } if uid == "other" && message.contains("already"));
    assert!(next.notices.iter().any(failed), "{:?}", next.notices);
    let savepoints = head(&store).savepoints().clone();
    assert_eq!((savepoints.get("s"), savepoints.contains_key("t")), (Some(&pin), true));
    assert!(store.contains_key("savepoints/s") && links(&store).contains_key(&pin.link.0));
    assert_eq!(next.end, None, "it was not stopped");
}

#[test]
fn a_stop_that_is_asked_once_more_does_not_stop_the_job_that_was_resumed() {
    let mut store = Objects::new();
    let mut rig = Rig::begun(&mut store, "a", go_on());
    rig.savepoint(&mut store, "s", Then::Stop);
    assert!(matches!(rig.end, Some(End::Stopped { .. })));
    let obeys = Rig::begun(&mut store, "b", run_from(Resume::Head, Stops::Obey));
    let known: Vec<String> = obeys.leader.status().savepoints.into_keys().collect();
    assert_eq!(known, ["s"], "who stays after the end knows what there is");
    let mut resumed = Rig::begun(&mut store, "c", go_on());
    resumed.savepoint(&mut store, "s", Then::Stop);
    let found = |notice: &Notice| matches!(notice, Notice::SavepointCompleted { name, .. } if name == "s");
    assert!(resumed.notices.iter().any(found));
    resumed.tell(&mut store, Event::Tick);
    assert_eq!((resumed.end, head(&store).stop()), (None, None));
}

#[test]
fn a_failed_task_restarts_the_job_and_a_user_error_ends_it() {
    let check = |kind, restarts: bool| {
        let mut store = Objects::new();
        let mut rig = Rig::begun(&mut store, "a", go_on());
        let generation = rig.leader.status().generation.expect("it runs");
        let message = "what went wrong".to_owned();
        rig.tell(&mut store, Event::TaskFailed { generation, task: TASK, kind, message });
        if restarts {
            rig.wait(&mut store);
            assert_eq!(rig.leader.status().generation.map(|next| next.0), Some(generation.0 + 1), "{kind:?}");
        }
        assert_eq!(rig.end.is_none(), restarts, "{kind:?}");
    };
    check(ErrorKind::Transient, true);
    check(ErrorKind::Bug, true);
    check(ErrorKind::User, false);
    check(ErrorKind::Fenced, false);
}

#[test]
fn a_stop_asks_for_an_aligned_stop_barrier() {
    let mut store = Objects::new();
    let mut rig = Rig::begun(&mut store, "a", go_on());
    rig.tell(&mut store, Event::StopRequested);
    assert_eq!(rig.barriers, [(CheckpointId(1), BarrierKind::Stop)]);
}

/// A job that tolerates one failed checkpoint, and whose task does not acknowledge.
fn tolerant(store: &mut Objects) -> Rig {
    let mut options = options("a", go_on());
    options.checkpoint = CheckpointOptions { interval_ms: Some(100), tolerable_failures: 1, ..options.checkpoint };
    let mut rig = Rig::begun_with(store, options);
    rig.silent = [TASK.subtask].into();
    rig
}

/// Why generations have failed.
fn failures(rig: &Rig) -> Vec<&str> {
    let failures = rig.notices.iter().filter_map(|notice| match notice {
        Notice::GenerationFailed { message, .. } => Some(message.as_str()),
        _ => None,
    });
    failures.collect()
}

#[test]
fn a_generation_ends_when_more_checkpoints_in_a_row_fail_than_are_tolerated() {
    let mut store = Objects::new();
    let mut rig = tolerant(&mut store);
    let time_out = |rig: &mut Rig, store: &mut Objects| {
        let before = rig.aborted.len();
        while rig.aborted.len() == before {
            rig.wait(store);
        }
    };
    time_out(&mut rig, &mut store);
    rig.silent.clear();
    while rig.leader.status().last.is_none() {
        rig.wait(&mut store);
    }
    rig.silent = [TASK.subtask].into();
    time_out(&mut rig, &mut store);
    assert_eq!((rig.generation(), failures(&rig)), (Generation(1), vec![]), "two have failed, but not in a row");
    time_out(&mut rig, &mut store);
    let [said] = failures(&rig)[..] else { panic!("{:?}", rig.notices) };
    assert!(said.starts_with("2 checkpoints failed in a row") && said.contains("no acknowledgement"), "{said}");
    rig.silent.clear();
    rig.wait(&mut store);
    assert_eq!((rig.generation(), rig.deployed.len(), rig.end), (Generation(2), 2, None));
}

#[test]
fn checkpoints_that_the_store_did_not_take_end_no_generation() {
    let mut store = Objects::new();
    let mut rig = tolerant(&mut store);
    let generation = rig.generation();
    for _ in 0..5 {
        let taken = rig.barriers.len();
        while rig.barriers.len() == taken {
            rig.wait(&mut store);
        }
        let (checkpoint, _) = *rig.barriers.last().expect("one more");
        let message = "503 Slow Down".to_owned();
        rig.tell(
            &mut store,
            Event::Declined { generation, checkpoint, task: TASK, cause: DeclineCause::Store, message },
        );
    }
    assert_eq!((rig.aborted.len(), rig.generation(), failures(&rig)), (5, generation, vec![]));
    rig.silent.clear();
    while rig.leader.status().last.is_none() {
        rig.wait(&mut store);
    }
}
