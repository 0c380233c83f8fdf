//! Joins files of one table without a look at their rows.
//!
//! Where few rows have a later one in their place, a merge would do much work to leave out little: it unpacks each row,
//! compares its key with all others and packs it again. A join copies the sections as they are, those of a key group one
//! after the other in the order of their files, so that a restore reads one file instead of many.

use super::file::{self, Encoded, FileBuilder, FileReader};
use crate::failure::Result;
use weir_protocol::snapshot::KeyGroupRange;

/// Sections that are smaller than this on average are merged instead: too small ones make footers long and restores slow.
const SECTION_BYTES: u64 = 8 << 10;

/// True when the sections of the owned key groups can be copied: files of one form, sections of a good size.
#[must_use]
pub fn is_possible(readers: &[FileReader<'_>], owned: &[KeyGroupRange]) -> bool {
    let alike = readers.windows(2).all(|pair| pair[0].is_like(&pair[1]));
    let sizes = readers.iter().flat_map(FileReader::key_groups);
    let sizes = sizes.filter(|(group, _)| file::contains(owned, *group)).map(|(_, bytes)| bytes);
    let (count, bytes) = sizes.fold((0, 0), |(count, sum), bytes| (count + 1, sum + bytes));
    alike && bytes >= count * SECTION_BYTES
}

/// One file of the sections of the owned key groups of files of one form, given in the order in which they are to be
/// applied. `None` when there is no section. Fails with kind `Corrupt` when a section is not what was written.
pub fn join(readers: &[FileReader<'_>], owned: &[KeyGroupRange]) -> Result<Option<Encoded>> {
    let Some(first) = readers.first() else { return Ok(None) };
    let mut builder = FileBuilder::like(first)?;
    for groups in file::read_together(readers, owned) {
        let mut sections = Vec::new();
        for (place, reader) in readers.iter().enumerate() {
            let packed = reader.packed(|group| groups.contains(&group))?;
            sections.extend(packed.into_iter().map(|section| (place, section)));
        }
        // A stable order: the sections that a file has of a key group stay in theirs.
        sections.sort_by_key(|(place, section)| (section.key_group(), *place));
        sections.iter().for_each(|(_, section)| builder.copy(section));
    }
    builder.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::failure::Kind;
    use crate::operator::snapshot::TableDelta;
    use crate::state::one_object::OneObject;
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use std::sync::Arc;
    use weir_protocol::KeyGroup;
    use weir_protocol::snapshot::StateFile;

    /// A file with so many rows for each of the key groups, all of this value.
    fn file(groups: &[(u16, usize)], value: i64) -> (OneObject, StateFile) {
        let rows: usize = groups.iter().map(|(_, rows)| rows).sum();
        let column = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
        let delta = TableDelta {
            table: "t".into(),
            rows: RecordBatch::try_from_iter([
                ("k", column((0..rows as i64).collect())),
                ("v", column(vec![value; rows])),
            ])
            .unwrap(),
            key_columns: 1,
            expires: None,
            deleted: None,
            key_groups: groups.iter().map(|(group, rows)| (KeyGroup(*group), *rows)).collect(),
            dead: Some(0),
        };
        let mut builder = FileBuilder::new(&delta).unwrap();
        builder.add(&delta).unwrap();
        stored(builder.finish().unwrap().unwrap())
    }

    fn stored(encoded: Encoded) -> (OneObject, StateFile) {
        let Encoded { body, rows, checksum, key_groups } = encoded;
        let (path, bytes) = ("state/o/1-x".to_owned(), body.len() as u64);
        (OneObject(body), StateFile { path, table: "t".into(), sequence: 1, bytes, rows, checksum, key_groups })
    }

    fn owned(start: u16, end: u16) -> [KeyGroupRange; 1] {
        [KeyGroupRange { start: KeyGroup(start), end: KeyGroup(end) }]
    }

    /// Key group, rows and value of each section.
    fn shown((store, file): &(OneObject, StateFile)) -> String {
        let deltas = file::restore(store, std::slice::from_ref(file), &owned(0, 100)).unwrap();
        let value = |delta: &TableDelta| {
            let values = delta.rows.column(1);
            values.as_any().downcast_ref::<Int64Array>().unwrap().value(0)
        };
        let shown = deltas.iter().map(|delta| {
            let (group, rows) = delta.key_groups[0];
            format!("{}:{rows}x{}", group.0, value(delta))
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn sections_of_a_key_group_stay_in_the_order_of_their_files() {
        let files = [file(&[(1, 2), (2, 3)], 7), file(&[(0, 1), (2, 1)], 8), file(&[(1, 1), (9, 5)], 9)];
        let joined = |of: &[(OneObject, StateFile)]| {
            let readers: Vec<FileReader<'_>> =
                of.iter().map(|(store, file)| FileReader::open(store, file).unwrap()).collect();
            stored(join(&readers, &owned(1, 9)).unwrap().unwrap())
        };
        let first = joined(&files);
        assert_eq!(shown(&first), "1:2x7 1:1x9 2:3x7 2:1x8");
        assert_eq!((first.1.rows, first.1.key_groups.as_slice()), (7, &owned(1, 3)[..]));
        assert_eq!(shown(&joined(&[first, file(&[(1, 4)], 6)])), "1:2x7 1:1x9 1:4x6 2:3x7 2:1x8");
    }

    #[test]
    fn what_a_file_no_longer_holds_is_not_copied() {
        let (store, mut file) = file(&[(1, 2), (2, 3), (3, 1)], 7);
        file.key_groups = owned(2, 3).to_vec();
        let reader = FileReader::open(&store, &file).unwrap();
        assert_eq!(shown(&stored(join(&[reader], &owned(0, 9)).unwrap().unwrap())), "2:3x7");
    }

    #[test]
    fn small_sections_and_files_of_other_forms_are_not_joined() {
        let files = [file(&[(1, 100_000)], 1), file(&[(1, 10)], 1)];
        let [large, small] = &files;
        let possible = |of: &[&(OneObject, StateFile)]| {
            let readers: Vec<_> = of.iter().map(|(store, file)| FileReader::open(store, file).unwrap()).collect();
            is_possible(&readers, &owned(0, 9))
        };
        assert!(possible(&[large, large]));
        assert!(!possible(&[small, small]));
        let mut other = FileReader::open(&small.0, &small.1).unwrap();
        assert!(FileReader::open(&large.0, &large.1).unwrap().is_like(&other));
        other.set_key_columns(2);
        assert!(!FileReader::open(&large.0, &large.1).unwrap().is_like(&other));
    }

    #[test]
    fn a_damaged_section_is_not_copied() {
        let (mut store, file) = file(&[(1, 100)], 1);
        store.0[20] ^= 1;
        let failure = join(&[FileReader::open(&store, &file).unwrap()], &owned(0, 9)).err().unwrap();
        assert_eq!(failure.kind, Kind::Corrupt);
    }
}
