//! Writes the rows of one task to files, a growing one per partition.

use super::super::super::{Prepared, SinkWriter, WriterContext};
use super::commit::Rename;
use super::file::{Format, GrowingFile};
use super::partition::Partitioning;
use super::{AtCheckpoint, Rolling, stem};
use crate::batch::Batch;
use crate::failure::{Failure, Result};
use crate::format::encode_json::Op;
use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;
use weir_protocol::CheckpointId;

/// Files of partitions that are open at a time; the one that was written to least recently is sealed for another.
const MOST_OPEN: usize = 256;

/// Writes for one task.
pub(super) struct FileSinkWriter {
    root: PathBuf,
    stem: String,
    format: Format,
    schema: SchemaRef,
    op: Op,
    partitioning: Partitioning,
    rolling: Rolling,
    number: u64,
    open: BTreeMap<String, Open>,
    /// Sealed since the last checkpoint.
    sealed: Vec<Sealed>,
}

struct Sealed {
    rename: Rename,
    /// A checkpoint names it, as a file that goes on.
    named: bool,
}

struct Open {
    file: GrowingFile,
    rename: Rename,
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
        root: &Path,
        table: &str,
        format: Format,
        partitioning: Partitioning,
        rolling: Rolling,
        context: WriterContext,
    ) -> Result<Self> {
        let stem = format!("{}-{}-{}", stem(&context.job_uid, table), context.generation, context.subtask);
        let mut writer = Self {
            root: root.to_path_buf(),
            stem,
            format,
            schema: partitioning.file_schema(&context.schema),
            op: if context.changelog { Op::Written } else { Op::LeftOut },
            partitioning,
            rolling,
            number: 0,
            open: BTreeMap::new(),
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
        let mut open = self.create(&tail.partition)?;
        open.file.copy_tail(&self.root.join(&tail.unfinished), tail.length)?;
        // Two tails of one partition can come together after a rescale.
        match self.open.insert(tail.partition, open) {
            Some(other) => self.seal(other),
            None => Ok(()),
        }
    }

    fn create(&mut self, partition: &str) -> Result<Open> {
        let rename = Rename::new(partition, &format!("{}-{}.{}", self.stem, self.number, self.format.extension()));
        self.number += 1;
        let file = GrowingFile::create(self.root.join(&rename.from), &self.format, self.op, &self.schema)?;
        let now = Instant::now();
        Ok(Open { file, rename, since: now, used: now, named: false })
    }

    fn seal(&mut self, open: Open) -> Result<()> {
        open.file.seal()?;
        self.sealed.push(Sealed { rename: open.rename, named: open.named });
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
        if open.file.bytes() >= self.rolling.bytes || open.since.elapsed() >= self.rolling.age {
            return self.seal(open);
        }
        self.open.insert(partition, open);
        Ok(())
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
            let tail =
                Tail { partition: partition.clone(), unfinished: open.rename.from.clone(), length: open.file.bytes() };
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
        let writer = self.tails()?;
        let committables = std::mem::take(&mut self.sealed).iter().map(|sealed| sealed.rename.committable()).collect();
        Ok(Prepared { committables, writer })
    }
}

impl Drop for FileSinkWriter {
    /// What no checkpoint names, nobody will ever make visible. The rest is for the next generation to decide about.
    fn drop(&mut self) {
        let open = self.open.values().map(|open| (&open.rename, open.named));
        let sealed = self.sealed.iter().map(|sealed| (&sealed.rename, sealed.named));
        for (rename, _) in open.chain(sealed).filter(|(_, named)| !named) {
            // One that stays is removed by the next run.
            let _ = std::fs::remove_file(self.root.join(&rename.from));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::super::super::{TableShape, options::Options};
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use arrow::datatypes::{DataType, Field, Schema};
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
        };
        FileSinkWriter::new(root, "t", Format::Json, partitioning, rolling, context).unwrap()
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
                checkpoint(writer)
            },
            1,
        );
        check(
            1,
            |writer| {
                write(writer);
                checkpoint(writer)
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
                write(writer)
            },
            1,
        );
    }
}
