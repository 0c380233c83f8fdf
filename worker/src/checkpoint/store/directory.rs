//! A store in a directory of a file system.
//!
//! An object is written under a name of its own, synced, linked to its place and the folder synced: after a power cut it
//! is there as a whole or not at all. Linking fails when the place is taken, which makes it a write-if-absent.

use super::{Put, Store};
use crate::failure::{Failure, Kind, Result};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Names that are being written begin with this; a reader never sees them.
const PARTIAL: &str = ".partial-";

/// Objects in a folder.
#[derive(Debug)]
pub struct DirectoryStore {
    root: PathBuf,
    /// Makes the names of unfinished files unique within the process.
    next: AtomicU64,
}

impl DirectoryStore {
    /// The store in `root`, which is created if it does not exist. Fails with kind `User` when it cannot be written.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        let refused = |error: io::Error, doing: &str| {
            Failure::user(format!("the state directory {} could not be {doing}", root.display())).because(error)
        };
        fs::create_dir_all(&root).map_err(|error| refused(error, "created"))?;
        let probe = root.join(format!("{PARTIAL}probe-{}", std::process::id()));
        File::create(&probe).and_then(|_| fs::remove_file(&probe)).map_err(|error| refused(error, "written to"))?;
        Ok(Self { root, next: AtomicU64::new(0) })
    }

    /// The store in `root` for one who only reads. Fails with kind `User` when there is no such folder.
    pub fn existing(root: impl Into<PathBuf>) -> Result<Self> {
        let root = root.into();
        match fs::read_dir(&root) {
            Ok(_) => Ok(Self { root, next: AtomicU64::new(0) }),
            Err(error) => {
                Err(Failure::user(format!("the state directory {} could not be read", root.display())).because(error))
            }
        }
    }

    /// The folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Removes what an earlier process left unfinished. Only the one who holds the directory's lock may call it.
    pub fn remove_partial(&self) -> Result<()> {
        let mut names = Vec::new();
        walk(&self.root, &mut names).map_err(|error| read_failure(&self.root, error))?;
        for path in names.into_iter().filter(|path| is_partial(path)) {
            remove(&path)?;
        }
        Ok(())
    }

    fn write(&self, key: &str, body: &[u8]) -> io::Result<Written> {
        let place = self.root.join(key);
        let folder = place.parent().unwrap_or(&self.root).to_path_buf();
        create_folders(&self.root, &folder)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let partial = folder.join(format!("{PARTIAL}{}-{number}", std::process::id()));
        let outcome = write_and_link(&partial, &place, body);
        // What stays behind after a failure here is removed by the next run.
        let _ = fs::remove_file(&partial);
        match outcome {
            Ok(()) => match sync_folder(&folder) {
                Ok(()) => Ok(Written::Done),
                // The link is made, but nobody knows whether it would survive a power cut.
                Err(error) => Ok(Written::Unknown(error)),
            },
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Written::Exists),
            Err(error) => Err(error),
        }
    }
}

enum Written {
    Done,
    Exists,
    Unknown(io::Error),
}

impl Store for DirectoryStore {
    fn put_if_absent(&self, key: &str, body: &[u8]) -> Put {
        let failure = |error| write_failure(&self.root.join(key), error);
        match self.write(key, body) {
            Ok(Written::Done) => Put::Done,
            Ok(Written::Exists) => Put::Exists,
            Ok(Written::Unknown(error)) => Put::Unknown(failure(error)),
            Err(error) => Put::Failed(failure(error)),
        }
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let path = self.root.join(key);
        match fs::read(&path) {
            Ok(body) => Ok(Some(body)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(read_failure(&path, error)),
        }
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let path = self.root.join(key);
        let length = usize::try_from(range.end.saturating_sub(range.start))
            .map_err(|_| Failure::corrupt(format!("{} bytes of {key} were asked for", range.end)))?;
        read_range(&path, range.start, length).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::UnexpectedEof => {
                Failure::corrupt(format!("{} has no bytes {} to {}", path.display(), range.start, range.end))
                    .because(error)
            }
            _ => read_failure(&path, error),
        })
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let folder = self.root.join(prefix.rsplit_once('/').map_or("", |(folder, _)| folder));
        let mut paths = Vec::new();
        match walk(&folder, &mut paths) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(read_failure(&folder, error)),
        }
        let keys = paths.iter().filter(|path| !is_partial(path)).filter_map(|path| path.strip_prefix(&self.root).ok());
        let mut names: Vec<String> =
            keys.map(|key| key.to_string_lossy().into_owned()).filter(|key| key.starts_with(prefix)).collect();
        names.sort();
        Ok(names)
    }

    fn delete(&self, keys: &[String]) -> Result<()> {
        keys.iter().try_for_each(|key| remove(&self.root.join(key)))
    }
}

fn write_and_link(partial: &Path, place: &Path, body: &[u8]) -> io::Result<()> {
    if place.exists() {
        return Err(ErrorKind::AlreadyExists.into());
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(partial)?;
    file.write_all(body)?;
    file.sync_all()?;
    fs::hard_link(partial, place)
}

/// Creates the folder, and makes each new level durable in the one above.
fn create_folders(root: &Path, folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent().filter(|parent| parent.starts_with(root)) {
        create_folders(root, parent)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => sync_folder(parent)?,
        }
    }
    Ok(())
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn read_range(path: &Path, start: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    // A wrong length must not reserve memory that the file does not fill.
    if file.metadata()?.len() < start.saturating_add(length as u64) {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    file.seek(SeekFrom::Start(start))?;
    let mut body = vec![0; length];
    file.read_exact(&mut body)?;
    Ok(body)
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), paths)?,
            Ok(_) => paths.push(entry.path()),
            // Removed since it was listed.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_partial(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PARTIAL))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(write_failure(path, error)),
        _ => Ok(()),
    }
}

fn write_failure(path: &Path, error: io::Error) -> Failure {
    Failure::new(Kind::Transient, format!("{} could not be written", path.display())).because(error)
}

fn read_failure(path: &Path, error: io::Error) -> Failure {
    // A right that is missing does not come by trying again.
    let kind = if error.kind() == ErrorKind::PermissionDenied { Kind::User } else { Kind::Transient };
    Failure::new(kind, format!("{} could not be read", path.display())).because(error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_right_that_is_missing_is_the_users_to_give() {
        for (error, kind) in [(ErrorKind::PermissionDenied, Kind::User), (ErrorKind::Interrupted, Kind::Transient)] {
            assert_eq!(read_failure(Path::new("state/chain"), error.into()).kind, kind, "{error}");
        }
    }

    #[test]
    fn an_object_is_written_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = DirectoryStore::open(folder.path()).unwrap();
        assert!(matches!(store.put_if_absent("chain/1", b"one"), Put::Done));
        assert!(matches!(store.put_if_absent("chain/1", b"two"), Put::Exists));
        assert_eq!(store.get("chain/1").unwrap().unwrap(), b"one");
        assert_eq!(store.get("chain/2").unwrap(), None);
    }

    #[test]
    fn of_many_writers_one_wins() {
        let folder = tempfile::tempdir().unwrap();
        let store = DirectoryStore::open(folder.path()).unwrap();
        for round in 0..20 {
            let key = format!("generations/{round}");
            let won = std::thread::scope(|scope| {
                let write = |writer: u8| {
                    let (store, key) = (&store, &key);
                    scope.spawn(move || matches!(store.put_if_absent(key, &[writer]), Put::Done))
                };
                let writers: Vec<_> = (0..4).map(write).collect();
                writers.into_iter().map(|writer| usize::from(writer.join().unwrap())).sum::<usize>()
            });
            assert_eq!(won, 1);
        }
    }

    #[test]
    fn a_listing_is_sorted_and_has_no_unfinished_objects() {
        let folder = tempfile::tempdir().unwrap();
        let store = DirectoryStore::open(folder.path()).unwrap();
        for key in ["state/b/2", "state/a/1", "chain/1"] {
            assert!(matches!(store.put_if_absent(key, b"x"), Put::Done));
        }
        fs::write(folder.path().join("state/a").join(format!("{PARTIAL}9-9")), b"half").unwrap();
        assert_eq!(store.list("state/").unwrap(), ["state/a/1", "state/b/2"]);
        assert_eq!(store.list("none/").unwrap(), Vec::<String>::new());
        store.remove_partial().unwrap();
        store.delete(&["state/a/1".into(), "state/a/1".into()]).unwrap();
        assert_eq!(store.list("state/").unwrap(), ["state/b/2"]);
        assert_eq!(fs::read_dir(folder.path().join("state/a")).unwrap().count(), 0);
    }

    #[test]
    fn a_range_beyond_the_end_is_corrupt() {
        let folder = tempfile::tempdir().unwrap();
        let store = DirectoryStore::open(folder.path()).unwrap();
        assert!(matches!(store.put_if_absent("a", b"0123456789"), Put::Done));
        assert_eq!(store.get_range("a", 2..5).unwrap(), b"234");
        assert_eq!(store.get_range("a", 8..u64::MAX).unwrap_err().kind, Kind::Corrupt);
    }
}
