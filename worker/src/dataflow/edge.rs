//! The output side of a task: where rows go.
//!
//! Rows of a keyed shuffle go to the task that owns their key group. A batch is spread by one permutation and cut into
//! slices without another copy; slices that are too small to be worth a message wait for more, together with the
//! watermarks behind them, until there are enough rows or the task has nothing else to do.

use super::element::{Barrier, Element};
use super::inbox::Sender;
use super::metrics::TaskMetrics;
use crate::batch::Batch;
use crate::failure::Result;
use crate::operator::key_hash;
use arrow::array::UInt32Array;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir_protocol::EventTime;
use weir_protocol::key_group::KeyGroupMap;

/// Fewer rows than this wait for more while input flows.
const WORTH_SENDING: usize = 1024;

/// Sends a task's output over one edge of the graph, to all tasks on its other side.
pub struct EdgeWriter {
    spread: Spread,
    targets: Vec<Target>,
    metrics: Arc<TaskMetrics>,
    waited: Duration,
}

/// How rows find their task.
pub enum Spread {
    /// All to the one target.
    Forward,
    /// By key.
    Hash(HashSpread),
}

/// Spreads rows by key group.
pub struct HashSpread {
    columns: Vec<usize>,
    map: Arc<KeyGroupMap>,
    hashes: Vec<u64>,
}

struct Target {
    sender: Sender,
    held: Vec<Batch>,
    rows: usize,
    watermark: Option<(EventTime, Option<Instant>)>,
    /// A barrier that waits for nothing comes next.
    urgent: bool,
}

impl HashSpread {
    /// Spreads by the key in `columns`.
    #[must_use]
    pub fn new(columns: Vec<usize>, map: Arc<KeyGroupMap>) -> Self {
        Self { columns, map, hashes: Vec::new() }
    }

    /// The rows of `batch` that go to the task `target` of `targets`.
    pub fn share(&mut self, batch: Batch, target: usize, targets: usize) -> Result<Option<Batch>> {
        match self.permutation(&batch, targets)? {
            Permutation::All(only) => Ok((only == target).then_some(batch)),
            Permutation::Sorted { indices, starts } => {
                let rows = starts[target + 1] - starts[target];
                let share = indices.slice(starts[target], rows);
                Ok(if rows > 0 { Some(batch.take(&share)?) } else { None })
            }
        }
    }

    /// The rows of `batch` sorted by target, and where each target's begin. `None` when all go to one.
    fn permutation(&mut self, batch: &Batch, targets: usize) -> Result<Permutation> {
        let keys: Vec<_> = self.columns.iter().map(|column| Arc::clone(batch.column(*column))).collect();
        key_hash::hash_keys(&keys, batch.num_rows(), &mut self.hashes)?;
        let (groups, owners) = (self.map.max_parallelism(), self.map.table());
        let owner = |hash: u64| usize::from(owners[usize::from(groups.key_group_of_hash(hash).0)]);
        let mut starts = vec![0_usize; targets + 1];
        for hash in &self.hashes {
            starts[owner(*hash) + 1] += 1;
        }
        if let Some(only) = (0..targets).find(|target| starts[target + 1] == batch.num_rows()) {
            return Ok(Permutation::All(only));
        }
        for target in 0..targets {
            starts[target + 1] += starts[target];
        }
        let mut next = starts.clone();
        let mut indices = vec![0_u32; batch.num_rows()];
        for (row, hash) in self.hashes.iter().enumerate() {
            let slot = &mut next[owner(*hash)];
            indices[*slot] = row as u32;
            *slot += 1;
        }
        Ok(Permutation::Sorted { indices: indices.into(), starts })
    }
}

enum Permutation {
    All(usize),
    Sorted { indices: UInt32Array, starts: Vec<usize> },
}

impl EdgeWriter {
    /// Writes to `senders`, one per task on the other side.
    #[must_use]
    pub fn new(spread: Spread, senders: Vec<Sender>, metrics: Arc<TaskMetrics>) -> Self {
        let target = |sender| Target { sender, held: Vec::new(), rows: 0, watermark: None, urgent: false };
        Self { spread, targets: senders.into_iter().map(target).collect(), metrics, waited: Duration::ZERO }
    }

    /// Sends rows.
    pub fn emit(&mut self, batch: Batch) -> Result<()> {
        self.metrics.rows_out.add(batch.num_rows() as u64);
        self.metrics.bytes_out.add(batch.bytes() as u64);
        let targets = self.targets.len();
        let permutation = match &mut self.spread {
            Spread::Forward => Permutation::All(0),
            Spread::Hash(_) if targets == 1 => Permutation::All(0),
            Spread::Hash(spread) => spread.permutation(&batch, targets)?,
        };
        match permutation {
            Permutation::All(target) if targets == 1 => {
                self.waited += self.targets[target].send(Element::Batch(batch))?;
            }
            Permutation::All(target) => self.waited += self.targets[target].add(batch)?,
            Permutation::Sorted { indices, starts } => {
                let sorted = batch.take(&indices)?;
                for (target, range) in self.targets.iter_mut().zip(starts.windows(2)) {
                    if range[0] < range[1] {
                        self.waited += target.add(sorted.slice(range[0], range[1] - range[0]))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Tells every target that event time has advanced, behind the rows held for it; rows that were read at `born` did it.
    pub fn watermark(&mut self, watermark: EventTime, born: Option<Instant>) -> Result<()> {
        for target in &mut self.targets {
            if target.held.is_empty() {
                self.waited += target.send(Element::Watermark(watermark, born))?;
            } else {
                target.watermark = Some((watermark, born));
            }
        }
        Ok(())
    }

    /// Sends what is held.
    pub fn flush(&mut self) -> Result<()> {
        for target in &mut self.targets {
            self.waited += target.flush()?;
        }
        Ok(())
    }

    /// A barrier that waits for nothing comes next: what is sent before it does not wait for room either, as far as
    /// channels allow it.
    pub fn hurry(&mut self) {
        self.targets.iter_mut().for_each(|target| target.urgent = true);
    }

    /// Sends a barrier behind everything else. One that overtakes does so at the other side.
    pub fn barrier(&mut self, barrier: Barrier) -> Result<()> {
        let sent = self.broadcast(&Element::Barrier(barrier));
        self.targets.iter_mut().for_each(|target| target.urgent = false);
        sent
    }

    /// Tells that the task has nothing to say for a while.
    pub fn idle(&mut self) -> Result<()> {
        self.broadcast(&Element::Idle)
    }

    /// Ends the stream.
    pub fn end(&mut self) -> Result<()> {
        self.broadcast(&Element::End)
    }

    /// How long it waited for room since the last call.
    pub fn take_waited(&mut self) -> Duration {
        std::mem::take(&mut self.waited)
    }

    fn broadcast(&mut self, element: &Element) -> Result<()> {
        self.flush()?;
        for target in &self.targets {
            self.waited += target.send(element.clone())?;
        }
        Ok(())
    }
}

impl Target {
    fn send(&self, element: Element) -> Result<Duration> {
        if self.urgent { self.sender.send_urgent(element) } else { self.sender.send(element) }
    }

    fn add(&mut self, batch: Batch) -> Result<Duration> {
        self.rows += batch.num_rows();
        self.held.push(batch);
        if self.rows >= WORTH_SENDING { self.flush() } else { Ok(Duration::ZERO) }
    }

    fn flush(&mut self) -> Result<Duration> {
        let mut waited = Duration::ZERO;
        if let Some(batch) = Batch::concat(&self.held)? {
            self.held.clear();
            self.rows = 0;
            waited += self.send(Element::Batch(batch))?;
        }
        if let Some((watermark, born)) = self.watermark.take() {
            waited += self.send(Element::Watermark(watermark, born))?;
        }
        Ok(waited)
    }
}
