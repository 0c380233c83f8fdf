//! One growing file: rows in a format, under a hidden name.

use super::super::super::options::Options;
use crate::batch::Batch;
use crate::failure::{Failure, Kind, Result};
use crate::format::encode_json::{JsonEncoder, Op};
use arrow::array::RecordBatch;
use arrow::csv::WriterBuilder;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
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
    path: PathBuf,
    encoder: Encoder,
    bytes: u64,
}

enum Encoder {
    Json { file: File, encoder: JsonEncoder, buffer: Vec<u8> },
    Csv { file: File, format: CsvFormat, header_due: bool, buffer: Vec<u8> },
    Parquet(Box<ArrowWriter<File>>),
}

/// Text that is held back before it is written.
const BUFFER: usize = 256 * 1024;
/// A row group of a Parquet file is closed when its columns take this much memory.
const ROW_GROUP_BYTES: usize = 64 << 20;
/// A file is tried again when its folder went away.
const MOST_TRIES: u32 = 3;

impl GrowingFile {
    /// Creates the file, which must not exist. `op` says whether lines of JSON tell what their rows do.
    pub(super) fn create(path: PathBuf, format: &Format, op: Op, schema: &SchemaRef) -> Result<Self> {
        let file = create(&path).map_err(|error| not_created(&path, error))?;
        let encoder = match format {
            Format::Json => {
                let encoder = JsonEncoder::new(schema, op).map_err(|error| Failure::user(error.to_string()))?;
                Encoder::Json { file, encoder, buffer: Vec::new() }
            }
            Format::Csv(csv) => Encoder::Csv { file, format: csv.clone(), header_due: csv.header, buffer: Vec::new() },
            Format::Parquet(compression) => {
                let properties = WriterProperties::builder().set_compression(*compression).build();
                let writer = ArrowWriter::try_new(file, Arc::clone(schema), Some(properties));
                Encoder::Parquet(Box::new(writer.map_err(|error| parquet_failure(&path, error))?))
            }
        };
        Ok(Self { path, encoder, bytes: 0 })
    }

    /// Begins with the first `length` bytes of a file of an earlier generation.
    pub(super) fn copy_tail(&mut self, from: &Path, length: u64) -> Result<()> {
        let path = self.path.clone();
        let file = match &mut self.encoder {
            Encoder::Json { file, .. } => file,
            Encoder::Csv { file, header_due, .. } => {
                *header_due &= length == 0;
                file
            }
            Encoder::Parquet(_) => return Err(Failure::bug("a Parquet file has no tail to copy")),
        };
        let copied = File::open(from).and_then(|source| io::copy(&mut source.take(length), file));
        match copied {
            Ok(copied) if copied == length => {
                self.bytes = length;
                Ok(())
            }
            Ok(copied) => Err(Failure::corrupt(format!(
                "{} has {copied} bytes, the checkpoint has {length} of it: rows are missing from the output",
                from.display()
            ))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Failure::corrupt(format!(
                "{} is gone, the checkpoint has {length} bytes of it: rows are missing from the output",
                from.display()
            ))),
            Err(error) => Err(failure(&path, error)),
        }
    }

    /// Appends rows.
    pub(super) fn write(&mut self, batch: &Batch) -> Result<()> {
        let path = &self.path;
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
                writer.write(&batch.rows).map_err(|error| parquet_failure(path, error))?;
                if writer.in_progress_size() > ROW_GROUP_BYTES {
                    writer.flush().map_err(|error| parquet_failure(path, error))?;
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

    /// Makes all bytes so far durable.
    pub(super) fn sync(&mut self) -> Result<()> {
        self.spill(0)?;
        match &self.encoder {
            Encoder::Json { file, .. } | Encoder::Csv { file, .. } => {
                file.sync_all().map_err(|error| failure(&self.path, error))
            }
            Encoder::Parquet(_) => Err(Failure::bug("a Parquet file is durable when it is closed")),
        }
    }

    /// Ends the file and makes it durable, its name too.
    pub(super) fn seal(mut self) -> Result<u64> {
        self.spill(0)?;
        let (path, bytes) = (self.path, self.bytes);
        let (file, bytes) = match self.encoder {
            Encoder::Json { file, .. } | Encoder::Csv { file, .. } => (file, bytes),
            Encoder::Parquet(mut writer) => {
                writer.finish().map_err(|error| parquet_failure(&path, error))?;
                let bytes = writer.bytes_written() as u64;
                (writer.into_inner().map_err(|error| parquet_failure(&path, error))?, bytes)
            }
        };
        file.sync_all().and_then(|()| sync_folder_of(&path)).map_err(|error| failure(&path, error))?;
        Ok(bytes)
    }

    fn spill(&mut self, above: usize) -> Result<()> {
        let (file, buffer) = match &mut self.encoder {
            Encoder::Json { file, buffer, .. } | Encoder::Csv { file, buffer, .. } => (file, buffer),
            Encoder::Parquet(_) => return Ok(()),
        };
        if buffer.len() > above {
            file.write_all(buffer).map_err(|error| failure(&self.path, error))?;
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

fn create(path: &Path) -> io::Result<File> {
    let mut tries = 0;
    loop {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        match OpenOptions::new().write(true).create_new(true).open(path) {
            // Whoever reads the output may have removed the folder, which was empty.
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries < MOST_TRIES => tries += 1,
            created => return created,
        }
    }
}

/// Where no file can be made, none can be made at the next attempt: something is in the way, or the place takes none.
fn not_created(path: &Path, error: io::Error) -> Failure {
    use io::ErrorKind as E;
    match error.kind() {
        E::NotFound | E::AlreadyExists | E::PermissionDenied | E::ReadOnlyFilesystem | E::NotADirectory => {
            let folder = path.parent().unwrap_or(path).display();
            let message =
                format!("no file can be created in {folder}: make it a folder that can be written, or change 'path'");
            Failure::user(message).because(error)
        }
        _ => failure(path, error),
    }
}

/// Makes a file's name durable.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// A full disk may have room again; what may not be written will not be writable at the next attempt either.
fn failure(path: &Path, error: io::Error) -> Failure {
    use io::ErrorKind as E;
    let kind = match error.kind() {
        E::PermissionDenied | E::ReadOnlyFilesystem | E::NotADirectory | E::IsADirectory | E::InvalidFilename => {
            Kind::User
        }
        _ => Kind::Transient,
    };
    Failure::new(kind, format!("{} could not be written", path.display())).because(error)
}

fn parquet_failure(path: &Path, error: parquet::errors::ParquetError) -> Failure {
    Failure::transient(format!("{} could not be written", path.display())).because(error)
}
