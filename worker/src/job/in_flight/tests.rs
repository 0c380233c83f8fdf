//! Senders and tasks led step by step: barriers overtake, the job is killed, and tasks of perhaps another number replay
//! what was in flight.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::batch::Batch;
use crate::checkpoint::store::Put;
use crate::dataflow::chain::{Step, Work as StepWork};
use crate::dataflow::edge::{EdgeWriter, Spread};
use crate::dataflow::element::{After, Barrier};
use crate::dataflow::in_flight::InFlight;
use crate::dataflow::inbox::Inbox;
use crate::dataflow::metrics::{Ends, TaskMetrics};
use crate::dataflow::task::{Events, OperatorTask, Stepped, TaskEvent};
use crate::failure::Failure;
use crate::operator::snapshot::Snapshot;
use crate::operator::{Operator, Output};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use parking_lot::Mutex;
use proptest::prelude::*;
use std::ops::Range;
use std::time::{Duration, Instant};
use weir_protocol::key_group::MaxParallelism;
use weir_protocol::{CheckpointId, EventTime, OperatorId, TaskId};

/// Files in memory.
#[derive(Default)]
struct Memory(Mutex<BTreeMap<String, Vec<u8>>>);

impl Store for Memory {
    fn put_if_absent(&self, key: &str, body: &[u8]) -> Put {
        self.0.lock().insert(key.to_owned(), body.to_vec());
        Put::Done
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.0.lock().get(key).cloned())
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let part = self.0.lock()[key].get(range.start as usize..range.end as usize).map(<[u8]>::to_vec);
        part.ok_or_else(|| Failure::corrupt(format!("{key} has no such bytes")))
    }

    fn list(&self, _prefix: &str) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn delete(&self, _keys: &[String]) -> Result<()> {
        Ok(())
    }
}

/// A row that was handled: its id, and the event time that it met.
type Met = (i64, i64);

/// What an operator has seen, and had seen when its snapshot was taken.
#[derive(Default)]
struct Seen {
    rows: Vec<Met>,
    watermark: i64,
    told: Option<i64>,
    at_barrier: Option<(Vec<Met>, i64)>,
}

/// Remembers rows.
struct Recorder(Arc<Mutex<Seen>>);

impl Operator for Recorder {
    fn process(&mut self, _input: usize, batch: Batch, _out: &mut dyn Output) -> Result<()> {
        let mut seen = self.0.lock();
        let met = seen.watermark;
        let ids = batch.column(1).as_primitive::<Int64Type>().values().to_vec();
        seen.rows.extend(ids.into_iter().map(|id| (id, met)));
        Ok(())
    }

    fn on_watermark(&mut self, watermark: EventTime, _out: &mut dyn Output) -> Result<()> {
        let mut seen = self.0.lock();
        assert!(seen.told.replace(watermark.0) <= Some(watermark.0), "event time goes back");
        seen.watermark = seen.watermark.max(watermark.0);
        Ok(())
    }

    fn snapshot(&mut self) -> Result<Snapshot> {
        let mut seen = self.0.lock();
        seen.at_barrier = Some((seen.rows.clone(), seen.watermark));
        Ok(Snapshot::default())
    }
}

/// What a sender does.
#[derive(Debug, Clone)]
enum Event {
    /// Rows of these keys.
    Rows(Vec<i64>),
    Watermark(i64),
    Flush,
    Idle,
}

/// Where a sender is in its script.
#[derive(Debug, Clone, Copy)]
struct Position {
    at: usize,
    watermark: i64,
    next_id: i64,
    was_idle: bool,
}

/// Rows by id: the key, and the sender's watermark before it, as long as the sender was never idle.
type Sent = BTreeMap<i64, (i64, Option<i64>)>;

struct Sender {
    script: Vec<Event>,
    position: Position,
    writer: Option<EdgeWriter>,
}

impl Sender {
    fn new(number: usize, script: Vec<Event>) -> Self {
        let next_id = (number as i64) << 32;
        let position = Position { at: 0, watermark: i64::MIN, next_id, was_idle: false };
        Self { script, position, writer: None }
    }

    fn writer(&mut self) -> &mut EdgeWriter {
        self.writer.as_mut().unwrap()
    }

    fn has_ended(&self) -> bool {
        self.position.at == self.script.len()
    }

    fn step(&mut self, sent: &mut Sent) {
        let event = self.script[self.position.at].clone();
        self.position.at += 1;
        match event {
            Event::Rows(keys) => {
                let first = self.position.next_id;
                self.position.next_id += keys.len() as i64;
                let before = Some(self.position.watermark).filter(|_| !self.position.was_idle);
                sent.extend(keys.iter().zip(first..).map(|(key, id)| (id, (*key, before))));
                let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(first..self.position.next_id));
                let keys: ArrayRef = Arc::new(Int64Array::from(keys));
                let rows = RecordBatch::try_from_iter([("key", keys), ("id", ids)]).unwrap();
                self.writer().emit(Batch::inserts(rows)).unwrap();
            }
            Event::Watermark(watermark) => {
                let watermark = watermark.max(self.position.watermark);
                self.position.watermark = watermark;
                self.writer().watermark(EventTime(watermark), None).unwrap();
            }
            Event::Flush => self.writer().flush().unwrap(),
            Event::Idle => {
                self.position.was_idle = true;
                self.writer().idle().unwrap();
            }
        }
    }
}

/// The same numbers for the same seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// How a round of the job ends: by a kill after the checkpoint that these barriers are of, or by the end of all scripts.
#[derive(Debug, Clone)]
enum Ending {
    Kill { barriers_at: Vec<usize>, overtakes: bool, never: Vec<bool> },
    Done,
}

/// A job of some senders and a keyed edge.
struct World {
    senders: Vec<Sender>,
    store: Arc<Memory>,
    files: Vec<InFlightFile>,
    key_groups: Arc<KeyGroupMap>,
    sent: Sent,
    /// What counts, whatever was killed.
    handled: Vec<Met>,
    draw: Draw,
    /// The event time that the only task had reached.
    reached: i64,
}

/// One task of a round.
struct Running {
    task: Stepped,
    seen: Arc<Mutex<Seen>>,
    snapshot: Arc<Mutex<Option<InFlight>>>,
}

fn edge() -> EdgeId {
    EdgeId("edge".to_owned())
}

fn groups() -> MaxParallelism {
    MaxParallelism::new(16).unwrap()
}

impl World {
    fn new(scripts: Vec<Vec<Event>>, seed: u64) -> Self {
        let senders = scripts.into_iter().enumerate().map(|(number, script)| Sender::new(number, script));
        Self {
            senders: senders.collect(),
            store: Arc::new(Memory::default()),
            files: Vec::new(),
            key_groups: Arc::new(KeyGroupMap::initial(groups(), 1).unwrap()),
            sent: Sent::new(),
            handled: Vec::new(),
            draw: Draw(seed),
            reached: i64::MIN,
        }
    }

    fn deploy(&mut self, parallelism: u32, never: &[bool]) -> Vec<Running> {
        self.key_groups = Arc::new(self.key_groups.rescale(parallelism).unwrap());
        let inboxes: Vec<Arc<Inbox>> = (0..parallelism).map(|_| Inbox::new(self.senders.len())).collect();
        for (channel, sender) in self.senders.iter_mut().enumerate() {
            let spread = Spread::Hash(HashSpread::new(vec![0], Arc::clone(&self.key_groups)));
            let senders = inboxes.iter().map(|inbox| inbox.sender(channel)).collect();
            sender.writer = Some(EdgeWriter::new(spread, senders, metrics(0)));
        }
        let tasks = inboxes.into_iter().enumerate();
        tasks.map(|(subtask, inbox)| self.task(subtask as u32, inbox, never)).collect()
    }

    fn task(&self, subtask: u32, inbox: Arc<Inbox>, never: &[bool]) -> Running {
        let channels = vec![edge(); self.senders.len()];
        let edges = [(edge(), Into { input: 0, key: Some(vec![0]) })].into();
        let may = never.get(subtask as usize).is_none_or(|never| !never);
        let overtaking = if may { Overtaking::Allowed } else { Overtaking::Never };
        let inputs = vec![0; channels.len()];
        let into = EdgesInto { channels: channels.clone(), inputs, overtaking, edges };
        let replay = InFlightOf::new(into, &self.files, Arc::clone(&self.key_groups), subtask);
        let seen = Arc::new(Mutex::new(Seen { watermark: self.reached, ..Seen::default() }));
        let snapshot = Arc::new(Mutex::new(None));
        let told = Arc::clone(&snapshot);
        let events = Events::new(move |event| {
            let TaskEvent::Snapshot(snapshot) = event else { return };
            assert!(told.lock().replace(snapshot.in_flight).is_none(), "a snapshot is handed over once");
        });
        let chain = Step {
            id: Some(OperatorId("recorder".to_owned())),
            name: "recorder".to_owned(),
            work: StepWork::Operator(Box::new(Recorder(Arc::clone(&seen)))),
            next: Vec::new(),
        };
        let task = OperatorTask {
            task: TaskId { chain: 0, subtask },
            inputs: vec![0; inbox.channels()],
            edges: channels,
            overtaking,
            replay: replay.read(self.store.as_ref()).unwrap(),
            inbox,
            chain,
            events,
            metrics: metrics(subtask),
        };
        Running { task: Stepped::new(task).unwrap(), seen, snapshot }
    }

    /// Runs with this parallelism until the ending.
    fn round(&mut self, parallelism: u32, ending: &Ending) {
        let never = if let Ending::Kill { never, .. } = ending { never.clone() } else { Vec::new() };
        let mut tasks = self.deploy(parallelism, &never);
        let mut barriers: Vec<Option<usize>> = vec![None; self.senders.len()];
        let mut kept: Vec<Position> = self.senders.iter().map(|sender| sender.position).collect();
        if let Ending::Kill { barriers_at, .. } = ending {
            let ahead = |(sender, at): (&Sender, &usize)| {
                Some(sender.position.at + at % (sender.script.len() - sender.position.at + 1))
            };
            barriers = self.senders.iter().zip(barriers_at).map(ahead).collect();
        }
        let mut done = false;
        while !done {
            let actors = self.senders.len() + tasks.len();
            let first = self.draw.below(actors);
            let acted =
                (0..actors).map(|step| (first + step) % actors).any(|actor| match actor.checked_sub(tasks.len()) {
                    None => tasks[actor].task.step().unwrap(),
                    Some(sender) => self.sender_acts(sender, ending, &mut barriers, &mut kept),
                });
            let has_all = tasks.iter().all(|task| task.snapshot.lock().is_some());
            done = !acted || (has_all && matches!(ending, Ending::Kill { .. }));
        }
        match ending {
            Ending::Done => self.handled.extend(tasks.iter().flat_map(|task| task.seen.lock().rows.clone())),
            Ending::Kill { .. } => self.kill(&tasks, &kept),
        }
    }

    fn sender_acts(
        &mut self,
        number: usize,
        ending: &Ending,
        barriers: &mut [Option<usize>],
        kept: &mut [Position],
    ) -> bool {
        let sender = &mut self.senders[number];
        if let (Ending::Kill { overtakes, .. }, true) = (ending, barriers[number] == Some(sender.position.at)) {
            barriers[number] = None;
            kept[number] = sender.position;
            let overtakes_at = overtakes.then(Instant::now);
            let barrier = Barrier { checkpoint: CheckpointId(1), after: After::More, overtakes_at };
            if *overtakes {
                sender.writer().hurry();
            }
            sender.writer().barrier(barrier).unwrap();
            return true;
        }
        if sender.has_ended() {
            return std::mem::take(&mut sender.writer).is_some_and(|mut writer| {
                writer.flush().unwrap();
                true
            });
        }
        sender.step(&mut self.sent);
        true
    }

    /// What the checkpoint has counts; everything after it has never been.
    fn kill(&mut self, tasks: &[Running], kept: &[Position]) {
        self.files.clear();
        self.reached = i64::MIN;
        for (subtask, task) in tasks.iter().enumerate() {
            let (rows, watermark) = task.seen.lock().at_barrier.clone().unwrap();
            self.handled.extend(rows);
            self.reached = if tasks.len() == 1 { watermark } else { i64::MIN };
            let Some(InFlight::Stretches(stretches)) = task.snapshot.lock().take() else { panic!("a part is missing") };
            if !stretches.is_empty() {
                self.keep(subtask as u32, &stretches);
            }
        }
        for (sender, kept) in self.senders.iter_mut().zip(kept) {
            sender.position = *kept;
        }
    }

    fn keep(&mut self, subtask: u32, stretches: &[Stretch]) {
        let encoded = in_flight::encode(stretches).unwrap();
        let path = format!("state/in-flight/{}", self.store.0.lock().len());
        self.store.put_if_absent(&path, &encoded.body);
        self.files.push(InFlightFile {
            path,
            edges: encoded.edges,
            subtask,
            key_groups: self.key_groups.owned(subtask),
            bytes: encoded.body.len() as u64,
            rows: encoded.rows,
            checksum: encoded.checksum,
        });
    }

    /// Every row was handled once, in its sender's order within its key, and met no later event time than its sender had
    /// told before it.
    fn check(&self) -> Result<(), TestCaseError> {
        let mut ids: Vec<i64> = self.handled.iter().map(|(id, _)| *id).collect();
        let mut last: BTreeMap<(i64, i64), i64> = BTreeMap::new();
        for (id, met) in &self.handled {
            let (key, before) = self.sent[id];
            let earlier = last.insert((id >> 32, key), *id);
            prop_assert!(earlier.is_none_or(|earlier| earlier < *id), "{} after {:?}", id, earlier);
            prop_assert!(before.is_none_or(|before| *met <= before), "row {} met {}, not {:?}", id, met, before);
        }
        ids.sort_unstable();
        prop_assert_eq!(ids, self.sent.keys().copied().collect::<Vec<_>>());
        Ok(())
    }
}

fn metrics(subtask: u32) -> Arc<TaskMetrics> {
    TaskMetrics::new(TaskId { chain: 0, subtask }, String::new(), Ends::default())
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => prop::collection::vec(0_i64..12, 1..6).prop_map(Event::Rows),
        3 => (0_i64..100).prop_map(Event::Watermark),
        2 => Just(Event::Flush),
        1 => Just(Event::Idle),
    ]
}

fn rounds(senders: usize) -> impl Strategy<Value = Vec<(u32, Ending)>> {
    let kill = (
        prop::collection::vec(0_usize..40, senders),
        prop::bool::weighted(0.8),
        prop::collection::vec(prop::bool::weighted(0.2), 4),
    )
        .prop_map(|(barriers_at, overtakes, never)| Ending::Kill { barriers_at, overtakes, never });
    (prop::collection::vec((1_u32..5, kill), 1..4), 1_u32..5).prop_map(|(mut rounds, last)| {
        rounds.push((last, Ending::Done));
        rounds
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn rows_in_flight_are_handled_once_and_are_no_later_than_they_were(
        (scripts, rounds) in (1_usize..4).prop_flat_map(|senders| {
            (prop::collection::vec(prop::collection::vec(events(), 0..30), senders), rounds(senders))
        }),
        seed in any::<u64>(),
    ) {
        let mut world = World::new(scripts, seed);
        for (parallelism, ending) in &rounds {
            world.round(*parallelism, ending);
        }
        world.check()?;
    }

    /// With one sender and one task there is one order of things, so all must be as if nothing had happened.
    #[test]
    fn a_row_meets_the_watermark_that_it_would_have_met(
        script in prop::collection::vec(events().prop_filter("never idle", |event| !matches!(event, Event::Idle)), 0..40),
        barriers in prop::collection::vec(0_usize..40, 1..4),
        seed in any::<u64>(),
    ) {
        let mut world = World::new(vec![script], seed);
        for at in barriers {
            world.round(1, &Ending::Kill { barriers_at: vec![at], overtakes: true, never: Vec::new() });
        }
        world.round(1, &Ending::Done);
        let expected: Vec<Met> = world.sent.iter().map(|(id, (_, before))| (*id, before.unwrap())).collect();
        prop_assert_eq!(&world.handled, &expected);
    }
}

/// How many steps a task needs until its part of a checkpoint is complete, when so many batches wait before the barrier.
fn steps_to_complete(batches: usize, overtakes_at: Option<Instant>) -> usize {
    let mut script = Vec::new();
    for _ in 0..batches {
        script.extend([Event::Rows(vec![1]), Event::Flush]);
    }
    let mut world = World::new(vec![script], 0);
    let mut tasks = world.deploy(1, &[]);
    let sender = &mut world.senders[0];
    while !sender.has_ended() {
        sender.step(&mut world.sent);
    }
    let barrier = Barrier { checkpoint: CheckpointId(1), after: After::More, overtakes_at };
    sender.writer().barrier(barrier).unwrap();
    let mut steps = 0;
    while tasks[0].snapshot.lock().is_none() {
        assert!(tasks[0].task.step().unwrap(), "it stands still");
        steps += 1;
    }
    steps
}

#[test]
fn a_checkpoint_that_overtakes_does_not_wait_for_what_is_queued() {
    for batches in [10, 1000] {
        assert_eq!(steps_to_complete(batches, None), batches + 1);
        assert!(steps_to_complete(batches, Some(Instant::now())) <= 3);
        // As long as its moment has not come it waits like any other.
        assert_eq!(steps_to_complete(batches, Some(Instant::now() + Duration::from_secs(3600))), batches + 2);
    }
}
