//! The store of checkpoints: objects by name, as S3 has them.
//!
//! A write has three outcomes: it is done, it did not happen, or nobody knows. A listing is strongly consistent: it has
//! every object whose write ended before the listing began.

pub mod copies;
pub mod directory;
pub mod s3;

use crate::failure::Result;
use std::ops::Range;
use std::sync::Arc;
use weir_protocol::Generation;

/// Objects below the job's folder.
pub trait Store: Send + Sync {
    /// Writes an object that does not exist yet.
    fn put_if_absent(&self, key: &str, body: &[u8]) -> Put;

    /// An object's content; `None` when it does not exist.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>>;

    /// A part of an object's content. Fails with kind `Corrupt` when the object is shorter or missing.
    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>>;

    /// Parts of an object's content, in the order in which they are asked for. Fails as [`Store::get_range`] does.
    fn get_ranges(&self, key: &str, ranges: &[Range<u64>]) -> Result<Vec<Vec<u8>>> {
        ranges.iter().map(|range| self.get_range(key, range.clone())).collect()
    }

    /// Brings an object near, where that makes reading it quicker later. That it is not there is no failure.
    fn fetch(&self, _key: &str) -> Result<()> {
        Ok(())
    }

    /// Objects are about to be removed by another process: nothing of them need be kept near.
    fn forget(&self, _keys: &[String]) {}

    /// The names of all objects below `prefix`, sorted.
    fn list(&self, prefix: &str) -> Result<Vec<String>>;

    /// Removes objects. One that does not exist is no failure.
    fn delete(&self, keys: &[String]) -> Result<()>;

    /// The objects at another location that is reached as this one is: another folder of the same bucket. `None` when it
    /// is not.
    fn at(&self, _location: &str) -> Option<Arc<dyn Store>> {
        None
    }

    /// Gives up what generations before this one began to write and did not end. Only the leader of the newest
    /// generation may ask for it.
    fn remove_unfinished(&self, _before: Generation) -> Result<()> {
        Ok(())
    }
}

/// The outcome of a write.
#[derive(Debug)]
pub enum Put {
    /// The object is there and holds the body.
    Done,
    /// An object of that name was there before.
    Exists,
    /// Nothing was written.
    Failed(crate::failure::Failure),
    /// It may have been written.
    Unknown(crate::failure::Failure),
}
