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

use super::file;
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
    /// The edges with rows.
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
    let edges = stretches.iter().filter(|stretch| stretch.has_rows()).map(|stretch| stretch.edge.clone()).collect();
    Ok(Encoded { rows, checksum: xxh3_64(&body), edges, body })
}

fn store(piece: &Piece, plain: &mut Vec<u8>) -> Result<Stored> {
    let batch = match piece {
        Piece::Rows(batch) => batch.clone(),
        Piece::Arrived(decode) => decode()?,
        Piece::Watermark(watermark) => return Ok(Stored::Watermark(*watermark)),
        Piece::Idle => return Ok(Stored::Idle),
    };
    let kinds = batch.kinds.as_ref().map(|kinds| (KIND, Arc::new(kinds.clone()) as ArrayRef));
    let before = plain.len();
    file::write_batch(&file::stored(&batch.rows, kinds)?, plain)?;
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
    let (rows, kinds) = file::unstored(&file::read_batch(plain)?, KIND)?;
    let Some(kinds) = kinds else { return Ok(Batch::inserts(rows)) };
    let kinds: Option<UInt8Array> = kinds.as_primitive_opt::<UInt8Type>().cloned();
    let known = kinds.filter(|kinds| kinds.values().iter().all(|kind| RowKind::from_code(*kind).is_some()));
    known.map(|kinds| Batch::changes(rows, kinds)).ok_or_else(|| Failure::corrupt("it has rows of no known kind"))
}
