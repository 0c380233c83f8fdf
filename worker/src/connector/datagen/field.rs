//! What the options `fields.#.…` say about each column, and about the fields and elements within it.

use super::super::options::Options;
use crate::diagnostic::Diagnostic;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use std::cell::Cell;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Values of strings and bytes are this long where no option says otherwise, as in Flink.
const TEXT_LENGTH: u64 = 100;

/// Arrays have this many elements where no option says otherwise, as in Flink.
const ARRAY_LENGTH: u64 = 3;

const MAX_LENGTH: i64 = 1 << 20;

/// How the values of a column are made.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Recipe {
    /// Tells the random numbers of columns apart, whichever of them are read.
    pub(super) salt: u64,
    pub(super) data_type: DataType,
    /// The share of values that are NULL, from 0 to 1.
    pub(super) null_rate: f64,
    pub(super) values: Values,
}

/// What the values are.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Values {
    Boolean,
    /// Even random whole numbers, decimals in units of their scale.
    Integers(RangeInclusive<i128>),
    /// Even random numbers.
    Floats(RangeInclusive<f64>),
    /// Random hexadecimal digits, or random bytes.
    Bytes {
        length: u64,
        vary: bool,
    },
    /// The time on the clock, less a random time.
    Recent(Duration),
    /// This number and those after it, up to `last`, times `step` (the unit of a decimal's scale).
    Sequence {
        first: i128,
        last: i128,
        step: i128,
    },
    Array(FieldRef, Box<Recipe>, u64),
    Row(Fields, Vec<Recipe>),
}

impl Recipe {
    /// How many rows a sequence in it has.
    pub(super) fn rows(&self) -> Option<u64> {
        match &self.values {
            Values::Sequence { first, last, .. } => Some(u64::try_from(last - first + 1).unwrap_or(0)),
            Values::Row(_, fields) => fields.iter().filter_map(Self::rows).min(),
            _ => None,
        }
    }

    /// About how many bytes a value takes.
    pub(super) fn width(&self) -> u64 {
        match &self.values {
            Values::Bytes { length, .. } => 16 + length,
            Values::Array(_, element, length) => 4 + element.width() * length,
            Values::Row(_, fields) => fields.iter().map(Self::width).sum(),
            _ => self.data_type.primitive_width().unwrap_or(16) as u64,
        }
    }
}

/// Reads the options of fields.
pub(super) struct FieldReader<'a> {
    options: &'a Options,
    salt: Cell<u64>,
}

impl<'a> FieldReader<'a> {
    pub(super) fn new(options: &'a Options) -> Self {
        Self { options, salt: Cell::new(0) }
    }

    /// The recipe for the field at `path`; mistakes are noted with the options.
    pub(super) fn read(&self, path: &str, field: &Field) -> Recipe {
        let salt = self.salt.replace(self.salt.get() + 1);
        let key = |name: &str| format!("fields.{path}.{name}");
        let sequence = self.options.choice(&key("kind"), &[("random", false), ("sequence", true)]).unwrap_or(false);
        let data_type = field.data_type().clone();
        if sequence {
            let values = self.sequence(path, &data_type);
            return Recipe { salt, data_type, null_rate: 0.0, values };
        }
        let null_rate = self.options.parsed(&key("null-rate"), |text| match text.trim().parse() {
            Ok(rate) if (0.0..=1.0).contains(&rate) => Ok(rate),
            _ => Err("a number from 0 to 1 expected".to_owned()),
        });
        let null_rate = null_rate.unwrap_or(0.0);
        if null_rate > 0.0 && !field.is_nullable() {
            self.options.mistake_in(&key("null-rate"), format!("'{path}' is NOT NULL and has a null-rate"), None);
        }
        let values = self.random(path, &data_type);
        Recipe { salt, data_type, null_rate, values }
    }

    fn random(&self, path: &str, data_type: &DataType) -> Values {
        match data_type {
            DataType::Boolean => Values::Boolean,
            DataType::Float32 => self.floats(path, f64::from(f32::MIN_POSITIVE), f64::from(f32::MAX)),
            DataType::Float64 => self.floats(path, f64::MIN_POSITIVE, f64::MAX),
            DataType::Utf8View | DataType::BinaryView => Values::Bytes {
                length: self.length(path, TEXT_LENGTH),
                vary: self.options.boolean(&format!("fields.{path}.var-len")).unwrap_or(false),
            },
            DataType::Date32 | DataType::Time32(TimeUnit::Millisecond) => Values::Recent(Duration::ZERO),
            DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond, _) => {
                Values::Recent(self.options.duration(&format!("fields.{path}.max-past")).unwrap_or_default())
            }
            DataType::List(element) => {
                let length = self.length(path, ARRAY_LENGTH);
                let recipe = self.read(&format!("{path}.element"), element);
                if recipe.rows().is_some() {
                    self.mistake(path, "the elements of an array cannot be a sequence");
                }
                Values::Array(element.clone(), Box::new(recipe), length)
            }
            DataType::Struct(fields) => {
                let recipe = |field: &FieldRef| self.read(&format!("{path}.{}", field.name()), field);
                Values::Row(fields.clone(), fields.iter().map(recipe).collect())
            }
            data_type => match bounds(data_type) {
                Some(bounds) => self.integers(path, data_type, bounds),
                None => {
                    self.mistake(path, &format!("datagen makes no values of the type {data_type}"));
                    Values::Boolean
                }
            },
        }
    }

    fn integers(&self, path: &str, data_type: &DataType, bounds: RangeInclusive<i128>) -> Values {
        let bound = |name: &str, default: i128| {
            let parse = |text: &str| parse_number(text, data_type).ok_or_else(|| wanted(data_type));
            self.options.parsed(&format!("fields.{path}.{name}"), parse).unwrap_or(default)
        };
        let (min, max) = (bound("min", *bounds.start()), bound("max", *bounds.end()));
        self.check_order(path, "min", "max", min <= max);
        Values::Integers(min..=max)
    }

    fn floats(&self, path: &str, least: f64, most: f64) -> Values {
        let bound = |name: &str, default: f64| {
            let parse = |text: &str| text.trim().parse().ok().filter(|number: &f64| number.abs() <= most);
            let key = format!("fields.{path}.{name}");
            self.options
                .parsed(&key, |text| parse(text).ok_or_else(|| "a number expected".to_owned()))
                .unwrap_or(default)
        };
        let max = bound("max", most);
        let min = bound("min", least.min(max));
        self.check_order(path, "min", "max", min <= max);
        Values::Floats(min..=max)
    }

    fn sequence(&self, path: &str, data_type: &DataType) -> Values {
        let (bounds, step) = match data_type {
            DataType::Utf8View | DataType::Float64 | DataType::Float32 => (i64::MIN.into()..=i64::MAX.into(), 1),
            DataType::Decimal128(_, scale @ 0..) => {
                let step = 10i128.pow(scale.unsigned_abs().into());
                let most = bounds(data_type).map_or(0, |bounds| bounds.end() / step);
                (-most..=most, step)
            }
            _ => match bounds(data_type) {
                Some(bounds) => (bounds, 1),
                None => {
                    self.mistake(path, "a sequence is made of numbers or strings only");
                    (0..=0, 1)
                }
            },
        };
        let bound = |name: &str| {
            let key = format!("fields.{path}.{name}");
            if self.options.text(&key).is_none() {
                self.mistake(path, &format!("a sequence needs the option '{key}'"));
                return None;
            }
            self.options.parsed(&key, |text| {
                let number = text.trim().parse().ok().filter(|number| bounds.contains(number));
                number.ok_or_else(|| format!("a whole number from {} to {} expected", bounds.start(), bounds.end()))
            })
        };
        let (first, last) = (bound("start"), bound("end"));
        if let (Some(first), Some(last)) = (first, last) {
            self.check_order(path, "start", "end", first <= last);
        }
        Values::Sequence { first: first.unwrap_or(0), last: last.unwrap_or(0), step }
    }

    fn length(&self, path: &str, default: u64) -> u64 {
        let length = self.options.integer(&format!("fields.{path}.length"), 1..=MAX_LENGTH);
        length.map_or(default, i64::cast_unsigned)
    }

    fn check_order(&self, path: &str, low: &str, high: &str, ordered: bool) {
        if !ordered {
            let message = format!("'fields.{path}.{low}' is above 'fields.{path}.{high}'");
            self.options.mistake_in(&format!("fields.{path}.{low}"), message, None);
        }
    }

    fn mistake(&self, path: &str, message: &str) {
        let table = self.options.table();
        self.options.mistake(Diagnostic::new(format!("table '{table}': column '{path}': {message}")));
    }
}

/// The values of a type of whole numbers, those of a decimal in units of its scale.
fn bounds(data_type: &DataType) -> Option<RangeInclusive<i128>> {
    match data_type {
        DataType::Int8 => Some(i8::MIN.into()..=i8::MAX.into()),
        DataType::Int16 => Some(i16::MIN.into()..=i16::MAX.into()),
        DataType::Int32 => Some(i32::MIN.into()..=i32::MAX.into()),
        DataType::Int64 => Some(i64::MIN.into()..=i64::MAX.into()),
        DataType::Decimal128(precision, 0..) => {
            let most = 10i128.pow(u32::from(*precision)) - 1;
            Some(-most..=most)
        }
        _ => None,
    }
}

/// A number as the user wrote it, in units of the type's scale.
fn parse_number(text: &str, data_type: &DataType) -> Option<i128> {
    let scale = match data_type {
        DataType::Decimal128(_, scale @ 0..) => usize::from(scale.unsigned_abs()),
        _ => 0,
    };
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let digits = fraction.bytes().all(|byte| byte.is_ascii_digit()) && fraction.len() <= scale;
    let number = digits.then(|| format!("{whole}{fraction:0<scale$}").parse().ok()).flatten();
    number.filter(|number| bounds(data_type).is_some_and(|bounds| bounds.contains(number)))
}

fn wanted(data_type: &DataType) -> String {
    match data_type {
        DataType::Decimal128(precision, scale) => format!("a number that is a DECIMAL({precision}, {scale}) expected"),
        _ => bounds(data_type).map_or_else(String::new, |bounds| {
            format!("a whole number from {} to {} expected", bounds.start(), bounds.end())
        }),
    }
}
