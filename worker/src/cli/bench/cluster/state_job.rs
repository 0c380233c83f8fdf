//! A job with much state: a count per key, of keys that are all there after a while, and of some that go on changing.

use super::{Cluster, JobSpec, Storage};
use crate::cli::exit::Refusal;
use std::time::Duration;

/// What a group of the job takes in memory: its row of words and its place in the index.
const GROUP_BYTES: u64 = 80;

/// Such a job.
pub(super) struct StateJob {
    /// Keys.
    pub(super) groups: u64,
    /// Rows per second, each of a random key, once all keys are there.
    pub(super) rate: u64,
    /// The first of the keys, of which those rows are.
    pub(super) live: u64,
}

/// Rows per second that no machine makes: as many as are taken.
const FULL_SPEED: u64 = 1_000_000_000;

impl StateJob {
    /// One whose groups take about `megabytes`.
    pub(super) fn of_megabytes(megabytes: u64, rate: u64) -> Self {
        let groups = (megabytes * 1_000_000 / GROUP_BYTES).max(1);
        Self { groups, rate, live: groups }
    }

    /// One whose groups take about `megabytes` and of which a hundredth goes on changing, as fast as rows are taken.
    pub(super) fn at_full_speed(megabytes: u64) -> Self {
        let all = Self::of_megabytes(megabytes, FULL_SPEED);
        Self { live: (all.groups / 100).max(1), ..all }
    }

    /// Starts it with a checkpoint every second, and waits until all of its state is there and in checkpoints.
    pub(super) fn start(
        &self,
        workers: u32,
        more: u32,
        interval: Duration,
        storage: &Storage,
    ) -> Result<Cluster, Refusal> {
        let mut cluster = Cluster::start(&self.spec(workers, interval, storage), workers, more)?;
        self.await_state(&mut cluster)?;
        Self::await_small_checkpoints(&mut cluster)?;
        Ok(cluster)
    }

    /// The job with so many subtasks of every step.
    pub(super) fn spec(&self, parallelism: u32, interval: Duration, storage: &Storage) -> JobSpec {
        JobSpec {
            name: "state".to_owned(),
            sql: self.sql(),
            parallelism,
            checkpoint_interval: interval,
            storage: storage.clone(),
        }
    }

    /// Waits until all of the state is there.
    pub(super) fn await_state(&self, cluster: &mut Cluster) -> Result<(), Refusal> {
        let filled = |cluster: &Cluster| cluster.sum("weir_task_rows_in_total", &["source fill"]) as u64;
        cluster.until("all of the state", |cluster| (filled(cluster) >= self.groups).then_some(()))
    }

    /// Waits until checkpoints write only what has changed.
    pub(super) fn await_small_checkpoints(cluster: &mut Cluster) -> Result<(), Refusal> {
        // The first ones write everything, those after them what has changed since.
        cluster.await_checkpoints(2)?;
        let last = |cluster: &Cluster| cluster.sum("weir_checkpoint_written_bytes", &[]);
        let all = |cluster: &Cluster| cluster.sum("weir_checkpoint_size_bytes", &[]);
        cluster.until("a small checkpoint", |cluster| (last(cluster) * 4.0 < all(cluster)).then_some(()))
    }

    fn sql(&self) -> String {
        let (last, last_live, rate) = (self.groups - 1, self.live - 1, self.rate);
        format!(
            "CREATE TABLE fill (k BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '{FULL_SPEED}', \
             'fields.k.kind' = 'sequence', 'fields.k.start' = '0', 'fields.k.end' = '{last}');\n\
             CREATE TABLE live (k BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '{rate}', \
             'fields.k.min' = '0', 'fields.k.max' = '{last_live}');\n\
             CREATE TABLE nowhere (k BIGINT, n BIGINT, total BIGINT, least BIGINT, greatest BIGINT) \
             WITH ('connector' = 'blackhole');\n\
             INSERT INTO nowhere SELECT k, count(*), sum(k), min(k), max(k) \
             FROM (SELECT k FROM fill UNION ALL SELECT k FROM live) GROUP BY k;"
        )
    }
}
