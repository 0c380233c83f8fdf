//! The file format of keyed state.
//!
//! ```text
//! magic "WEIRST01"
//! sections, by key group, each of one: zstd over an Arrow IPC stream of one batch
//! footer: JSON (version, table, key columns; of each section: key group, offset, length, rows, xxh3)
//! length of the footer (u32 LE), xxh3 of the footer (u64 LE), magic
//! ```
//!
//! A section is read without the others, so a restore touches the key groups that its task owns and no more. Every byte
//! that is read is covered by a checksum. How columns are stored is said in `columns`.

use super::columns;
use crate::checkpoint::store::Store;
use crate::failure::{Failure, Result};
use crate::operator::snapshot::TableDelta;
use arrow::array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::ops::Range;
use weir_protocol::KeyGroup;
use weir_protocol::snapshot::{KeyGroupRange, StateFile};
use xxhash_rust::xxh3::xxh3_64;
use zstd::bulk::{Compressor, Decompressor};

const MAGIC: &[u8; 8] = b"WEIRST01";
const VERSION: u32 = 2;
/// Files of this version, whose columns are all as wide as they are in memory, are read too.
const OLDEST_VERSION: u32 = 1;
const TAIL: u64 = 4 + 8 + 8;
const ZSTD_LEVEL: i32 = 1;
/// What is read of a file's end to find its footer; most are smaller.
const FOOTER_GUESS: u64 = 16 << 10;
/// Sections of this many bytes are read together.
const TOGETHER: u64 = 32 << 20;
/// Files that a restore reads at a time.
const FILES_AT_A_TIME: usize = 8;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Footer {
    version: u32,
    table: String,
    key_columns: usize,
    expires: Option<usize>,
    sections: Vec<Section>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Section {
    key_group: KeyGroup,
    offset: u64,
    length: u64,
    rows: u64,
    checksum: u64,
}

/// Builds a file section by section, in the order of key groups.
pub struct FileBuilder {
    body: Vec<u8>,
    footer: Footer,
    compressor: Compressor<'static>,
    /// Room for a section, before and after it is compressed.
    plain: Vec<u8>,
    packed: Vec<u8>,
}

/// A finished file.
pub struct Encoded {
    /// Its content.
    pub body: Vec<u8>,
    /// Rows, tombstones included.
    pub rows: u64,
    /// xxh3 of the content.
    pub checksum: u64,
    /// The key groups it has sections of.
    pub key_groups: Vec<KeyGroupRange>,
}

impl FileBuilder {
    /// An empty file for rows like those of `like`. Fails when there is no memory to compress with.
    pub fn new(like: &TableDelta) -> Result<Self> {
        Self::empty(Footer {
            version: VERSION,
            table: like.table.clone(),
            key_columns: like.key_columns,
            expires: like.expires,
            sections: Vec::new(),
        })
    }

    /// An empty file for sections of files like that of `reader`.
    pub(super) fn like(reader: &FileReader<'_>) -> Result<Self> {
        Self::empty(Footer { sections: Vec::new(), ..reader.footer.clone() })
    }

    fn empty(footer: Footer) -> Result<Self> {
        let compressor = Compressor::new(ZSTD_LEVEL).map_err(not_compressed)?;
        Ok(Self { body: MAGIC.to_vec(), footer, compressor, plain: Vec::new(), packed: Vec::new() })
    }

    /// Adds a section as it is.
    pub(super) fn copy(&mut self, packed: &Packed) {
        let offset = self.body.len() as u64;
        self.footer.sections.push(Section { offset, ..packed.section });
        self.body.extend_from_slice(&packed.bytes);
    }

    /// Adds the rows of a delta, section by section.
    pub fn add(&mut self, delta: &TableDelta) -> Result<()> {
        let rows = columns::of_delta(delta)?;
        let mut start = 0;
        for (key_group, count) in &delta.key_groups {
            self.section(*key_group, &columns::narrowed(&rows.slice(start, *count))?)?;
            start += count;
        }
        Ok(())
    }

    fn section(&mut self, key_group: KeyGroup, rows: &RecordBatch) -> Result<()> {
        self.plain.clear();
        write_batch(rows, &mut self.plain)?;
        self.packed.clear();
        self.packed.reserve(zstd::zstd_safe::compress_bound(self.plain.len()));
        self.compressor.compress_to_buffer(&self.plain, &mut self.packed).map_err(not_compressed)?;
        let (offset, length) = (self.body.len() as u64, self.packed.len() as u64);
        let checksum = xxh3_64(&self.packed);
        self.footer.sections.push(Section { key_group, offset, length, rows: rows.num_rows() as u64, checksum });
        self.body.extend_from_slice(&self.packed);
        Ok(())
    }

    /// Ends the file; `None` when it has no rows.
    pub fn finish(mut self) -> Result<Option<Encoded>> {
        if self.footer.sections.is_empty() {
            return Ok(None);
        }
        let footer = serde_json::to_vec(&self.footer)
            .map_err(|error| Failure::bug("the footer of a state file could not be written").because(error))?;
        let length =
            u32::try_from(footer.len()).map_err(|error| Failure::bug("a footer is too long").because(error))?;
        self.body.extend_from_slice(&footer);
        self.body.extend_from_slice(&length.to_le_bytes());
        self.body.extend_from_slice(&xxh3_64(&footer).to_le_bytes());
        self.body.extend_from_slice(MAGIC);
        let rows = self.footer.sections.iter().map(|section| section.rows).sum();
        let key_groups = ranges(self.footer.sections.iter().map(|section| section.key_group));
        Ok(Some(Encoded { rows, checksum: xxh3_64(&self.body), key_groups, body: self.body }))
    }
}

/// A section whose checksum is right, as it is stored.
pub(super) struct Packed {
    section: Section,
    bytes: Vec<u8>,
}

impl Packed {
    pub(super) fn key_group(&self) -> KeyGroup {
        self.section.key_group
    }
}

/// A file opened for reading.
pub struct FileReader<'a> {
    store: &'a dyn Store,
    path: String,
    footer: Footer,
}

impl<'a> FileReader<'a> {
    /// Reads the footer. Of the sections those count whose key groups are said to lie in the file: a task may have put
    /// what it had of the others elsewhere. Fails with kind `Corrupt` when the file is not what was written.
    pub fn open(store: &'a dyn Store, file: &StateFile) -> Result<Self> {
        let corrupt = |what: &str| Failure::corrupt(format!("the state file {} {what}", file.path));
        let tail_start = file.bytes.checked_sub(TAIL).ok_or_else(|| corrupt("is too short"))?;
        // The footer is usually small: one request has both.
        let guess = file.bytes.saturating_sub(FOOTER_GUESS.max(TAIL));
        let end = store.get_range(&file.path, guess..file.bytes)?;
        let before = usize::try_from(tail_start - guess).map_err(|_| corrupt("is too long"))?;
        let tail = end.get(before..).ok_or_else(|| corrupt("is too short"))?;
        let (length, rest) = tail.split_first_chunk::<4>().ok_or_else(|| corrupt("is too short"))?;
        let (checksum, magic) = rest.split_first_chunk::<8>().ok_or_else(|| corrupt("is too short"))?;
        if magic != MAGIC {
            return Err(corrupt("does not end as a state file does"));
        }
        let start = tail_start.checked_sub(u64::from(u32::from_le_bytes(*length)));
        let start = start.filter(|start| *start >= MAGIC.len() as u64).ok_or_else(|| corrupt("has a wrong footer"))?;
        let footer = match start.checked_sub(guess) {
            Some(skip) => end[skip as usize..before].to_vec(),
            None => store.get_range(&file.path, start..tail_start)?,
        };
        if xxh3_64(&footer) != u64::from_le_bytes(*checksum) {
            return Err(corrupt("has a damaged footer"));
        }
        let mut footer: Footer =
            serde_json::from_slice(&footer).map_err(|error| corrupt("has a footer of another form").because(error))?;
        if !(OLDEST_VERSION..=VERSION).contains(&footer.version) {
            let readable = format!("this build reads versions {OLDEST_VERSION} to {VERSION}");
            return Err(corrupt(&format!("has version {}; {readable}", footer.version)));
        }
        footer.sections.retain(|section| contains(&file.key_groups, section.key_group));
        Ok(Self { store, path: file.path.clone(), footer })
    }

    /// The key group of each section, and how many bytes it takes.
    pub fn key_groups(&self) -> impl Iterator<Item = (KeyGroup, u64)> {
        self.footer.sections.iter().map(|section| (section.key_group, section.length))
    }

    /// True when sections of the other file can be sections of one like this.
    pub(super) fn is_like(&self, other: &FileReader<'_>) -> bool {
        let form = |footer: &Footer| (footer.version, footer.key_columns, footer.expires);
        form(&self.footer) == form(&other.footer) && self.footer.table == other.footer.table
    }

    #[cfg(test)]
    pub(super) fn set_key_columns(&mut self, key_columns: usize) {
        self.footer.key_columns = key_columns;
    }

    /// The rows of the wanted key groups, a delta for each section of theirs, in order. Nothing else is read.
    pub fn read(&self, wanted: impl Fn(KeyGroup) -> bool) -> Result<Vec<TableDelta>> {
        let mut unpacker = Unpacker::new()?;
        self.each(wanted, |packed| self.section(&packed, &mut unpacker))
    }

    /// The sections of the wanted key groups, in order.
    pub(super) fn packed(&self, wanted: impl Fn(KeyGroup) -> bool) -> Result<Vec<Packed>> {
        self.each(wanted, Ok)
    }

    fn each<T>(&self, wanted: impl Fn(KeyGroup) -> bool, mut take: impl FnMut(Packed) -> Result<T>) -> Result<Vec<T>> {
        let sections: Vec<&Section> = self.footer.sections.iter().filter(|section| wanted(section.key_group)).collect();
        let mut taken = Vec::with_capacity(sections.len());
        for together in together(&sections) {
            let range = |section: &&Section| section.offset..section.offset.saturating_add(section.length);
            let ranges: Vec<Range<u64>> = together.iter().map(range).collect();
            for (section, bytes) in together.iter().zip(self.store.get_ranges(&self.path, &ranges)?) {
                if xxh3_64(&bytes) != section.checksum {
                    return Err(self.corrupt(section, "the checksum does not match"));
                }
                taken.push(take(Packed { section: **section, bytes })?);
            }
        }
        Ok(taken)
    }

    fn corrupt(&self, section: &Section, what: &str) -> Failure {
        Failure::corrupt(format!("the state file {}, key group {}: {what}", self.path, section.key_group))
    }

    fn section(&self, Packed { section, bytes }: &Packed, unpacker: &mut Unpacker) -> Result<TableDelta> {
        let corrupt = |what: &str| self.corrupt(section, what);
        let rows = unpacker.rows(bytes).map_err(|failure| corrupt("cannot be read").because(failure))?;
        if rows.num_rows() as u64 != section.rows || rows.num_columns() < self.footer.key_columns {
            return Err(corrupt("has other rows or columns than its footer says"));
        }
        let (rows, deleted) = columns::to_delta(&rows)?;
        Ok(TableDelta {
            table: self.footer.table.clone(),
            key_columns: self.footer.key_columns,
            expires: self.footer.expires,
            key_groups: vec![(section.key_group, rows.num_rows())],
            dead: None,
            rows,
            deleted,
        })
    }
}

/// The rows of the key groups in `owned` of all `files`, in the order in which they are to be applied.
pub fn restore(store: &dyn Store, files: &[StateFile], owned: &[KeyGroupRange]) -> Result<Vec<TableDelta>> {
    let mut ordered: Vec<&StateFile> = files.iter().collect();
    ordered.sort_by(|one, other| (&one.table, one.sequence).cmp(&(&other.table, other.sequence)));
    ordered.retain(|file| overlap(&file.key_groups, owned));
    let read = |file: &StateFile| FileReader::open(store, file)?.read(|group| contains(owned, group));
    let mut deltas = Vec::new();
    for files in ordered.chunks(FILES_AT_A_TIME) {
        for of_file in at_once(files, |file| read(file))? {
            deltas.extend(of_file);
        }
    }
    Ok(deltas)
}

/// Does the same with each of a few files, each on a thread; the answers come in their order.
fn at_once<T: Send>(files: &[&StateFile], work: impl Fn(&StateFile) -> Result<T> + Sync) -> Result<Vec<T>> {
    if let [file] = files {
        return Ok(vec![work(file)?]);
    }
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = files.iter().map(|file| scope.spawn(move || work(file))).collect();
        let outcomes = threads.into_iter().map(|thread| thread.join().map_err(|_| Failure::bug("a reader panicked")));
        outcomes.map(|outcome| outcome.and_then(|read| read)).collect()
    })
}

/// Bytes of key groups that are read of several files at a time; a large key group is alone.
const READ_TOGETHER: u64 = 16 << 20;

/// The owned key groups of some files, in order, in runs of not too many bytes.
pub(crate) fn read_together(readers: &[FileReader<'_>], owned: &[KeyGroupRange]) -> Vec<BTreeSet<KeyGroup>> {
    let mut sizes: BTreeMap<KeyGroup, u64> = BTreeMap::new();
    for (group, bytes) in readers.iter().flat_map(FileReader::key_groups) {
        if contains(owned, group) {
            *sizes.entry(group).or_default() += bytes;
        }
    }
    let mut runs: Vec<BTreeSet<KeyGroup>> = Vec::new();
    let mut room = 0;
    for (group, bytes) in sizes {
        match runs.last_mut().filter(|_| bytes <= room) {
            Some(run) => {
                run.insert(group);
                room -= bytes;
            }
            None => {
                runs.push(BTreeSet::from([group]));
                room = READ_TOGETHER.saturating_sub(bytes);
            }
        }
    }
    runs
}

/// Sections in runs of not too many bytes; a large one is alone.
fn together<'a, 'b>(sections: &'a [&'b Section]) -> impl Iterator<Item = &'a [&'b Section]> {
    let mut rest = sections;
    std::iter::from_fn(move || {
        let mut bytes = 0u64;
        let fits = |section: &&Section| {
            bytes = bytes.saturating_add(section.length);
            bytes <= TOGETHER
        };
        let number = rest.iter().copied().take_while(fits).count().max(1).min(rest.len());
        let (first, others) = rest.split_at(number);
        rest = others;
        (!first.is_empty()).then_some(first)
    })
}

/// True when a key group lies in one of the ranges.
#[must_use]
pub fn contains(ranges: &[KeyGroupRange], group: KeyGroup) -> bool {
    ranges.iter().any(|range| range.start <= group && group < range.end)
}

/// True when a key group lies in ranges of both.
#[must_use]
pub fn overlap(some: &[KeyGroupRange], others: &[KeyGroupRange]) -> bool {
    some.iter().any(|one| others.iter().any(|other| one.start < other.end && other.start < one.end))
}

/// Ascending key groups as ranges.
#[must_use]
pub fn ranges(groups: impl IntoIterator<Item = KeyGroup>) -> Vec<KeyGroupRange> {
    let mut ranges: Vec<KeyGroupRange> = Vec::new();
    for group in groups {
        let next = KeyGroup(group.0 + 1);
        match ranges.last_mut() {
            Some(last) if last.end == group => last.end = next,
            Some(last) if last.end == next => {}
            _ => ranges.push(KeyGroupRange { start: group, end: next }),
        }
    }
    ranges
}

/// Bytes as they are stored.
pub(super) fn compress(plain: &[u8]) -> Result<Vec<u8>> {
    zstd::bulk::compress(plain, ZSTD_LEVEL).map_err(not_compressed)
}

fn not_compressed(error: io::Error) -> Failure {
    Failure::bug("a section of state could not be compressed").because(error)
}

/// The bytes that were stored, at most `most`.
pub(super) fn decompress(packed: &[u8], most: u64) -> Result<Vec<u8>> {
    let mut plain = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(packed);
    decoder
        .and_then(|decoder| decoder.take(most).read_to_end(&mut plain))
        .map_err(|error| Failure::corrupt("decompression failed").because(error))?;
    Ok(plain)
}

/// Decompresses sections, one after the other, with memory that is used again.
struct Unpacker {
    decompressor: Decompressor<'static>,
    plain: Vec<u8>,
}

impl Unpacker {
    fn new() -> Result<Self> {
        let decompressor = Decompressor::new()
            .map_err(|error| Failure::bug("nothing can be decompressed: memory is missing").because(error))?;
        Ok(Self { decompressor, plain: Vec::new() })
    }

    /// The rows of a section whose checksum is right, so that it says itself how large it is.
    fn rows(&mut self, packed: &[u8]) -> Result<RecordBatch> {
        let size = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten();
        let Some(size) = size.and_then(|size| usize::try_from(size).ok()) else {
            return Err(Failure::corrupt("it does not say how large it is"));
        };
        self.plain.clear();
        self.plain.try_reserve(size).map_err(|error| Failure::corrupt("it is too large").because(error))?;
        let unpacked = self.decompressor.decompress_to_buffer(packed, &mut self.plain);
        unpacked.map_err(|error| Failure::corrupt("decompression failed").because(error))?;
        read_batch(&self.plain)
    }
}

/// Rows as an Arrow IPC stream of one batch.
pub(super) fn write_batch(rows: &RecordBatch, plain: &mut Vec<u8>) -> Result<()> {
    let mut writer = StreamWriter::try_new(plain, &rows.schema())?;
    writer.write(rows)?;
    writer.finish()?;
    Ok(())
}

/// The rows of an Arrow IPC stream of one batch.
pub(super) fn read_batch(plain: &[u8]) -> Result<RecordBatch> {
    let mut reader =
        StreamReader::try_new(plain, None).map_err(|error| Failure::corrupt("no schema").because(error))?;
    match reader.next() {
        Some(Ok(rows)) => Ok(rows),
        Some(Err(error)) => Err(Failure::corrupt("no rows").because(error)),
        None => Err(Failure::corrupt("no rows")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::failure::Kind;
    use crate::state::one_object::OneObject;
    use arrow::array::{ArrayRef, BooleanArray, Int64Array, StringViewArray};
    use proptest::prelude::*;
    use std::sync::Arc;

    /// Rows `(key, text)`, the key groups in runs of three; every fifth row deletes.
    fn delta(rows: usize) -> TableDelta {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
        let texts = (0..rows).map(|row| (row % 4 > 0).then(|| format!("a text that is no inline view {row}")));
        let texts: ArrayRef = Arc::new(StringViewArray::from_iter(texts));
        let runs = (0..rows).step_by(3).map(|start| (KeyGroup((start / 3) as u16 * 2), 3.min(rows - start)));
        TableDelta {
            table: "t".into(),
            rows: RecordBatch::try_from_iter_with_nullable([("k", keys, false), ("v", texts, true)]).unwrap(),
            key_columns: 1,
            expires: None,
            deleted: Some(BooleanArray::from_iter((0..rows).map(|row| Some(row % 5 == 0)))),
            key_groups: runs.collect(),
            dead: None,
        }
    }

    fn encoded(delta: &TableDelta) -> (OneObject, StateFile) {
        encoded_as(VERSION, delta)
    }

    fn encoded_as(version: u32, delta: &TableDelta) -> (OneObject, StateFile) {
        let mut builder = FileBuilder::new(delta).unwrap();
        builder.footer.version = version;
        builder.add(delta).unwrap();
        let encoded = builder.finish().unwrap().unwrap();
        let file = StateFile {
            path: "state/o/1-x".into(),
            table: "t".into(),
            sequence: 1,
            bytes: encoded.body.len() as u64,
            rows: encoded.rows,
            checksum: encoded.checksum,
            key_groups: encoded.key_groups,
        };
        (OneObject(encoded.body), file)
    }

    fn all() -> Vec<KeyGroupRange> {
        vec![KeyGroupRange { start: KeyGroup(0), end: KeyGroup(u16::MAX) }]
    }

    #[test]
    fn what_is_written_is_read_again_key_group_by_key_group() {
        let delta = delta(20);
        let (store, file) = encoded(&delta);
        let restored = restore(&store, std::slice::from_ref(&file), &all()).unwrap();
        assert_eq!(restored.len(), delta.key_groups.len());
        let mut start = 0;
        for (part, (group, count)) in restored.iter().zip(&delta.key_groups) {
            assert_eq!(part.key_groups, [(*group, *count)]);
            assert_eq!(part.rows.columns(), delta.rows.slice(start, *count).columns());
            assert_eq!(part.deleted.as_ref().unwrap(), &delta.deleted.as_ref().unwrap().slice(start, *count));
            start += count;
        }
    }

    #[test]
    fn files_of_the_version_before_are_read_and_those_of_the_next_are_refused() {
        let (store, file) = encoded_as(OLDEST_VERSION, &delta(20));
        assert_eq!(restore(&store, &[file], &all()).unwrap().len(), 7);
        let (store, file) = encoded_as(VERSION + 1, &delta(20));
        let failure = restore(&store, &[file], &all()).unwrap_err().to_string();
        assert!(failure.ends_with("has version 3; this build reads versions 1 to 2"), "{failure}");
    }

    #[test]
    fn only_the_key_groups_of_the_task_are_read() {
        let (mut store, file) = encoded(&delta(20));
        let owned = [KeyGroupRange { start: KeyGroup(4), end: KeyGroup(6) }];
        // Damage everywhere else does not matter.
        let first = FileReader::open(&store, &file).unwrap().footer.sections[0];
        store.0[first.offset as usize] ^= 1;
        let restored = restore(&store, std::slice::from_ref(&file), &owned).unwrap();
        assert_eq!(restored.iter().map(|part| part.key_groups[0].0).collect::<Vec<_>>(), [KeyGroup(4)]);
        let failure = restore(&store, &[file], &all()).unwrap_err();
        assert!(failure.kind == Kind::Corrupt && failure.to_string().contains("key group 0"), "{failure}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_damaged_file_is_found_or_harmless(rows in 1_usize..30, at in any::<prop::sample::Index>(), bit in 0_u8..8, cut in any::<bool>()) {
            let (mut store, file) = encoded(&delta(rows));
            let whole = restore(&store, std::slice::from_ref(&file), &all()).unwrap();
            let at = at.index(store.0.len());
            if cut { store.0.truncate(at) } else { store.0[at] ^= 1 << bit }
            match restore(&store, &[file], &all()) {
                Err(failure) => prop_assert_eq!(failure.kind, Kind::Corrupt),
                // The magic at the very beginning is for people.
                Ok(restored) => prop_assert!(at < MAGIC.len() && restored.len() == whole.len()),
            }
        }

        #[test]
        fn random_bytes_are_no_state_file(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let (_, mut file) = encoded(&delta(3));
            file.bytes = body.len() as u64;
            prop_assert!(restore(&OneObject(body), &[file], &all()).is_err());
        }
    }
}
