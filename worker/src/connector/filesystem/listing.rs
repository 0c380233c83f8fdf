//! Finds the files of a table and cuts them into splits.
//!
//! Within one look files come in the order of their paths, and parts of a file in the order of their bytes; what a later
//! look finds comes after. Names that begin with `.` or `_` are passed over, files and folders. A file counts as complete
//! when it is seen: move files into a watched folder, do not write them there.

use super::pattern;
use super::position::{Position, Version};
use super::source::Config;
use crate::connector::{Enumerator, Environment, Outside, Split};
use crate::failure::{Failure, Result};
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use weir_protocol::snapshot::SplitProgress;

/// Where the files of a table lie.
#[derive(Debug, Clone)]
pub(super) struct Location {
    /// The folder that files are named from.
    pub(super) root: PathBuf,
    kind: Kind,
    filter: Option<Regex>,
}

#[derive(Debug, Clone)]
enum Kind {
    /// One file of the folder.
    File(String),
    /// All that is below the folder.
    Folder,
    /// What matches, below the folder.
    Pattern(Regex),
}

/// Reads the option `path`: a file, a folder or a pattern. A mistake comes with a hint.
pub(super) fn locate(
    written: &str,
    filter: Option<Regex>,
    environment: &Environment,
) -> Result<Location, (String, String)> {
    let local = local_path(written)?;
    let resolved = environment.working_directory.join(local);
    if environment.outside == Outside::LeaveAlone {
        return Ok(Location { root: resolved, kind: Kind::Folder, filter });
    }
    let shown = if resolved.as_os_str() == written {
        format!("'{written}'")
    } else {
        format!("'{written}' ({})", resolved.display())
    };
    match fs::metadata(&resolved) {
        Ok(metadata) if metadata.is_dir() => {
            fs::read_dir(&resolved).map_err(|error| inaccessible(&shown, "folder", &error))?;
            Ok(Location { root: resolved, kind: Kind::Folder, filter })
        }
        Ok(_) => {
            fs::File::open(&resolved).map_err(|error| inaccessible(&shown, "file", &error))?;
            let name = resolved.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let root = resolved.parent().unwrap_or(Path::new("/")).to_owned();
            Ok(Location { root, kind: Kind::File(name), filter })
        }
        Err(error) if error.kind() == ErrorKind::NotFound && pattern::is_pattern(local) => {
            locate_pattern(local, &shown, filter, environment)
        }
        Err(error) => Err(inaccessible(&shown, "file or folder", &error)),
    }
}

/// The path without `file://`. Other schemes are refused by name.
fn local_path(written: &str) -> Result<&str, (String, String)> {
    let Some((scheme, rest)) = written.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) else {
        return Ok(written);
    };
    if scheme.eq_ignore_ascii_case("file") {
        // file:/a, file:///a and file://localhost/a are the same.
        let path = rest.strip_prefix("//").unwrap_or(rest);
        return Ok(path.strip_prefix("localhost").unwrap_or(path));
    }
    let message = match scheme {
        "s3" | "s3a" | "s3n" | "gs" | "abfs" | "abfss" | "wasb" | "wasbs" | "oss" | "hdfs" => {
            format!("the path '{written}' is on {scheme}://, which is not available in this version")
        }
        _ => format!("the path '{written}' has the unknown scheme '{scheme}'"),
    };
    Err((message, "use a path of this machine, such as '/data/events' or 'file:///data/events'".to_owned()))
}

fn is_scheme(text: &str) -> bool {
    text.len() > 1
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn locate_pattern(
    local: &str,
    shown: &str,
    filter: Option<Regex>,
    environment: &Environment,
) -> Result<Location, (String, String)> {
    let meta = local.find(['*', '?', '[', '{']).unwrap_or(0);
    let (folder, pattern) = local[..meta].rfind('/').map_or(("", local), |at| (&local[..=at], &local[at + 1..]));
    let expression = pattern::compile(pattern).map_err(|error| {
        (format!("the path {shown} is no pattern: {error}"), "a pattern is such as '/data/2024-*/*.json'".to_owned())
    })?;
    let root = environment.working_directory.join(folder);
    let place = format!("'{}', the folder of the pattern {shown},", root.display());
    fs::read_dir(&root).map_err(|error| inaccessible(&place, "folder", &error))?;
    Ok(Location { root, kind: Kind::Pattern(expression), filter })
}

fn inaccessible(shown: &str, what: &str, error: &io::Error) -> (String, String) {
    match error.kind() {
        ErrorKind::NotFound => (
            format!("there is no {what} {shown}"),
            "relative paths start in the folder that weir was started in".to_owned(),
        ),
        ErrorKind::PermissionDenied => (
            format!("no permission to read the {what} {shown}"),
            "give the user that runs weir the right to read it, and to enter the folders above it".to_owned(),
        ),
        _ => (format!("the {what} {shown} cannot be read: {error}"), "check the path".to_owned()),
    }
}

/// A file that was found, by its path below the root.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    file: String,
    version: Version,
}

impl Location {
    /// The files that are there now, in the order of their paths.
    fn files(&self) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        if let Kind::File(name) = &self.kind {
            let path = self.root.join(name);
            let metadata = fs::metadata(&path).map_err(|error| unreadable(&path, error))?;
            found.push(Found { file: name.clone(), version: Version::of(&metadata) });
        } else {
            self.walk(&self.root, "", &mut found)?;
        }
        found.sort_by(|one, other| one.file.split('/').cmp(other.file.split('/')));
        Ok(found)
    }

    fn walk(&self, folder: &Path, below: &str, found: &mut Vec<Found>) -> Result<()> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            // A folder below the root may go away between two looks.
            Err(error) if error.kind() == ErrorKind::NotFound && !below.is_empty() => return Ok(()),
            Err(error) => return Err(unreadable(folder, error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(folder, error))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                let shown = entry.path();
                return Err(Failure::user(format!("the name of {} is no UTF-8; rename it", shown.display())));
            };
            if name.starts_with(['.', '_']) {
                continue;
            }
            let file = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
            match fs::metadata(entry.path()) {
                Ok(metadata) if metadata.is_dir() => self.walk(&entry.path(), &file, found)?,
                Ok(metadata) if metadata.is_file() && self.includes(&file) => {
                    found.push(Found { file, version: Version::of(&metadata) });
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(unreadable(&entry.path(), error)),
            }
        }
        Ok(())
    }

    fn includes(&self, file: &str) -> bool {
        let matches = match &self.kind {
            Kind::Pattern(pattern) => pattern.is_match(file),
            Kind::File(_) | Kind::Folder => true,
        };
        matches && self.filter.as_ref().is_none_or(|filter| filter.is_match(&self.root.join(file).to_string_lossy()))
    }
}

/// A failure of an access to a file or folder, with the kind that its cause asks for.
pub(super) fn unreadable(path: &Path, error: io::Error) -> Failure {
    let shown = path.display();
    match error.kind() {
        ErrorKind::NotFound => {
            Failure::user(format!("the file {shown} is gone; put it back, or begin anew with --fresh"))
        }
        ErrorKind::PermissionDenied => Failure::user(format!("no permission to read {shown}")),
        _ => Failure::transient(format!("cannot read {shown}")).because(error),
    }
}

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
        let path = self.config.location.root.join(&found.file);
        let size = if self.config.is_splittable(&path) { self.config.split_size } else { u64::MAX };
        let seen = self.seen.entry(found.file.clone()).or_default();
        let version = *seen.version.get_or_insert(found.version);
        let (known, mut at) = (seen.parts.clone(), 0);
        for (start, end) in known {
            cut_range(at..start, size, &mut seen.parts);
            at = end;
        }
        cut_range(at..version.size, size, &mut seen.parts);
        let part =
            |(&start, &end): (&u64, &u64)| Position { file: found.file.clone(), version, start, end, read: None };
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
        for found in self.config.location.files()? {
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
