//! How the row of a group is laid out: one run of 64-bit words with the key and all accumulators, so that touching a
//! group touches one or two cache lines.
//!
//! Word 0 is the header: the key group (bits 0..16), flags (16..32), which of the key's columns are null (32..48), which
//! of the accumulators have seen a value (48..64). Then come the key, words for the operator that owns the table
//! (`extra`), and the accumulators. Keys with more than 16 columns, and more than 16 accumulators that can be null, get
//! words of their own for that. Accumulators are shared: `AVG(x)` uses those of `SUM(x)` and `COUNT(x)`.

use super::call::{Call, Function};
use super::key::KeyLayout;
use super::value::is_word;
use crate::failure::{Failure, Result};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};

/// The header's flags.
pub(super) mod flag {
    /// Changed since the last snapshot: the group is in the table's list of such groups.
    pub(in super::super) const DIRTY: u64 = 1 << 16;
    /// Touched by the batch in hand.
    pub(in super::super) const TOUCHED: u64 = 1 << 17;
    /// Its result was emitted and stands.
    pub(in super::super) const EMITTED: u64 = 1 << 18;
    /// A snapshot contains it.
    pub(in super::super) const PERSISTED: u64 = 1 << 19;
    /// The row is not in use.
    pub(in super::super) const FREE: u64 = 1 << 20;
}

pub(super) const KEY_GROUP: u64 = 0xffff;
const SEEN_SHIFT: u32 = 48;
const SEEN_IN_HEADER: usize = 16;
/// The header's bits that tell which accumulators have seen a value.
pub(super) const SEEN: u64 = 0xffff << SEEN_SHIFT;

/// Whether rows are only ever added, or also taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Every row adds.
    Append,
    /// Rows of kind `-U` and `-D` take back what an earlier row added.
    Retract,
}

/// The layout of the rows of one aggregation.
#[derive(Debug)]
pub(super) struct Layout {
    /// The key's part.
    pub(super) key: KeyLayout,
    /// Where the words of the table's owner start.
    pub(super) extra: usize,
    /// The accumulators.
    pub(super) accumulators: Vec<Accumulator>,
    /// One per call.
    pub(super) results: Vec<ResultColumn>,
    /// Words of a row.
    pub(super) stride: usize,
    /// A row without key that has seen nothing.
    pub(super) initial: Vec<u64>,
    /// Where the words with seen-bits start that the header has no room for, and how many there are.
    pub(super) seen: (usize, usize),
    /// How many accumulators have a seen-bit.
    pub(super) nullable: usize,
    /// What rows do.
    pub(super) mode: Mode,
    /// The word that counts rows, where it was asked for.
    pub(super) rows: Option<usize>,
}

/// One accumulator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Accumulator {
    /// What it gathers, for people: `sum(price)`.
    pub(super) name: String,
    /// What it gathers.
    pub(super) kind: Kind,
    /// The input's column.
    pub(super) argument: Option<usize>,
    /// The input's column that must be true.
    pub(super) filter: Option<usize>,
    /// The argument's type.
    pub(super) data_type: Option<DataType>,
    /// Its first word.
    pub(super) word: usize,
    /// The bit that tells that it has seen a value.
    pub(super) seen: Option<Bit>,
}

/// What an accumulator gathers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Rows.
    CountRows,
    /// Rows with a value.
    CountValues,
    /// A sum of integers, modulo 2^64.
    SumWords,
    /// A sum of floats.
    SumFloats,
    /// An exact sum of decimals in 192 bits.
    SumDecimals,
    /// The least or greatest value.
    Extreme(Side, Shape),
}

/// Which end of the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Side {
    /// `MIN`.
    Least,
    /// `MAX`.
    Greatest,
}

/// How a value is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Shape {
    /// In one word, see [`super::value`].
    Word,
    /// 128 bits, the low word first.
    Decimal,
    /// In two words and the arena.
    Bytes,
}

/// A bit of the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bit {
    /// The word.
    pub(super) word: usize,
    /// The bit in it.
    pub(super) mask: u64,
}

/// How to tell that there was a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// A bit is set.
    Bit(Bit),
    /// A count is not zero.
    Count(usize),
}

/// How a call's result comes out of the accumulators.
#[derive(Debug, Clone)]
pub(super) struct ResultColumn {
    /// The computation.
    pub(super) kind: ResultKind,
    /// The result's type.
    pub(super) data_type: DataType,
}

/// The computations of results; numbers are the words to read.
#[derive(Debug, Clone, Copy)]
pub(super) enum ResultKind {
    /// A count.
    Count(usize),
    /// A sum of integers.
    SumWords(usize, Presence),
    /// A sum of floats.
    SumFloats(usize, Presence),
    /// A sum of decimals.
    SumDecimals(usize, Presence),
    /// The average of integers: sum and count.
    AvgWords(usize, usize),
    /// The average of floats.
    AvgFloats(usize, usize),
    /// The average of decimals, with this many more digits than the argument has.
    AvgDecimals(usize, usize, u32),
    /// The least or greatest value.
    Extreme(usize, Shape, Presence),
}

impl Layout {
    /// The layout of groups in windows: it counts rows, whether a call asks for it or not, so that late ones can be counted.
    pub(super) fn windowed(schema: &SchemaRef, keys: &[usize], calls: &[Call], extra: usize) -> Result<Self> {
        let count = Call {
            function: Function::CountRows,
            argument: None,
            filter: None,
            argument_type: None,
            result_type: DataType::Int64,
            name: String::new(),
        };
        let calls: Vec<Call> = calls.iter().cloned().chain([count]).collect();
        let mut layout = Self::new(schema, keys, &calls, Mode::Append, extra)?;
        if let Some(ResultColumn { kind: ResultKind::Count(word), .. }) = layout.results.pop() {
            layout.rows = Some(word);
        }
        Ok(layout)
    }

    /// Lays out the groups of `calls` by the `keys` of rows of `schema`, with `extra` words for the owner.
    pub(super) fn new(schema: &SchemaRef, keys: &[usize], calls: &[Call], mode: Mode, extra: usize) -> Result<Self> {
        let fields: Vec<FieldRef> = keys.iter().map(|key| schema.fields()[*key].clone()).collect();
        let key = KeyLayout::new(fields)?;
        let mut builder = Builder { schema, accumulators: Vec::new(), mode };
        // Counts first: sums and extremes of the same values then need no bit of their own.
        for call in calls {
            builder.counts(call)?;
        }
        let kinds = calls.iter().map(|call| builder.call(call)).collect::<Result<Vec<_>>>()?;
        let extra_at = 1 + key.words();
        let (stride, seen) = place(&mut builder.accumulators, extra_at + extra);
        let accumulators = builder.accumulators;
        let results = kinds
            .into_iter()
            .zip(calls)
            .map(|(kind, call)| ResultColumn { kind: kind.placed(&accumulators), data_type: call.result_type.clone() })
            .collect();
        let nullable = accumulators.iter().filter(|accumulator| accumulator.seen.is_some()).count();
        let initial = initial_row(&accumulators, stride);
        Ok(Self { key, extra: extra_at, accumulators, results, stride, initial, seen, nullable, mode, rows: None })
    }

    /// The accumulator that counts the values of another one, which has no bit of its own.
    pub(super) fn counter_of(&self, of: &Accumulator) -> Option<usize> {
        let counts =
            |one: &Accumulator| one.kind == Kind::CountValues && one.argument == of.argument && one.filter == of.filter;
        self.accumulators.iter().position(counts)
    }

    /// True when rows hold strings: in the key or in an accumulator.
    pub(super) fn has_bytes(&self) -> bool {
        self.bytes_words().next().is_some()
    }

    /// The first words of all strings of a row.
    pub(super) fn bytes_words(&self) -> impl Iterator<Item = usize> {
        let extremes = self.accumulators.iter().filter(|accumulator| accumulator.kind.shape() == Some(Shape::Bytes));
        self.key.bytes_words().chain(extremes.map(|accumulator| accumulator.word))
    }
}

impl Kind {
    /// The aggregate function that it belongs to. With the argument's type it says how values are held.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::CountRows | Self::CountValues => "COUNT",
            Self::SumWords | Self::SumFloats | Self::SumDecimals => "SUM",
            Self::Extreme(Side::Least, _) => "MIN",
            Self::Extreme(Side::Greatest, _) => "MAX",
        }
    }

    /// Words of such an accumulator.
    pub(super) fn words(self) -> usize {
        match self {
            Self::CountRows | Self::CountValues | Self::SumWords | Self::SumFloats => 1,
            Self::SumDecimals => 3,
            Self::Extreme(_, Shape::Word) => 1,
            Self::Extreme(_, Shape::Decimal | Shape::Bytes) => 2,
        }
    }

    /// The shape of the value that it keeps, for least and greatest.
    pub(super) fn shape(self) -> Option<Shape> {
        match self {
            Self::Extreme(_, shape) => Some(shape),
            _ => None,
        }
    }
}

impl Shape {
    /// How values of this type are held; `None` for types without an order.
    pub(super) fn of(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::Decimal128(..) => Some(Self::Decimal),
            DataType::Utf8View | DataType::BinaryView => Some(Self::Bytes),
            other => is_word(other).then_some(Self::Word),
        }
    }
}

/// A result before the accumulators have their places: numbers are places in the list of accumulators.
#[derive(Clone, Copy)]
enum Unplaced {
    Count(usize),
    Sum(usize, Option<usize>),
    Avg(usize, usize, u32),
    Extreme(usize, Option<usize>),
}

impl Unplaced {
    fn placed(self, accumulators: &[Accumulator]) -> ResultKind {
        let word = |at: usize| accumulators[at].word;
        let presence = |at: usize| Presence::Bit(accumulators[at].seen.expect("it is not counted, so it has a bit"));
        match self {
            Self::Count(at) => ResultKind::Count(word(at)),
            Self::Sum(at, count) => {
                let presence = count.map_or_else(|| presence(at), |count| Presence::Count(word(count)));
                match accumulators[at].kind {
                    Kind::SumFloats => ResultKind::SumFloats(word(at), presence),
                    Kind::SumDecimals => ResultKind::SumDecimals(word(at), presence),
                    _ => ResultKind::SumWords(word(at), presence),
                }
            }
            Self::Avg(sum, count, digits) => match accumulators[sum].kind {
                Kind::SumFloats => ResultKind::AvgFloats(word(sum), word(count)),
                Kind::SumDecimals => ResultKind::AvgDecimals(word(sum), word(count), digits),
                _ => ResultKind::AvgWords(word(sum), word(count)),
            },
            Self::Extreme(at, count) => {
                let shape = accumulators[at].kind.shape().expect("an extreme has a shape");
                let presence = count.map_or_else(|| presence(at), |count| Presence::Count(word(count)));
                ResultKind::Extreme(word(at), shape, presence)
            }
        }
    }
}

struct Builder<'a> {
    schema: &'a SchemaRef,
    accumulators: Vec<Accumulator>,
    mode: Mode,
}

impl Builder<'_> {
    fn counts(&mut self, call: &Call) -> Result<()> {
        let kind = match call.function {
            Function::CountRows => Some(Kind::CountRows),
            Function::Count | Function::Avg => Some(Kind::CountValues),
            Function::Sum => (self.mode == Mode::Retract).then_some(Kind::CountValues),
            Function::Min | Function::Max => None,
        };
        if let Some(kind) = kind {
            self.add(kind, call);
        }
        match (call.function, &call.argument_type) {
            (Function::CountRows, _) | (_, Some(_)) => Ok(()),
            _ => Err(Failure::bug(format!("the aggregate {} has an argument without a type", call.name))),
        }
    }

    fn call(&mut self, call: &Call) -> Result<Unplaced> {
        match call.function {
            Function::CountRows => Ok(Unplaced::Count(self.add(Kind::CountRows, call))),
            Function::Count => Ok(Unplaced::Count(self.add(Kind::CountValues, call))),
            Function::Sum => {
                let count = self.find(Kind::CountValues, call);
                let sum = self.add(sum_kind(call)?, call);
                if count.is_none() {
                    self.accumulators[sum].seen = Some(Bit { word: 0, mask: 0 });
                }
                Ok(Unplaced::Sum(sum, count))
            }
            Function::Avg => {
                let count = self.add(Kind::CountValues, call);
                Ok(Unplaced::Avg(self.add(sum_kind(call)?, call), count, added_digits(call)))
            }
            Function::Min => self.extreme(Side::Least, call),
            Function::Max => self.extreme(Side::Greatest, call),
        }
    }

    fn extreme(&mut self, side: Side, call: &Call) -> Result<Unplaced> {
        let shape = call.argument_type.as_ref().and_then(Shape::of).ok_or_else(|| unsupported(call))?;
        let at = self.add(Kind::Extreme(side, shape), call);
        // A string tells by its bit whether it is there, and so does a value that a multiset writes.
        let is_told = shape != Shape::Bytes && self.mode == Mode::Append;
        let count = self.find(Kind::CountValues, call).filter(|_| is_told);
        if count.is_none() {
            self.accumulators[at].seen = Some(Bit { word: 0, mask: 0 });
        }
        Ok(Unplaced::Extreme(at, count))
    }

    fn find(&self, kind: Kind, call: &Call) -> Option<usize> {
        let argument = if kind == Kind::CountRows { None } else { call.argument };
        self.accumulators
            .iter()
            .position(|known| known.kind == kind && known.argument == argument && known.filter == call.filter)
    }

    fn add(&mut self, kind: Kind, call: &Call) -> usize {
        if let Some(at) = self.find(kind, call) {
            return at;
        }
        let argument = if kind == Kind::CountRows { None } else { call.argument };
        let data_type = argument.and(call.argument_type.clone());
        let (name, filter) = (self.name(kind, argument, call.filter), call.filter);
        self.accumulators.push(Accumulator { name, kind, argument, filter, data_type, word: 0, seen: None });
        self.accumulators.len() - 1
    }

    fn name(&self, kind: Kind, argument: Option<usize>, filter: Option<usize>) -> String {
        let column = |at: usize| self.schema.field(at).name();
        let (function, argument) = (kind.name().to_lowercase(), argument.map_or("*", |at| column(at)));
        let filter = filter.map_or(String::new(), |at| format!(" where {}", column(at)));
        format!("{function}({argument}){filter}")
    }
}

fn sum_kind(call: &Call) -> Result<Kind> {
    match call.argument_type {
        Some(DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64) => Ok(Kind::SumWords),
        Some(DataType::Float32 | DataType::Float64) => Ok(Kind::SumFloats),
        Some(DataType::Decimal128(..)) => Ok(Kind::SumDecimals),
        _ => Err(unsupported(call)),
    }
}

/// The average of DECIMAL(p, s) has the scale max(6, s).
fn added_digits(call: &Call) -> u32 {
    match (&call.argument_type, &call.result_type) {
        (Some(DataType::Decimal128(_, from)), DataType::Decimal128(_, to)) => u32::try_from(to - from).unwrap_or(0),
        _ => 0,
    }
}

fn unsupported(call: &Call) -> Failure {
    let data_type = call.argument_type.as_ref().map_or_else(|| "no type".to_owned(), ToString::to_string);
    Failure::user(format!("the aggregate {} cannot take an argument of type {data_type}", call.name))
}

/// Gives the accumulators their words and bits from word `at` on; the length of a row and where the seen-words are.
fn place(accumulators: &mut [Accumulator], at: usize) -> (usize, (usize, usize)) {
    let nullable = accumulators.iter().filter(|accumulator| accumulator.seen.is_some()).count();
    let seen = (at, nullable.saturating_sub(SEEN_IN_HEADER).div_ceil(64));
    let mut bits = (0..).map(|number: usize| match number.checked_sub(SEEN_IN_HEADER) {
        None => Bit { word: 0, mask: 1 << (SEEN_SHIFT + number as u32) },
        Some(rest) => Bit { word: seen.0 + rest / 64, mask: 1 << (rest % 64) },
    });
    let mut word = at + seen.1;
    for accumulator in accumulators {
        accumulator.word = word;
        word += accumulator.kind.words();
        if accumulator.seen.is_some() {
            accumulator.seen = bits.next();
        }
    }
    (word, seen)
}

fn initial_row(accumulators: &[Accumulator], stride: usize) -> Vec<u64> {
    let mut row = vec![0; stride];
    for accumulator in accumulators {
        let (low, high) = match accumulator.kind {
            Kind::Extreme(Side::Least, Shape::Word) => (i64::MAX as u64, None),
            Kind::Extreme(Side::Greatest, Shape::Word) => (i64::MIN as u64, None),
            Kind::Extreme(Side::Least, Shape::Decimal) => (u64::MAX, Some(i64::MAX as u64)),
            Kind::Extreme(Side::Greatest, Shape::Decimal) => (0, Some(i64::MIN as u64)),
            _ => continue,
        };
        row[accumulator.word] = low;
        if let Some(high) = high {
            row[accumulator.word + 1] = high;
        }
    }
    row
}
