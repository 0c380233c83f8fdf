//! Sources and sinks: what the engine asks of them, and the one list of those there are.
//!
//! A connector reads its options once, at plan time ([`source`], [`sink`]); what comes back is known to be sound as far
//! as options can be. A new connector is one file and one match arm in each of the two lists.

mod blackhole;
mod datagen;
mod filesystem;
mod nexmark;
mod numbered;
pub mod options;
mod print;
mod random;
mod text_column;

use crate::batch::Batch;
use crate::checkpoint::store::s3::meter::Meter;
use crate::failure::Result;
use crate::stop::Stop;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use options::Options;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;
use weir_protocol::snapshot::{Committable, SplitProgress};
use weir_protocol::{CheckpointId, Generation, OperatorId};

/// What a connector knows of the table it serves.
#[derive(Debug, Clone)]
pub struct TableShape {
    /// The table's name.
    pub name: String,
    /// The physical columns (no computed ones, no metadata), strings as `Utf8View`.
    pub schema: SchemaRef,
    /// Metadata columns: name in the schema of rows that a reader returns after the physical ones, and metadata key.
    pub metadata: Vec<(String, String)>,
    /// The columns of `PARTITIONED BY`, by place in `schema`.
    pub partitioned_by: Vec<usize>,
    /// The columns of `PRIMARY KEY`, by place in `schema`.
    pub primary_key: Vec<usize>,
}

/// How the splits of a source are spread over its tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assignment {
    /// All splits are read at the same time, shared out evenly: generators, partitions of a log.
    Concurrent,
    /// Splits are handed out in order, one to a task at a time: files.
    Ordered,
}

/// A source table whose options have been checked.
pub trait Source: Send + Sync {
    /// How splits are spread.
    fn assignment(&self) -> Assignment;

    /// True when the source ends by itself.
    fn is_bounded(&self) -> bool;

    /// The one who finds splits; there is one at a time for the whole source.
    fn enumerator(&self) -> Result<Box<dyn Enumerator>>;

    /// A reader for one task. It starts without splits.
    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader>>;

    /// What is counted of requests to the bucket that it reads; `None` for a source that reads none.
    fn meter(&self) -> Option<Arc<Meter>> {
        None
    }
}

/// A split as its source first names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// Unique within the source and the same after every restart.
    pub name: String,
    /// The position of its first row.
    pub start: serde_json::Value,
}

/// Finds the splits of a source.
pub trait Enumerator: Send {
    /// The splits that the restored checkpoint knows: those to go on with, and the names of those that are read. Called
    /// once, before the first look. A source whose splits can change shape between two looks keeps to these.
    fn resume(&mut self, unfinished: &[SplitProgress], finished: &BTreeSet<String>) -> Result<()> {
        let _ = (unfinished, finished);
        Ok(())
    }

    /// All splits that can be seen now, in the order in which they are to be read. The caller keeps track of which ones
    /// were seen before and hands out none twice, and asks again after a failure because of a store that is away.
    fn discover(&mut self) -> Result<Vec<Split>>;

    /// When to look again; `None` when no more splits can appear.
    fn look_again(&self) -> Option<std::time::Duration>;
}

/// What a reader is told when it is made.
#[derive(Debug, Clone)]
pub struct ReaderContext {
    /// The physical columns to read, by place in the table's schema, ascending.
    pub projection: Vec<usize>,
    /// The task's number and how many there are.
    pub subtask: u32,
    /// How many tasks read the source.
    pub parallelism: u32,
    /// The most rows that a batch should have.
    pub max_rows: usize,
    /// Told when the task is to end: the reader then waits for nothing.
    pub stop: Stop,
}

impl ReaderContext {
    /// Rows of a batch at full speed: enough that costs per batch vanish, few enough for the processor's caches.
    pub const FULL_BATCH: usize = 8192;
}

/// Reads splits for one task. Calls come from one thread; a call does not block for long (a disk read, not a wait for data).
pub trait SourceReader: Send {
    /// Takes over a split at a position: where it starts, or where a checkpoint left it.
    fn add_split(&mut self, split: &SplitProgress) -> Result<()>;

    /// The next rows, or what there is to wait for.
    fn poll(&mut self) -> Result<Poll>;

    /// The position after the last returned row of each split in hand, with `watermark` left as it was given: the engine
    /// fills it in. Finished splits need not be told of.
    fn positions(&self) -> Vec<SplitProgress>;
}

/// What a reader answers.
#[derive(Debug)]
pub enum Poll {
    /// Rows of one split.
    Rows(SourceRows),
    /// Nothing before this moment (a rate, a file to be looked at again).
    NotBefore(Instant),
    /// The store of the splits in hand does not answer; it is asked again at this moment.
    Away(Instant),
    /// The splits in hand are read to their ends: give another one, or end.
    NeedSplit,
}

/// Rows of one split.
#[derive(Debug)]
pub struct SourceRows {
    /// The split's name.
    pub split: Arc<str>,
    /// Physical columns of the projection, then metadata columns.
    pub batch: Batch,
    /// Bytes that were read for them, before decoding.
    pub bytes: usize,
    /// Records that could not be decoded and were not to fail the job.
    pub bad: Vec<BadRecord>,
    /// True when the split ends with these rows.
    pub last: bool,
}

/// A record that could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    /// The record as it was read; bytes that are no UTF-8 are replaced.
    pub raw: String,
    /// What is wrong with it, and where.
    pub reason: String,
}

/// A sink table whose options have been checked.
pub trait Sink: Send + Sync {
    /// True when updates and deletes can be written.
    fn takes_changelog(&self) -> bool;

    /// A writer for one task.
    fn writer(&self, context: WriterContext) -> Result<Box<dyn SinkWriter>>;

    /// What is counted of requests to the bucket that it writes to; `None` for a sink that writes to none.
    fn meter(&self) -> Option<Arc<Meter>> {
        None
    }

    /// True when rows become visible by a commit; false for a sink that shows them at once.
    fn commits(&self) -> bool {
        false
    }

    /// The one who commits what writers prepared; `None` for a sink that shows rows at once.
    fn committer(&self, context: CommitterContext) -> Option<Box<dyn Committer>> {
        let _ = context;
        None
    }
}

/// What a writer is told when it is made.
#[derive(Debug, Clone)]
pub struct WriterContext {
    /// The sink's operator.
    pub operator: OperatorId,
    /// The columns of the rows it will be given.
    pub schema: SchemaRef,
    /// True when rows of all kinds come, false when all are inserts.
    pub changelog: bool,
    /// The task's number.
    pub subtask: u32,
    /// How many tasks write the sink.
    pub parallelism: u32,
    /// The generation: a writer touches only what its own generation created.
    pub generation: Generation,
    /// Unique for the job across all clusters; goes into names.
    pub job_uid: String,
    /// What the writers of the restored checkpoint left, this task's share of it.
    pub restored: Vec<serde_json::Value>,
    /// Told when the task is to end: the writer then waits for nothing.
    pub stop: Stop,
}

/// What a committer is told when it is made.
#[derive(Debug, Clone)]
pub struct CommitterContext {
    /// Unique for the job across all clusters, as in [`WriterContext`].
    pub job_uid: String,
}

/// Writes rows for one task. A call waits for a store that is away until it is back, or the task is to end; then it fails
/// with kind `Cancelled`.
pub trait SinkWriter: Send {
    /// Takes rows.
    fn write(&mut self, batch: &Batch) -> Result<()>;

    /// Nothing waits at the input: show what is held back, where the sink shows anything at once.
    fn on_idle(&mut self) -> Result<()> {
        Ok(())
    }

    /// The barrier of a checkpoint: all rows so far become part of it. `last` when no rows will follow, or
    /// what was written must stand for itself.
    fn prepare(&mut self, checkpoint: CheckpointId, last: bool) -> Result<Prepared>;
}

/// What a writer hands over at a barrier.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Prepared {
    /// What the checkpoint's completion makes visible.
    pub committables: Vec<Committable>,
    /// What a later generation's writer goes on from.
    pub writer: Vec<serde_json::Value>,
}

/// Makes prepared rows visible. A commit may be repeated at any later time, by anyone, without effect.
pub trait Committer: Send {
    /// Commits one. The answer says whether it is in place, may be tried again, or is lost.
    fn commit(&mut self, committable: &Committable) -> CommitOutcome;

    /// Commits several, by their ids; the answer has an outcome for each.
    fn commit_all(&mut self, committables: &BTreeMap<String, Committable>) -> BTreeMap<String, CommitOutcome> {
        committables.iter().map(|(id, committable)| (id.clone(), self.commit(committable))).collect()
    }

    /// Removes what generations before `generation` wrote and nobody will commit; `keep` is what still may be
    /// committed or continued.
    fn remove_leftovers(&mut self, generation: Generation, keep: &Leftovers) -> Result<()>;
}

/// What earlier generations wrote that is still needed.
#[derive(Debug, Clone, Default)]
pub struct Leftovers {
    /// Ids of committables that are not confirmed yet.
    pub committables: BTreeSet<String>,
    /// Writers' states of the restored checkpoint.
    pub writers: Vec<serde_json::Value>,
}

/// The outcome of a commit.
#[derive(Debug)]
pub enum CommitOutcome {
    /// It is visible, now or from an earlier try.
    Done,
    /// It may work later.
    Retry(String),
    /// It will not work before the user has changed something; what was prepared is as it was.
    Refused(String),
    /// What was prepared is gone: rows are missing from the output, and a human must decide.
    Lost(String),
}

/// Where connectors find what they need outside of their options.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// Relative paths in options are below this folder: the one that `weir` was started in.
    pub working_directory: PathBuf,
    /// Whether files and folders that options name are looked at.
    pub outside: Outside,
}

/// What options name outside of the job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Outside {
    /// It must be there, and open to what the job does with it.
    #[default]
    Look,
    /// It does not matter: nothing reads or writes the table.
    LeaveAlone,
}

/// Rows for a table of bad records: `raw` and `reason`, strings.
#[must_use]
pub fn bad_records_schema() -> SchemaRef {
    use arrow::datatypes::{DataType, Field, Schema};
    let text = |name: &str| Field::new(name, DataType::Utf8View, true);
    Arc::new(Schema::new(vec![text("raw"), text("reason")]))
}

/// The rows of [`bad_records_schema`].
pub fn bad_records_batch(records: &[BadRecord]) -> Result<RecordBatch> {
    use arrow::array::StringViewArray;
    let raw = StringViewArray::from_iter_values(records.iter().map(|record| record.raw.as_str()));
    let reason = StringViewArray::from_iter_values(records.iter().map(|record| record.reason.as_str()));
    Ok(RecordBatch::try_new(bad_records_schema(), vec![Arc::new(raw), Arc::new(reason)])?)
}

/// Reads a table's options as those of a source.
pub fn source(
    options: &Options,
    shape: &TableShape,
    environment: &Environment,
) -> Result<Arc<dyn Source>, Vec<crate::diagnostic::Diagnostic>> {
    match options.required("connector").as_str() {
        "datagen" => datagen::source(options, shape),
        "filesystem" => Ok(Arc::new(filesystem::source::FileSource::from_options(options, shape, environment)?)),
        "nexmark" => nexmark::source(options, shape),
        connector => Err(unknown_connector(options, connector, &["datagen", "filesystem", "nexmark"])),
    }
}

/// Reads a table's options as those of a sink.
pub fn sink(
    options: &Options,
    shape: &TableShape,
    environment: &Environment,
) -> Result<Arc<dyn Sink>, Vec<crate::diagnostic::Diagnostic>> {
    match options.required("connector").as_str() {
        "blackhole" => blackhole::sink(options),
        "filesystem" => filesystem::sink::sink(options, shape, environment),
        "print" => print::sink(options, shape),
        connector => Err(unknown_connector(options, connector, &["blackhole", "filesystem", "print"])),
    }
}

/// Checks the options of a table that nothing reads or writes, as far as that needs no look outside.
pub fn unused(
    options: &Options,
    shape: &TableShape,
    environment: &Environment,
) -> Result<(), Vec<crate::diagnostic::Diagnostic>> {
    let connector = options.text("connector").unwrap_or_default();
    // It may be kept for a version, or a place, that has it.
    if TO_COME.contains(&connector.as_str()) {
        return Ok(());
    }
    let environment = Environment { outside: Outside::LeaveAlone, ..environment.clone() };
    let as_source = source(&options.clone(), shape, &environment).map(|_| ());
    let as_sink = sink(&options.clone(), shape, &environment).map(|_| ());
    match (as_source, as_sink) {
        (Ok(()), _) | (_, Ok(())) => Ok(()),
        (Err(_), Err(mistakes)) if WRITTEN_ONLY.contains(&connector.as_str()) => Err(mistakes),
        (Err(_), Err(mistakes)) if options.entries().keys().any(|key| key.starts_with("sink.")) => Err(mistakes),
        (Err(mistakes), Err(_)) => Err(mistakes),
    }
}

const WRITTEN_ONLY: [&str; 2] = ["blackhole", "print"];

/// Connectors that are to come: known by name, so that the answer is not "unknown".
const TO_COME: [&str; 2] = ["kafka", "upsert-kafka"];

fn unknown_connector(options: &Options, name: &str, known: &[&str]) -> Vec<crate::diagnostic::Diagnostic> {
    use crate::diagnostic::{Diagnostic, nearest};
    let position = options.entries().get("connector").and_then(|entry| entry.position);
    if name.is_empty() {
        return options.finish().err().unwrap_or_default().into_iter().take(1).collect();
    }
    let list = known.join(", ");
    let diagnostic = if TO_COME.contains(&name) {
        let message = format!("table '{}': the connector '{name}' is not available in this version", options.table());
        Diagnostic::new(message).hint(format!("available here: {list}"))
    } else {
        let hint = nearest(name, known.iter().copied())
            .map_or_else(|| format!("available here: {list}"), |name| format!("did you mean '{name}'?"));
        let message = match name {
            "datagen" | "nexmark" => format!("the connector '{name}' can be read only, not written to"),
            "blackhole" | "print" => format!("the connector '{name}' can be written to only, not read"),
            _ => format!("there is no connector '{name}'"),
        };
        Diagnostic::new(format!("table '{}': {message}", options.table())).hint(hint)
    };
    vec![diagnostic.at(position)]
}
