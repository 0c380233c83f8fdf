//! What runs beside the tasks and the leader: requests to the store, commits, and the writing of snapshots, each on a
//! thread of its own, so that none waits for another.

use super::agent::Reports;
use super::agent::message::Report;
use super::message::Message;
use crate::checkpoint::merge::Merge;
use crate::checkpoint::store::{Put, Store};
use crate::checkpoint::writer::SnapshotWriter;
use crate::connector::{CommitOutcome, Committer, Leftovers};
use crate::dataflow::task::TakenSnapshot;
use crate::failure::{Failure, Kind};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use weir_protocol::chain::{Committables, Manifest};
use weir_protocol::leader::{CommitResult, DeclineCause, ErrorKind, Event, OpId, Outcome, Request};
use weir_protocol::snapshot::{KeyGroupRange, StateFile, TaskSnapshot};
use weir_protocol::{CheckpointId, Generation, OperatorId, TaskId};

/// A thread that works through what it is sent, until its sender is dropped.
pub struct Side<T> {
    sender: Option<mpsc::Sender<T>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Side<T> {
    /// Starts one that does `work` with everything that it is sent.
    pub(super) fn start(name: &str, mut work: impl FnMut(T) + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel();
        let run = move || receiver.into_iter().for_each(&mut work);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run).expect("a thread can be started");
        Self { sender: Some(sender), thread: Some(thread) }
    }

    /// Sends it work. It takes work as long as it exists.
    pub fn send(&self, work: T) {
        if let Some(sender) = &self.sender {
            // It only stops listening when it panicked, which ends the job by its other signs.
            let _ = sender.send(work);
        }
    }

    /// A sender of its own, for other threads.
    #[must_use]
    pub fn sender(&self) -> mpsc::Sender<T> {
        self.sender.clone().expect("the sender lives as long as the side")
    }
}

impl<T> Drop for Side<T> {
    fn drop(&mut self) {
        self.sender.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Carries out the leader's requests to the store.
#[must_use]
pub fn store(store: Arc<dyn Store>, answers: mpsc::Sender<Message>) -> Side<(OpId, Request)> {
    Side::start("store", move |(op, request)| {
        let outcome = perform(store.as_ref(), request);
        let _ = answers.send(Message::Leader(Event::Stored { op, outcome }));
    })
}

/// Carries out one request.
#[must_use]
pub fn perform(store: &dyn Store, request: Request) -> Outcome {
    match request {
        Request::PutIfAbsent { key, body } => match store.put_if_absent(&key.to_string(), &body) {
            Put::Done => Outcome::Done,
            Put::Exists => Outcome::Exists,
            Put::Failed(failure) => failed(&failure),
            Put::Unknown(failure) => Outcome::Unknown { message: failure.chain() },
        },
        Request::Get { key } => match store.get(&key.to_string()) {
            Ok(Some(body)) => Outcome::Body(body),
            Ok(None) => Outcome::NotFound,
            Err(failure) => failed(&failure),
        },
        Request::List { prefix } => match store.list(prefix.as_str()) {
            Ok(names) => Outcome::Listed(names),
            Err(failure) => failed(&failure),
        },
        Request::Delete { keys, .. } => match store.delete(&keys.into_iter().collect::<Vec<_>>()) {
            Ok(()) => Outcome::Done,
            Err(failure) => failed(&failure),
        },
    }
}

fn failed(failure: &Failure) -> Outcome {
    Outcome::Failed { kind: error_kind(failure.kind), message: failure.chain() }
}

/// The protocol's word for a kind of failure.
#[must_use]
pub fn error_kind(kind: Kind) -> ErrorKind {
    match kind {
        Kind::User => ErrorKind::User,
        Kind::Transient | Kind::Cancelled => ErrorKind::Transient,
        Kind::Corrupt => ErrorKind::Corrupt,
        Kind::Fenced => ErrorKind::Fenced,
        Kind::Bug => ErrorKind::Bug,
    }
}

/// Work of the committers.
pub enum Commit {
    /// Make these visible.
    Committables(Committables),
    /// Remove what generations before this one wrote and nobody will commit, but for `keep` and what the restored
    /// checkpoint's writers go on from.
    RemoveLeftovers {
        /// The first generation whose files stay.
        before: Generation,
        /// Ids of committables that stay.
        keep: BTreeSet<String>,
        /// Writers' states of the restored checkpoint, by sink.
        writers: BTreeMap<OperatorId, Vec<serde_json::Value>>,
    },
}

/// Carries out commits, and removes what earlier generations left, in the sinks and in the store.
#[must_use]
pub fn committers(
    mut committers: BTreeMap<OperatorId, Box<dyn Committer>>,
    store: Arc<dyn Store>,
    answers: mpsc::Sender<Message>,
) -> Side<Commit> {
    Side::start("commit", move |work| match work {
        Commit::Committables(committables) => {
            let results = commit(&mut committers, &committables);
            let _ = answers.send(Message::Leader(Event::Committed { results }));
        }
        Commit::RemoveLeftovers { before, keep, mut writers } => {
            for (sink, committer) in &mut committers {
                let writers = writers.remove(sink).unwrap_or_default();
                let keep = Leftovers { committables: keep.clone(), writers };
                if let Err(failure) = committer.remove_leftovers(before, &keep) {
                    tracing::warn!(sink = %sink, error = failure.chain(), "leftovers of earlier generations stay behind");
                }
            }
            if let Err(failure) = store.remove_unfinished(before) {
                tracing::warn!(error = failure.chain(), "unfinished uploads of earlier generations stay behind");
            }
        }
    })
}

/// Commits what can be committed; what no committer is there for is lost.
#[must_use]
pub fn commit(
    committers: &mut BTreeMap<OperatorId, Box<dyn Committer>>,
    committables: &Committables,
) -> BTreeMap<String, CommitResult> {
    let mut results = BTreeMap::new();
    for (sink, of_sink) in committables {
        let Some(committer) = committers.get_mut(sink) else {
            let lost = |id: &String| format!("the job has no sink {sink} any more to commit {id}");
            results.extend(of_sink.keys().map(|id| (id.clone(), CommitResult::Lost { message: lost(id) })));
            continue;
        };
        results.extend(committer.commit_all(of_sink).into_iter().map(|(id, outcome)| {
            let result = match outcome {
                CommitOutcome::Done => CommitResult::Done,
                CommitOutcome::Retry(message) => CommitResult::Retry { message },
                CommitOutcome::Refused(message) => CommitResult::Refused { message },
                CommitOutcome::Lost(message) => CommitResult::Lost { message },
            };
            (id, result)
        }));
    }
    results
}

/// Work of the snapshot writer.
pub enum Write {
    /// A generation begins.
    Begin(Beginning),
    /// A task's snapshot.
    Snapshot(Generation, TakenSnapshot),
    /// A checkpoint has completed.
    Completed(Generation, CheckpointId),
    /// Key groups are about to move, and who will own them reads the files that there are now: none is merged for a
    /// while.
    Settle,
}

/// So many checkpoints later the move has happened, or will not happen.
const SETTLED: u32 = 32;

/// What a generation begins with.
pub struct Beginning {
    /// The generation.
    pub generation: Generation,
    /// Its tasks, with the files of their operators and the key groups they own.
    pub tasks: Vec<TaskFiles>,
    /// Where the files lie, if not in the job's own place.
    pub elsewhere: Option<Arc<dyn Store>>,
}

/// What a task begins with.
pub struct TaskFiles {
    /// The task.
    pub task: TaskId,
    /// The key groups it owns.
    pub owned: Vec<KeyGroupRange>,
    /// By operator.
    pub files: Vec<(OperatorId, Vec<StateFile>)>,
}

/// Memory of snapshots that tasks have handed over and that are not stored yet.
#[derive(Debug, Clone, Default)]
pub struct UnderWay(Arc<UnderWayBytes>);

#[derive(Debug, Default)]
struct UnderWayBytes {
    /// On the way to the writer, or in its hands.
    sent: AtomicU64,
    /// Kept for the next snapshot, since the store did not take them.
    waiting: AtomicU64,
}

impl UnderWay {
    /// In bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.sent.load(Ordering::Relaxed) + self.0.waiting.load(Ordering::Relaxed)
    }

    /// A task hands a snapshot over.
    pub fn sent(&self, snapshot: &TakenSnapshot) {
        self.0.sent.fetch_add(snapshot.bytes(), Ordering::Relaxed);
    }

    fn written(&self, bytes: u64, waiting: u64) {
        let less = |sent: u64| Some(sent.saturating_sub(bytes));
        let _ = self.0.sent.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        self.0.waiting.store(waiting, Ordering::Relaxed);
    }
}

/// Writes snapshots, whose memory it keeps account of.
#[must_use]
pub fn writer(store: Arc<dyn Store>, reports: Reports, under_way: UnderWay) -> Side<Write> {
    let mut current: Option<(Generation, SnapshotWriter)> = None;
    let mut settled = 0;
    let (ended, merged) = mpsc::channel();
    let merges = Side::start("merges", move |merge: Merge| {
        let outcome = merge.run();
        let _ = ended.send((merge, outcome));
    });
    Side::start("snapshots", move |work| {
        if let Some((generation, writer)) = current.as_mut().filter(|_| settled == 0) {
            let own = merged.try_iter().filter(|(merge, _)| merge.generation() == *generation);
            own.for_each(|(merge, outcome)| writer.merged(merge, outcome));
        }
        match work {
            Write::Begin(Beginning { generation, tasks, elsewhere }) => {
                let sequences =
                    tasks.iter().flat_map(|task| &task.files).flat_map(|(_, files)| files).map(|file| file.sequence);
                let mut writer = SnapshotWriter::new(Arc::clone(&store), generation, sequences.max().unwrap_or(0));
                for task in tasks {
                    for (operator, files) in task.files {
                        match &elsewhere {
                            Some(other) => {
                                writer.inherit(task.task, operator, files, task.owned.clone(), Arc::clone(other));
                            }
                            None => writer.begin(task.task, operator, files, task.owned.clone()),
                        }
                    }
                }
                current = Some((generation, writer));
                settled = 0;
            }
            Write::Snapshot(generation, snapshot) => {
                let bytes = snapshot.bytes();
                if let Some((_, writer)) = current.as_mut().filter(|(current, _)| *current == generation) {
                    let acknowledged = write(writer, generation, snapshot, &reports);
                    if let Some(acknowledged) = acknowledged.filter(|_| settled == 0) {
                        writer.due(&acknowledged).into_iter().for_each(|merge| merges.send(merge));
                    }
                }
                under_way.written(bytes, current.as_ref().map_or(0, |(_, writer)| writer.waiting_bytes()));
            }
            Write::Settle => settled = SETTLED,
            Write::Completed(generation, checkpoint) => {
                settled = settled.saturating_sub(1);
                if let Some((_, writer)) = current.as_mut().filter(|(current, _)| *current == generation) {
                    writer.completed(checkpoint);
                }
            }
        }
    })
}

fn write(
    writer: &mut SnapshotWriter,
    generation: Generation,
    snapshot: TakenSnapshot,
    reports: &Reports,
) -> Option<TaskSnapshot> {
    let (task, checkpoint) = (snapshot.task, snapshot.checkpoint);
    match writer.write(snapshot) {
        Ok(acknowledged) => {
            let snapshot = Box::new(acknowledged.clone());
            reports.send(Report::Acked { generation, checkpoint, snapshot });
            Some(acknowledged)
        }
        Err(failure) => {
            let cause = if failure.kind == Kind::Transient { DeclineCause::Store } else { DeclineCause::Task };
            let message = failure.chain();
            reports.send(Report::Declined { generation, checkpoint, task, cause, message });
            None
        }
    }
}

/// What each task of a generation begins with.
#[must_use]
pub fn files_of(
    tasks: impl Iterator<Item = (TaskId, Vec<OperatorId>, Vec<KeyGroupRange>)>,
    restore: Option<&Manifest>,
) -> Vec<TaskFiles> {
    let files = |operator: &OperatorId, owned: &[KeyGroupRange]| {
        let state = restore.and_then(|manifest| manifest.operators.get(operator));
        let mut files = state.map(|state| state.files.clone()).unwrap_or_default();
        let overlaps = |file: &StateFile| {
            file.key_groups.iter().any(|range| owned.iter().any(|own| own.start < range.end && range.start < own.end))
        };
        files.retain(overlaps);
        files.sort_by_key(|file| file.sequence);
        files
    };
    tasks
        .map(|(task, operators, owned)| TaskFiles {
            task,
            files: operators.into_iter().map(|operator| (operator.clone(), files(&operator, &owned))).collect(),
            owned,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::checkpoint::store::directory::DirectoryStore;
    use crate::dataflow::chain::{Part, Taken};
    use crate::dataflow::in_flight::InFlight;
    use crate::operator::snapshot::{Snapshot, TableDelta};
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use std::time::Duration;
    use weir_protocol::KeyGroup;

    const TASK: TaskId = TaskId { chain: 0, subtask: 0 };

    fn snapshot() -> TakenSnapshot {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1000));
        let delta = TableDelta {
            table: "t".into(),
            rows: RecordBatch::try_from_iter([("k", keys)]).unwrap(),
            key_columns: 1,
            expires: None,
            deleted: None,
            key_groups: vec![(KeyGroup(0), 1000)],
            dead: None,
        };
        let part = Part::State(Snapshot { tables: vec![delta], ..Snapshot::default() });
        let taken = vec![Taken { operator: OperatorId("state".into()), part }];
        TakenSnapshot {
            task: TASK,
            checkpoint: CheckpointId(1),
            taken,
            align: Duration::ZERO,
            sync: Duration::ZERO,
            in_flight: InFlight::default(),
        }
    }

    #[test]
    fn a_snapshot_takes_memory_until_it_is_stored() {
        let folder = tempfile::tempdir().unwrap();
        for closed in [false, true] {
            let under_way = UnderWay::default();
            let (sender, reports) = mpsc::channel();
            let place = folder.path().join(closed.to_string());
            let store = DirectoryStore::open(&place).unwrap();
            if closed {
                // A file in the place of the folder takes no state.
                std::fs::write(place.join("state"), "").unwrap();
            }
            let reports_to = Reports::new(move |report| sender.send(report).unwrap());
            let side = writer(Arc::new(store), reports_to, under_way.clone());
            side.send(Write::Begin(Beginning { generation: Generation(1), tasks: Vec::new(), elsewhere: None }));
            let snapshot = snapshot();
            under_way.sent(&snapshot);
            assert!(under_way.bytes() >= 8000);
            side.send(Write::Snapshot(Generation(1), snapshot));
            let stored = matches!(reports.recv().unwrap(), Report::Acked { .. });
            drop(side);
            assert_eq!(stored, !closed);
            assert_eq!(under_way.bytes() >= 8000, closed, "what could not be stored waits for the next one");
        }
    }
}
