//! The `filesystem` sink: rows as files in a folder or a bucket, each visible exactly once.
//!
//! A file grows under a hidden name beside its place and is sealed when it is large or old enough, or at a checkpoint.
//! The checkpoint's completion renames it. The names tell whose they are:
//!
//! ```text
//! <path>/<partition>/.part-<job>-<table>-<generation>-<subtask>-<number>.json.unfinished
//! <path>/<partition>/part-<job>-<table>-<generation>-<subtask>-<number>.json
//! ```
//!
//! In a bucket a file grows as an upload in parts of its final name, which the checkpoint's completion completes.
//!
//! A generation writes only files and uploads that it created. Where a file is not sealed at a checkpoint, the checkpoint names its
//! length, and a restored writer begins with a copy of that much of it. An upload always ends at a checkpoint: what is in
//! its parts cannot be copied before it is completed.

mod commit;
mod complete;
mod file;
mod output;
mod partition;
mod writer;

use super::super::options::Options;
use super::super::{Committer, CommitterContext, Environment, Outside, Sink, SinkWriter, TableShape, WriterContext};
use super::place::Place;
use crate::checkpoint::store::s3::Patience;
use crate::checkpoint::store::s3::meter::Meter;
use crate::diagnostic::Diagnostic;
use crate::failure::Result;
use commit::RenameCommitter;
use complete::UploadCommitter;
use file::Format;
use partition::Partitioning;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use writer::FileSinkWriter;

const MOST_BYTES: u64 = 128 << 20;
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// A filesystem sink whose options have been checked.
struct FileSink {
    place: Place,
    table: String,
    format: Format,
    partitioning: Partitioning,
    rolling: Rolling,
}

/// When a file is sealed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rolling {
    /// Having this many bytes.
    pub(super) bytes: u64,
    /// Being this old.
    pub(super) age: Duration,
    /// At checkpoints.
    pub(super) checkpoint: AtCheckpoint,
}

/// What a checkpoint does to an unfinished file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtCheckpoint {
    /// It is sealed: its rows become visible with the checkpoint.
    Seal,
    /// It goes on.
    GoOn,
}

/// Reads the options of a filesystem sink.
pub(crate) fn sink(
    options: &Options,
    shape: &TableShape,
    environment: &Environment,
) -> Result<Arc<dyn Sink>, Vec<Diagnostic>> {
    let place = Place::to_write(options, environment);
    let partitioning = Partitioning::of(shape, options);
    let format = Format::of(options, &partitioning.file_schema(&shape.schema));
    let seals = options.boolean("sink.rolling-policy.on-checkpoint");
    let rolling = Rolling {
        bytes: options.bytes("sink.rolling-policy.file-size").unwrap_or(MOST_BYTES).max(1),
        age: options.duration("sink.rolling-policy.rollover-interval").unwrap_or(LONGEST),
        checkpoint: if seals == Some(false) { AtCheckpoint::GoOn } else { AtCheckpoint::Seal },
    };
    if rolling.checkpoint == AtCheckpoint::GoOn {
        check_going_on(options, format.as_ref(), place.as_ref());
    }
    if let Some(Place::Folder(path)) = &place
        && environment.outside == Outside::Look
        && options.finish().is_ok()
        && let Err(error) = writable(path)
    {
        let message = format!("the folder {} cannot be written: {error}", path.display());
        options.mistake_in("path", message, Some("create it, or give write permission".to_owned()));
    }
    options.finish()?;
    let (Some(place), Some(format)) = (place, format) else {
        unreachable!("what is missing was noted as a mistake");
    };
    Ok(Arc::new(FileSink { place, table: shape.name.clone(), format, partitioning, rolling }))
}

/// Not every file can go on after a checkpoint.
fn check_going_on(options: &Options, format: Option<&Format>, place: Option<&Place>) {
    let key = "sink.rolling-policy.on-checkpoint";
    if let Some(Place::Bucket(_)) = place {
        let message =
            "an object of a bucket ends at each checkpoint, because it could not be continued after a failure";
        let hint = "leave the option out; a longer spec.checkpoint.interval makes larger objects";
        options.mistake_in(key, message.to_owned(), Some(hint.to_owned()));
    } else if let Some(Format::Parquet(_)) = format {
        let message = "a parquet file cannot go on after a checkpoint".to_owned();
        options.mistake_in(key, message, Some("leave the option out".to_owned()));
    }
}

/// What can be known before the first row: nothing is created.
fn writable(path: &Path) -> std::io::Result<()> {
    // A relative path ends in the empty one, which is the working directory.
    let mut ancestors =
        path.ancestors().map(|ancestor| if ancestor.as_os_str().is_empty() { Path::new(".") } else { ancestor });
    // A link that leads nowhere is there, too.
    let existing = ancestors.find(|ancestor| ancestor.symlink_metadata().is_ok()).unwrap_or(path);
    if !existing.is_dir() {
        return Err(std::io::Error::other(format!("{} is not a folder", existing.display())));
    }
    rustix::fs::access(existing, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)?;
    Ok(())
}

impl Sink for FileSink {
    fn takes_changelog(&self) -> bool {
        self.format.takes_changelog()
    }

    fn writer(&self, context: WriterContext) -> Result<Box<dyn SinkWriter>> {
        if let Place::Bucket(folder) = &self.place {
            folder.writable(&stem(&context.job_uid, &self.table))?;
        }
        let writer = FileSinkWriter::new(
            self.place.until(&context.stop, Patience::Endless),
            &self.table,
            self.format.clone(),
            self.partitioning.clone(),
            self.rolling,
            context,
        )?;
        Ok(Box::new(writer))
    }

    fn meter(&self) -> Option<Arc<Meter>> {
        self.place.meter()
    }

    fn commits(&self) -> bool {
        true
    }

    fn committer(&self, context: CommitterContext) -> Option<Box<dyn Committer>> {
        let stem = stem(&context.job_uid, &self.table);
        Some(match &self.place {
            Place::Folder(root) => Box::new(RenameCommitter::new(root.clone(), stem)),
            Place::Bucket(folder) => Box::new(UploadCommitter::new(folder.clone(), stem)),
        })
    }
}

/// What all names of a job's sink begin with.
fn stem(job_uid: &str, table: &str) -> String {
    let job: String = job_uid.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    let table: String = table.chars().map(|c| if c.is_alphanumeric() || c == '_' { c } else { '_' }).collect();
    format!("part-{job}-{table}")
}
