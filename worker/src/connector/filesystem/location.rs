//! Which files of a place a table consists of.

use super::pattern;
use super::place::{self, BucketFolder, Place, Refused, Written};
use super::position::Version;
use crate::checkpoint::store::s3::Entry;
use crate::connector::options::Options;
use crate::connector::{Environment, Outside};
use crate::failure::{Failure, Result};
use regex::Regex;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// Where the files of a table lie.
#[derive(Clone)]
pub(super) struct Location {
    /// What files are named from.
    pub(super) place: Place,
    kind: Kind,
    filter: Option<Regex>,
}

#[derive(Clone)]
enum Kind {
    /// One file of the folder.
    File(String),
    /// All that is below the folder.
    Folder,
    /// What matches, below the folder.
    Pattern(Regex),
    /// In a bucket: the object of this name, or all below it. Only a listing tells which.
    Name(String),
    /// In a bucket: what has this name, else what matches; that begins with `literal`.
    NameOrPattern { name: String, literal: String, pattern: Regex },
}

/// A file that was found, by its path below the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) file: String,
    pub(super) version: Version,
}

/// Reads the option `path`: a file, a folder or a pattern, with the options of its bucket. A mistake comes with a hint.
pub(super) fn locate(
    written: &str,
    filter: Option<Regex>,
    options: &Options,
    environment: &Environment,
) -> Result<Location, Refused> {
    match place::read(written)? {
        Written::Local(path) => {
            place::refuse_settings(options);
            locate_file(written, &path, filter, environment)
        }
        Written::Object { bucket, key } => {
            let settings = place::settings(options, &bucket);
            let (folder, kind) = in_bucket(written, &key)?;
            Ok(Location { place: Place::Bucket(BucketFolder::new(settings, &folder)), kind, filter })
        }
    }
}

fn locate_file(
    written: &str,
    local: &str,
    filter: Option<Regex>,
    environment: &Environment,
) -> Result<Location, Refused> {
    let resolved = environment.working_directory.join(local);
    if environment.outside == Outside::LeaveAlone {
        return Ok(Location { place: Place::Folder(resolved), kind: Kind::Folder, filter });
    }
    let shown = if resolved.as_os_str() == written {
        format!("'{written}'")
    } else {
        format!("'{written}' ({})", resolved.display())
    };
    match fs::metadata(&resolved) {
        Ok(metadata) if metadata.is_dir() => {
            fs::read_dir(&resolved).map_err(|error| inaccessible(&shown, "folder", &error))?;
            Ok(Location { place: Place::Folder(resolved), kind: Kind::Folder, filter })
        }
        Ok(_) => {
            fs::File::open(&resolved).map_err(|error| inaccessible(&shown, "file", &error))?;
            let name = resolved.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let root = resolved.parent().unwrap_or(Path::new("/")).to_owned();
            Ok(Location { place: Place::Folder(root), kind: Kind::File(name), filter })
        }
        Err(error) if error.kind() == ErrorKind::NotFound && pattern::is_pattern(local) => {
            let (folder, _, pattern) = take_pattern(&shown, local)?;
            let root = environment.working_directory.join(folder);
            let place = format!("'{}', the folder of the pattern {shown},", root.display());
            fs::read_dir(&root).map_err(|error| inaccessible(&place, "folder", &error))?;
            Ok(Location { place: Place::Folder(root), kind: Kind::Pattern(pattern), filter })
        }
        Err(error) => Err(inaccessible(&shown, "file or folder", &error)),
    }
}

/// The folder before a pattern, with its slash, what all matches begin with, and the pattern below the folder.
fn take_pattern<'a>(shown: &str, path: &'a str) -> Result<(&'a str, &'a str, Regex), Refused> {
    let literal = &path[..path.find(['*', '?', '[', '{']).unwrap_or(0)];
    let (folder, pattern) = literal.rfind('/').map_or(("", path), |at| path.split_at(at + 1));
    let expression = pattern::compile(pattern).map_err(|error| {
        (format!("the path {shown} is no pattern: {error}"), "a pattern is such as '/data/2024-*/*.json'".to_owned())
    })?;
    Ok((folder, &literal[folder.len()..], expression))
}

/// The folder that objects are named from, without the slash at its end, and what is wanted of it.
fn in_bucket(written: &str, key: &str) -> Result<(String, Kind), Refused> {
    if key.is_empty() || key.ends_with('/') {
        return Ok((key.trim_end_matches('/').to_owned(), Kind::Folder));
    }
    if !pattern::is_pattern(key) {
        let (folder, name) = key.rsplit_once('/').unwrap_or(("", key));
        return Ok((folder.to_owned(), Kind::Name(name.to_owned())));
    }
    let (folder, literal, pattern) = take_pattern(&format!("'{written}'"), key)?;
    let (name, literal) = (key[folder.len()..].to_owned(), literal.to_owned());
    Ok((folder.trim_end_matches('/').to_owned(), Kind::NameOrPattern { name, literal, pattern }))
}

fn inaccessible(shown: &str, what: &str, error: &io::Error) -> Refused {
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

impl Location {
    /// The files that are there now, in the order of their paths.
    pub(super) fn files(&self) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        match (&self.place, &self.kind) {
            (Place::Folder(root), Kind::File(name)) => {
                let path = root.join(name);
                let metadata = fs::metadata(&path).map_err(|error| unreadable(&path.display(), error))?;
                found.push(Found { file: name.clone(), version: Version::of(&metadata) });
            }
            (Place::Folder(root), _) => self.walk(root, "", &mut found)?,
            (Place::Bucket(folder), kind) => {
                found = objects(folder, kind)?;
                found.retain(|found| self.passes_filter(&found.file));
            }
        }
        found.sort_by(|one, other| one.file.split('/').cmp(other.file.split('/')));
        Ok(found)
    }

    /// Why it matters if there is nothing: a bucket has no folders that could be empty, so a wrong path looks so.
    pub(super) fn nothing_found(&self) -> Option<Failure> {
        let Place::Bucket(folder) = &self.place else { return None };
        let what = match &self.kind {
            Kind::Folder | Kind::File(_) => format!("there is no object below {}", folder.shown("")),
            Kind::Pattern(_) => format!("no object below {} matches the pattern", folder.shown("")),
            Kind::Name(name) => {
                format!("there is no object {}, and none below it", folder.shown(name))
            }
            Kind::NameOrPattern { name, .. } => format!("no object matches {}", folder.shown(name)),
        };
        let hint = "correct 'path', or set 'source.monitor-interval' to wait for objects";
        Some(Failure::user(format!("{what}; {hint}")))
    }

    fn walk(&self, folder: &Path, below: &str, found: &mut Vec<Found>) -> Result<()> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            // A folder below the root may go away between two looks.
            Err(error) if error.kind() == ErrorKind::NotFound && !below.is_empty() => return Ok(()),
            Err(error) => return Err(unreadable(&folder.display(), error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(&folder.display(), error))?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                let shown = entry.path();
                return Err(Failure::user(format!("the name of {} is no UTF-8; rename it", shown.display())));
            };
            if is_hidden(name) {
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
                Err(error) => return Err(unreadable(&entry.path().display(), error)),
            }
        }
        Ok(())
    }

    fn includes(&self, file: &str) -> bool {
        let matches = match &self.kind {
            Kind::Pattern(pattern) => pattern.is_match(file),
            _ => true,
        };
        matches && self.passes_filter(file)
    }

    fn passes_filter(&self, file: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.is_match(&self.place.shown(file)))
    }
}

fn is_hidden(name: &str) -> bool {
    name.starts_with(['.', '_'])
}

fn objects(folder: &BucketFolder, kind: &Kind) -> Result<Vec<Found>> {
    let bucket = folder.bucket()?;
    let below = |file: &str| -> Result<Vec<Found>> {
        Ok(bucket.list(&folder.key(file))?.iter().filter_map(|entry| found(folder, entry)).collect())
    };
    // What the path itself names is taken even if the name begins with a dot.
    let visible = |found: &Found, from: &str| !found.file[from.len()..].split('/').any(is_hidden);
    let named = |name: &str| -> Result<Vec<Found>> {
        let inside = format!("{name}/");
        // The listing goes first: where the bucket cannot be used, its answer says why.
        let inside: Vec<Found> = below(&inside)?.into_iter().filter(|found| visible(found, &inside)).collect();
        let object = bucket.head(&folder.key(name))?;
        Ok(object.iter().filter_map(|entry| found(folder, entry)).chain(inside).collect())
    };
    match kind {
        Kind::Folder => Ok(below("")?.into_iter().filter(|found| visible(found, "")).collect()),
        Kind::File(name) | Kind::Name(name) => named(name),
        Kind::Pattern(pattern) => {
            Ok(below("")?.into_iter().filter(|found| visible(found, "") && pattern.is_match(&found.file)).collect())
        }
        Kind::NameOrPattern { name, literal, pattern } => {
            let exactly = named(name)?;
            if !exactly.is_empty() {
                return Ok(exactly);
            }
            let matching = below(literal)?.into_iter();
            Ok(matching.filter(|found| visible(found, "") && pattern.is_match(&found.file)).collect())
        }
    }
}

/// An object as a file; `None` for the empty ones that stand for folders.
fn found(folder: &BucketFolder, entry: &Entry) -> Option<Found> {
    let file = folder.file(&entry.key)?;
    let is_file = !file.is_empty() && !file.ends_with('/');
    is_file.then(|| Found { file: file.to_owned(), version: Version::of_object(entry) })
}

/// A failure of an access to a file or folder, with the kind that its cause asks for.
pub(super) fn unreadable(shown: &dyn std::fmt::Display, error: io::Error) -> Failure {
    match error.kind() {
        ErrorKind::NotFound => gone(shown),
        ErrorKind::PermissionDenied => Failure::user(format!("no permission to read {shown}")),
        _ => Failure::transient(format!("cannot read {shown}")).because(error),
    }
}

/// A file that was there is not any more.
pub(super) fn gone(shown: &dyn std::fmt::Display) -> Failure {
    Failure::user(format!("the file {shown} is gone; put it back, or begin anew with --fresh"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_path_of_a_bucket_is_a_folder_a_name_or_a_pattern() {
        let table = [
            ("", "", "all"),
            ("a/b/", "a/b", "all"),
            ("a/b", "a", "b"),
            ("b", "", "b"),
            ("a/day=*/x.json", "a", "day=*/x.json from day="),
            ("*.json", "", "*.json from "),
            ("a/b/*", "a/b", "* from "),
        ];
        for (key, folder, wanted) in table {
            let (found, kind) = in_bucket("p", key).unwrap();
            let drawn = match kind {
                Kind::Folder => "all".to_owned(),
                Kind::Name(name) => name,
                Kind::NameOrPattern { name, literal, .. } => format!("{name} from {literal}"),
                Kind::File(_) | Kind::Pattern(_) => "of this machine".to_owned(),
            };
            assert_eq!((found.as_str(), drawn.as_str()), (folder, wanted), "{key}");
        }
    }
}
