//! Writes Parquet: columns in row groups, as they come.

use crate::failure::{Failure, Result};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use std::io::Write;

/// A row group is closed when its columns take this much memory.
const ROW_GROUP_BYTES: usize = 32 << 20;

/// A Parquet file that grows. Memory is bounded by one row group and the batch in hand.
pub struct ParquetWriter<W: Write + Send> {
    writer: ArrowWriter<W>,
    rows: u64,
}

impl<W: Write + Send> ParquetWriter<W> {
    /// Begins a file for rows of this schema.
    pub fn new(output: W, schema: SchemaRef) -> Result<Self> {
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()));
        let writer = ArrowWriter::try_new(output, schema, Some(properties.build())).map_err(failure)?;
        Ok(Self { writer, rows: 0 })
    }

    /// Appends rows.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.writer.write(rows).map_err(failure)?;
        self.rows += rows.num_rows() as u64;
        if self.writer.in_progress_size() > ROW_GROUP_BYTES {
            self.writer.flush().map_err(failure)?;
        }
        Ok(())
    }

    /// Ends the file: what it was written to, and its rows.
    pub fn finish(self) -> Result<(W, u64)> {
        Ok((self.writer.into_inner().map_err(failure)?, self.rows))
    }
}

/// What the output said comes back as it was.
fn failure(error: ParquetError) -> Failure {
    let what = "rows could not be written as Parquet";
    let ParquetError::External(cause) = error else { return Failure::transient(what).because(error) };
    match cause.downcast::<std::io::Error>() {
        Ok(error) => match error.downcast::<Failure>() {
            Ok(failure) => failure,
            Err(error) => Failure::transient(what).because(error),
        },
        Err(cause) => Failure::transient(what).because(ParquetError::External(cause)),
    }
}
