//! The objects of one job in a bucket, as a store.

use super::bucket::{Bucket, Condition, Pending, Put as Written};
use super::multipart::{Completed, IfAbsent, Part, Upload};
use super::probe;
use crate::checkpoint::store::{Put, Store};
use crate::failure::{Failure, Result};
use bytes::Bytes;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use weir_protocol::Generation;

/// A state file that is larger is uploaded in parts. All else is small, and a link must not depend on an upload that
/// somebody may abort.
const WHOLE: usize = 16 << 20;
/// The size of parts, and of the pieces in which much is read.
const PIECE: usize = 8 << 20;
/// Parts that an upload may have.
const MOST_PARTS: usize = 10_000;
/// Parts of one file that are uploaded at a time: their bytes are copied for it.
const UPLOADS: usize = 4;
/// Pieces of one file that are read at a time.
const DOWNLOADS: usize = 8;
/// What lies between two wanted ranges is read with them, if it is not more.
const GAP: u64 = 128 << 10;
/// More cannot be wanted of one object; S3 has no larger ones than 50 TB.
const LARGEST: u64 = 1 << 46;

/// Where state files lie, below the job's folder.
const STATE: &str = "state/";

/// Objects whose names begin with a folder.
#[derive(Clone)]
pub struct S3Store {
    bucket: Bucket,
    /// With a slash at its end.
    folder: String,
}

impl S3Store {
    /// The objects in `folder`, once the bucket has proven that it honours conditional writes. Fails with kind `User`
    /// when it does not, or cannot be used.
    pub fn open(bucket: Bucket, folder: &str) -> Result<Self> {
        let store = Self::existing(bucket, folder);
        probe::prove(&store.bucket, &store.folder)?;
        Ok(store)
    }

    /// The objects in `folder`, for one who only reads.
    #[must_use]
    pub fn existing(bucket: Bucket, folder: &str) -> Self {
        Self { bucket, folder: format!("{}/", folder.trim_end_matches('/')) }
    }

    /// Where it is: `s3://BUCKET/FOLDER`.
    #[must_use]
    pub fn location(&self) -> String {
        format!("s3://{}/{}", self.bucket.name(), self.folder.trim_end_matches('/'))
    }

    /// Its bucket.
    #[must_use]
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    fn name(&self, key: &str) -> String {
        format!("{}{key}", self.folder)
    }

    fn put_in_parts(&self, name: &str, body: &[u8]) -> Put {
        let upload = match self.bucket.create_upload(name) {
            Ok(upload) => upload,
            Err(failure) => return Put::Failed(failure),
        };
        let parts = match self.upload_parts(&upload, body) {
            Ok(parts) => parts,
            Err(failure) => {
                self.abort(&upload);
                return Put::Failed(failure);
            }
        };
        match self.bucket.complete_upload(&upload, &parts, IfAbsent::Yes) {
            Completed::Done(_) => Put::Done,
            Completed::Failed(failure) | Completed::Unsupported(failure) => {
                self.abort(&upload);
                Put::Failed(failure)
            }
            Completed::Unknown(failure) => Put::Unknown(failure),
            Completed::Exists => {
                self.abort(&upload);
                self.own_write(name, body).unwrap_or(Put::Exists)
            }
            Completed::NoSuchUpload => self.own_write(name, body).unwrap_or_else(|| {
                Put::Failed(Failure::transient(format!("the upload of {name} was aborted by somebody else")))
            }),
        }
    }

    /// What an upload came to whose end is not known: it is done if the object holds this very body. `None` when there
    /// is no object.
    fn own_write(&self, name: &str, body: &[u8]) -> Option<Put> {
        let same = || match self.bucket.head(name)? {
            None => Ok(None),
            Some(entry) if entry.bytes != body.len() as u64 => Ok(Some(false)),
            Some(_) => {
                let whole = 0..body.len() as u64;
                let mut found = 0;
                self.fetch(name, &pieces(std::slice::from_ref(&whole)), |piece| {
                    let equal = body[found..].starts_with(&piece);
                    found += piece.len();
                    equal
                })
                .map(|equal| Some(equal && found == body.len()))
            }
        };
        match same() {
            Ok(None) => None,
            Ok(Some(true)) => Some(Put::Done),
            Ok(Some(false)) => Some(Put::Exists),
            Err(failure) => Some(Put::Unknown(failure)),
        }
    }

    fn upload_parts(&self, upload: &Upload, body: &[u8]) -> Result<Vec<Part>> {
        let mut under_way: VecDeque<Pending<Result<Part>>> = VecDeque::new();
        let mut parts = Vec::new();
        for (number, chunk) in (1..).zip(body.chunks(PIECE.max(body.len().div_ceil(MOST_PARTS)))) {
            if under_way.len() == UPLOADS {
                parts.extend(under_way.pop_front().map(Pending::wait).transpose()?);
            }
            under_way.push_back(self.bucket.start_part(upload, number, Bytes::copy_from_slice(chunk)));
        }
        for part in under_way {
            parts.push(part.wait()?);
        }
        Ok(parts)
    }

    fn abort(&self, upload: &Upload) {
        if let Err(failure) = self.bucket.abort_upload(upload) {
            tracing::warn!(key = upload.key, error = failure.chain(), "an upload stays behind until the next start");
        }
    }

    /// Reads pieces of an object, several at a time, and gives them out in their order until `take` wants no more; the
    /// answer is what it said last. Fails with kind `Corrupt` when one is not there as a whole.
    fn fetch(&self, name: &str, pieces: &[Range<u64>], mut take: impl FnMut(Bytes) -> bool) -> Result<bool> {
        let mut under_way = VecDeque::new();
        let mut rest = pieces.iter();
        let mut more = true;
        while more {
            for piece in rest.by_ref().take(DOWNLOADS - under_way.len()) {
                under_way.push_back((piece, self.bucket.start_range(name, piece.clone())));
            }
            let Some((piece, pending)) = under_way.pop_front() else { break };
            let body = pending.wait()?.unwrap_or_default();
            if body.len() as u64 != piece.end - piece.start {
                return Err(Failure::corrupt(format!("{name} has no bytes {} to {}", piece.start, piece.end)));
            }
            more = take(body);
        }
        Ok(more)
    }
}

impl Store for S3Store {
    fn put_if_absent(&self, key: &str, body: &[u8]) -> Put {
        let name = self.name(key);
        if body.len() > WHOLE && key.starts_with(STATE) {
            return self.put_in_parts(&name, body);
        }
        match self.bucket.put(&name, Bytes::copy_from_slice(body), Condition::IfAbsent) {
            Written::Done(_) => Put::Done,
            Written::Refused => Put::Exists,
            Written::Failed(failure) => Put::Failed(failure),
            Written::Unknown(failure) => Put::Unknown(failure),
        }
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.bucket.get(&self.name(key))?.map(Vec::from))
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let mut bodies = self.get_ranges(key, &[range])?;
        bodies.pop().ok_or_else(|| Failure::bug("a range was asked for and none came"))
    }

    fn get_ranges(&self, key: &str, ranges: &[Range<u64>]) -> Result<Vec<Vec<u8>>> {
        let name = self.name(key);
        if ranges.iter().any(|range| range.end > LARGEST) {
            return Err(Failure::corrupt(format!("{name} has no such bytes: {ranges:?}")));
        }
        let pieces = pieces(ranges);
        let mut bodies = Vec::with_capacity(pieces.len());
        self.fetch(&name, &pieces, |piece| {
            bodies.push(piece);
            true
        })?;
        Ok(ranges.iter().map(|range| assemble(range, &pieces, &bodies)).collect())
    }

    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let entries = self.bucket.list(&self.name(prefix))?;
        Ok(entries.into_iter().map(|entry| entry.key[self.folder.len()..].to_owned()).collect())
    }

    fn delete(&self, keys: &[String]) -> Result<()> {
        self.bucket.delete(&keys.iter().map(|key| self.name(key)).collect::<Vec<_>>())
    }

    fn at(&self, location: &str) -> Option<Arc<dyn Store>> {
        let (bucket, folder) = location.strip_prefix("s3://")?.split_once('/')?;
        (bucket == self.bucket.name()).then(|| Arc::new(Self::existing(self.bucket.clone(), folder)) as _)
    }

    fn remove_unfinished(&self, before: Generation) -> Result<()> {
        let uploads = self.bucket.list_uploads(&self.name(STATE))?;
        let earlier = uploads.iter().filter(|upload| generation_of(&upload.key).is_some_and(|of| of < before));
        earlier.into_iter().try_for_each(|upload| self.bucket.abort_upload(upload))
    }
}

/// The generation in the name of a state file, `…/<operator>/<generation>-<uuid>`.
fn generation_of(name: &str) -> Option<Generation> {
    let (generation, _) = name.rsplit('/').next()?.split_once('-')?;
    generation.parse().ok().map(Generation)
}

/// What to read for these ranges: each byte once, neighbours together, nothing too large.
fn pieces(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted: Vec<&Range<u64>> = ranges.iter().filter(|range| !range.is_empty()).collect();
    sorted.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(GAP) => last.end = last.end.max(range.end),
            _ => merged.push(range.clone()),
        }
    }
    let piece = PIECE as u64;
    let cut = |range: Range<u64>| {
        let starts = (range.start..range.end).step_by(PIECE);
        starts.map(move |start| start..range.end.min(start + piece))
    };
    merged.into_iter().flat_map(cut).collect()
}

/// A range, from the pieces that cover it.
fn assemble(range: &Range<u64>, pieces: &[Range<u64>], bodies: &[Bytes]) -> Vec<u8> {
    let first = pieces.partition_point(|piece| piece.end <= range.start);
    let mut whole = Vec::with_capacity(range.end.saturating_sub(range.start) as usize);
    for (piece, body) in pieces.iter().zip(bodies).skip(first).take_while(|(piece, _)| piece.start < range.end) {
        let (start, end) = (range.start.max(piece.start), range.end.min(piece.end));
        if start < end {
            whole.extend_from_slice(&body[(start - piece.start) as usize..(end - piece.start) as usize]);
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[expect(clippy::single_range_in_vec_init, reason = "one range is what is read")]
    #[test]
    fn near_ranges_are_read_together_and_large_ones_in_pieces() {
        let (mib, piece) = (1 << 20, PIECE as u64);
        let check = |ranges: &[Range<u64>], expected: &[Range<u64>]| assert_eq!(pieces(ranges), expected);
        check(&[], &[]);
        check(&[5..5], &[]);
        check(&[10..20, 0..10, 30..40], &[0..40]);
        check(&[mib..mib + 1, 0..1], &[0..1, mib..mib + 1]);
        check(&[0..2 * piece + 1], &[0..piece, piece..2 * piece, 2 * piece..2 * piece + 1]);
    }

    #[test]
    fn the_generation_is_read_from_a_name() {
        let of = |name: &str| generation_of(name);
        assert_eq!(of("p/job-1/state/op-2/7-0a1b-2c"), Some(Generation(7)));
        assert_eq!(of("p/job-1/state/op-2/chain"), None);
    }

    proptest! {
        #[test]
        fn ranges_come_back_as_they_were_asked_for(
            ends in prop::collection::vec((0u64..600_000, 0u64..300_000), 0..8),
        ) {
            let content: Vec<u8> = (0..900_000u32).map(|at| (at ^ (at >> 8)) as u8).collect();
            let ranges: Vec<Range<u64>> = ends.iter().map(|(start, length)| *start..start + length).collect();
            let pieces = pieces(&ranges);
            let slice = |range: &Range<u64>| content[range.start as usize..range.end as usize].to_vec();
            let bodies: Vec<Bytes> = pieces.iter().map(|piece| Bytes::from(slice(piece))).collect();
            for range in &ranges {
                prop_assert_eq!(assemble(range, &pieces, &bodies), slice(range));
            }
        }
    }
}
