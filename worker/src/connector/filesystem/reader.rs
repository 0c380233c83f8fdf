//! Reads splits: one at a time, in batches of bounded size.

use super::content::Content;
use super::location::unreadable;
use super::object::Trouble;
use super::path_columns;
use super::place;
use super::position::{Position, Progress};
use super::source::{Compression, Config};
use crate::batch::{self, Batch};
use crate::checkpoint::store::s3::Patience;
use crate::connector::{BadRecord, Poll, ReaderContext, SourceReader, SourceRows};
use crate::failure::{ASK_AGAIN, Failure, Result};
use crate::format::parquet::{RowGroupReader, Selection};
use crate::format::record_reader::RecordReader;
use crate::format::{self, BadRecords, Format, RecordDecoder, RecordFormat};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use std::collections::VecDeque;
use std::io::{self, BufReader, Read};
use std::sync::Arc;
use std::time::Instant;
use weir_protocol::EventTime;
use weir_protocol::snapshot::SplitProgress;

/// A batch ends when this many bytes were read for it.
const MAX_BYTES: u64 = 4 << 20;

/// Bytes of a compressed file that are passed over before the task looks after its messages again.
const SKIPPED_AT_ONCE: u64 = 4 << 20;

/// How much of a bad record a message shows.
const SHOWN: usize = 200;

/// Reads files for one task.
pub(super) struct FileReader {
    config: Arc<Config>,
    /// Where the files lie, for this task.
    place: place::Place,
    columns: Columns,
    max_rows: usize,
    waiting: VecDeque<Part>,
    current: Option<Open>,
    /// The store is away, and is asked again then.
    away_until: Option<Instant>,
}

/// Which columns come from where.
struct Columns {
    /// Of a file's rows, by place in the data schema.
    data: Vec<usize>,
    /// For each column of a batch: read, or made.
    places: Vec<Place>,
    schema: SchemaRef,
}

enum Place {
    Data(usize),
    Partition(usize),
    Metadata(String),
}

/// A split in hand.
#[derive(Clone)]
struct Part {
    name: Arc<str>,
    /// The file's whole name, for people.
    path: String,
    /// Why reading it failed, where the error cannot say.
    trouble: Trouble,
    position: Position,
    watermark: EventTime,
}

/// Whether all that was read before is passed over.
#[derive(PartialEq, Eq)]
enum Skipped {
    All,
    ThereIsMore,
}

struct Open {
    part: Part,
    partitions: Vec<Option<String>>,
    input: Input,
}

enum Input {
    /// Of a compressed file, what was read before is passed over, a piece at a time.
    Skipping {
        input: Box<dyn Read + Send>,
        left: u64,
    },
    Records {
        reader: RecordReader,
        decoder: Box<dyn RecordDecoder>,
        lines: u64,
    },
    RowGroups {
        reader: RowGroupReader,
        rows: u64,
    },
}

impl FileReader {
    pub(super) fn new(config: Arc<Config>, context: &ReaderContext) -> Self {
        let columns = Columns::new(&config, &context.projection);
        // A task has barriers to look after: it waits for a store by coming back.
        let place = config.location.place.until(&context.stop, Patience::Limited);
        let max_rows = context.max_rows.max(1);
        Self { config, place, columns, max_rows, waiting: VecDeque::new(), current: None, away_until: None }
    }

    /// Goes on in the split that is open.
    fn go_on(&self, open: &mut Open) -> Result<Poll> {
        let skipped = open.skip(&self.config, &self.columns);
        if skipped.map_err(|failure| open.part.trouble.take().unwrap_or(failure))? == Skipped::ThereIsMore {
            // The task looks after barriers and comes back.
            return Ok(Poll::NotBefore(Instant::now()));
        }
        let rows = open.read(&self.config, &self.columns, self.max_rows).map_err(|failure| {
            let file = format!("table '{}', file {}", self.config.shape.name, open.part.path);
            open.part.trouble.take().unwrap_or(failure).within(file)
        })?;
        Ok(Poll::Rows(rows))
    }

    /// A failure in a split. If only the store is away, the split is opened again later and goes on where the last rows
    /// ended, as after a restart.
    fn failed(&mut self, part: Part, failure: Failure) -> Result<Poll> {
        if !failure.away {
            return Err(failure);
        }
        let until = Instant::now() + ASK_AGAIN;
        self.waiting.push_front(part);
        self.away_until = Some(until);
        Ok(Poll::Away(until))
    }
}

impl SourceReader for FileReader {
    fn add_split(&mut self, split: &SplitProgress) -> Result<()> {
        let position = Position::read(split)?;
        let path = self.config.location.place.shown(&position.file);
        let name = Arc::from(split.split.as_str());
        self.waiting.push_back(Part { name, path, trouble: Trouble::default(), position, watermark: split.watermark });
        Ok(())
    }

    fn poll(&mut self) -> Result<Poll> {
        if let Some(until) = self.away_until.filter(|until| *until > Instant::now()) {
            return Ok(Poll::Away(until));
        }
        let mut open = match self.current.take() {
            Some(open) => open,
            None => {
                let Some(part) = self.waiting.pop_front() else { return Ok(Poll::NeedSplit) };
                match Open::new(&self.config, &self.place, &self.columns, part.clone(), self.max_rows) {
                    Ok(open) => open,
                    Err(failure) => {
                        let failure = part.trouble.take().unwrap_or(failure);
                        return self.failed(part, failure);
                    }
                }
            }
        };
        match self.go_on(&mut open) {
            Err(failure) => self.failed(open.part, failure),
            Ok(poll) => {
                if !matches!(&poll, Poll::Rows(rows) if rows.last) {
                    self.current = Some(open);
                }
                Ok(poll)
            }
        }
    }

    fn positions(&self) -> Vec<SplitProgress> {
        let in_hand = self.current.iter().map(|open| &open.part).chain(&self.waiting).map(Part::progress);
        in_hand.collect()
    }
}

impl Part {
    fn progress(&self) -> SplitProgress {
        let position = serde_json::to_value(&self.position).expect("a position is plain data");
        SplitProgress { split: self.name.to_string(), position, watermark: self.watermark, finished: false }
    }
}

impl Columns {
    fn new(config: &Config, projection: &[usize]) -> Self {
        let shape = &config.shape;
        let (mut data, mut places) = (Vec::new(), Vec::new());
        let mut fields: Vec<Field> = Vec::new();
        for &column in projection {
            let field = shape.schema.field(column);
            if shape.partitioned_by.contains(&column) {
                places.push(Place::Partition(column));
            } else {
                places.push(Place::Data(data.len()));
                let place = config.data_schema.index_of(field.name());
                data.push(place.expect("a column that is no partition is one of the files'"));
            }
            fields.push(field.clone());
        }
        for (name, key) in &shape.metadata {
            places.push(Place::Metadata(key.clone()));
            fields.push(path_columns::metadata_field(name, key));
        }
        Self { data, places, schema: Arc::new(Schema::new(fields)) }
    }

    /// A batch out of what was read and what the file's path says.
    fn arrange(&self, read: &RecordBatch, part: &Part, partitions: &[Option<String>]) -> Result<Batch> {
        let rows = read.num_rows();
        let mut partitions = partitions.iter();
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.places.len());
        for (place, field) in self.places.iter().zip(self.schema.fields()) {
            columns.push(match place {
                Place::Data(column) => Arc::clone(read.column(*column)),
                Place::Partition(_) => {
                    let text = partitions.next().expect("each partition column has a value").as_deref();
                    format::constant(field, text, rows)
                        .map_err(|error| Failure::user(format!("the folder's name: {error}")))?
                }
                Place::Metadata(key) => path_columns::metadata(field, key, &part.path, &part.position.version, rows)?,
            });
        }
        Ok(batch::from_columns(&self.schema, columns, rows)?)
    }
}

impl Open {
    fn new(config: &Config, place: &place::Place, columns: &Columns, part: Part, max_rows: usize) -> Result<Self> {
        let file = Content::open(place, &part.position, &part.trouble)?;
        let wanted = columns.places.iter().filter_map(|place| match place {
            Place::Partition(column) => Some(*column),
            Place::Data(_) | Place::Metadata(_) => None,
        });
        let partitions = wanted
            .map(|column| path_columns::partition(&config.shape, column, &part.position, &config.default_partition))
            .collect::<Result<_>>()?;
        let input = match &config.format {
            Format::Records(format) => {
                open_records(config, columns, format, file, &part).map_err(|error| broken(&part.path, error))?
            }
            Format::Parquet => open_row_groups(config, columns, file, &part, max_rows)
                .map_err(|failure| failure.within(format!("file {}", part.path)))?,
        };
        Ok(Self { part, partitions, input })
    }

    /// Passes over a piece of what was read before, if there is any.
    fn skip(&mut self, config: &Config, columns: &Columns) -> Result<Skipped> {
        let Input::Skipping { input, left } = &mut self.input else { return Ok(Skipped::All) };
        let piece = (*left).min(SKIPPED_AT_ONCE);
        let path = &self.part.path;
        let passed = io::copy(&mut input.by_ref().take(piece), &mut io::sink()).map_err(|error| broken(path, error))?;
        if passed < piece {
            let error =
                io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than what was read of it before");
            return Err(broken(path, error));
        }
        *left -= piece;
        if *left > 0 {
            return Ok(Skipped::ThereIsMore);
        }
        let input = std::mem::replace(input, Box::new(io::empty()));
        let Format::Records(format) = &config.format else { unreachable!("only records are passed over") };
        let begun = begin_records(config, columns, format, input, &self.part);
        self.input = begun.map_err(|error| broken(&self.part.path, error))?;
        Ok(Skipped::All)
    }

    fn read(&mut self, config: &Config, columns: &Columns, max_rows: usize) -> Result<SourceRows> {
        match &mut self.input {
            Input::Skipping { .. } => Err(Failure::bug("rows are asked for before the place where they begin")),
            Input::Records { .. } => self.read_records(config, columns, max_rows),
            Input::RowGroups { reader, rows } => {
                let read = reader.next_batch()?;
                let (batch, last) = match read {
                    Some(read) => (columns.arrange(&read, &self.part, &self.partitions)?, false),
                    None => (batch::empty(Arc::clone(&columns.schema)), true),
                };
                *rows += batch.num_rows() as u64;
                self.part.position.read = Some(Progress::Rows(*rows));
                let bytes = batch.bytes();
                Ok(SourceRows { split: Arc::clone(&self.part.name), batch, bytes, bad: Vec::new(), last })
            }
        }
    }

    fn read_records(&mut self, config: &Config, columns: &Columns, max_rows: usize) -> Result<SourceRows> {
        let Input::Records { reader, decoder, lines } = &mut self.input else { unreachable!("the caller looked") };
        let Position { file, start, end, version, .. } = &self.part.position;
        let (start, end, size) = (*start, *end, version.size);
        let whole = config.compression_of(&self.part.position.file) != Compression::None;
        let first = reader.offset();
        let mut bad = Vec::new();
        let mut last = false;
        while decoder.rows() + bad.len() < max_rows && reader.offset() - first < MAX_BYTES {
            let offset = reader.offset();
            last = !whole && offset >= end;
            if last {
                break;
            }
            let Some(record) = reader.next_record().map_err(|error| broken(&self.part.path, error))? else {
                last = true;
                if !whole && offset < size.min(end) {
                    return Err(Failure::user("the file has shrunk while it was read"));
                }
                break;
            };
            let place = Whereabouts { file, offset, line: (start == 0).then_some(*lines + 1) };
            let refused = match record.fault {
                Some(fault) => Some(fault.to_string()),
                None => decoder.push(record.bytes).err().map(|error| error.to_string()),
            };
            if let Some(reason) = refused {
                bad.push(place.refuse(record.bytes, &reason, &config.bad_records)?);
            }
            *lines += record.lines;
        }
        last |= !whole && reader.offset() >= end;
        self.part.position.read = Some(Progress::Records { offset: reader.offset(), lines: *lines });
        let bytes = usize::try_from(reader.offset() - first).unwrap_or(usize::MAX);
        let batch = columns.arrange(&decoder.take(), &self.part, &self.partitions)?;
        Ok(SourceRows { split: Arc::clone(&self.part.name), batch, bytes, bad, last })
    }
}

fn open_records(
    config: &Config,
    columns: &Columns,
    format: &RecordFormat,
    file: Content,
    part: &Part,
) -> io::Result<Input> {
    let (size, end) = (part.position.version.size, part.position.end);
    let from = Beginning::of(&part.position).from;
    let input: Box<dyn Read + Send> = match config.compression_of(&part.position.file) {
        Compression::Gzip => {
            let compressed = BufReader::with_capacity(128 << 10, file.stream(0, size, size)?);
            Box::new(flate2::bufread::MultiGzDecoder::new(compressed))
        }
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(file.stream(0, size, size)?)?),
        Compression::Auto | Compression::None => {
            let input = file.stream(from, end, size)?;
            return begin_records(config, columns, format, input, part);
        }
    };
    match from {
        0 => begin_records(config, columns, format, input, part),
        left => Ok(Input::Skipping { input, left }),
    }
}

/// Where the records of a part begin.
struct Beginning {
    /// The first byte to read.
    from: u64,
    /// Lines before it.
    lines: u64,
    /// Where a part begins inside of a line, that line belongs to the part before: the byte before tells.
    inside: bool,
}

impl Beginning {
    fn of(position: &Position) -> Self {
        let (offset, lines) = match position.read {
            Some(Progress::Records { offset, lines }) => (offset, lines),
            _ => (position.start, 0),
        };
        let inside = position.read.is_none() && position.start > 0;
        Self { from: if inside { position.start - 1 } else { offset }, lines, inside }
    }
}

/// Reads records from `input`, which stands where they begin.
fn begin_records(
    config: &Config,
    columns: &Columns,
    format: &RecordFormat,
    input: Box<dyn Read + Send>,
    part: &Part,
) -> io::Result<Input> {
    let Beginning { from, mut lines, inside } = Beginning::of(&part.position);
    let mut reader = RecordReader::new(input, from, format.framing(), config.max_record);
    if inside {
        reader.next_record()?;
    } else if from == 0 {
        reader.skip_byte_order_mark()?;
        if format.has_header() {
            lines += reader.next_record()?.map_or(0, |record| record.lines);
        }
    }
    let decoder = format.decoder(&config.data_schema, &columns.data);
    Ok(Input::Records { reader, decoder, lines })
}

fn open_row_groups(config: &Config, columns: &Columns, file: Content, part: &Part, max_rows: usize) -> Result<Input> {
    let rows = match part.position.read {
        Some(Progress::Rows(rows)) => rows,
        _ => 0,
    };
    let schema = config.data_schema.project(&columns.data)?;
    let selection = Selection {
        schema: Arc::new(schema),
        bytes: part.position.start..part.position.end,
        skipped_rows: rows,
        max_rows,
    };
    Ok(Input::RowGroups { reader: file.row_groups(selection)?, rows })
}

/// A failure while reading: of the disk, or of what is on it.
fn broken(path: &str, error: io::Error) -> Failure {
    use io::ErrorKind as E;
    match error.kind() {
        E::InvalidInput | E::InvalidData | E::UnexpectedEof | E::Other => {
            Failure::user(format!("the compressed file {path} is damaged or ends too early")).because(error)
        }
        _ => unreadable(&path, error),
    }
}

/// Where a record lies in its file.
struct Whereabouts<'a> {
    file: &'a str,
    offset: u64,
    line: Option<u64>,
}

impl Whereabouts<'_> {
    /// What becomes of a bad record: a failure, or what is told of it.
    fn refuse(&self, record: &[u8], reason: &str, policy: &BadRecords) -> Result<BadRecord> {
        let place = match self.line {
            Some(line) => format!("line {line}"),
            None => format!("byte {}", self.offset),
        };
        let text = String::from_utf8_lossy(record);
        let told = |raw: String| Ok(BadRecord { raw, reason: format!("{}, {place}: {reason}", self.file) });
        match policy {
            BadRecords::Fail => Err(Failure::user(format!(
                "bad record at {place}: {reason}: {}; correct it, or set 'bad-records' = 'skip' or 'table' to go on \
                 without such records",
                format::clip(&text, SHOWN)
            ))),
            BadRecords::Skip => told(format::clip(&text, SHOWN)),
            BadRecords::Table(_) => told(text.into_owned()),
        }
    }
}
