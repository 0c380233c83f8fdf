//! One growing file: rows in a format.

use super::super::super::options::Options;
use super::output::{Closing, Output, failure};
use crate::batch::Batch;
use crate::failure::{Failure, Result};
use crate::format::encode_json::{JsonEncoder, Op};
use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// How rows are written.
#[derive(Debug, Clone)]
pub(super) enum Format {
    /// A JSON object a line; with `op` first when the input is a changelog.
    Json,
    /// A line of values.
    Csv(CsvFormat),
    /// Columns.
    Parquet(Compression),
}

/// How lines of values are written.
#[derive(Debug, Clone)]
pub(super) struct CsvFormat {
    delimiter: u8,
    quote: u8,
    null: String,
    header: bool,
}

const FORMATS: [&str; 3] = ["json", "csv", "parquet"];
const TO_COME: [&str; 4] = ["avro", "debezium-json", "orc", "protobuf"];

impl Format {
    /// Reads the options of the format; `None` after a mistake.
    pub(super) fn of(options: &Options, schema: &SchemaRef) -> Option<Self> {
        let name = options.required("format");
        match name.as_str() {
            "" => None,
            "json" => match JsonEncoder::new(schema, Op::Written) {
                Ok(_) => Some(Self::Json),
                Err(unsupported) => {
                    options.mistake_in("format", unsupported.to_string(), None);
                    None
                }
            },
            "csv" => Some(Self::Csv(CsvFormat {
                delimiter: options.parsed("csv.field-delimiter", one_byte).unwrap_or(b','),
                quote: options.parsed("csv.quote-character", one_byte).unwrap_or(b'"'),
                null: options.text("csv.null-literal").unwrap_or_default(),
                header: options.boolean("csv.header").unwrap_or(false),
            })),
            "parquet" => {
                let zstd = Compression::ZSTD(ZstdLevel::default());
                let choices = [("snappy", Compression::SNAPPY), ("zstd", zstd), ("none", Compression::UNCOMPRESSED)];
                Some(Self::Parquet(options.choice("parquet.compression", &choices).unwrap_or(Compression::SNAPPY)))
            }
            other => {
                let message = if TO_COME.contains(&other) {
                    format!("the format '{other}' is not available in this version")
                } else {
                    format!("there is no format '{other}'")
                };
                let hint = crate::diagnostic::nearest(other, FORMATS).map_or_else(
                    || format!("available: {}", FORMATS.join(", ")),
                    |name| format!("did you mean '{name}'?"),
                );
                options.mistake_in("format", message, Some(hint));
                None
            }
        }
    }

    /// True when updates and deletes can be written.
    pub(super) fn takes_changelog(&self) -> bool {
        matches!(self, Self::Json)
    }

    /// The end of a file's name.
    pub(super) fn extension(&self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Csv(_) => "csv",
            Self::Parquet(_) => "parquet",
        }
    }
}

fn one_byte(text: &str) -> Result<u8, String> {
    match text {
        "\\t" => Ok(b'\t'),
        _ if text.len() == 1 => Ok(text.as_bytes()[0]),
        _ => Err("one ASCII character expected".to_owned()),
    }
}

/// A growing file.
pub(super) struct GrowingFile {
    /// Its name for people.
    shown: String,
    limit: u64,
    encoder: Encoder,
    bytes: u64,
}

enum Encoder {
    Json { output: Output, encoder: JsonEncoder, buffer: Vec<u8> },
    Csv { output: Output, format: CsvFormat, header_due: bool, buffer: Vec<u8> },
    Parquet(Box<ArrowWriter<Output>>),
}

/// Text that is held back before it is written.
const BUFFER: usize = 256 * 1024;
/// A row group of a Parquet file is closed when its columns take this much memory.
const ROW_GROUP_BYTES: usize = 64 << 20;

impl GrowingFile {
    /// Begins a file. `op` says whether lines of JSON tell what their rows do.
    pub(super) fn create(output: Output, format: &Format, op: Op, schema: &SchemaRef) -> Result<Self> {
        let (shown, limit) = (output.shown(), output.limit());
        let encoder = match format {
            Format::Json => {
                let encoder = JsonEncoder::new(schema, op).map_err(|error| Failure::user(error.to_string()))?;
                Encoder::Json { output, encoder, buffer: Vec::new() }
            }
            Format::Csv(csv) => {
                Encoder::Csv { output, format: csv.clone(), header_due: csv.header, buffer: Vec::new() }
            }
            Format::Parquet(compression) => {
                let properties = WriterProperties::builder().set_compression(*compression).build();
                let writer = ArrowWriter::try_new(output, Arc::clone(schema), Some(properties));
                Encoder::Parquet(Box::new(writer.map_err(|error| parquet_failure(&shown, error))?))
            }
        };
        Ok(Self { shown, limit, encoder, bytes: 0 })
    }

    /// Begins with the first `length` bytes of a file of an earlier generation.
    pub(super) fn copy_tail(&mut self, from: &Path, length: u64) -> Result<()> {
        let output = match &mut self.encoder {
            Encoder::Json { output, .. } => output,
            Encoder::Csv { output, header_due, .. } => {
                *header_due &= length == 0;
                output
            }
            Encoder::Parquet(_) => return Err(Failure::bug("a Parquet file has no tail to copy")),
        };
        output.copy_from(from, length)?;
        self.bytes = length;
        Ok(())
    }

    /// Appends rows.
    pub(super) fn write(&mut self, batch: &Batch) -> Result<()> {
        let shown = &self.shown;
        match &mut self.encoder {
            Encoder::Json { encoder, buffer, .. } => {
                let before = buffer.len();
                encoder.encode(batch, buffer).map_err(|error| Failure::user(error.to_string()))?;
                self.bytes += (buffer.len() - before) as u64;
            }
            Encoder::Csv { format, header_due, buffer, .. } => {
                let before = buffer.len();
                encode_csv(format, std::mem::take(header_due), &batch.rows, buffer)?;
                self.bytes += (buffer.len() - before) as u64;
            }
            Encoder::Parquet(writer) => {
                writer.write(&batch.rows).map_err(|error| parquet_failure(shown, error))?;
                if writer.in_progress_size() > ROW_GROUP_BYTES {
                    writer.flush().map_err(|error| parquet_failure(shown, error))?;
                }
                self.bytes = writer.bytes_written() as u64 + writer.in_progress_size() as u64;
            }
        }
        self.spill(BUFFER)
    }

    /// Bytes so far, those held back included.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The most bytes that it can have.
    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes in memory.
    pub(super) fn held(&self) -> usize {
        match &self.encoder {
            Encoder::Json { output, buffer, .. } | Encoder::Csv { output, buffer, .. } => {
                output.held() + buffer.capacity()
            }
            Encoder::Parquet(writer) => writer.inner().held() + writer.memory_size(),
        }
    }

    /// The hidden name below the sink's folder, where it has one.
    pub(super) fn hidden_name(&self) -> Option<&str> {
        match &self.encoder {
            Encoder::Json { output, .. } | Encoder::Csv { output, .. } => output.hidden_name(),
            Encoder::Parquet(writer) => writer.inner().hidden_name(),
        }
    }

    /// Makes all bytes so far durable.
    pub(super) fn sync(&mut self) -> Result<()> {
        self.spill(0)?;
        match &mut self.encoder {
            Encoder::Json { output, .. } | Encoder::Csv { output, .. } => output.sync(),
            Encoder::Parquet(_) => Err(Failure::bug("a Parquet file is durable when it is closed")),
        }
    }

    /// Ends the file.
    pub(super) fn close(mut self) -> Result<Closing> {
        self.spill(0)?;
        let shown = self.shown;
        match self.encoder {
            Encoder::Json { output, .. } | Encoder::Csv { output, .. } => output.close(),
            Encoder::Parquet(writer) => writer.into_inner().map_err(|error| parquet_failure(&shown, error))?.close(),
        }
    }

    fn spill(&mut self, above: usize) -> Result<()> {
        let (output, buffer) = match &mut self.encoder {
            Encoder::Json { output, buffer, .. } | Encoder::Csv { output, buffer, .. } => (output, buffer),
            Encoder::Parquet(_) => return Ok(()),
        };
        if buffer.len() > above {
            output.write_all(buffer).map_err(|error| failure(&self.shown, error))?;
            buffer.clear();
        }
        Ok(())
    }
}

fn encode_csv(format: &CsvFormat, header: bool, rows: &RecordBatch, buffer: &mut Vec<u8>) -> Result<()> {
    let mut writer = WriterBuilder::new()
        .with_header(header)
        .with_delimiter(format.delimiter)
        .with_quote(format.quote)
        .with_null(format.null.clone())
        .with_timestamp_format("%Y-%m-%d %H:%M:%S%.3f".to_owned())
        .with_timestamp_tz_format("%Y-%m-%d %H:%M:%S%.3fZ".to_owned())
        .with_time_format("%H:%M:%S%.3f".to_owned())
        .build(buffer);
    writer.write(rows)?;
    Ok(())
}

fn parquet_failure(shown: &str, error: ParquetError) -> Failure {
    let error = match error {
        ParquetError::External(cause) => match cause.downcast::<std::io::Error>() {
            Ok(error) => return failure(&shown, *error),
            Err(cause) => ParquetError::External(cause),
        },
        other => other,
    };
    Failure::transient(format!("{shown} could not be written")).because(error)
}
