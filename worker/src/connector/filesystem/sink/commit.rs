//! Makes sealed files visible by renaming them.

use super::super::super::{CommitOutcome, Committer, Leftovers};
use super::output::sync_folder_of;
use crate::failure::{Failure, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use weir_protocol::Generation;
use weir_protocol::snapshot::Committable;

const UNFINISHED: &str = ".unfinished";

/// A file's hidden and final name, both below the sink's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rename {
    pub(super) from: String,
    pub(super) to: String,
}

impl Rename {
    pub(super) fn new(partition: &str, name: &str) -> Self {
        let folder = if partition.is_empty() { String::new() } else { format!("{partition}/") };
        Self { from: format!("{folder}.{name}{UNFINISHED}"), to: format!("{folder}{name}") }
    }

    /// The id is the final name: it is unique, and the hidden one follows from it.
    pub(super) fn committable(&self) -> Committable {
        Committable { id: self.to.clone(), payload: serde_json::json!({ "from": self.from, "to": self.to }) }
    }
}

/// Renames files of one sink.
pub(super) struct RenameCommitter {
    root: PathBuf,
    stem: String,
}

impl RenameCommitter {
    /// For files below `root` whose names begin with `stem`.
    pub(super) fn new(root: PathBuf, stem: String) -> Self {
        Self { root, stem }
    }

    fn rename(&self, rename: &Rename) -> std::io::Result<()> {
        let (from, to) = (self.root.join(&rename.from), self.root.join(&rename.to));
        if to.exists() {
            return Ok(());
        }
        match fs::rename(&from, &to) {
            Ok(()) => sync_folder_of(&to),
            // It was renamed before, and whoever reads the output has taken it away since: it is never made again.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The generation that a hidden file of this sink belongs to.
    fn generation_of(&self, path: &Path) -> Option<Generation> {
        let name = path.file_name()?.to_str()?;
        let rest = name.strip_prefix('.')?.strip_suffix(UNFINISHED)?.strip_prefix(&self.stem)?.strip_prefix('-')?;
        rest.split('-').next()?.parse().ok().map(Generation)
    }

    fn hidden_files(&self, folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                self.hidden_files(&path, files)?;
            } else if self.generation_of(&path).is_some() {
                files.push(path);
            }
        }
        Ok(())
    }
}

impl Committer for RenameCommitter {
    fn commit(&mut self, committable: &Committable) -> CommitOutcome {
        match serde_json::from_value::<Rename>(committable.payload.clone()) {
            Ok(rename) => match self.rename(&rename) {
                Ok(()) => CommitOutcome::Done,
                Err(error) => CommitOutcome::Retry(format!(
                    "{} could not be renamed: {error}",
                    self.root.join(rename.from).display()
                )),
            },
            Err(error) => CommitOutcome::Lost(format!(
                "it is no file ({error}): if the table's path was changed, put the old one back until the job has \
                 stopped with all output committed"
            )),
        }
    }

    fn remove_leftovers(&mut self, generation: Generation, keep: &Leftovers) -> Result<()> {
        let tails = keep.writers.iter().filter_map(|writer| writer.get("unfinished")?.as_str());
        let kept: BTreeSet<PathBuf> = keep
            .committables
            .iter()
            .map(|id| {
                let (folder, name) = id.rsplit_once('/').unwrap_or(("", id));
                self.root.join(Rename::new(folder, name).from)
            })
            .chain(tails.map(|tail| self.root.join(tail)))
            .collect();
        let mut files = Vec::new();
        match self.hidden_files(&self.root, &mut files) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(Failure::transient(format!("{} could not be read", self.root.display())).because(error));
            }
            _ => {}
        }
        let old = |path: &PathBuf| self.generation_of(path).is_some_and(|of| of < generation) && !kept.contains(path);
        for path in files.into_iter().filter(old) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(Failure::transient(format!("{} could not be removed", path.display())).because(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
