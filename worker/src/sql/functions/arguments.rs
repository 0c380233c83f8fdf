//! The arguments of a call: constants or columns, read row by row without copies.

use super::temporal::reading::read_timestamp;
use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, StringViewArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    Time32MillisecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
};
use datafusion_common::{DataFusionError, Result, exec_err, internal_err};
use datafusion_expr::ColumnarValue;
use std::sync::Arc;

/// Microseconds in a second.
const SECOND: i64 = 1_000_000;
/// Microseconds in a day.
const DAY: i64 = 86_400 * SECOND;

/// One call of a function on a batch.
pub(super) struct Call<'a> {
    name: &'static str,
    /// Which call it is of a function that gives something new at every evaluation.
    pub(super) site: u64,
    arguments: &'a [ColumnarValue],
    /// How many values the result has.
    pub(super) rows: usize,
    /// The result's type.
    pub(super) returns: &'a DataType,
}

impl<'a> Call<'a> {
    pub(super) fn new(
        (name, site): (&'static str, u64),
        arguments: &'a [ColumnarValue],
        rows: usize,
        returns: &'a DataType,
    ) -> Self {
        Self { name, site, arguments, rows, returns }
    }

    /// How many arguments were given.
    pub(super) fn count(&self) -> usize {
        self.arguments.len()
    }

    /// An argument's type.
    pub(super) fn data_type(&self, index: usize) -> DataType {
        self.arguments[index].data_type()
    }

    /// An argument with a value for each row.
    pub(super) fn array(&self, index: usize) -> Result<ArrayRef> {
        self.arguments[index].to_array(self.rows)
    }

    /// A STRING argument.
    pub(super) fn texts(&self, index: usize) -> Result<Texts<'a>> {
        match &self.arguments[index] {
            ColumnarValue::Scalar(scalar) => match scalar.try_as_str() {
                Some(text) => Ok(Texts::Constant(text)),
                None => internal_err!("argument {index} of {} is no string: {scalar:?}", self.name),
            },
            ColumnarValue::Array(array) => match array.as_string_view_opt() {
                Some(array) => Ok(Texts::Column(array)),
                None => internal_err!("argument {index} of {} is no string: {}", self.name, array.data_type()),
            },
        }
    }

    /// STRING arguments from `first` on.
    pub(super) fn texts_from(&self, first: usize) -> Result<Vec<Texts<'a>>> {
        (first..self.count()).map(|index| self.texts(index)).collect()
    }

    /// An argument of a primitive type.
    pub(super) fn values<T: ArrowPrimitiveType>(&self, index: usize) -> Result<Values<T>> {
        let (array, constant) = match &self.arguments[index] {
            ColumnarValue::Scalar(scalar) => (scalar.to_array()?, true),
            ColumnarValue::Array(array) => (Arc::clone(array), false),
        };
        match array.as_primitive_opt::<T>() {
            Some(values) => Ok(Values { values: values.clone(), constant }),
            None => internal_err!("argument {index} of {} has the type {}", self.name, array.data_type()),
        }
    }

    /// An argument of [`super::definition::Kind::Integer`].
    pub(super) fn longs(&self, index: usize) -> Result<Values<Int64Type>> {
        if self.data_type(index) == DataType::Int64 {
            return self.values(index);
        }
        let (array, constant) = match &self.arguments[index] {
            ColumnarValue::Scalar(scalar) => (scalar.to_array()?, true),
            ColumnarValue::Array(array) => (Arc::clone(array), false),
        };
        let values = arrow::compute::cast(&array, &DataType::Int64)?.as_primitive::<Int64Type>().clone();
        Ok(Values { values, constant })
    }

    /// An argument of [`super::definition::Kind::Double`].
    pub(super) fn doubles(&self, index: usize) -> Result<Values<Float64Type>> {
        self.values(index)
    }

    /// A point in time.
    pub(super) fn moments(&self, index: usize) -> Result<Moments<'a>> {
        Ok(match self.data_type(index) {
            DataType::Utf8View | DataType::Utf8 => Moments::Texts(self.texts(index)?),
            DataType::Date32 => Moments::Days(self.values::<Date32Type>(index)?),
            DataType::Time32(TimeUnit::Millisecond) => Moments::Times(self.values::<Time32MillisecondType>(index)?),
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                Moments::Millis(self.values::<TimestampMillisecondType>(index)?)
            }
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Moments::Micros(self.values::<TimestampMicrosecondType>(index)?)
            }
            other => return internal_err!("argument {index} of {} is no point in time but {other}", self.name),
        })
    }

    /// A mistake in the values of an argument.
    pub(super) fn error<T>(&self, message: impl std::fmt::Display) -> Result<T> {
        exec_err!("{}: {message}", self.name.to_uppercase())
    }

    /// A mistake in the values of an argument, as a value.
    pub(super) fn mistake(&self, message: impl std::fmt::Display) -> DataFusionError {
        DataFusionError::Execution(format!("{}: {message}", self.name.to_uppercase()))
    }
}

/// Strings: one for all rows, or one for each.
#[derive(Clone, Copy)]
pub(super) enum Texts<'a> {
    /// The same in every row.
    Constant(Option<&'a str>),
    /// A column.
    Column(&'a StringViewArray),
}

impl<'a> Texts<'a> {
    /// The string of a row.
    #[inline]
    pub(super) fn get(&self, row: usize) -> Option<&'a str> {
        match self {
            Self::Constant(text) => *text,
            // SAFETY: callers stay below the number of rows, which is the column's length.
            Self::Column(array) if row < array.len() => {
                (!array.is_null(row)).then(|| unsafe { array.value_unchecked(row) })
            }
            Self::Column(_) => None,
        }
    }

    /// The string, when it is the same in every row.
    pub(super) fn constant(&self) -> Option<&'a str> {
        match self {
            Self::Constant(text) => *text,
            Self::Column(_) => None,
        }
    }
}

/// Values of a primitive type: one for all rows, or one for each.
pub(super) struct Values<T: ArrowPrimitiveType> {
    values: PrimitiveArray<T>,
    constant: bool,
}

impl<T: ArrowPrimitiveType> Values<T> {
    /// The value of a row.
    #[inline]
    pub(super) fn get(&self, row: usize) -> Option<T::Native> {
        let row = if self.constant { 0 } else { row };
        (!self.values.is_null(row)).then(|| self.values.value(row))
    }

    /// The value, when it is the same in every row.
    pub(super) fn constant(&self) -> Option<T::Native> {
        if self.constant { self.get(0) } else { None }
    }

    /// The column, unless it is a constant.
    pub(super) fn column(&self) -> Option<&PrimitiveArray<T>> {
        (!self.constant).then_some(&self.values)
    }
}

/// Points in time as microseconds since 1970, UTC.
pub(super) enum Moments<'a> {
    /// DATE
    Days(Values<Date32Type>),
    /// TIME, on the first day of 1970
    Times(Values<Time32MillisecondType>),
    /// TIMESTAMP(3)
    Millis(Values<TimestampMillisecondType>),
    /// TIMESTAMP(6)
    Micros(Values<TimestampMicrosecondType>),
    /// Text in the form of a timestamp
    Texts(Texts<'a>),
}

impl Moments<'_> {
    /// The moment of a row; null for text that is none.
    #[inline]
    pub(super) fn get(&self, row: usize) -> Option<i64> {
        match self {
            Self::Days(values) => values.get(row).map(|days| i64::from(days).saturating_mul(DAY)),
            Self::Times(values) => values.get(row).map(|millis| i64::from(millis) * 1000),
            Self::Millis(values) => values.get(row).map(|millis| millis.saturating_mul(1000)),
            Self::Micros(values) => values.get(row),
            Self::Texts(texts) => read_timestamp(texts.get(row)?),
        }
    }
}

/// A number of any type, as the kernels of rounding and signs see it.
pub(super) enum Numbers {
    /// TINYINT
    Tiny(Values<Int8Type>),
    /// SMALLINT
    Small(Values<Int16Type>),
    /// INT
    Int(Values<Int32Type>),
    /// BIGINT
    Long(Values<Int64Type>),
    /// FLOAT
    Float(Values<Float32Type>),
    /// DOUBLE
    Double(Values<Float64Type>),
    /// DECIMAL with its scale
    Decimal(Values<Decimal128Type>, i8),
}

impl Call<'_> {
    /// An argument of [`super::definition::Kind::Number`].
    pub(super) fn numbers(&self, index: usize) -> Result<Numbers> {
        Ok(match self.data_type(index) {
            DataType::Int8 => Numbers::Tiny(self.values(index)?),
            DataType::Int16 => Numbers::Small(self.values(index)?),
            DataType::Int32 => Numbers::Int(self.values(index)?),
            DataType::Int64 => Numbers::Long(self.values(index)?),
            DataType::Float32 => Numbers::Float(self.values(index)?),
            DataType::Float64 => Numbers::Double(self.values(index)?),
            DataType::Decimal128(_, scale) => Numbers::Decimal(self.values(index)?, scale),
            other => return internal_err!("argument {index} of {} is no number but {other}", self.name),
        })
    }
}
