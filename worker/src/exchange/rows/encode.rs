//! From a batch to the body of a frame, without copying its buffers.

use super::compact::compact;
use super::schema;
use super::share::shared;
use crate::batch::Batch;
use crate::dataflow::inbox::CHANNEL_BUDGET;
use crate::exchange::Compression;
use crate::exchange::frame::{self, Kind, MAX_ROWS_BODY};
use crate::failure::{Failure, Result};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow_ipc::writer::{IpcWriteOptions, StreamEncoder};
use arrow_ipc::{CompressionType, MetadataVersion};
use std::sync::Arc;
use std::time::Instant;
use weir_protocol::credit::Amount;

/// Encodes the rows of one stream.
pub(in crate::exchange) struct Encoder {
    compression: Compression,
    /// What rows look like now; `None` before the first.
    columns: Option<(SchemaRef, StreamEncoder)>,
}

/// Rows on their way: everything of a frame but its header.
#[derive(Debug)]
pub(in crate::exchange) struct Encoded {
    pub(in crate::exchange) kind: Kind,
    pub(in crate::exchange) rows: u32,
    /// Bytes of all parts.
    pub(in crate::exchange) length: u32,
    pub(in crate::exchange) crc: u32,
    pub(in crate::exchange) parts: Vec<Buffer>,
    pub(in crate::exchange) born: Option<Instant>,
}

/// Larger batches are cut: half of what may be under way, so that the next piece is encoded while one travels.
const LARGEST: Amount = Amount { rows: CHANNEL_BUDGET.rows / 2, bytes: CHANNEL_BUDGET.bytes / 2 };

/// Where buffers begin within a body: what the widest types need.
pub(super) const ALIGNMENT: usize = 16;

impl Encoder {
    /// An encoder that has seen no rows.
    pub(in crate::exchange) fn new(compression: Compression) -> Self {
        Self { compression, columns: None }
    }

    /// Encodes a batch. Answers what the other side must be told of its columns before, if they are new to it. Fails
    /// with kind `User` for a row that is larger than a frame.
    pub(in crate::exchange) fn encode(&mut self, batch: &Batch) -> Result<(Option<Vec<u8>>, Encoded)> {
        let told = self.follow(batch.rows.schema_ref())?;
        let (_, ipc) = self.columns.as_mut().expect("it follows the columns of the batch");
        let mut parts = ipc.encode(&compacted(&batch.rows)?).map_err(unencodable)?;
        if self.compression == Compression::None {
            parts = shared(parts);
        }
        if let Some(kinds) = &batch.kinds {
            parts.push(kinds.values().inner().clone());
        }
        parts.retain(|part| !part.is_empty());
        let length: usize = parts.iter().map(Buffer::len).sum();
        // What is one row may be much shorter compressed, but must fit when it is unpacked.
        let largest = if batch.num_rows() == 1 { length.max(batch.bytes()) } else { length };
        if largest > MAX_ROWS_BODY {
            return Err(Failure::user(format!(
                "a row of {} MB is too large to go to another worker, which takes {} MB at most",
                largest >> 20,
                MAX_ROWS_BODY >> 20
            )));
        }
        let encoded = Encoded {
            kind: if batch.kinds.is_some() { Kind::Changes } else { Kind::Rows },
            rows: u32::try_from(batch.num_rows()).expect("a piece has fewer rows than the budget"),
            length: length as u32,
            crc: frame::crc_of_parts(parts.iter().map(Buffer::as_slice)),
            parts,
            born: batch.born,
        };
        Ok((told, encoded))
    }

    /// Goes over to these columns. Answers what there is to tell of them, if they are others.
    fn follow(&mut self, schema: &SchemaRef) -> Result<Option<Vec<u8>>> {
        match &mut self.columns {
            Some((known, _)) if Arc::ptr_eq(known, schema) => Ok(None),
            Some((known, _)) if known == schema => {
                *known = Arc::clone(schema);
                Ok(None)
            }
            _ => {
                let told = schema::encode(schema)?;
                self.columns = Some((Arc::clone(schema), ipc(schema, self.compression)?));
                Ok(Some(told))
            }
        }
    }
}

impl Encoded {
    /// The credits that it takes.
    pub(in crate::exchange) fn size(&self) -> Amount {
        size(self.rows, self.length)
    }
}

/// The credits of rows, which both ends read off the frame's header. A batch without rows counts as one, so that no
/// number of them comes without credits.
pub(in crate::exchange) fn size(rows: u32, length: u32) -> Amount {
    Amount { rows: u64::from(rows.max(1)), bytes: u64::from(length) }
}

/// Calls `each` with pieces of a batch, in order, none larger than it must be.
pub(in crate::exchange) fn in_pieces(batch: Batch, each: &mut dyn FnMut(Batch) -> Result<()>) -> Result<()> {
    let rows = batch.num_rows();
    if rows < 2 || (rows as u64 <= LARGEST.rows && batch.bytes() as u64 <= LARGEST.bytes) {
        return each(batch);
    }
    let (first, rest) = (batch.slice(0, rows / 2), batch.slice(rows / 2, rows - rows / 2));
    drop(batch);
    in_pieces(first, each)?;
    in_pieces(rest, each)
}

fn ipc(schema: &SchemaRef, compression: Compression) -> Result<StreamEncoder> {
    let codec = match compression {
        Compression::None => None,
        Compression::Lz4 => Some(CompressionType::LZ4_FRAME),
    };
    let options = IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5)
        .and_then(|options| options.try_with_compression(codec))
        .map_err(unencodable)?;
    let mut ipc = StreamEncoder::try_new_with_options(schema, options).map_err(unencodable)?;
    // The first call puts Arrow's form of the schema in front; columns are told in a frame of their own.
    ipc.encode(&RecordBatch::new_empty(Arc::clone(schema))).map_err(unencodable)?;
    Ok(ipc)
}

fn compacted(rows: &RecordBatch) -> Result<RecordBatch> {
    let compacted: Vec<_> = rows.columns().iter().map(|column| compact(column.as_ref())).collect();
    if compacted.iter().all(Option::is_none) {
        return Ok(rows.clone());
    }
    let columns = rows.columns().iter().zip(compacted);
    let columns: Vec<ArrayRef> = columns.map(|(column, new)| new.unwrap_or_else(|| Arc::clone(column))).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(rows.schema(), columns, &options).map_err(unencodable)
}

fn unencodable(error: arrow::error::ArrowError) -> Failure {
    Failure::bug("rows could not be encoded for another worker").because(error)
}
