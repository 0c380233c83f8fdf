//! Writes the rows of one task to files, a growing one per partition.

use super::super::super::{Prepared, SinkWriter, WriterContext};
use super::super::place::Place;
use super::file::{Format, GrowingFile};
use super::output::{Closing, Output};
use super::partition::Partitioning;
use super::{AtCheckpoint, Rolling, stem};
use crate::batch::Batch;
use crate::failure::{Failure, Result};
use crate::format::encode_json::Op;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;
use weir_protocol::CheckpointId;
use weir_protocol::snapshot::Committable;

/// Files of partitions that are open at a time; the one that was written to least recently is sealed for another.
const MOST_OPEN: usize = 256;
/// Bytes that the files of a task hold in memory together; with more, the one that holds the most is sealed.
const MOST_HELD: usize = 128 << 20;
/// Sealed files whose last bytes are on their way.
const MOST_CLOSING: usize = 8;

/// Writes for one task.
pub(super) struct FileSinkWriter {
    place: Place,
    stem: String,
    format: Format,
    schema: SchemaRef,
    op: Op,
    partitioning: Partitioning,
    rolling: Rolling,
    number: u64,
    open: BTreeMap<String, Open>,
    closing: VecDeque<Sealed<Closing>>,
    /// Sealed since the last checkpoint.
    sealed: Vec<Sealed<Committable>>,
}

/// A file to which nothing is added.
struct Sealed<T> {
    file: T,
    hidden: Hidden,
}

/// The hidden name of a file, where it has one.
struct Hidden {
    name: Option<String>,
    /// A checkpoint names it, as a file that goes on.
    named: bool,
}

struct Open {
    file: GrowingFile,
    since: Instant,
    used: Instant,
    /// A checkpoint names it.
    named: bool,
}

/// A file that goes on after a checkpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Tail {
    partition: String,
    /// Below the sink's folder.
    unfinished: String,
    length: u64,
}

impl FileSinkWriter {
    pub(super) fn new(
        place: Place,
        table: &str,
        format: Format,
        partitioning: Partitioning,
        rolling: Rolling,
        context: WriterContext,
    ) -> Result<Self> {
        let stem = format!("{}-{}-{}", stem(&context.job_uid, table), context.generation, context.subtask);
        let mut writer = Self {
            place,
            stem,
            format,
            schema: partitioning.file_schema(&context.schema),
            op: if context.changelog { Op::Written } else { Op::LeftOut },
            partitioning,
            rolling,
            number: 0,
            open: BTreeMap::new(),
            closing: VecDeque::new(),
            sealed: Vec::new(),
        };
        for state in context.restored {
            writer.restore(state)?;
        }
        Ok(writer)
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<()> {
        let tail: Tail = serde_json::from_value(state)
            .map_err(|error| Failure::corrupt("the state of a file sink has another form").because(error))?;
        let Place::Folder(root) = &self.place else {
            return Err(Failure::user(format!(
                "the checkpoint has rows in the unfinished file {} of a folder, and the table's path is a bucket now: \
                 put the old path back, and change it when the job has been stopped (Ctrl-C)",
                tail.unfinished
            )));
        };
        let unfinished = root.join(&tail.unfinished);
        let mut open = self.create(&tail.partition)?;
        open.file.copy_tail(&unfinished, tail.length)?;
        // Two tails of one partition can come together after a rescale.
        match self.open.insert(tail.partition, open) {
            Some(other) => self.seal(other),
            None => Ok(()),
        }
    }

    fn create(&mut self, partition: &str) -> Result<Open> {
        let name = format!("{}-{}.{}", self.stem, self.number, self.format.extension());
        self.number += 1;
        let output = Output::create(&self.place, partition, &name)?;
        let file = GrowingFile::create(output, &self.format, self.op, &self.schema)?;
        let now = Instant::now();
        Ok(Open { file, since: now, used: now, named: false })
    }

    /// Nothing is added to the file; its last bytes become durable while others grow.
    fn seal(&mut self, open: Open) -> Result<()> {
        let hidden = Hidden { name: open.file.hidden_name().map(str::to_owned), named: open.named };
        self.closing.push_back(Sealed { file: open.file.close()?, hidden });
        while self.closing.len() > MOST_CLOSING {
            self.finish_one()?;
        }
        Ok(())
    }

    fn finish_one(&mut self) -> Result<()> {
        if let Some(Sealed { file, hidden }) = self.closing.pop_front() {
            self.sealed.push(Sealed { file: file.finish()?, hidden });
        }
        Ok(())
    }

    fn append(&mut self, partition: String, batch: &Batch) -> Result<()> {
        let mut open = match self.open.remove(&partition) {
            Some(open) => open,
            None => {
                self.make_room()?;
                self.create(&partition)?
            }
        };
        open.file.write(batch)?;
        open.used = Instant::now();
        if open.file.bytes() >= self.rolling.bytes.min(open.file.limit()) || open.since.elapsed() >= self.rolling.age {
            return self.seal(open);
        }
        self.open.insert(partition, open);
        self.bound_memory()
    }

    fn bound_memory(&mut self) -> Result<()> {
        // A single file bounds itself.
        while self.open.len() > 1 && self.held() > MOST_HELD {
            let largest =
                self.open.iter().max_by_key(|(_, open)| open.file.held()).map(|(partition, _)| partition.clone());
            if let Some(open) = largest.and_then(|partition| self.open.remove(&partition)) {
                self.seal(open)?;
            }
            if !self.closing.is_empty() {
                self.finish_one()?;
            }
        }
        Ok(())
    }

    fn held(&self) -> usize {
        let open: usize = self.open.values().map(|open| open.file.held()).sum();
        open + self.closing.iter().map(|sealed| sealed.file.held()).sum::<usize>()
    }

    fn make_room(&mut self) -> Result<()> {
        if self.open.len() < MOST_OPEN {
            return Ok(());
        }
        let oldest = self.open.iter().min_by_key(|(_, open)| open.used).map(|(partition, _)| partition.clone());
        match oldest.and_then(|partition| self.open.remove(&partition)) {
            Some(open) => self.seal(open),
            None => Ok(()),
        }
    }

    fn seal_all(&mut self) -> Result<()> {
        for (_, open) in std::mem::take(&mut self.open) {
            self.seal(open)?;
        }
        Ok(())
    }

    fn tails(&mut self) -> Result<Vec<serde_json::Value>> {
        let tail = |(partition, open): (&String, &mut Open)| {
            open.file.sync()?;
            let unfinished = open.file.hidden_name().unwrap_or_default().to_owned();
            let tail = Tail { partition: partition.clone(), unfinished, length: open.file.bytes() };
            open.named = true;
            serde_json::to_value(tail).map_err(|error| Failure::bug("the state of a file sink").because(error))
        };
        self.open.iter_mut().map(tail).collect()
    }
}

impl SinkWriter for FileSinkWriter {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        for (partition, rows) in self.partitioning.split(batch)? {
            self.append(partition, &rows)?;
        }
        Ok(())
    }

    fn on_idle(&mut self) -> Result<()> {
        let old: Vec<String> = self
            .open
            .iter()
            .filter(|(_, open)| open.since.elapsed() >= self.rolling.age)
            .map(|(partition, _)| partition.clone())
            .collect();
        for partition in old {
            if let Some(open) = self.open.remove(&partition) {
                self.seal(open)?;
            }
        }
        Ok(())
    }

    fn prepare(&mut self, _checkpoint: CheckpointId, last: bool) -> Result<Prepared> {
        self.on_idle()?;
        if last || self.rolling.checkpoint == AtCheckpoint::Seal {
            self.seal_all()?;
        }
        while !self.closing.is_empty() {
            self.finish_one()?;
        }
        let writer = self.tails()?;
        let committables = std::mem::take(&mut self.sealed).into_iter().map(|sealed| sealed.file).collect();
        Ok(Prepared { committables, writer })
    }
}

impl Drop for FileSinkWriter {
    /// What no checkpoint names, nobody will ever make visible. The rest is for the next generation to decide about, and
    /// so are uploads: whoever is cancelled does not wait for a bucket.
    fn drop(&mut self) {
        let Place::Folder(root) = &self.place else { return };
        let open = self.open.values().map(|open| (open.file.hidden_name(), open.named));
        let closing = self.closing.iter().map(|sealed| &sealed.hidden);
        let sealed = closing.chain(self.sealed.iter().map(|sealed| &sealed.hidden));
        let all = open.chain(sealed.map(|hidden| (hidden.name.as_deref(), hidden.named)));
        for name in all.filter(|(_, named)| !named).filter_map(|(name, _)| name) {
            // One that stays is removed by the next run.
            let _ = std::fs::remove_file(root.join(name));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::super::super::{TableShape, options::Options};
    use super::*;
    use crate::stop::Stop;
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema};
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;
    use weir_protocol::{Generation, OperatorId};

    /// A writer that seals a file when it has `bytes`, and not at checkpoints.
    fn writer(root: &Path, bytes: u64) -> FileSinkWriter {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let shape = TableShape {
            name: "t".into(),
            schema: Arc::clone(&schema),
            metadata: Vec::new(),
            partitioned_by: Vec::new(),
            primary_key: Vec::new(),
        };
        let partitioning = Partitioning::of(&shape, &Options::of("t", &[]));
        let rolling = Rolling { bytes, age: Duration::from_secs(3600), checkpoint: AtCheckpoint::GoOn };
        let context = WriterContext {
            operator: OperatorId("sink-t".into()),
            schema,
            changelog: false,
            subtask: 0,
            parallelism: 1,
            generation: Generation(1),
            job_uid: "job".into(),
            restored: Vec::new(),
            stop: Stop::default(),
        };
        FileSinkWriter::new(Place::Folder(root.to_path_buf()), "t", Format::Json, partitioning, rolling, context)
            .unwrap()
    }

    fn rows(count: i64) -> Batch {
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
        Batch::inserts(RecordBatch::try_from_iter([("n", column)]).unwrap())
    }

    /// What is left of a writer that fails after `work`, beside the files that checkpoints name.
    fn check(bytes: u64, work: impl Fn(&mut FileSinkWriter), expected: usize) {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = writer(folder.path(), bytes);
        work(&mut writer);
        drop(writer);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), expected);
    }

    #[test]
    fn a_writer_that_fails_leaves_only_what_a_checkpoint_names() {
        let large = 1 << 20;
        let write = |writer: &mut FileSinkWriter| writer.write(&rows(100)).unwrap();
        let checkpoint = |writer: &mut FileSinkWriter| drop(writer.prepare(CheckpointId(1), false).unwrap());
        check(large, write, 0);
        check(1, write, 0);
        check(
            large,
            |writer| {
                write(writer);
                checkpoint(writer);
            },
            1,
        );
        check(
            1,
            |writer| {
                write(writer);
                checkpoint(writer);
            },
            1,
        );
        // Sealed since, the file is still the one that the checkpoint goes on with; the one after it is nobody's.
        check(
            1500,
            |writer| {
                write(writer);
                checkpoint(writer);
                write(writer);
                write(writer);
            },
            1,
        );
    }
}
