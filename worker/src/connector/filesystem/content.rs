//! The content of a file: of this machine, or an object.

use super::location::unreadable;
use super::object::{Blocks, Object, Stream, Trouble};
use super::place::Place;
use super::position::{Position, Version};
use crate::failure::{Failure, Result};
use crate::format::parquet::{RowGroupReader, Selection};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

/// A file that is open for reading, in the version in which it was found.
pub(super) enum Content {
    /// A file of this machine.
    File(File),
    /// An object of a bucket.
    Object(Box<Object>),
}

impl Content {
    /// Opens the file of a position. Fails with kind `User` when it is gone or not what it was; of an object that is
    /// found out at the first read. What streams cannot tell of an error is told by `trouble`.
    pub(super) fn open(place: &Place, position: &Position, trouble: &Trouble) -> Result<Self> {
        let shown = place.shown(&position.file);
        match place {
            Place::Folder(folder) => {
                let file = File::open(folder.join(&position.file)).map_err(|error| unreadable(&shown, error))?;
                let metadata = file.metadata().map_err(|error| unreadable(&shown, error))?;
                position.check(&shown, &Version::of(&metadata))?;
                Ok(Self::File(file))
            }
            Place::Bucket(folder) => {
                let etag = position.version.etag.clone().ok_or_else(|| {
                    Failure::corrupt(format!("the position in {shown} is one of a file of this machine"))
                })?;
                Ok(Self::Object(Box::new(Object {
                    bucket: folder.bucket()?,
                    key: folder.key(&position.file),
                    shown,
                    etag,
                    size: position.version.size,
                    trouble: trouble.clone(),
                })))
            }
        }
    }

    /// All bytes of this version from `from` on, most likely read no further than `part_end`.
    pub(super) fn stream(self, from: u64, part_end: u64, size: u64) -> io::Result<Box<dyn Read + Send>> {
        match self {
            Self::File(mut file) => {
                file.seek(SeekFrom::Start(from))?;
                Ok(Box::new(file.take(size.saturating_sub(from))))
            }
            Self::Object(object) => Ok(Box::new(Stream::new(*object, from, part_end))),
        }
    }

    /// Row groups of a Parquet file.
    pub(super) fn row_groups(self, selection: Selection) -> Result<RowGroupReader> {
        match self {
            Self::File(file) => RowGroupReader::open(file, selection),
            Self::Object(object) => RowGroupReader::open(Blocks::new(*object), selection),
        }
    }
}
