//! The `filesystem` sink: rows as files in a folder, each visible exactly once.
//!
//! A file grows under a hidden name beside its place and is sealed when it is large or old enough, or at a checkpoint.
//! The checkpoint's completion renames it. The names tell whose they are:
//!
//! ```text
//! <path>/<partition>/.part-<job>-<table>-<generation>-<subtask>-<number>.json.unfinished
//! <path>/<partition>/part-<job>-<table>-<generation>-<subtask>-<number>.json
//! ```
//!
//! A generation writes only files that it created. Where a file is not sealed at a checkpoint, the checkpoint names its
//! length, and a restored writer begins with a copy of that much of it.

mod commit;
mod file;
mod partition;
mod writer;

use super::super::options::Options;
use super::super::{Committer, CommitterContext, Environment, Outside, Sink, SinkWriter, TableShape, WriterContext};
use crate::diagnostic::Diagnostic;
use crate::failure::Result;
use commit::RenameCommitter;
use file::Format;
use partition::Partitioning;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use writer::FileSinkWriter;

const MOST_BYTES: u64 = 128 << 20;
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// A filesystem sink whose options have been checked.
struct FileSink {
    path: PathBuf,
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
    let path = options.required("path");
    let path = local_path(&path, environment).unwrap_or_else(|message| {
        options.mistake_in("path", message, Some("give a folder of this machine".to_owned()));
        PathBuf::new()
    });
    let partitioning = Partitioning::of(shape, options);
    let format = Format::of(options, &partitioning.file_schema(&shape.schema));
    let seals = options.boolean("sink.rolling-policy.on-checkpoint");
    let rolling = Rolling {
        bytes: options.bytes("sink.rolling-policy.file-size").unwrap_or(MOST_BYTES).max(1),
        age: options.duration("sink.rolling-policy.rollover-interval").unwrap_or(LONGEST),
        checkpoint: if seals == Some(false) { AtCheckpoint::GoOn } else { AtCheckpoint::Seal },
    };
    if let Some(Format::Parquet(_)) = format
        && rolling.checkpoint == AtCheckpoint::GoOn
    {
        let message = "a parquet file cannot go on after a checkpoint".to_owned();
        options.mistake_in("sink.rolling-policy.on-checkpoint", message, Some("leave the option out".to_owned()));
    }
    if environment.outside == Outside::Look
        && options.finish().is_ok()
        && let Err(error) = writable(&path)
    {
        let message = format!("the folder {} cannot be written: {error}", path.display());
        options.mistake_in("path", message, Some("create it, or give write permission".to_owned()));
    }
    options.finish()?;
    let format = format.expect("without mistakes there is a format");
    Ok(Arc::new(FileSink { path, table: shape.name.clone(), format, partitioning, rolling }))
}

/// The folder that a path option names.
fn local_path(given: &str, environment: &Environment) -> std::result::Result<PathBuf, String> {
    let plain = given.strip_prefix("file://").or_else(|| given.strip_prefix("file:")).unwrap_or(given);
    match plain.split_once("://") {
        Some((scheme, _)) => Err(format!("paths with '{scheme}://' are not available in this version")),
        None => Ok(environment.working_directory.join(plain)),
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
        let writer = FileSinkWriter::new(
            &self.path,
            &self.table,
            self.format.clone(),
            self.partitioning.clone(),
            self.rolling,
            context,
        )?;
        Ok(Box::new(writer))
    }

    fn commits(&self) -> bool {
        true
    }

    fn committer(&self, context: CommitterContext) -> Option<Box<dyn Committer>> {
        Some(Box::new(RenameCommitter::new(self.path.clone(), stem(&context.job_uid, &self.table))))
    }
}

/// What all names of a job's sink begin with.
fn stem(job_uid: &str, table: &str) -> String {
    let job: String = job_uid.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
    let table: String = table.chars().map(|c| if c.is_alphanumeric() || c == '_' { c } else { '_' }).collect();
    format!("part-{job}-{table}")
}
