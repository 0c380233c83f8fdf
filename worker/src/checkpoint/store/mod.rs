//! The store of checkpoints: objects by name, as S3 has them.
//!
//! A write has three outcomes: it is done, it did not happen, or nobody knows. A listing is strongly consistent: it has
//! every object whose write ended before the listing began.

pub mod directory;
pub mod s3;

use crate::failure::Result;
use std::ops::Range;

/// Objects below the job's folder.
pub trait Store: Send + Sync {
    /// Writes an object that does not exist yet.
    fn put_if_absent(&self, key: &str, body: &[u8]) -> Put;

    /// An object's content; `None` when it does not exist.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>>;

    /// A part of an object's content. Fails with kind `Corrupt` when the object is shorter or missing.
    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>>;

    /// The names of all objects below `prefix`, sorted.
    fn list(&self, prefix: &str) -> Result<Vec<String>>;

    /// Removes objects. One that does not exist is no failure.
    fn delete(&self, keys: &[String]) -> Result<()>;
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
