//! One process at a time works in a state directory.

use crate::failure::{Failure, Result};
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;

/// Holds a state directory until it is dropped, or the process dies.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Takes the lock of `directory`, which exists. Fails with kind `User` when another process holds it.
    pub fn take(directory: &Path) -> Result<Self> {
        let path = directory.join("lock");
        let failure = |error: std::io::Error| {
            Failure::user(format!("the state directory {} could not be locked", directory.display())).because(error)
        };
        let mut file =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path).map_err(failure)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let who = holder_of(&mut file);
            return Err(Failure::user(format!(
                "the state directory {} is in use by {who}: stop it, or choose another with --state-dir",
                directory.display()
            )));
        }
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", std::process::id()))
            .map_err(failure)?;
        Ok(Self { _file: file })
    }

    /// The process that holds the lock of `directory`, for a message; `None` when there is none.
    #[must_use]
    pub fn holder(directory: &Path) -> Option<String> {
        let mut file = File::open(directory.join("lock")).ok()?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => None,
            Err(_) => Some(holder_of(&mut file)),
        }
    }
}

/// Who holds a lock, as its file says; the number may be missing when the holder has just begun.
fn holder_of(file: &mut File) -> String {
    let mut holder = String::new();
    // Only for a message.
    let _ = file.read_to_string(&mut holder);
    if holder.trim().is_empty() { "another process".to_owned() } else { format!("process {}", holder.trim()) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_directory_has_one_holder_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let held = DirectoryLock::take(folder.path()).unwrap();
        let refused = DirectoryLock::take(folder.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("in use by process {}", std::process::id())), "{refused}");
        drop(held);
        DirectoryLock::take(folder.path()).unwrap();
    }
}
