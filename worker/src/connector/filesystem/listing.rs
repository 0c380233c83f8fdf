//! Cuts the files of a table into splits.
//!
//! Within one look files come in the order of their paths, and parts of a file in the order of its bytes; what a later
//! look finds comes after. Names that begin with `.` or `_` are passed over, files and folders. A file counts as complete
//! when it is seen: move files into a watched folder, do not write them there. An object of a bucket is complete when it
//! can be seen.

use super::location::Found;
use super::position::{Position, Version};
use super::source::Config;
use crate::connector::{Enumerator, Split};
use crate::failure::{Failure, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use weir_protocol::snapshot::SplitProgress;

/// The splits of a table.
pub(super) struct Listing {
    config: Arc<Config>,
    /// Files that were seen, here or before the checkpoint: they are cut no other way, however they have changed since.
    seen: BTreeMap<String, Seen>,
}

/// A file that was seen.
#[derive(Default)]
struct Seen {
    /// As it was then; absent when only the names of finished parts tell of it.
    version: Option<Version>,
    /// Where each part ends, by where it starts.
    parts: BTreeMap<u64, u64>,
}

impl Listing {
    pub(super) fn new(config: Arc<Config>) -> Self {
        Self { config, seen: BTreeMap::new() }
    }

    fn cut(&mut self, found: &Found, splits: &mut Vec<Position>) {
        let size = if self.config.is_splittable(&found.file) { self.config.split_size } else { u64::MAX };
        let seen = self.seen.entry(found.file.clone()).or_default();
        let version = seen.version.get_or_insert_with(|| found.version.clone()).clone();
        let (known, mut at) = (seen.parts.clone(), 0);
        for (start, end) in known {
            cut_range(at..start, size, &mut seen.parts);
            at = end;
        }
        cut_range(at..version.size, size, &mut seen.parts);
        let part = |(&start, &end): (&u64, &u64)| Position {
            file: found.file.clone(),
            version: version.clone(),
            start,
            end,
            read: None,
        };
        splits.extend(seen.parts.iter().map(part));
    }
}

fn cut_range(range: Range<u64>, size: u64, parts: &mut BTreeMap<u64, u64>) {
    let mut start = range.start;
    while start < range.end {
        let end = start.saturating_add(size).min(range.end);
        parts.insert(start, end);
        start = end;
    }
}

impl Enumerator for Listing {
    fn resume(&mut self, unfinished: &[SplitProgress], finished: &BTreeSet<String>) -> Result<()> {
        for name in unfinished.iter().map(|progress| &progress.split).chain(finished) {
            let unreadable =
                || Failure::corrupt(format!("the checkpoint has a split '{name}', which is no part of a file"));
            let (file, start, end) = Position::parse_name(name).ok_or_else(unreadable)?;
            self.seen.entry(file.to_owned()).or_default().parts.insert(start, end);
        }
        for progress in unfinished {
            let position = Position::read(progress)?;
            self.seen.entry(position.file).or_default().version = Some(position.version);
        }
        Ok(())
    }

    fn discover(&mut self) -> Result<Vec<Split>> {
        let mut parts = Vec::new();
        let files = self.config.location.files()?;
        if files.is_empty()
            && self.seen.is_empty()
            && self.config.monitor.is_none()
            && let Some(failure) = self.config.location.nothing_found()
        {
            return Err(failure.within(format!("table '{}'", self.config.shape.name)));
        }
        for found in files {
            if self.config.compression == super::source::Compression::Auto {
                check_compression(&found.file)?;
            }
            self.cut(&found, &mut parts);
        }
        let mut splits = Vec::with_capacity(parts.len());
        for part in parts {
            let start =
                serde_json::to_value(&part).map_err(|error| Failure::bug("cannot write a position").because(error))?;
            splits.push(Split { name: part.name(), start });
        }
        Ok(splits)
    }

    fn look_again(&self) -> Option<Duration> {
        self.config.monitor
    }
}

fn check_compression(file: &str) -> Result<()> {
    let extension = Path::new(file).extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if matches!(extension, "bz2" | "xz" | "lz4" | "snappy" | "deflate" | "br" | "zip") {
        return Err(Failure::user(format!(
            "the file '{file}' is compressed as .{extension}, which is not available in this version; compress it with \
             gzip or zstd, leave it out with 'source.path.regex-pattern', or set 'source.compression' = 'none'"
        )));
    }
    Ok(())
}
