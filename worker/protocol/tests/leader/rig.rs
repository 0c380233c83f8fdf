//! A leader that is driven by hand, over a store that does what the test says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use weir_protocol::chain::{Assignment, Claimant, Link, ObjectName, OperatorPlan, Plan, Start, decode_link};
use weir_protocol::key_group::MaxParallelism;
use weir_protocol::leader::{
    Action, AssignmentAnswer, BarrierKind, CheckpointOptions, CommitResult, Direction, End, ErrorKind, Event, Guide,
    Leader, Mode, Notice, Operation, Options, Outcome, Request, Restore, Resume, Running, Stops, Then,
};
use weir_protocol::restart::Strategy;
use weir_protocol::snapshot::{Committable, KeyGroupRange, OperatorSnapshot, SnapshotCost, StateFile, TaskSnapshot};
use weir_protocol::{CheckpointId, EventTime, Generation, KeyGroup, LinkNumber, Now, OperatorId, TaskId};

pub(crate) const TASK: TaskId = TaskId { chain: 0, subtask: 0 };

pub(crate) type Objects = BTreeMap<String, Vec<u8>>;
pub(crate) type Meanwhile = Box<dyn FnMut(&mut Objects, &Request)>;

/// A leader whose actions are performed at once, as far as nothing is held back. Its tasks repeat what they wrote until
/// they hear that a checkpoint holds it.
pub(crate) struct Rig {
    pub(crate) leader: Leader,
    pub(crate) now: Now,
    /// What the first task writes for its sink at the next barrier.
    pub(crate) writes: Option<&'static str>,
    /// The event time that tasks have handled.
    pub(crate) watermark: Option<EventTime>,
    /// Whether the first task writes a file of state at each barrier.
    pub(crate) writes_files: bool,
    /// Subtasks that do not acknowledge.
    pub(crate) silent: BTreeSet<u32>,
    pub(crate) hold_puts_of: Option<&'static str>,
    pub(crate) hold_commits: bool,
    /// Nothing is heard of commits.
    pub(crate) commits_hang: bool,
    pub(crate) hold_workers: bool,
    /// Workers do not come to get their tasks.
    pub(crate) hold_tasks: bool,
    pub(crate) hold_preparation: bool,
    pub(crate) held: Vec<Action>,
    /// What others do while a request is on its way to the store.
    pub(crate) meanwhile: Option<Meanwhile>,
    /// The process dies instead of sending one request more than this to the store.
    pub(crate) dies_after: Option<usize>,
    pub(crate) dead: bool,
    /// Whether the request that it dies at is carried out all the same.
    pub(crate) last_one_lands: bool,
    /// All that any manifest has listed for sinks.
    pub(crate) listed: BTreeSet<String>,
    pending: Vec<(CheckpointId, Committable)>,
    pending_files: Vec<(CheckpointId, StateFile)>,
    tasks: BTreeSet<TaskId>,
    pub(crate) committed: Vec<String>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) deployed: Vec<(Start, Option<Restore>)>,
    pub(crate) barriers: Vec<(CheckpointId, BarrierKind)>,
    pub(crate) aborted: Vec<CheckpointId>,
    pub(crate) prepared: Vec<u64>,
    pub(crate) released: Vec<String>,
    pub(crate) end: Option<End>,
}

pub(crate) fn sink() -> OperatorId {
    OperatorId("sink".to_owned())
}

pub(crate) fn sum() -> OperatorId {
    OperatorId("sum".to_owned())
}

pub(crate) fn options(incarnation: &str, mode: Mode) -> Options {
    let operator = |kind: &str| OperatorPlan {
        kind: kind.to_owned(),
        schema: serde_json::Value::Null,
        legend: serde_json::Value::Null,
    };
    Options {
        job: "job".to_owned(),
        claimant: Claimant { revision: 1, attempt: 1, pod: "pod".to_owned() },
        incarnation: incarnation.to_owned(),
        unix_ms: 0,
        parallelism: 1,
        direction: Direction::default(),
        max_parallelism: MaxParallelism::new(4).expect("four key groups"),
        plan: Plan {
            fingerprint: "plan".to_owned(),
            operators: [(sink(), operator("sink")), (sum(), operator("sum"))].into(),
            sinks: [sink()].into(),
            ..Plan::default()
        },
        restored_from: None,
        mode,
        checkpoint: CheckpointOptions {
            interval_ms: None,
            min_pause_ms: 0,
            timeout_ms: 1_000,
            unaligned_after_ms: None,
            tolerable_failures: 0,
            retain: 1,
        },
        restart: Strategy::FixedDelay { attempts: 3, delay_ms: 10 },
        watch_ms: 5_000,
    }
}

/// A leader of `code` that does what is assigned to it.
pub(crate) fn guided(incarnation: &str, code: &str) -> Options {
    let mut options = options(incarnation, run_from(Resume::Head, Stops::Obey));
    options.claimant.revision = 0;
    options.direction =
        Direction { guide: Guide::Assignments, code: code.to_owned(), workers: 1, prepare_limit_ms: 500 };
    options
}

pub(crate) fn assignment(revision: u64, code: &str, parallelism: u32) -> Assignment {
    Assignment {
        revision,
        parallelism,
        workers: parallelism,
        code: code.to_owned(),
        force: false,
        rollback: None,
        restore_from: None,
    }
}

pub(crate) fn run_from(resume: Resume, stops: Stops) -> Mode {
    Mode::Run { resume, stops }
}

pub(crate) fn go_on() -> Mode {
    run_from(Resume::Head, Stops::Lift)
}

pub(crate) fn maintain(operations: Vec<Operation>) -> Mode {
    Mode::Maintain { operations, running: Running::Refuse }
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self {
            leader: Leader::new(),
            now: Now(0),
            writes: None,
            watermark: None,
            writes_files: false,
            silent: BTreeSet::new(),
            hold_puts_of: None,
            hold_commits: false,
            commits_hang: false,
            hold_workers: false,
            hold_tasks: false,
            hold_preparation: false,
            held: Vec::new(),
            meanwhile: None,
            dies_after: None,
            dead: false,
            last_one_lands: false,
            listed: BTreeSet::new(),
            pending: Vec::new(),
            pending_files: Vec::new(),
            tasks: BTreeSet::new(),
            committed: Vec::new(),
            notices: Vec::new(),
            deployed: Vec::new(),
            barriers: Vec::new(),
            aborted: Vec::new(),
            prepared: Vec::new(),
            released: Vec::new(),
            end: None,
        }
    }

    pub(crate) fn begun(store: &mut Objects, incarnation: &str, mode: Mode) -> Self {
        Self::begun_with(store, options(incarnation, mode))
    }

    pub(crate) fn begun_with(store: &mut Objects, options: Options) -> Self {
        let mut rig = Self::new();
        rig.tell(store, Event::Begin(Box::new(options)));
        rig
    }

    pub(crate) fn tell(&mut self, store: &mut Objects, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.leader.step(self.now, event) {
                if self.dead {
                    return;
                }
                events.extend(self.perform(store, action));
            }
        }
    }

    /// Lets the moment come that the leader waits for.
    pub(crate) fn wait(&mut self, store: &mut Objects) {
        self.now = self.leader.deadline().expect("the leader waits for something").max(self.now);
        self.tell(store, Event::Tick);
    }

    /// Lets moments pass until nothing is left to wait for, or until it has taken too long.
    pub(crate) fn settle(&mut self, store: &mut Objects) {
        for _ in 0..50 {
            if self.dead || self.end.is_some() || self.leader.deadline().is_none() {
                return;
            }
            self.wait(store);
        }
    }

    fn perform(&mut self, store: &mut Objects, action: Action) -> Vec<Event> {
        match action {
            Action::Store { op, request } => self.request(store, op, request).into_iter().collect(),
            Action::Deploy { generation, start, restore } => {
                let tasks = (0..start.key_groups.parallelism()).map(|subtask| TaskId { chain: 0, subtask });
                self.tasks = tasks.collect();
                self.pending.clear();
                self.pending_files.clear();
                self.deployed.push((*start, restore.map(|restore| *restore)));
                match self.hold_tasks {
                    true => Vec::new(),
                    false => {
                        vec![Event::Deployed { generation, tasks: self.tasks.clone(), sources: self.tasks.clone() }]
                    }
                }
            }
            Action::Cancel { generation } => vec![Event::Cancelled { generation }],
            Action::InjectBarrier { generation, checkpoint, kind } => self.barrier(generation, checkpoint, kind),
            Action::NotifyAborted { checkpoint, .. } => {
                self.aborted.push(checkpoint);
                Vec::new()
            }
            Action::NotifyCompleted { checkpoint, .. } => {
                self.pending.retain(|(taken, _)| *taken > checkpoint);
                self.pending_files.retain(|(taken, _)| *taken > checkpoint);
                Vec::new()
            }
            Action::Commit { .. } if self.commits_hang => Vec::new(),
            Action::Commit { committables, .. } => {
                let ids: Vec<String> = committables.into_values().flat_map(BTreeMap::into_keys).collect();
                let result = match self.hold_commits {
                    true => CommitResult::Retry { message: "not now".to_owned() },
                    false => CommitResult::Done,
                };
                if !self.hold_commits {
                    // Committing again has no effect.
                    let new = ids.iter().filter(|id| !self.committed.contains(id));
                    let new: Vec<String> = new.cloned().collect();
                    self.committed.extend(new);
                }
                vec![Event::Committed { results: ids.into_iter().map(|id| (id, result.clone())).collect() }]
            }
            Action::Gather { assignment } if !self.hold_workers => {
                vec![Event::WorkersReady { revision: assignment.revision }]
            }
            Action::Prepare { revision, .. } => {
                self.prepared.push(revision);
                if self.hold_preparation { Vec::new() } else { vec![Event::Prepared { revision }] }
            }
            Action::ReleasePin { pin, .. } => {
                self.released.push(pin.clone());
                vec![Event::PinReleased { pin }]
            }
            Action::Report(notice) => {
                self.notices.push(notice);
                Vec::new()
            }
            Action::End(end) => {
                self.end = Some(end);
                Vec::new()
            }
            Action::AbortCommittables { .. } => panic!("no rule asks for it"),
            Action::Gather { .. } | Action::AbortLeftovers { .. } => Vec::new(),
        }
    }

    fn request(&mut self, store: &mut Objects, op: weir_protocol::leader::OpId, request: Request) -> Option<Event> {
        if let Some(meanwhile) = &mut self.meanwhile {
            meanwhile(store, &request);
        }
        if let Some(left) = &mut self.dies_after {
            self.dead = *left == 0;
            *left = left.saturating_sub(1);
            if self.dead {
                if self.last_one_lands {
                    self.execute(store, request);
                }
                return None;
            }
        }
        if let (Request::PutIfAbsent { key, .. }, Some(prefix)) = (&request, self.hold_puts_of)
            && key.to_string().starts_with(prefix)
        {
            self.held.push(Action::Store { op, request });
            return None;
        }
        Some(Event::Stored { op, outcome: self.execute(store, request) })
    }

    fn execute(&mut self, store: &mut Objects, request: Request) -> Outcome {
        if let Request::PutIfAbsent { key: ObjectName::Link(number), body } = &request
            && let Ok(link) = decode_link(*number, body)
            && !store.contains_key(&ObjectName::Link(*number).to_string())
        {
            self.listed.extend(link.committables().values().flat_map(BTreeMap::keys).cloned());
        }
        execute(store, request)
    }

    fn barrier(&mut self, generation: Generation, checkpoint: CheckpointId, kind: BarrierKind) -> Vec<Event> {
        self.barriers.push((checkpoint, kind));
        let one = |id: &str| Committable { id: id.to_owned(), payload: serde_json::Value::Null };
        self.pending.extend(self.writes.take().map(one).map(|one| (checkpoint, one)));
        let all = KeyGroupRange { start: KeyGroup(0), end: KeyGroup(4) };
        if self.writes_files {
            self.pending_files.push((
                checkpoint,
                StateFile {
                    path: format!("state/sum/{generation}-{checkpoint}"),
                    table: "sums".to_owned(),
                    sequence: checkpoint.0,
                    bytes: 1,
                    rows: 1,
                    checksum: 0,
                    key_groups: vec![all],
                },
            ));
        }
        let snapshots = self.tasks.iter().filter(|task| !self.silent.contains(&task.subtask)).map(|task| {
            let (mut sunk, mut summed) = (OperatorSnapshot::default(), OperatorSnapshot::default());
            if *task == TASK {
                sunk.committables = self.pending.iter().map(|(_, one)| one.clone()).collect();
                summed.added = self.pending_files.iter().map(|(_, file)| file.clone()).collect();
                summed.watermarks = self.watermark.map(|watermark| (all, watermark)).into_iter().collect();
            }
            TaskSnapshot {
                task: *task,
                in_flight: None,
                operators: [(sink(), sunk), (sum(), summed)].into(),
                cost: SnapshotCost::default(),
            }
        });
        let acked = |snapshot| Event::Acked { generation, checkpoint, snapshot: Box::new(snapshot) };
        snapshots.map(acked).collect()
    }

    pub(crate) fn savepoint(&mut self, store: &mut Objects, name: &str, then: Then) {
        self.tell(store, Event::SavepointRequested { name: name.to_owned(), uid: name.to_owned(), then });
    }

    /// Asks for an assignment and returns the answers that have come by then.
    pub(crate) fn assign(&mut self, store: &mut Objects, assignment: Assignment) -> Vec<AssignmentAnswer> {
        let request = format!("request {}", self.notices.len());
        self.tell(store, Event::AssignmentRequested { request: request.clone(), assignment: Box::new(assignment) });
        let answers = self.notices.iter().filter_map(|notice| match notice {
            Notice::AssignmentAnswered { request: of, answer, .. } if *of == request => Some(answer.clone()),
            _ => None,
        });
        answers.collect()
    }

    pub(crate) fn source_ends(&mut self, store: &mut Objects) {
        let generation = self.generation();
        for task in self.tasks.clone() {
            self.tell(store, Event::SourceEnded { generation, task });
        }
    }

    pub(crate) fn generation(&self) -> Generation {
        self.leader.status().generation.expect("a generation was claimed")
    }

    /// The revision in force.
    pub(crate) fn revision(&self) -> u64 {
        self.leader.status().course.terms.revision
    }

    pub(crate) fn failed(&self) -> Option<(ErrorKind, &str)> {
        match &self.end {
            Some(End::Failed { kind, message }) => Some((*kind, message)),
            _ => None,
        }
    }

    /// The put that was held back, its number and its request.
    pub(crate) fn take_held(&mut self) -> (weir_protocol::leader::OpId, Request) {
        match self.held.pop() {
            Some(Action::Store { op, request }) => (op, request),
            other => panic!("nothing is held: {other:?}"),
        }
    }
}

pub(crate) fn execute(store: &mut Objects, request: Request) -> Outcome {
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

pub(crate) fn links(store: &Objects) -> BTreeMap<u64, Link> {
    let numbers = store.keys().filter_map(|name| name.strip_prefix("chain/")?.parse().ok());
    let read = |number: u64| decode_link(LinkNumber(number), &store[&format!("chain/{number:020}")]).ok();
    numbers.filter_map(|number| Some((number, read(number)?))).collect()
}

pub(crate) fn head(store: &Objects) -> Link {
    links(store).pop_last().expect("there is a link").1
}
