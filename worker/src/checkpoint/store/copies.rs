//! Local copies of the state files that this process wrote or is about to need: after a failure elsewhere, and when key
//! groups move here, its tasks go on from them.
//!
//! A copy is only an aid. It is checked block by block whenever it is read, and whatever is wrong with it, the store
//! behind has the object. Copies of an earlier process are removed at the start.

use super::{Put, Store};
use crate::failure::{Failure, Result};
use crate::numbers::{Family, Numbers};
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use weir_protocol::Generation;
use xxhash_rust::xxh3::xxh3_64;

/// A block has a checksum of its own.
const BLOCK: usize = 256 << 10;
/// Only these objects are read again and again.
const STATE: &str = "state/";
/// Names of copies begin with this.
const COPY: &str = "copy-";

/// A store whose state files are also kept in a folder, as far as this process wrote them.
pub struct Copies {
    inner: Arc<dyn Store>,
    folder: PathBuf,
    budget: u64,
    next: AtomicU64,
    kept: Mutex<Kept>,
    served: AtomicU64,
    missed: AtomicU64,
}

#[derive(Default)]
struct Kept {
    by_key: BTreeMap<String, Arc<Copy>>,
    oldest_first: VecDeque<String>,
    bytes: u64,
}

/// One copy. Its file goes with it.
struct Copy {
    path: PathBuf,
    bytes: u64,
    blocks: Vec<u64>,
}

impl Copies {
    /// Keeps copies of up to `budget` bytes in `folder`, which is this process's alone. Fails with kind `User` when it
    /// cannot be written.
    pub fn open(inner: Arc<dyn Store>, folder: impl Into<PathBuf>, budget: u64) -> Result<Self> {
        let folder = folder.into();
        prepare(&folder).map_err(|error| {
            Failure::user(format!("the folder {} cannot be used for copies of state", folder.display())).because(error)
        })?;
        Ok(Self {
            inner,
            folder,
            budget,
            next: AtomicU64::new(0),
            kept: Mutex::default(),
            served: AtomicU64::new(0),
            missed: AtomicU64::new(0),
        })
    }

    /// Bytes that were read here and not in the store behind.
    #[must_use]
    pub fn served_bytes(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Bytes of all copies.
    #[must_use]
    pub fn kept_bytes(&self) -> u64 {
        self.kept.lock().bytes
    }

    fn keep(&self, key: &str, body: &[u8]) {
        if !key.starts_with(STATE) || body.len() as u64 > self.budget {
            return;
        }
        let path = self.folder.join(format!("{COPY}{}", self.next.fetch_add(1, Ordering::Relaxed)));
        let blocks = body.chunks(BLOCK).map(xxh3_64).collect();
        // From here on the file goes when the copy is dropped.
        let copy = Copy { path, bytes: body.len() as u64, blocks };
        self.make_room(copy.bytes);
        if let Err(error) = fs::write(&copy.path, body) {
            tracing::warn!(path = %copy.path.display(), %error, "a local copy of a state file could not be kept");
            return;
        }
        let mut kept = self.kept.lock();
        kept.bytes += copy.bytes;
        kept.oldest_first.push_back(key.to_owned());
        kept.by_key.insert(key.to_owned(), Arc::new(copy));
    }

    fn make_room(&self, bytes: u64) {
        let mut kept = self.kept.lock();
        while kept.bytes + bytes > self.budget {
            let Some(oldest) = kept.oldest_first.pop_front() else { return };
            kept.forget(&oldest);
        }
    }

    fn drop_copy(&self, key: &str) {
        let mut kept = self.kept.lock();
        kept.forget(key);
        kept.oldest_first.retain(|other| other != key);
    }

    /// Bytes of state had to be read in the store behind.
    fn miss<'a>(&self, key: &str, bodies: impl IntoIterator<Item = &'a Vec<u8>>) {
        if key.starts_with(STATE) {
            let bytes = bodies.into_iter().map(|body| body.len() as u64).sum();
            self.missed.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// What the copy has; `None` when there is none that can be used.
    fn read(&self, key: &str, range: impl FnOnce(&Copy) -> Range<u64>) -> Option<Vec<u8>> {
        let copy = self.kept.lock().by_key.get(key).map(Arc::clone)?;
        match copy.read(range(&copy)) {
            Ok(body) => {
                self.served.fetch_add(body.len() as u64, Ordering::Relaxed);
                Some(body)
            }
            Err(error) => {
                tracing::warn!(key, %error, "a local copy of a state file is not usable");
                self.drop_copy(key);
                None
            }
        }
    }
}

impl Numbers for Copies {
    fn families(&self) -> Vec<Family> {
        let label = |from: &str| vec![("from", from.to_owned())];
        let read = Family::counter("weir_state_read_bytes_total", "Bytes of state that were read, by where they were.");
        let missed = self.missed.load(Ordering::Relaxed);
        let read = read.with(label("copy"), self.served_bytes() as f64).with(label("store"), missed as f64);
        let kept = Family::gauge("weir_state_copies_bytes", "Bytes of local copies of state.");
        vec![read, kept.of(self.kept_bytes() as f64)]
    }
}

impl Kept {
    fn forget(&mut self, key: &str) {
        if let Some(copy) = self.by_key.remove(key) {
            self.bytes -= copy.bytes;
        }
    }
}

impl Copy {
    /// A part of the content. Fails when the file does not hold what was written, and for a part that there is not.
    fn read(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        if range.end > self.bytes || range.start > range.end {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let block = BLOCK as u64;
        let (first, last) = (range.start / block, range.end.div_ceil(block));
        let (start, end) = (first * block, (last * block).min(self.bytes));
        let mut file = File::open(&self.path)?;
        if file.metadata()?.len() != self.bytes {
            return Err(io::Error::other("another length than was written"));
        }
        file.seek(SeekFrom::Start(start))?;
        let mut body = vec![0; (end - start.min(end)) as usize];
        file.read_exact(&mut body)?;
        let good = body.chunks(BLOCK).zip(&self.blocks[first as usize..]).all(|(block, sum)| xxh3_64(block) == *sum);
        if !good {
            return Err(io::Error::other("another content than was written"));
        }
        body.truncate((range.end - start) as usize);
        body.drain(..(range.start - start) as usize);
        Ok(body)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What stays behind is removed at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

impl Store for Copies {
    fn put_if_absent(&self, key: &str, body: &[u8]) -> Put {
        let put = self.inner.put_if_absent(key, body);
        if matches!(put, Put::Done) {
            self.keep(key, body);
        }
        put
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        match self.read(key, |copy| 0..copy.bytes) {
            Some(body) => Ok(Some(body)),
            None => self.inner.get(key).inspect(|body| self.miss(key, body.as_ref())),
        }
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        match self.read(key, |_| range.clone()) {
            Some(body) => Ok(body),
            None => self.inner.get_range(key, range).inspect(|body| self.miss(key, [body])),
        }
    }

    fn get_ranges(&self, key: &str, ranges: &[Range<u64>]) -> Result<Vec<Vec<u8>>> {
        let mut bodies = Vec::with_capacity(ranges.len());
        for range in ranges {
            match self.read(key, |_| range.clone()) {
                Some(body) => bodies.push(body),
                None => {
                    let bodies = self.inner.get_ranges(key, ranges);
                    return bodies.inspect(|bodies| self.miss(key, bodies));
                }
            }
        }
        Ok(bodies)
    }

    fn fetch(&self, key: &str) -> Result<()> {
        if self.kept.lock().by_key.contains_key(key) {
            return Ok(());
        }
        if let Some(body) = self.inner.get(key)? {
            self.miss(key, [&body]);
            self.keep(key, &body);
        }
        Ok(())
    }

    fn forget(&self, keys: &[String]) {
        keys.iter().filter(|key| key.starts_with(STATE)).for_each(|key| self.drop_copy(key));
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.inner.list(prefix)
    }

    fn delete(&self, keys: &[String]) -> Result<()> {
        self.forget(keys);
        self.inner.delete(keys)
    }

    fn at(&self, location: &str) -> Option<Arc<dyn Store>> {
        self.inner.at(location)
    }

    fn remove_unfinished(&self, before: Generation) -> Result<()> {
        self.inner.remove_unfinished(before)
    }
}

fn prepare(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(COPY) {
            fs::remove_file(entry.path())?;
        }
    }
    let probe = folder.join(format!("{COPY}probe"));
    File::create(&probe).and_then(|_| fs::remove_file(&probe))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::checkpoint::store::directory::DirectoryStore;
    use crate::failure::Kind;

    /// Copies of a store in a folder, both of them, and what is behind.
    struct Both {
        _folder: tempfile::TempDir,
        copies: Copies,
        local: PathBuf,
        remote: PathBuf,
    }

    #[test]
    fn what_was_fetched_is_read_here() {
        let both = both(1 << 20);
        let Both { copies, remote, .. } = &both;
        DirectoryStore::open(remote).unwrap().put_if_absent("state/a/1", b"written elsewhere");
        copies.fetch("state/a/1").unwrap();
        copies.fetch("state/a/2").unwrap();
        both.spoil_remote("state/a/1");
        assert_eq!(copies.get("state/a/1").unwrap().unwrap(), b"written elsewhere");
    }

    fn both(budget: u64) -> Both {
        let folder = tempfile::tempdir().unwrap();
        let (local, remote) = (folder.path().join("local"), folder.path().join("remote"));
        let inner = Arc::new(DirectoryStore::open(&remote).unwrap());
        Both { copies: Copies::open(inner, &local, budget).unwrap(), local, remote, _folder: folder }
    }

    impl Both {
        fn put(&self, key: &str, body: &[u8]) {
            assert!(matches!(self.copies.put_if_absent(key, body), Put::Done));
        }

        /// Damages what the store behind has: an answer that is right came from a copy.
        fn spoil_remote(&self, key: &str) {
            fs::write(self.remote.join(key), b"spoilt").unwrap();
        }

        fn local_files(&self) -> usize {
            fs::read_dir(&self.local).unwrap().count()
        }
    }

    #[test]
    fn what_this_process_wrote_is_read_here() {
        let both = both(10 << 20);
        let body: Vec<u8> = (0..600_000u32).map(|at| ((at * 7) >> 3) as u8).collect();
        both.put("state/op/1-a", &body);
        both.put("chain/1", b"link");
        assert_eq!(both.local_files(), 1);
        both.spoil_remote("state/op/1-a");
        assert_eq!(both.copies.get("state/op/1-a").unwrap().unwrap(), body);
        for range in [0..10, 262_143..262_145, 599_990..600_000, 5..5, 0..600_000, 524_288..524_289] {
            let (start, end) = (range.start as usize, range.end as usize);
            assert_eq!(both.copies.get_range("state/op/1-a", range).unwrap(), &body[start..end]);
        }
        let ranges = both.copies.get_ranges("state/op/1-a", &[3..6, 0..2]).unwrap();
        assert_eq!(ranges, [body[3..6].to_vec(), body[..2].to_vec()]);
        assert!(both.copies.served_bytes() > 1_200_000);
    }

    #[test]
    fn a_damaged_copy_is_not_believed() {
        for damage in [&b"other content"[..], b"short", b"longer than it was"] {
            let both = both(1 << 20);
            both.put("state/op/1-a", b"these content");
            let copy = fs::read_dir(&both.local).unwrap().next().unwrap().unwrap().path();
            fs::write(&copy, damage).unwrap();
            assert_eq!(both.copies.get_range("state/op/1-a", 0..5).unwrap(), b"these");
            assert_eq!((both.copies.kept_bytes(), both.local_files()), (0, 0));
        }
    }

    #[test]
    fn the_oldest_copies_make_room() {
        let both = both(100);
        for number in 0..5 {
            both.put(&format!("state/op/1-{number}"), &[number; 40]);
        }
        both.put("state/op/1-large", &[9; 101]);
        assert_eq!((both.copies.kept_bytes(), both.local_files()), (80, 2));
        (0..5).for_each(|number| both.spoil_remote(&format!("state/op/1-{number}")));
        assert_eq!(both.copies.get("state/op/1-2").unwrap().unwrap(), b"spoilt");
        assert_eq!(both.copies.get("state/op/1-3").unwrap().unwrap(), [3; 40]);
        both.copies.delete(&["state/op/1-3".to_owned()]).unwrap();
        assert_eq!(both.copies.get("state/op/1-3").unwrap(), None);
        assert_eq!((both.copies.kept_bytes(), both.local_files()), (40, 1));
    }

    #[test]
    fn copies_of_an_earlier_process_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("copy-7"), b"old").unwrap();
        fs::write(folder.path().join("other"), b"not ours").unwrap();
        let inner = Arc::new(DirectoryStore::open(folder.path().join("remote")).unwrap());
        let copies = Copies::open(Arc::clone(&inner) as _, folder.path(), 100).unwrap();
        assert!(!folder.path().join("copy-7").exists() && folder.path().join("other").exists());
        drop(copies);
        let refused = Copies::open(inner, folder.path().join("other"), 100).err().unwrap();
        assert_eq!(refused.kind, Kind::User);
    }
}
