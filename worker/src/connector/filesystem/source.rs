//! The source: files of a path, cut into splits.

use super::listing::Listing;
use super::location::{self, Location};
use super::path_columns;
use super::reader::FileReader;
use crate::checkpoint::store::s3::meter::Meter;
use crate::connector::options::Options;
use crate::connector::{Assignment, Enumerator, Environment, ReaderContext, Source, SourceReader, TableShape};
use crate::diagnostic::{Diagnostic, nearest};
use crate::failure::Result;
use crate::format::record_reader::Framing;
use crate::format::{BadRecords, Format};
use arrow::datatypes::{Schema, SchemaRef};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A table of files to read.
pub(crate) struct FileSource {
    config: Arc<Config>,
}

/// The table's options, checked.
pub(super) struct Config {
    pub(super) shape: TableShape,
    pub(super) location: Location,
    pub(super) format: Format,
    /// The columns that are in the files: all but those of the partitions.
    pub(super) data_schema: SchemaRef,
    pub(super) bad_records: BadRecords,
    pub(super) compression: Compression,
    pub(super) split_size: u64,
    pub(super) max_record: usize,
    pub(super) monitor: Option<Duration>,
    pub(super) default_partition: String,
}

/// How files are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// As the file's name ends.
    Auto,
    None,
    Gzip,
    Zstd,
}

impl FileSource {
    /// Reads the options of a table; all mistakes come back at once.
    pub(crate) fn from_options(
        options: &Options,
        shape: &TableShape,
        environment: &Environment,
    ) -> Result<Self, Vec<Diagnostic>> {
        let _ = options.required("connector");
        let location = location(options, environment);
        let data_columns: Vec<usize> =
            (0..shape.schema.fields().len()).filter(|column| !shape.partitioned_by.contains(column)).collect();
        let data_schema: SchemaRef = Arc::new(shape.schema.project(&data_columns).unwrap_or_else(|_| Schema::empty()));
        let format = Format::from_options(options, &data_schema);
        let bad_records = BadRecords::from_options(options);
        let compressions = [
            ("auto", Compression::Auto),
            ("none", Compression::None),
            ("gzip", Compression::Gzip),
            ("zstd", Compression::Zstd),
        ];
        let compression = options.choice("source.compression", &compressions).unwrap_or(Compression::Auto);
        let split_size = at_least(options, "source.split-size", 1 << 10).unwrap_or(64 << 20);
        let max_record = at_least(options, "source.max-record-size", 1 << 10).unwrap_or(16 << 20).min(1 << 30);
        let monitor = options.duration("source.monitor-interval");
        if monitor == Some(Duration::ZERO) {
            options.mistake_in("source.monitor-interval", "an interval longer than zero expected".to_owned(), None);
        }
        let default_partition = options.text("partition.default-name");
        check_metadata(options, shape);
        leave_to_sink(options);
        options.finish()?;
        let (Some(location), Some(format)) = (location, format) else {
            unreachable!("what is missing was noted as a mistake");
        };
        let max_record = usize::try_from(max_record).expect("a GiB fits a usize");
        let default_partition = default_partition.unwrap_or_else(|| "__HIVE_DEFAULT_PARTITION__".to_owned());
        let config = Config {
            shape: shape.clone(),
            location,
            format,
            data_schema,
            bad_records,
            compression,
            split_size,
            max_record,
            monitor,
            default_partition,
        };
        Ok(Self { config: Arc::new(config) })
    }
}

impl Source for FileSource {
    fn assignment(&self) -> Assignment {
        Assignment::Ordered
    }

    fn is_bounded(&self) -> bool {
        self.config.monitor.is_none()
    }

    fn enumerator(&self) -> Result<Box<dyn Enumerator>> {
        Ok(Box::new(Listing::new(Arc::clone(&self.config))))
    }

    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader>> {
        Ok(Box::new(FileReader::new(Arc::clone(&self.config), &context)))
    }

    fn meter(&self) -> Option<Arc<Meter>> {
        self.config.location.place.meter()
    }
}

impl Config {
    /// How this file is compressed; never [`Compression::Auto`].
    pub(super) fn compression_of(&self, file: &str) -> Compression {
        if matches!(self.format, Format::Parquet) {
            return Compression::None;
        }
        match self.compression {
            Compression::Auto => match Path::new(file).extension().and_then(|extension| extension.to_str()) {
                Some("gz" | "gzip") => Compression::Gzip,
                Some("zst" | "zstd") => Compression::Zstd,
                _ => Compression::None,
            },
            chosen => chosen,
        }
    }

    /// True when several tasks may read this file, each a part.
    pub(super) fn is_splittable(&self, file: &str) -> bool {
        let whole_lines = match &self.format {
            Format::Records(format) => format.framing() == Framing::Lines,
            Format::Parquet => true,
        };
        whole_lines && self.compression_of(file) == Compression::None
    }
}

fn at_least(options: &Options, key: &str, least: u64) -> Option<u64> {
    let bytes = options.bytes(key)?;
    if bytes < least {
        options.mistake_in(key, format!("'{key}' is {bytes} bytes: at least {least} expected"), None);
        return None;
    }
    Some(bytes)
}

fn location(options: &Options, environment: &Environment) -> Option<Location> {
    let filter = options.parsed("source.path.regex-pattern", |text| {
        regex::Regex::new(&format!("^(?:{text})$")).map_err(|error| format!("a regular expression expected: {error}"))
    });
    let written = options.required("path");
    if written.is_empty() {
        return None;
    }
    match location::locate(&written, filter, options, environment) {
        Ok(location) => Some(location),
        Err((message, hint)) => {
            options.mistake_in("path", message, Some(hint));
            None
        }
    }
}

fn check_metadata(options: &Options, shape: &TableShape) {
    for (name, key) in &shape.metadata {
        if !path_columns::METADATA_KEYS.contains(&key.as_str()) {
            let hint = nearest(key, path_columns::METADATA_KEYS).map_or_else(
                || format!("known here: {}", path_columns::METADATA_KEYS.join(", ")),
                |known| format!("did you mean '{known}'?"),
            );
            let message = format!("the column '{name}' asks for metadata '{key}', which files do not have");
            options.mistake_in("connector", message, Some(hint));
        }
    }
}

/// A table may be read and written: these options are for its sink.
fn leave_to_sink(options: &Options) {
    for prefix in ["sink.", "auto-compaction", "compaction.", "partition."] {
        let _ = options.with_prefix(prefix);
    }
    let _ = options.text("source.report-statistics");
}
