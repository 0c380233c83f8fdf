//! From the body of a frame to a batch, without copying its buffers.
//!
//! Arrow's reader checks what is in the buffers, and panics when the buffers themselves are not where the message says.
//! So the message is looked through before.

use super::{encode, lz4};
use crate::batch::{Batch, RowKind};
use crate::exchange::frame::{Header, Kind, MAX_ROWS_BODY};
use arrow::array::UInt8Array;
use arrow::buffer::{Buffer, ScalarBuffer};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow_ipc::reader::RecordBatchDecoder;
use arrow_ipc::{CompressionType, FieldNode, MetadataVersion, RecordBatch as Message, root_as_message};
use std::collections::HashMap;
use std::time::Instant;
use weir_protocol::credit::Amount;

/// Decodes the rows of one stream.
#[derive(Debug)]
pub(in crate::exchange) struct Decoder {
    schema: SchemaRef,
}

/// What is wrong with the body of a frame of rows.
#[derive(Debug, thiserror::Error)]
pub(in crate::exchange) enum Error {
    #[error("it is too short")]
    Short,
    #[error("it holds no message of record batches")]
    Message,
    #[error("its buffers are not where its header says, or not those of its columns")]
    Layout,
    #[error("its compressed buffers are not as long as they say")]
    Compression,
    #[error("it has {found} rows instead of {announced}")]
    Rows { found: usize, announced: u32 },
    #[error("it holds kinds of rows that do not exist")]
    Kinds,
    #[error("its columns are malformed")]
    Arrow(#[source] ArrowError),
}

/// In front of a message: a marker and the length of its description.
const PREFIX: usize = 8;

impl Decoder {
    pub(in crate::exchange) fn new(schema: SchemaRef) -> Self {
        Self { schema }
    }

    /// Decodes a body. Buffers of the batch lie in `body`, whose start is aligned.
    pub(in crate::exchange) fn decode(
        &self,
        header: &Header,
        body: &Buffer,
        born: Option<Instant>,
    ) -> Result<Batch, Error> {
        let kinds_length = if header.kind == Kind::Changes { header.rows as usize } else { 0 };
        let message_length = body.len().checked_sub(kinds_length).ok_or(Error::Short)?;
        let rows = self.rows(&body.slice_with_length(0, message_length))?;
        if rows.num_rows() != header.rows as usize {
            return Err(Error::Rows { found: rows.num_rows(), announced: header.rows });
        }
        let kinds = body.slice(message_length);
        if !kinds.iter().all(|code| RowKind::from_code(*code).is_some()) {
            return Err(Error::Kinds);
        }
        let kinds = (header.kind == Kind::Changes).then(|| UInt8Array::new(ScalarBuffer::from(kinds), None));
        Ok(Batch { rows, kinds, born })
    }

    fn rows(&self, message: &Buffer) -> Result<arrow::array::RecordBatch, Error> {
        let prefix = message.get(..PREFIX).ok_or(Error::Short)?;
        let described = u32::from_le_bytes(prefix[4..].try_into().expect("four bytes")) as usize;
        let description = message[PREFIX..].get(..described).ok_or(Error::Short)?;
        let parsed = root_as_message(description).map_err(|_| Error::Message)?;
        let batch = parsed.header_as_record_batch().ok_or(Error::Message)?;
        if parsed.version() != MetadataVersion::V5 {
            return Err(Error::Message);
        }
        let buffers = message.slice(PREFIX + described);
        Layout::of(&batch, &buffers)?.check(&self.schema)?;
        RecordBatchDecoder::try_new(&buffers, batch, self.schema.clone(), &HashMap::new(), &MetadataVersion::V5)
            .and_then(RecordBatchDecoder::read_record_batch)
            .map_err(Error::Arrow)
    }
}

/// The credits that a frame of rows has taken.
pub(in crate::exchange) fn size(header: &Header) -> Amount {
    encode::size(header.rows, header.length)
}

/// What a message says of its nodes and buffers, taken one after another as the columns need them.
struct Layout<'a> {
    rows: i64,
    nodes: Box<dyn Iterator<Item = FieldNode> + 'a>,
    buffers: Box<dyn Iterator<Item = arrow_ipc::Buffer> + 'a>,
    variadic: Box<dyn Iterator<Item = i64> + 'a>,
    compressed: bool,
    bytes: &'a [u8],
    /// What compressed buffers may still unpack to.
    left: u64,
}

impl<'a> Layout<'a> {
    fn of(batch: &Message<'a>, bytes: &'a [u8]) -> Result<Self, Error> {
        let compressed = match batch.compression() {
            None => false,
            Some(compression) if compression.codec() == CompressionType::LZ4_FRAME => true,
            Some(_) => return Err(Error::Compression),
        };
        let (nodes, buffers) = (batch.nodes().ok_or(Error::Layout)?, batch.buffers().ok_or(Error::Layout)?);
        let variadic = batch.variadicBufferCounts();
        Ok(Self {
            rows: batch.length(),
            nodes: Box::new(nodes.iter().copied()),
            buffers: Box::new(buffers.iter().copied()),
            variadic: Box::new(variadic.into_iter().flat_map(|counts| counts.iter())),
            compressed,
            bytes,
            left: MAX_ROWS_BODY as u64,
        })
    }

    /// Whether the message is one of these columns, with nothing left over.
    fn check(mut self, schema: &Schema) -> Result<(), Error> {
        for field in schema.fields() {
            if self.column(field.data_type())? != self.rows {
                return Err(Error::Layout);
            }
        }
        let over = self.nodes.next().is_some() || self.buffers.next().is_some() || self.variadic.next().is_some();
        if over || !(0..=i64::from(u32::MAX)).contains(&self.rows) { Err(Error::Layout) } else { Ok(()) }
    }

    /// Takes what belongs to a column. Answers how many values it has.
    fn column(&mut self, data_type: &DataType) -> Result<i64, Error> {
        let node = self.nodes.next().ok_or(Error::Layout)?;
        let (length, nulls) = (node.length(), node.null_count());
        if !(0..=i64::from(i32::MAX)).contains(&length) || !(0..=length).contains(&nulls) {
            return Err(Error::Layout);
        }
        if *data_type == DataType::Null {
            return Ok(length);
        }
        let validity = self.buffer()?;
        if nulls > 0 && validity < (length as u64).div_ceil(8) {
            return Err(Error::Layout);
        }
        match data_type {
            DataType::Struct(fields) => {
                for field in fields {
                    if self.column(field.data_type())? != length {
                        return Err(Error::Layout);
                    }
                }
            }
            DataType::List(field) => {
                self.values(4)?;
                self.column(field.data_type())?;
            }
            DataType::LargeList(field) => {
                self.values(8)?;
                self.column(field.data_type())?;
            }
            DataType::Utf8View | DataType::BinaryView => {
                let texts = self.variadic.next().ok_or(Error::Layout)?;
                let texts = u32::try_from(texts).map_err(|_| Error::Layout)?;
                self.values(16)?;
                // Every one is taken from those that the message has: a made-up number ends with them.
                for _ in 0..texts {
                    self.buffer()?;
                }
            }
            DataType::Utf8 | DataType::Binary => {
                self.values(4)?;
                self.buffer()?;
            }
            DataType::LargeUtf8 | DataType::LargeBinary => {
                self.values(8)?;
                self.buffer()?;
            }
            other => self.values(other.primitive_width().unwrap_or(1))?,
        }
        Ok(length)
    }

    /// Takes a buffer of values of `width` bytes: Arrow panics on a part of one.
    fn values(&mut self, width: usize) -> Result<(), Error> {
        if self.buffer()?.is_multiple_of(width as u64) { Ok(()) } else { Err(Error::Layout) }
    }

    /// Takes a buffer. Answers how long it is, unpacked.
    fn buffer(&mut self) -> Result<u64, Error> {
        let buffer = self.buffers.next().ok_or(Error::Layout)?;
        let place = usize::try_from(buffer.offset()).ok().zip(usize::try_from(buffer.length()).ok());
        let (start, length) = place.ok_or(Error::Layout)?;
        let end = start.checked_add(length).ok_or(Error::Layout)?;
        let bytes = self.bytes.get(start..end).ok_or(Error::Layout)?;
        if !self.compressed || bytes.is_empty() {
            return Ok(length as u64);
        }
        let (promised, packed) = bytes.split_first_chunk::<8>().ok_or(Error::Compression)?;
        let promised = match i64::from_le_bytes(*promised) {
            -1 => return Ok(packed.len() as u64),
            promised => u64::try_from(promised).map_err(|_| Error::Compression)?,
        };
        self.left = self.left.checked_sub(promised).ok_or(Error::Compression)?;
        if promised > 0 && !lz4::keeps_to(packed, promised) {
            return Err(Error::Compression);
        }
        Ok(promised)
    }
}
