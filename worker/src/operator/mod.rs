//! Dataflow operators: synchronous transformations of batches, with state, watermarks and snapshots.
//!
//! An operator never sees a channel, a thread or a clock. The task that hosts it calls it for each element of its input
//! and carries what it emits to the next operator. What an operator holds back for throughput it emits when told that its
//! inputs are idle, at a barrier, and before it lets a watermark pass that depends on it.

pub mod aggregate;
pub mod build;
pub mod calc;
pub mod key_hash;
pub mod legend;
pub mod snapshot;
pub mod window;

use crate::batch::Batch;
use crate::failure::Result;
use snapshot::{Restored, Snapshot};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use weir_protocol::key_group::MaxParallelism;
use weir_protocol::snapshot::KeyGroupRange;
use weir_protocol::{EventTime, OperatorId};

/// Receives what an operator emits. A call may wait until there is room downstream, and fails with kind `Cancelled` when
/// the task is told to stop while it waits.
pub trait Output {
    /// Rows for the next operators. An empty batch may be dropped.
    fn emit(&mut self, batch: Batch) -> Result<()>;

    /// Event time has advanced: no row emitted later is to be handled before those of this time.
    fn watermark(&mut self, watermark: EventTime) -> Result<()>;
}

/// A transformation of batches that runs inside a task.
pub trait Operator: Send {
    /// Handles rows from one input; operators with one input get `input` 0.
    fn process(&mut self, input: usize, batch: Batch, out: &mut dyn Output) -> Result<()>;

    /// Event time has advanced on all inputs. The operator forwards the watermark itself, now or later.
    fn on_watermark(&mut self, watermark: EventTime, out: &mut dyn Output) -> Result<()> {
        out.watermark(watermark)
    }

    /// Nothing waits at the inputs: emit what is held back for throughput.
    fn on_idle(&mut self, out: &mut dyn Output) -> Result<()> {
        let _ = out;
        Ok(())
    }

    /// A barrier is about to pass: emit whatever is not part of the snapshot.
    fn before_barrier(&mut self, out: &mut dyn Output) -> Result<()> {
        self.on_idle(out)
    }

    /// Hands over what has changed since the last snapshot. The cost follows the changes, not the state's size.
    fn snapshot(&mut self) -> Result<Snapshot> {
        Ok(Snapshot::default())
    }

    /// Goes on in another task with the state that it holds, but for key groups that are not in `key_groups`: those it
    /// forgets. From now it counts late rows in `late_rows`. What changed since the last snapshot there must be nothing;
    /// [`restore`](Self::restore) comes next, with what the task is to have besides. False when it cannot do so: then it
    /// is of no use any more.
    fn adopt(&mut self, key_groups: &[KeyGroupRange], late_rows: &Counter) -> bool {
        let _ = (key_groups, late_rows);
        false
    }

    /// Takes over the state of a checkpoint, before the first row. Called again, and after [`adopt`](Self::adopt), it
    /// brings what has come to the state since, up to the checkpoint whose watermarks it tells; counters come once.
    fn restore(&mut self, restored: Restored) -> Result<()> {
        let _ = restored;
        Ok(())
    }

    /// The inputs have ended; the final watermark has passed. Emit what is left.
    fn on_end(&mut self, out: &mut dyn Output) -> Result<()> {
        self.before_barrier(out)
    }

    /// The time of day, in milliseconds since 1970-01-01T00:00:00Z; told between batches, for state time to live.
    fn set_processing_time(&mut self, now_ms: i64) {
        let _ = now_ms;
    }

    /// Bytes of memory that the operator's state takes.
    fn state_bytes(&self) -> usize {
        0
    }
}

/// What an operator is told when it is made.
#[derive(Debug, Clone)]
pub struct OperatorContext {
    /// The operator.
    pub operator: OperatorId,
    /// The key groups whose state is in this task.
    pub key_groups: Vec<KeyGroupRange>,
    /// The number of key groups of the job.
    pub max_parallelism: MaxParallelism,
    /// Rows that came too late for their windows; the operator adds to it.
    pub late_rows: Counter,
    /// State time to live: a group not touched for this long is forgotten; `None` keeps it for ever.
    pub state_ttl: Option<std::time::Duration>,
}

/// A number that the task's thread adds to and others read.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds to it.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Sets it, as gauges are.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
