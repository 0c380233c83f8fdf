//! The position of a split: which part of which file, and how far it has been read.

use crate::checkpoint::store::s3::Entry;
use crate::failure::{Failure, Result};
use serde::{Deserialize, Serialize};
use std::fs::Metadata;
use std::time::{SystemTime, UNIX_EPOCH};
use weir_protocol::snapshot::SplitProgress;

/// A part of a file. It owns the records that begin from `start` on and before `end`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// The file's path below the table's folder.
    pub(super) file: String,
    /// The file as it was when it was found. What is appended later is not read.
    #[serde(flatten)]
    pub(super) version: Version,
    /// The first byte of the part.
    pub(super) start: u64,
    /// The byte after its last one.
    pub(super) end: u64,
    /// How far it has been read; absent before the first record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) read: Option<Progress>,
}

/// By what a changed file is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    /// Bytes.
    pub(super) size: u64,
    /// Milliseconds since 1970.
    pub(super) modified_ms: i64,
    /// What a bucket calls the content; absent for a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) etag: Option<String>,
}

/// How far a part has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Progress {
    /// Of a format of records: the byte after the last record, counted in the decompressed file, and the lines before
    /// it in this part.
    Records { offset: u64, lines: u64 },
    /// Of Parquet: rows of the part's row groups.
    Rows(u64),
}

impl Position {
    /// The position in a checkpoint.
    pub(super) fn read(progress: &SplitProgress) -> Result<Self> {
        serde_json::from_value(progress.position.clone())
            .map_err(|error| Failure::corrupt(format!("the position of split '{}'", progress.split)).because(error))
    }

    /// The split's name: file and part.
    pub(super) fn name(&self) -> String {
        format!("{}@{}-{}", self.file, self.start, self.end)
    }

    /// File, start and end out of a split's name.
    pub(super) fn parse_name(name: &str) -> Option<(&str, u64, u64)> {
        let (file, part) = name.rsplit_once('@')?;
        let (start, end) = part.split_once('-')?;
        Some((file, start.parse().ok()?, end.parse().ok()?))
    }

    /// Refuses to go on in a file that is not the one in which the split was found. It may have grown.
    pub(super) fn check(&self, shown: &str, now: &Version) -> Result<()> {
        let Version { size, modified_ms, .. } = self.version;
        if now.size < size {
            Err(changed(shown, &format!("has shrunk from {size} to {} bytes", now.size)))
        } else if now.size == size && now.modified_ms != modified_ms {
            Err(replaced(shown))
        } else {
            Ok(())
        }
    }
}

/// The file has another content.
pub(super) fn replaced(shown: &str) -> Failure {
    changed(shown, "was replaced or written again")
}

fn changed(shown: &str, what: &str) -> Failure {
    Failure::user(format!(
        "the file {shown} {what} since the job began to read it; put the old file back, or begin anew with --fresh"
    ))
}

impl Version {
    /// That of a file.
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self { size: metadata.len(), modified_ms: metadata.modified().map_or(0, unix_ms), etag: None }
    }

    /// That of an object.
    pub(super) fn of_object(entry: &Entry) -> Self {
        let etag = Some(entry.etag.trim_matches('"').to_owned());
        Self { size: entry.bytes, modified_ms: unix_ms(entry.modified), etag }
    }
}

fn unix_ms(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}
