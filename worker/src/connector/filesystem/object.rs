//! Reads one version of an object: as a stream that is fetched ahead, or here and there in blocks.
//!
//! The interfaces of streams have no room for a [`Failure`]: it is kept beside, and whoever meets an error asks for it.

use super::location::gone;
use super::position::replaced;
use crate::checkpoint::store::s3::{Bucket, Pending, VersionRead};
use crate::failure::{Failure, Result};
use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::sync::Arc;

/// Bytes of one request of a stream.
const CHUNK: u64 = 4 << 20;
/// Requests of a stream that are under way at a time.
const AHEAD: usize = 3;
/// Bytes of one request behind the end of a part, where only the rest of its last record is wanted.
const BEHIND: u64 = 256 << 10;

/// Bytes of a block.
const BLOCK: u64 = 1 << 20;
/// Blocks that are kept: each column of a Parquet file is read at a place of its own.
const KEPT: usize = 64;

/// Why reading failed, if it did.
#[derive(Debug, Clone, Default)]
pub(super) struct Trouble(Arc<Mutex<Option<Failure>>>);

impl Trouble {
    /// The failure behind an error that was met.
    pub(super) fn take(&self) -> Option<Failure> {
        self.0.lock().take()
    }

    fn keep(&self, failure: Failure) -> io::Error {
        let error = io::Error::other(failure.chain());
        self.0.lock().get_or_insert(failure);
        error
    }
}

/// One version of an object.
#[derive(Clone)]
pub(super) struct Object {
    pub(super) bucket: Bucket,
    pub(super) key: String,
    /// Its name for people.
    pub(super) shown: String,
    pub(super) etag: String,
    pub(super) size: u64,
    pub(super) trouble: Trouble,
}

impl Object {
    fn start(&self, from: u64, to: u64) -> Pending<Result<VersionRead>> {
        self.bucket.start_range_of(&self.key, &self.etag, from..to)
    }

    fn wait(&self, pending: Pending<Result<VersionRead>>) -> io::Result<Bytes> {
        let failure = match pending.wait() {
            Ok(VersionRead::Bytes(bytes)) => return Ok(bytes),
            Ok(VersionRead::Changed) => replaced(&self.shown),
            Ok(VersionRead::Gone) => gone(&self.shown),
            Err(failure) => failure,
        };
        Err(self.trouble.keep(failure))
    }
}

/// The bytes of an object from a place on.
pub(super) struct Stream {
    object: Object,
    /// The first byte that no request asks for.
    next: u64,
    /// From here on little is fetched at a time.
    part_end: u64,
    under_way: VecDeque<Pending<Result<VersionRead>>>,
    current: Bytes,
}

impl Stream {
    /// Reads from the byte `from` on, most likely no further than `part_end`.
    pub(super) fn new(object: Object, from: u64, part_end: u64) -> Self {
        let part_end = part_end.min(object.size);
        Self { object, next: from, part_end, under_way: VecDeque::new(), current: Bytes::new() }
    }

    /// Asks for what is needed next, and for more while that is decoded; behind the part's end nothing unasked.
    fn ask(&mut self) {
        while self.next < self.part_end && self.under_way.len() < AHEAD {
            self.ask_for(CHUNK.min(self.part_end - self.next));
        }
        let left = self.object.size.saturating_sub(self.next);
        if self.under_way.is_empty() && left > 0 {
            self.ask_for(BEHIND.min(left));
        }
    }

    fn ask_for(&mut self, bytes: u64) {
        self.under_way.push_back(self.object.start(self.next, self.next + bytes));
        self.next += bytes;
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() {
            self.ask();
            match self.under_way.pop_front() {
                Some(first) => self.current = self.object.wait(first)?,
                None => return Ok(0),
            }
        }
        let length = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// An object that is read here and there.
#[derive(Clone)]
pub(super) struct Blocks(Arc<Cache>);

struct Cache {
    object: Object,
    blocks: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// By number: when it was last used, and its bytes.
    blocks: BTreeMap<u64, (u64, Bytes)>,
    uses: u64,
}

impl Blocks {
    /// Reads an object in blocks.
    pub(super) fn new(object: Object) -> Self {
        Self(Arc::new(Cache { object, blocks: Mutex::default() }))
    }

    /// These blocks, those that are missing fetched at the same time.
    fn blocks(&self, numbers: std::ops::RangeInclusive<u64>) -> io::Result<Vec<Bytes>> {
        let mut kept = self.0.blocks.lock();
        let object = &self.0.object;
        let mut found = Vec::new();
        for number in numbers {
            let (from, to) = (number * BLOCK, ((number + 1) * BLOCK).min(object.size));
            found.push((number, kept.get(number).ok_or_else(|| object.start(from, to))));
        }
        let mut blocks = Vec::with_capacity(found.len());
        for (number, block) in found {
            let bytes = match block {
                Ok(bytes) => bytes,
                Err(pending) => object.wait(pending)?,
            };
            kept.keep(number, bytes.clone());
            blocks.push(bytes);
        }
        Ok(blocks)
    }
}

impl Kept {
    fn get(&self, number: u64) -> Option<Bytes> {
        self.blocks.get(&number).map(|(_, bytes)| bytes.clone())
    }

    fn keep(&mut self, number: u64, bytes: Bytes) {
        self.uses += 1;
        self.blocks.insert(number, (self.uses, bytes));
        if self.blocks.len() > KEPT {
            let oldest = self.blocks.iter().min_by_key(|(_, (used, _))| *used).map(|(number, _)| *number);
            oldest.and_then(|oldest| self.blocks.remove(&oldest));
        }
    }
}

impl Length for Blocks {
    fn len(&self) -> u64 {
        self.0.object.size
    }
}

impl ChunkReader for Blocks {
    type T = BlockStream;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        Ok(BlockStream { blocks: self.clone(), at: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let end = start.checked_add(length as u64).filter(|end| *end <= self.len());
        let end = end.ok_or_else(|| ParquetError::EOF(format!("no {length} bytes from {start} on")))?;
        if length == 0 {
            return Ok(Bytes::new());
        }
        let first = start / BLOCK;
        let mut blocks = self.blocks(first..=(end - 1) / BLOCK)?;
        let skipped = (start - first * BLOCK) as usize;
        if blocks.len() == 1 {
            return Ok(blocks.remove(0).slice(skipped..skipped + length));
        }
        let mut bytes = Vec::with_capacity(length);
        for (place, block) in blocks.iter().enumerate() {
            let from = if place == 0 { skipped } else { 0 };
            let to = block.len().min(from + length - bytes.len());
            bytes.extend_from_slice(&block[from..to]);
        }
        Ok(Bytes::from(bytes))
    }
}

/// The bytes of an object from a place on, in blocks.
pub(super) struct BlockStream {
    blocks: Blocks,
    at: u64,
}

impl Read for BlockStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.blocks.len() || buffer.is_empty() {
            return Ok(0);
        }
        let number = self.at / BLOCK;
        let block = self.blocks.blocks(number..=number)?.remove(0);
        let rest = &block[(self.at - number * BLOCK) as usize..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.at += length as u64;
        Ok(length)
    }
}
