//! Rows as text and bytes, apart from where they lie: what files, logs and terminals hold.
//!
//! A format is chosen once, at plan time, from the option `format` ([`Format::from_options`]). Formats of records (JSON,
//! CSV) give a [`RecordDecoder`], which takes one record at a time and knows nothing of where records come from: a file
//! or a log. A record that cannot be decoded never takes its neighbours with it. What becomes of it is the table's
//! choice, [`BadRecords`]. The encoders are the way back.

mod column;
pub mod csv;
mod date_time;
pub mod encode_json;
pub mod encode_text;
mod growing;
pub mod json;
pub mod parquet;
pub mod record_reader;
mod scalar;
mod text_value;
mod values;

pub(crate) use column::constant;
pub use values::UnsupportedType;

use crate::connector::options::Options;
use crate::diagnostic::nearest;
use arrow::array::RecordBatch;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, SchemaRef, TimeUnit};

/// A table's format with its options, checked.
#[derive(Debug, Clone)]
pub enum Format {
    /// Each record stands for itself.
    Records(RecordFormat),
    /// Columns in files, read by [`parquet::RowGroupReader`].
    Parquet,
}

/// A format whose records can be decoded one by one.
#[derive(Debug, Clone)]
pub enum RecordFormat {
    /// A JSON object a record.
    Json(json::JsonOptions),
    /// Values between delimiters.
    Csv(csv::CsvOptions),
}

/// Turns records into rows. Rows gather until they are taken.
pub trait RecordDecoder: Send {
    /// Decodes one record, without the line end, and appends its row; a blank record has none. A record that is refused
    /// leaves the rows as they were.
    fn push(&mut self, record: &[u8]) -> Result<(), RecordError>;

    /// How many rows have gathered.
    fn rows(&self) -> usize;

    /// The rows that have gathered: the projected columns, in the order of the projection.
    fn take(&mut self) -> RecordBatch;
}

/// Why a record is no row of its table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The bytes are not of the format.
    #[error("{0}")]
    Syntax(String),
    /// A value does not fit its column.
    #[error("column '{column}': {reason}")]
    Value {
        /// The column; fields of rows follow after a dot.
        column: String,
        /// The value, clipped, and what was expected.
        reason: String,
    },
}

impl RecordError {
    /// Puts the name of the row or array in front of the field's or item's.
    fn below(mut self: Box<Self>, name: &str, separator: &str) -> Box<Self> {
        if let Self::Value { column, .. } = &mut *self {
            *column = format!("{name}{separator}{column}");
        }
        self
    }

    /// Names an item by its number, from 1 as in SQL, in place of the name that Arrow gives to items.
    fn at_item(mut self: Box<Self>, number: usize) -> Box<Self> {
        if let Self::Value { column, .. } = &mut *self {
            let rest = column.find(['.', '[']).map_or("", |at| &column[at..]);
            *column = format!("[{number}]{rest}");
        }
        self
    }
}

/// What becomes of records that cannot be decoded: the option `bad-records`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum BadRecords {
    /// The job fails and says where.
    #[default]
    Fail,
    /// They are counted.
    Skip,
    /// They become rows of this table: `raw` and `reason`.
    Table(String),
}

impl BadRecords {
    /// Reads the options `bad-records` and `bad-records.table`.
    #[must_use]
    pub fn from_options(options: &Options) -> Self {
        #[derive(Clone, Copy, PartialEq)]
        enum Choice {
            Fail,
            Skip,
            Table,
        }
        let choices = [("fail", Choice::Fail), ("skip", Choice::Skip), ("table", Choice::Table)];
        let choice = options.choice("bad-records", &choices);
        match (choice, options.text("bad-records.table")) {
            (Some(Choice::Table), Some(name)) => Self::Table(name),
            (Some(Choice::Table), None) => {
                let hint = "add 'bad-records.table' = '<name>', a table with the columns raw STRING and reason STRING";
                options.mistake_in(
                    "bad-records",
                    "'bad-records' = 'table' needs a table".to_owned(),
                    Some(hint.to_owned()),
                );
                Self::Fail
            }
            (choice, Some(_)) => {
                let hint = "set 'bad-records' = 'table'".to_owned();
                let message = "'bad-records.table' is set, but bad records do not go to a table".to_owned();
                options.mistake_in("bad-records.table", message, Some(hint));
                if choice == Some(Choice::Skip) { Self::Skip } else { Self::Fail }
            }
            (Some(Choice::Skip), None) => Self::Skip,
            (Some(Choice::Fail), None) => Self::Fail,
            (None, None) if ignores_parse_errors(options) => Self::Skip,
            (None, None) => Self::Fail,
        }
    }
}

/// Flink's `ignore-parse-errors` of the table's format.
fn ignores_parse_errors(options: &Options) -> bool {
    match options.text("format").as_deref() {
        Some("json") => options.boolean("json.ignore-parse-errors") == Some(true),
        Some("csv") => options.boolean("csv.ignore-parse-errors") == Some(true),
        _ => false,
    }
}

impl Format {
    /// Reads the option `format` and those of the format it names, for a table that decodes the columns of `schema`.
    /// Mistakes are noted in `options`; the answer then is `None`.
    #[must_use]
    pub fn from_options(options: &Options, schema: &SchemaRef) -> Option<Self> {
        let name = options.required("format");
        let format = match name.as_str() {
            "json" => Self::Records(RecordFormat::Json(json::JsonOptions::from_options(options))),
            "csv" => Self::Records(RecordFormat::Csv(csv::CsvOptions::from_options(options)?)),
            "parquet" => {
                let _ = options.with_prefix("parquet.");
                Self::Parquet
            }
            "" => return None,
            unknown => {
                refuse(options, unknown);
                return None;
            }
        };
        let unreadable = schema.fields().iter().find(|field| !column::is_supported(field.data_type()));
        if let Some(field) = unreadable {
            let kind = sql_type(field.data_type());
            let message =
                format!("the column '{}' of type {kind} cannot be read from the format '{name}'", field.name());
            options.mistake_in("format", message, None);
            return None;
        }
        Some(format)
    }
}

impl RecordFormat {
    /// A decoder for the columns of `schema` at `projection`, ascending.
    #[must_use]
    pub fn decoder(&self, schema: &SchemaRef, projection: &[usize]) -> Box<dyn RecordDecoder> {
        match self {
            Self::Json(options) => Box::new(json::JsonDecoder::new(*options, schema, projection)),
            Self::Csv(options) => Box::new(csv::CsvDecoder::new(options.clone(), schema, projection)),
        }
    }

    /// How records of a file are told from each other.
    #[must_use]
    pub fn framing(&self) -> record_reader::Framing {
        match self {
            Self::Json(_) => record_reader::Framing::Lines,
            Self::Csv(options) => options.framing(),
        }
    }

    /// True when the first record of a file is not data.
    #[must_use]
    pub fn has_header(&self) -> bool {
        matches!(self, Self::Csv(options) if options.has_header())
    }
}

/// The formats there are.
const KNOWN: [&str; 3] = ["json", "csv", "parquet"];

/// Formats that are known by name and not there yet.
const TO_COME: [&str; 10] = [
    "avro",
    "avro-confluent",
    "debezium-json",
    "debezium-avro-confluent",
    "canal-json",
    "maxwell-json",
    "ogg-json",
    "orc",
    "protobuf",
    "raw",
];

fn refuse(options: &Options, name: &str) {
    let list = KNOWN.join(", ");
    if TO_COME.contains(&name) {
        let message = format!("the format '{name}' is not available in this version");
        options.mistake_in("format", message, Some(format!("available here: {list}")));
        return;
    }
    let hint = nearest(name, KNOWN)
        .map_or_else(|| format!("available here: {list}"), |name| format!("did you mean '{name}'?"));
    options.mistake_in("format", format!("there is no format '{name}'"), Some(hint));
}

/// The name of a column's type in SQL.
#[must_use]
pub fn sql_type(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Int8 => "TINYINT".to_owned(),
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Float32 => "FLOAT".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".to_owned(),
        DataType::Timestamp(unit, None) => format!("TIMESTAMP({})", fraction_digits(*unit)),
        DataType::Timestamp(unit, Some(_)) => format!("TIMESTAMP_LTZ({})", fraction_digits(*unit)),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "STRING".to_owned(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => "BYTES".to_owned(),
        DataType::List(item) => format!("ARRAY<{}>", sql_type(item.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|field| format!("{} {}", field.name(), sql_type(field.data_type()))).collect();
            format!("ROW<{}>", fields.join(", "))
        }
        other => other.to_string(),
    }
}

/// The type of a column of one value that has this name in SQL, as [`sql_type`] writes it.
#[must_use]
pub fn scalar_type(name: &str) -> Option<DataType> {
    let (word, numbers) = match name.split_once('(') {
        Some((word, rest)) => (word, rest.strip_suffix(')')?),
        None => (name, ""),
    };
    let mut numbers = numbers.split(',').map(|number| number.trim().parse::<u8>().ok());
    let mut number = || numbers.next().flatten();
    let time = |zone: Option<&str>, digits: u8| Some(DataType::Timestamp(unit_of(digits)?, zone.map(Into::into)));
    Some(match word {
        "BOOLEAN" => DataType::Boolean,
        "TINYINT" => DataType::Int8,
        "SMALLINT" => DataType::Int16,
        "INT" => DataType::Int32,
        "BIGINT" => DataType::Int64,
        "FLOAT" => DataType::Float32,
        "DOUBLE" => DataType::Float64,
        "DECIMAL" => decimal_type(number()?, number()?)?,
        "DATE" => DataType::Date32,
        "TIME" => DataType::Time32(TimeUnit::Millisecond),
        "TIMESTAMP" => time(None, number()?)?,
        "TIMESTAMP_LTZ" => time(Some("UTC"), number()?)?,
        "STRING" => DataType::Utf8View,
        "BYTES" => DataType::BinaryView,
        _ => return None,
    })
}

fn decimal_type(precision: u8, scale: u8) -> Option<DataType> {
    let is_type = (1..=DECIMAL128_MAX_PRECISION).contains(&precision) && scale <= precision;
    is_type.then_some(DataType::Decimal128(precision, scale as i8))
}

fn unit_of(digits: u8) -> Option<TimeUnit> {
    let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
    units.into_iter().find(|unit| fraction_digits(*unit) == digits)
}

fn fraction_digits(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

/// At most `limit` bytes of `text`, cut at a character, with `…` when something was cut off.
#[must_use]
pub fn clip(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = (0..=limit).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}
