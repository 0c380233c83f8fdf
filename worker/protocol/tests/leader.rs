//! Named histories of a leader, driven by hand over a store that does what the test says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use weir_protocol::chain::{Claimant, Link, OperatorPlan, Plan, Stop, decode_link};
use weir_protocol::key_group::MaxParallelism;
use weir_protocol::leader::{
    Action, Already, BarrierKind, CheckpointOptions, CommitResult, End, ErrorKind, Event, Leader, Mode, Notice,
    Operation, Options, Outcome, Request, Resume, Running, Stops, Then,
};
use weir_protocol::restart::Strategy;
use weir_protocol::snapshot::{Committable, OperatorSnapshot, SnapshotCost, TaskSnapshot};
use weir_protocol::{CheckpointId, LinkNumber, Now, OperatorId, TaskId};

const TASK: TaskId = TaskId { chain: 0, subtask: 0 };

type Objects = BTreeMap<String, Vec<u8>>;

/// A leader whose actions are performed at once, as far as nothing is held back.
struct Rig {
    leader: Leader,
    now: Now,
    /// What the one task writes for its sink at the next barrier.
    writes: Option<&'static str>,
    hold_puts_of: Option<&'static str>,
    hold_commits: bool,
    held: Vec<Action>,
    committed: Vec<String>,
    notices: Vec<Notice>,
    end: Option<End>,
}

fn sink() -> OperatorId {
    OperatorId("sink".to_owned())
}

fn options(incarnation: &str, mode: Mode) -> Options {
    let operator = OperatorPlan { kind: "sink".to_owned(), schema: serde_json::Value::Null };
    Options {
        job: "job".to_owned(),
        claimant: Claimant { revision: 1, attempt: 1, pod: "pod".to_owned() },
        incarnation: incarnation.to_owned(),
        unix_ms: 0,
        parallelism: 1,
        max_parallelism: MaxParallelism::new(4).expect("four key groups"),
        plan: Plan {
            fingerprint: "plan".to_owned(),
            operators: [(sink(), operator)].into(),
            sinks: [sink()].into(),
            ..Plan::default()
        },
        mode,
        restored_from: None,
        checkpoint: CheckpointOptions {
            interval_ms: None,
            min_pause_ms: 0,
            timeout_ms: 1_000,
            tolerable_failures: 0,
            retain: 1,
        },
        restart: Strategy::FixedDelay { attempts: 3, delay_ms: 10 },
    }
}

fn run_from(resume: Resume, stops: Stops) -> Mode {
    Mode::Run { resume, stops }
}

fn go_on() -> Mode {
    run_from(Resume::Head, Stops::Lift)
}

fn maintain(operations: Vec<Operation>) -> Mode {
    Mode::Maintain { operations, running: Running::Refuse }
}

impl Rig {
    fn new() -> Self {
        Self {
            leader: Leader::new(),
            now: Now(0),
            writes: None,
            hold_puts_of: None,
            hold_commits: false,
            held: Vec::new(),
            committed: Vec::new(),
            notices: Vec::new(),
            end: None,
        }
    }

    fn begun(store: &mut Objects, incarnation: &str, mode: Mode) -> Self {
        let mut rig = Self::new();
        rig.tell(store, Event::Begin(Box::new(options(incarnation, mode))));
        rig
    }

    fn tell(&mut self, store: &mut Objects, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.leader.step(self.now, event) {
                events.extend(self.perform(store, action));
            }
        }
    }

    /// Lets the moment come that the leader waits for.
    fn wait(&mut self, store: &mut Objects) {
        self.now = self.leader.deadline().expect("the leader waits for something").max(self.now);
        self.tell(store, Event::Tick);
    }

    fn perform(&mut self, store: &mut Objects, action: Action) -> Option<Event> {
        match action {
            Action::Store { op, request } => {
                if let (Request::PutIfAbsent { key, .. }, Some(prefix)) = (&request, self.hold_puts_of)
                    && key.to_string().starts_with(prefix)
                {
                    self.held.push(Action::Store { op, request });
                    return None;
                }
                Some(Event::Stored { op, outcome: execute(store, request) })
            }
            Action::Deploy { generation, .. } => {
                Some(Event::Deployed { generation, tasks: [TASK].into(), sources: [TASK].into() })
            }
            Action::Cancel { generation } => Some(Event::Cancelled { generation }),
            Action::InjectBarrier { generation, checkpoint, .. } => {
                let one = |id: &str| Committable { id: id.to_owned(), payload: serde_json::Value::Null };
                let committables = self.writes.take().map(one).into_iter().collect();
                let part = OperatorSnapshot { committables, ..OperatorSnapshot::default() };
                let operators = [(sink(), part)].into();
                let snapshot = TaskSnapshot { task: TASK, operators, cost: SnapshotCost::default() };
                Some(Event::Acked { generation, checkpoint, snapshot: Box::new(snapshot) })
            }
            Action::Commit { committables, .. } => {
                let ids: Vec<String> = committables.into_values().flat_map(BTreeMap::into_keys).collect();
                let result = match self.hold_commits {
                    true => CommitResult::Retry { message: "not now".to_owned() },
                    false => CommitResult::Done,
                };
                if !self.hold_commits {
                    self.committed.extend(ids.clone());
                }
                Some(Event::Committed { results: ids.into_iter().map(|id| (id, result.clone())).collect() })
            }
            Action::Report(notice) => {
                self.notices.push(notice);
                None
            }
            Action::End(end) => {
                self.end = Some(end);
                None
            }
            _ => None,
        }
    }

    fn savepoint(&mut self, store: &mut Objects, name: &str, then: Then) {
        self.tell(store, Event::SavepointRequested { name: name.to_owned(), uid: name.to_owned(), then });
    }

    fn source_ends(&mut self, store: &mut Objects) {
        let generation = self.leader.status().generation.expect("it runs");
        self.tell(store, Event::SourceEnded { generation, task: TASK });
    }

    fn failed(&self) -> Option<(ErrorKind, &str)> {
        match &self.end {
            Some(End::Failed { kind, message }) => Some((*kind, message)),
            _ => None,
        }
    }
}

fn execute(store: &mut Objects, request: Request) -> Outcome {
    match request {
        Request::PutIfAbsent { key, .. } if store.contains_key(&key.to_string()) => Outcome::Exists,
        Request::PutIfAbsent { key, body } => {
            store.insert(key.to_string(), body);
            Outcome::Done
        }
        Request::Get { key } => store.get(&key.to_string()).cloned().map_or(Outcome::NotFound, Outcome::Body),
        Request::List { prefix } => {
            Outcome::Listed(store.keys().filter(|name| name.starts_with(prefix.as_str())).cloned().collect())
        }
        Request::Delete { keys, .. } => {
            store.retain(|name, _| !keys.contains(name));
            Outcome::Done
        }
    }
}

fn links(store: &Objects) -> BTreeMap<u64, Link> {
    let numbers = store.keys().filter_map(|name| name.strip_prefix("chain/")?.parse().ok());
    let read = |number: u64| decode_link(LinkNumber(number), &store[&format!("chain/{number:020}")]).ok();
    numbers.filter_map(|number| Some((number, read(number)?))).collect()
}

fn head(store: &Objects) -> Link {
    links(store).pop_last().expect("there is a link").1
}

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
fn a_stop_asks_for_an_aligned_stop_barrier() {
    let mut leader = Leader::new();
    let mut store = Objects::new();
    let mut events = VecDeque::from([Event::Begin(Box::new(options("a", go_on())))]);
    let mut rig = Rig::new();
    let mut kinds = Vec::new();
    while let Some(event) = events.pop_front() {
        for action in leader.step(Now(0), event) {
            if let Action::InjectBarrier { kind, .. } = &action {
                kinds.push(*kind);
            }
            if matches!(action, Action::Deploy { .. }) {
                events.push_back(Event::StopRequested);
            }
            events.extend(rig.perform(&mut store, action));
        }
    }
    assert_eq!(kinds, [BarrierKind::Stop]);
}
