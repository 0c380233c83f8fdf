//! The file format of rows in flight: what a barrier has overtaken on its way to one task.
//!
//! ```text
//! magic "WEIRIF01"
//! one section per stretch: zstd over the Arrow IPC streams of its batches, one behind the other
//! footer: JSON (version; of each stretch: edge, stage, how far its input was, its pieces, offset, length, plain length)
//! length of the footer (u32 LE), magic
//! ```
//!
//! A file is read as a whole, and its checksum, which the manifest has, is that of the whole. Rows are stored as in files
//! of keyed state; kinds of rows are a last column.

use super::{columns, file};
use crate::batch::{Batch, RowKind};
use crate::checkpoint::store::Store;
use crate::dataflow::in_flight::{Piece, Stretch};
use crate::failure::{Failure, Result};
use arrow::array::{ArrayRef, AsArray, UInt8Array};
use arrow::datatypes::UInt8Type;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use weir_protocol::snapshot::InFlightFile;
use weir_protocol::{EdgeId, EventTime};
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8; 8] = b"WEIRIF01";
const VERSION: u32 = 1;
const KIND: &str = "__kind";

#[derive(Debug, Serialize, Deserialize)]
struct Footer {
    version: u32,
    stretches: Vec<Section>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Section {
    edge: EdgeId,
    stage: u32,
    watermark: EventTime,
    idle: bool,
    pieces: Vec<Stored>,
    offset: u64,
    length: u64,
    plain: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Stored {
    Rows { rows: u64, bytes: u64 },
    Watermark(EventTime),
    Idle,
}

/// A finished file.
pub struct Encoded {
    /// Its content.
    pub body: Vec<u8>,
    /// Rows of all stretches.
    pub rows: u64,
    /// xxh3 of the content.
    pub checksum: u64,
    /// The edges that it has something of.
    pub edges: BTreeSet<EdgeId>,
}

/// The file of these stretches.
pub fn encode(stretches: &[Stretch]) -> Result<Encoded> {
    let mut body = MAGIC.to_vec();
    let mut footer = Footer { version: VERSION, stretches: Vec::new() };
    let mut rows = 0;
    for stretch in stretches {
        let mut plain = Vec::new();
        let pieces = stretch.pieces.iter().map(|piece| store(piece, &mut plain)).collect::<Result<Vec<_>>>()?;
        rows += pieces.iter().map(|piece| if let Stored::Rows { rows, .. } = piece { *rows } else { 0 }).sum::<u64>();
        let packed = file::compress(&plain)?;
        footer.stretches.push(Section {
            edge: stretch.edge.clone(),
            stage: stretch.stage,
            watermark: stretch.watermark,
            idle: stretch.is_idle,
            pieces,
            offset: body.len() as u64,
            length: packed.len() as u64,
            plain: plain.len() as u64,
        });
        body.extend_from_slice(&packed);
    }
    let footer = serde_json::to_vec(&footer)
        .map_err(|error| Failure::bug("the footer of a file of rows in flight could not be written").because(error))?;
    let length = u32::try_from(footer.len()).map_err(|error| Failure::bug("a footer is too long").because(error))?;
    body.extend_from_slice(&footer);
    body.extend_from_slice(&length.to_le_bytes());
    body.extend_from_slice(MAGIC);
    let edges = stretches.iter().filter(|stretch| stretch.matters()).map(|stretch| stretch.edge.clone()).collect();
    Ok(Encoded { rows, checksum: xxh3_64(&body), edges, body })
}

fn store(piece: &Piece, plain: &mut Vec<u8>) -> Result<Stored> {
    let batch = match piece {
        Piece::Rows(batch) => batch.clone(),
        Piece::Arrived { decode, .. } => decode()?,
        Piece::Watermark(watermark) => return Ok(Stored::Watermark(*watermark)),
        Piece::Idle => return Ok(Stored::Idle),
    };
    let kinds = batch.kinds.as_ref().map(|kinds| (KIND, Arc::new(kinds.clone()) as ArrayRef));
    let before = plain.len();
    file::write_batch(&columns::stored(&batch.rows, kinds)?, plain)?;
    Ok(Stored::Rows { rows: batch.num_rows() as u64, bytes: (plain.len() - before) as u64 })
}

/// The stretches of a file. Fails with kind `Corrupt` when it is not what was written.
pub fn read(store: &dyn Store, file: &InFlightFile) -> Result<Vec<Stretch>> {
    let corrupt = |what: &str| Failure::corrupt(format!("the file of rows in flight {} {what}", file.path));
    let body = store.get_range(&file.path, 0..file.bytes)?;
    if xxh3_64(&body) != file.checksum {
        return Err(corrupt("is damaged: its checksum does not match"));
    }
    decode(&body).map_err(|failure| corrupt("cannot be read").because(failure))
}

fn decode(body: &[u8]) -> Result<Vec<Stretch>> {
    let corrupt = |what: &str| Failure::corrupt(what.to_owned());
    let rest = body.strip_suffix(MAGIC).ok_or_else(|| corrupt("it does not end as such a file does"))?;
    let (rest, length) = rest.split_last_chunk::<4>().ok_or_else(|| corrupt("it is too short"))?;
    let start = rest.len().checked_sub(u32::from_le_bytes(*length) as usize);
    let (sections, footer) =
        start.and_then(|start| rest.split_at_checked(start)).ok_or_else(|| corrupt("it is too short"))?;
    let footer: Footer =
        serde_json::from_slice(footer).map_err(|error| corrupt("its footer has another form").because(error))?;
    if footer.version != VERSION {
        return Err(corrupt(&format!("it has version {}; this build reads version {VERSION}", footer.version)));
    }
    footer.stretches.into_iter().map(|section| stretch(section, sections)).collect()
}

fn stretch(section: Section, sections: &[u8]) -> Result<Stretch> {
    let corrupt = |what: &str| Failure::corrupt(what.to_owned());
    let end = section.offset.saturating_add(section.length);
    let packed = sections.get(section.offset as usize..end as usize).ok_or_else(|| corrupt("a section is missing"))?;
    let plain = file::decompress(packed, section.plain)?;
    let mut rest = plain.as_slice();
    let pieces = section.pieces.iter().map(|piece| match *piece {
        Stored::Watermark(watermark) => Ok(Piece::Watermark(watermark)),
        Stored::Idle => Ok(Piece::Idle),
        Stored::Rows { rows, bytes } => {
            let (own, others) = rest.split_at_checked(bytes as usize).ok_or_else(|| corrupt("rows are missing"))?;
            rest = others;
            let batch = rows_of(own)?;
            if batch.num_rows() as u64 == rows { Ok(Piece::Rows(batch)) } else { Err(corrupt("rows are missing")) }
        }
    });
    Ok(Stretch {
        pieces: pieces.collect::<Result<_>>()?,
        edge: section.edge,
        stage: section.stage,
        watermark: section.watermark,
        is_idle: section.idle,
    })
}

fn rows_of(plain: &[u8]) -> Result<Batch> {
    let (rows, kinds) = columns::unstored(&file::read_batch(plain)?, KIND)?;
    let Some(kinds) = kinds else { return Ok(Batch::inserts(rows)) };
    let kinds: Option<UInt8Array> = kinds.as_primitive_opt::<UInt8Type>().cloned();
    let known = kinds.filter(|kinds| kinds.values().iter().all(|kind| RowKind::from_code(*kind).is_some()));
    known.map(|kinds| Batch::changes(rows, kinds)).ok_or_else(|| Failure::corrupt("it has rows of no known kind"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::batch::uniform_kinds;
    use crate::failure::Kind;
    use crate::state::one_object::OneObject;
    use arrow::array::{Int64Array, RecordBatch, StringViewArray};
    use proptest::prelude::*;

    /// Rows `(number, text)`, of which those of a changelog are all deletions.
    fn batch(rows: usize, changelog: bool) -> Batch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
        let texts = (0..rows).map(|row| (row % 3 > 0).then(|| format!("a text that is no inline view {row}")));
        let texts: ArrayRef = Arc::new(StringViewArray::from_iter(texts));
        let rows = RecordBatch::try_from_iter_with_nullable([("n", numbers, false), ("t", texts, true)]).unwrap();
        let kinds = changelog.then(|| uniform_kinds(RowKind::Delete, rows.num_rows()));
        Batch { rows, kinds, born: None }
    }

    fn stretches(sizes: &[usize]) -> Vec<Stretch> {
        let pieces = |(place, rows): (usize, &usize)| match rows % 4 {
            0 => Piece::Watermark(EventTime(*rows as i64)),
            1 => Piece::Idle,
            2 => Piece::Rows(batch(*rows, place % 2 == 0)),
            _ => {
                let batch = batch(*rows, false);
                Piece::Arrived { decode: Arc::new(move || Ok(batch.clone())), bytes: 8 }
            }
        };
        let stretch = |(place, sizes): (usize, &[usize])| Stretch {
            edge: EdgeId(format!("edge {}", place % 2)),
            stage: place as u32,
            watermark: if place == 0 { EventTime::MIN } else { EventTime(place as i64) },
            is_idle: place == 1,
            pieces: sizes.iter().enumerate().map(pieces).collect(),
        };
        sizes.chunks(3).enumerate().map(stretch).collect()
    }

    fn stored(stretches: &[Stretch]) -> (OneObject, InFlightFile) {
        let encoded = encode(stretches).unwrap();
        let file = InFlightFile {
            path: "state/in-flight/1-x".into(),
            edges: encoded.edges,
            subtask: 0,
            key_groups: Vec::new(),
            bytes: encoded.body.len() as u64,
            rows: encoded.rows,
            checksum: encoded.checksum,
        };
        (OneObject(encoded.body), file)
    }

    fn shown(stretches: &[Stretch]) -> Vec<String> {
        let piece = |piece: &Piece| match piece.rows().unwrap() {
            Some(batch) => format!("{:?} {:?}", batch.rows.columns(), batch.kinds),
            None => format!("{piece:?}"),
        };
        let stretch = |one: &Stretch| {
            let pieces: Vec<String> = one.pieces.iter().map(piece).collect();
            format!("{} {} {} {} {pieces:?}", one.edge, one.stage, one.watermark, one.is_idle)
        };
        stretches.iter().map(stretch).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_written_is_read_again(sizes in prop::collection::vec(0_usize..40, 0..12)) {
            let stretches = stretches(&sizes);
            let (store, file) = stored(&stretches);
            prop_assert_eq!(shown(&read(&store, &file).unwrap()), shown(&stretches));
            let rows = sizes.iter().filter(|rows| **rows % 4 >= 2).sum::<usize>();
            prop_assert_eq!(file.rows, rows as u64);
        }

        #[test]
        fn a_damaged_file_is_found(
            sizes in prop::collection::vec(0_usize..40, 1..9),
            at in any::<prop::sample::Index>(),
            bit in 0_u8..8,
            cut in any::<bool>(),
        ) {
            let (mut store, file) = stored(&stretches(&sizes));
            let at = at.index(store.0.len());
            if cut { store.0.truncate(at) } else { store.0[at] ^= 1 << bit }
            prop_assert_eq!(read(&store, &file).unwrap_err().kind, Kind::Corrupt);
        }

        #[test]
        fn random_bytes_are_no_such_file(noise in prop::collection::vec(any::<u8>(), 0..200), ends in any::<bool>()) {
            let noise = if ends { [&noise, &MAGIC[..]].concat() } else { noise };
            prop_assert!(decode(&noise).is_err());
        }
    }
}
