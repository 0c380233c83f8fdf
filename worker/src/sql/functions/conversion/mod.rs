//! CAST and TRY_CAST with Flink's meaning.
//!
//! Numbers wrap around when an integer type is too small, decimals that do not fit are NULL, text that cannot be read
//! fails the job, or is NULL with TRY_CAST. Which pairs of types exist and which of them Arrow's kernels convert in the
//! same way is decided by [`route`].

mod number;
mod reading;
mod rule;
mod writing;

pub(super) use reading::is_number;
pub use rule::CastRule;

use super::arguments::Call;
use super::definition::{Function, Kind, Returns};
use super::text::TextColumn;
use super::typing::{engine_type, is_numeric, is_text, sql_name};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringViewArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field};
use arrow::util::display::FormatOptions;
use datafusion_common::{Result, ScalarValue, plan_err};
use datafusion_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::collections::HashMap;
use std::sync::Arc;

/// The functions of this family.
pub(super) const FUNCTIONS: &[Function] = &[Function::new(
    "typeof",
    "TYPEOF(value)",
    "the name of its type",
    &[Kind::Any],
    Returns::Text,
    |call: &Call<'_>| {
        let name = sql_name(&call.data_type(0));
        Ok(Arc::new(StringViewArray::from_iter_values(std::iter::repeat_n(name, call.rows))))
    },
)];

/// Metadata of a type's field: the most characters of VARCHAR(n), CHAR(n), or bytes of VARBINARY(n), BINARY(n).
pub const LENGTH_KEY: &str = "weir.length";
/// Metadata of a type's field: present for CHAR(n), which is filled up with blanks.
pub const PADDED_KEY: &str = "weir.padded";
/// Metadata of a type's field: the digits of a second's fraction in TIMESTAMP(p), where the Arrow type has more.
pub const PRECISION_KEY: &str = "weir.precision";

/// How a pair of types is converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    /// Arrow's cast does what Flink does.
    Arrow,
    /// Our own conversion.
    Own,
    /// Flink has no such cast, or it is not there yet.
    None,
}

/// Decides for types of the engine.
fn route(from: &DataType, to: &DataType) -> Route {
    use DataType as T;
    if from == to || from.is_null() {
        return Route::Arrow;
    }
    match (from, to) {
        (_, T::Utf8View) => match from {
            T::Boolean | T::BinaryView | T::Date32 | T::Time32(_) | T::Timestamp(..) => Route::Own,
            _ if is_numeric(from) => Route::Own,
            _ => Route::None,
        },
        (T::Utf8View, T::Boolean | T::BinaryView | T::Date32 | T::Time32(_) | T::Timestamp(..)) => Route::Own,
        (T::Utf8View, _) if is_numeric(to) => Route::Own,
        (T::Boolean, T::Decimal128(..)) => Route::Own,
        (T::Boolean, _) if is_numeric(to) => Route::Arrow,
        (_, T::Boolean) if is_numeric(from) => Route::Own,
        _ if is_numeric(from) && is_numeric(to) => number::route(from, to),
        (T::Date32, T::Timestamp(..)) => Route::Arrow,
        (T::Timestamp(..), T::Date32 | T::Time32(_) | T::Timestamp(..)) => Route::Own,
        (T::List(from), T::List(to)) => nested(from, to),
        (T::Struct(from), T::Struct(to)) if from.len() == to.len() => {
            if from.iter().zip(to).all(|(from, to)| nested(from, to) == Route::Arrow) {
                Route::Arrow
            } else {
                Route::None
            }
        }
        _ => Route::None,
    }
}

fn nested(from: &Field, to: &Field) -> Route {
    match route(from.data_type(), to.data_type()) {
        Route::Arrow => Route::Arrow,
        Route::Own | Route::None => Route::None,
    }
}

/// Limits of a type that its Arrow type does not express.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Limits {
    length: Option<usize>,
    padded: bool,
    precision: Option<u8>,
}

impl Limits {
    fn of(metadata: &HashMap<String, String>) -> Self {
        Self {
            length: metadata.get(LENGTH_KEY).and_then(|length| length.parse().ok()),
            padded: metadata.contains_key(PADDED_KEY),
            precision: metadata.get(PRECISION_KEY).and_then(|precision| precision.parse().ok()),
        }
    }
}

/// The expression that casts `expr` of type `from` as Flink does, to the engine's type for `to`; `None` when a plain
/// cast does.
fn flink_cast(expr: &Expr, from: &DataType, to: &Field, strict: bool) -> Result<Option<Expr>> {
    let target = engine_type(to.data_type());
    let source = engine_type(from);
    let limits = Limits::of(to.metadata());
    if let DataType::Timestamp(_, Some(zone)) = &target
        && zone.as_ref() != "UTC"
    {
        return plan_err!("AT TIME ZONE is not supported: use CONVERT_TZ(text, from_zone, to_zone)");
    }
    match route(&source, &target) {
        Route::None => {
            let hint = match (&source, &target) {
                (DataType::Timestamp(..), to) if is_numeric(to) => ": use UNIX_TIMESTAMP(CAST(… AS STRING)) or EXTRACT",
                (from, DataType::Timestamp(..)) if is_numeric(from) => ": use TO_TIMESTAMP_LTZ(number, 0 or 3)",
                _ => "",
            };
            plan_err!("{} cannot be cast to {}{hint}", sql_name(&source), sql_name(&target))
        }
        Route::Arrow if limits == Limits::default() => Ok(None),
        _ => {
            let cast = Cast { target, limits, strict, signature: Signature::any(1, Volatility::Immutable) };
            Ok(Some(ScalarUDF::from(cast).call(vec![expr.clone()])))
        }
    }
}

/// A cast to one type.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Cast {
    target: DataType,
    limits: Limits,
    /// Fails on what cannot be read; otherwise that is NULL.
    strict: bool,
    signature: Signature,
}

impl ScalarUDFImpl for Cast {
    fn name(&self) -> &str {
        if self.strict { "cast" } else { "try_cast" }
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        // As DataFusion names a cast: the argument's name alone.
        Ok(args.first().map_or_else(String::new, |argument| argument.schema_name().to_string()))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.target.clone())
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let (array, constant) = match &args.args[0] {
            ColumnarValue::Array(array) => (Arc::clone(array), false),
            ColumnarValue::Scalar(scalar) => (scalar.to_array()?, true),
        };
        let array = self.cast(&array)?;
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
}

impl Cast {
    fn cast(&self, array: &ArrayRef) -> Result<ArrayRef> {
        let array = to_engine(array)?;
        let from = array.data_type();
        let converted = match route(from, &self.target) {
            Route::Arrow => arrow_cast(&array, &self.target)?,
            Route::Own if self.target == DataType::Utf8View => writing::write(&array)?,
            Route::Own if is_text(from) => reading::read(array.as_string_view(), &self.target, self.strict)?,
            Route::Own if is_numeric(from) => number::convert(&array, &self.target)?,
            Route::Own if *from == DataType::Boolean => {
                arrow_cast(&arrow_cast(&array, &DataType::Int32)?, &self.target)?
            }
            Route::Own => writing::convert_time(&array, &self.target)?,
            Route::None => return plan_err!("{} cannot be cast to {}", sql_name(from), sql_name(&self.target)),
        };
        self.limit(converted)
    }

    fn limit(&self, array: ArrayRef) -> Result<ArrayRef> {
        match (&self.target, self.limits) {
            (DataType::Utf8View, Limits { length: Some(length), padded, .. }) => {
                Ok(limit_text(array.as_string_view(), length, padded))
            }
            (DataType::BinaryView, Limits { length: Some(length), padded, .. }) => {
                let limited = array.as_binary_view().iter().map(|bytes| {
                    let mut bytes = bytes?.to_vec();
                    bytes.truncate(length);
                    if padded {
                        bytes.resize(length, 0);
                    }
                    Some(bytes)
                });
                Ok(Arc::new(limited.collect::<arrow::array::BinaryViewArray>()))
            }
            (DataType::Timestamp(..), Limits { precision: Some(precision), .. }) => {
                writing::limit_precision(&array, precision)
            }
            _ => Ok(array),
        }
    }
}

fn limit_text(array: &StringViewArray, length: usize, padded: bool) -> ArrayRef {
    let mut column = TextColumn::new(array.len());
    for text in array {
        let Some(text) = text else {
            column.push_null();
            continue;
        };
        let end = text.char_indices().nth(length).map_or(text.len(), |(offset, _)| offset);
        let missing = if padded { length - text[..end].chars().count() } else { 0 };
        column.write(|out| {
            out.push_str(&text[..end]);
            out.extend(std::iter::repeat_n(' ', missing));
        });
    }
    column.finish()
}

/// An array with the engine's type for its type.
fn to_engine(array: &ArrayRef) -> Result<ArrayRef> {
    let wanted = engine_type(array.data_type());
    if wanted == *array.data_type() { Ok(Arc::clone(array)) } else { arrow_cast(array, &wanted) }
}

/// Arrow's cast; what does not fit is NULL.
fn arrow_cast(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    let options = CastOptions { safe: true, format_options: FormatOptions::default() };
    Ok(cast_with_options(array, to, &options)?)
}

/// Whether each number is not zero.
fn is_not_zero(array: &ArrayRef) -> Result<ArrayRef> {
    let zero = ScalarValue::new_zero(array.data_type())?.to_scalar()?;
    let truths: BooleanArray = arrow::compute::kernels::cmp::neq(array, &zero)?;
    Ok(Arc::new(truths))
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;

    #[test]
    fn casts_give_what_flink_gives() {
        check(
            "CAST(TRUE AS STRING) -> STRING TRUE
             CAST(-42 AS STRING) -> STRING -42
             CAST(CAST(-9223372036854775808 AS BIGINT) AS STRING) -> STRING -9223372036854775808
             CAST(9.870 AS STRING) -> STRING 9.870
             CAST(-0.05 AS STRING) -> STRING -0.05
             CAST(123.456e0 AS STRING) -> STRING 123.456
             CAST(1e7 AS STRING) -> STRING 1.0E7
             CAST(1234567e0 AS STRING) -> STRING 1234567.0
             CAST(0.001e0 AS STRING) -> STRING 0.001
             CAST(-0.000123e0 AS STRING) -> STRING -1.23E-4
             CAST(0e0 AS STRING) -> STRING 0.0
             CAST(1e0 / 0 AS STRING) -> STRING Infinity
             CAST(CAST(0.1 AS FLOAT) AS STRING) -> STRING 0.1
             CAST(DATE '2021-09-24' AS STRING) -> STRING 2021-09-24
             CAST(TIME '12:34:56' AS STRING) -> STRING 12:34:56
             CAST(TIMESTAMP '2021-09-24 12:34:56.1' AS STRING) -> STRING 2021-09-24 12:34:56.100
             CAST(TIMESTAMP '2021-09-24 12:34:56.123456' AS STRING) -> STRING 2021-09-24 12:34:56.123456
             CAST(TIMESTAMP '1969-09-24 12:34:56.1' AS STRING) -> STRING 1969-09-24 12:34:56.100
             CAST('abcdef' AS VARCHAR(3)) -> STRING abc
             CAST('größe' AS VARCHAR(4)) -> STRING größ
             CAST('ab' AS CHAR(4)) || '|' -> STRING ab  |
             CAST(12345 AS VARCHAR(2)) -> STRING 12
             CAST(' True ' AS BOOLEAN) -> BOOLEAN true
             CAST('FalsE' AS BOOLEAN) -> BOOLEAN false
             CAST('foo' AS BOOLEAN) -> error 'foo' is not a valid BOOLEAN
             TRY_CAST('foo' AS BOOLEAN) -> BOOLEAN NULL
             CAST(0 AS BOOLEAN) -> BOOLEAN false
             CAST(-3 AS BOOLEAN) -> BOOLEAN true
             CAST(TRUE AS INT) -> INT 1
             CAST(TRUE AS DECIMAL(5, 3)) -> DECIMAL(5, 3) 1.000
             CAST(' 42 ' AS INT) -> INT 42
             CAST('1.234' AS INT) -> INT 1
             CAST('-130' AS TINYINT) -> error '-130' is not a valid TINYINT
             CAST('-128' AS TINYINT) -> TINYINT -128
             CAST('-9223372036854775808' AS BIGINT) -> BIGINT -9223372036854775808
             CAST('9223372036854775808' AS BIGINT) -> error not a valid BIGINT
             CAST('' AS INT) -> error '' is not a valid INT
             TRY_CAST('non-number' AS INT) -> INT NULL
             CAST('1.5e3' AS DOUBLE) -> DOUBLE 1500.0
             CAST('inf' AS DOUBLE) -> error not a valid DOUBLE
             CAST('Infinity' AS DOUBLE) -> DOUBLE inf
             CAST('1.2' AS DECIMAL(5, 3)) -> DECIMAL(5, 3) 1.200
             CAST('1.2345' AS DECIMAL(5, 3)) -> DECIMAL(5, 3) 1.235
             CAST('-0.0005' AS DECIMAL(5, 3)) -> DECIMAL(5, 3) -0.001
             CAST('0.0004' AS DECIMAL(5, 3)) -> DECIMAL(5, 3) 0.000
             CAST('123.4' AS DECIMAL(5, 3)) -> DECIMAL(5, 3) NULL
             CAST('12e-1' AS DECIMAL(5, 3)) -> DECIMAL(5, 3) 1.200
             CAST('12e99999999' AS DECIMAL(5, 3)) -> DECIMAL(5, 3) NULL
             CAST('foo' AS DECIMAL(5, 3)) -> error 'foo' is not a valid DECIMAL(5, 3)
             CAST(-12.345e0 AS DECIMAL(5, 3)) -> DECIMAL(5, 3) -12.345
             CAST(1.005e0 AS DECIMAL(3, 2)) -> DECIMAL(3, 2) 1.01
             CAST(1e0 / 0 AS DECIMAL(3, 2)) -> DECIMAL(3, 2) NULL
             CAST(12.678 AS DECIMAL(4, 2)) -> DECIMAL(4, 2) 12.68
             CAST(128 AS TINYINT) -> TINYINT -128
             CAST(1234567 AS SMALLINT) -> SMALLINT -10617
             CAST(9123.87 AS TINYINT) -> TINYINT -93
             CAST(9.87 AS INT) -> INT 9
             CAST(-9.87e0 AS INT) -> INT -9
             CAST(123456.7890e0 AS SMALLINT) -> SMALLINT -7616
             CAST(9234567891.12345e0 AS INT) -> INT 644633299
             CAST('2021-09-24' AS DATE) -> DATE 2021-09-24
             CAST('2021-09-24 12:34:56' AS DATE) -> DATE 2021-09-24
             CAST('2021-02-29' AS DATE) -> error not a valid DATE
             CAST('2021-09-24 12:34:56.123' AS TIMESTAMP(3)) -> TIMESTAMP(3) 2021-09-24 12:34:56.123
             CAST('2021-09-24' AS TIMESTAMP(3)) -> TIMESTAMP(3) 2021-09-24 00:00:00
             CAST('2021-09-24 25:00:00' AS TIMESTAMP(3)) -> error not a valid TIMESTAMP(3)
             CAST('12:34' AS TIME) -> TIME(0) 12:34:00
             CAST(TIMESTAMP '1969-12-31 23:59:59' AS DATE) -> DATE 1969-12-31
             CAST(DATE '2021-09-24' AS TIMESTAMP(3)) -> TIMESTAMP(3) 2021-09-24 00:00:00
             CAST(TIMESTAMP '2021-09-24 12:34:56.7' AS TIME) -> TIME(0) 12:34:56
             CAST(CAST('ab' AS BYTES) AS STRING) -> STRING ab
             CAST(TIMESTAMP '2021-09-24 12:34:56' AS BIGINT) -> error cannot be cast to BIGINT
             TIMESTAMP '2021-09-24 12:34:56' AT TIME ZONE 'Europe/Berlin' -> error CONVERT_TZ
             CAST(1 AS DATE) -> error INT cannot be cast to DATE
             CAST(NULL AS STRING) -> STRING NULL
             TYPEOF(1) -> STRING INT
             TYPEOF(0.5) -> STRING DECIMAL(2, 1)
             TYPEOF(3000000000) -> STRING BIGINT",
        );
    }
}
