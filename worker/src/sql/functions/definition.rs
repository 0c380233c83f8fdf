//! How a scalar function is defined: one constant with its name, its arguments, its type and its evaluation.

use super::arguments::Call;
use super::typing::{self, is_numeric, is_temporal, is_text};
use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, ScalarValue, plan_err};
use datafusion_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What an argument must be, and the Arrow type it is brought to before evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// STRING: `Utf8View`.
    Text,
    /// Any integer, read as `i64`.
    Integer,
    /// Any number: `Float64`.
    Double,
    /// Any number, as it is.
    Number,
    /// DATE or a timestamp as it is; a string stays one and is read as a timestamp.
    Moment,
    /// DATE, TIME or a timestamp as it is; a string stays one and is read as a timestamp.
    Temporal,
    /// STRING or a number, as it is.
    TextOrNumber,
    /// Anything, as it is.
    Any,
    /// All arguments of this kind are brought to their common type.
    Same,
}

/// The type of a function's result.
#[derive(Debug, Clone, Copy)]
pub(super) enum Returns {
    /// BOOLEAN
    Truth,
    /// INT
    Int,
    /// BIGINT
    Long,
    /// DOUBLE
    Double,
    /// STRING
    Text,
    /// DATE
    Date,
    /// TIME
    Time,
    /// TIMESTAMP(3)
    Timestamp,
    /// TIMESTAMP_LTZ(3)
    TimestampLtz,
    /// That of the first argument.
    First,
    /// That of the last argument, to which all of [`Kind::Same`] are brought.
    Common,
    /// Computed from the arguments' types and, where they are literals, values.
    By(fn(&[DataType], &[Option<&ScalarValue>]) -> Result<DataType>),
}

/// A scalar function.
#[derive(Debug)]
pub(super) struct Function {
    /// The name, in lower case.
    pub(super) name: &'static str,
    /// Other names.
    aliases: &'static [&'static str],
    /// How it is called, for people.
    pub(super) usage: &'static str,
    /// What it gives, for people.
    pub(super) meaning: &'static str,
    arguments: &'static [Kind],
    /// So many of the last arguments may be left out.
    optional: usize,
    /// The last argument may come any number of times.
    repeats: bool,
    returns: Returns,
    volatility: Volatility,
    evaluate: fn(&Call<'_>) -> Result<ArrayRef>,
}

impl Function {
    /// A function that depends on its arguments alone.
    pub(super) const fn new(
        name: &'static str,
        usage: &'static str,
        meaning: &'static str,
        arguments: &'static [Kind],
        returns: Returns,
        evaluate: fn(&Call<'_>) -> Result<ArrayRef>,
    ) -> Self {
        Self {
            name,
            aliases: &[],
            usage,
            meaning,
            arguments,
            optional: 0,
            repeats: false,
            returns,
            volatility: Volatility::Immutable,
            evaluate,
        }
    }

    /// The last `count` arguments may be left out.
    pub(super) const fn optional(mut self, count: usize) -> Self {
        self.optional = count;
        self
    }

    /// The last argument may come any number of times, but at least once.
    pub(super) const fn repeats(mut self) -> Self {
        self.repeats = true;
        self
    }

    /// Other names of the same function.
    pub(super) const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    /// It gives something new at every evaluation: it is never computed while planning.
    pub(super) const fn volatile(mut self) -> Self {
        self.volatility = Volatility::Volatile;
        self
    }

    /// Whether it gives something new at every evaluation.
    pub(super) fn is_volatile(&self) -> bool {
        self.volatility == Volatility::Volatile
    }

    /// The function as DataFusion calls it.
    pub(super) fn udf(&'static self) -> Arc<ScalarUDF> {
        Arc::new(ScalarUDF::from(Scalar {
            function: self,
            site: SITES.fetch_add(1, Ordering::Relaxed),
            signature: Signature::user_defined(self.volatility),
            aliases: self.aliases.iter().map(ToString::to_string).collect(),
        }))
    }

    /// What its arguments must be.
    #[cfg(test)]
    pub(super) fn kinds(&self) -> &'static [Kind] {
        self.arguments
    }

    fn kind(&self, index: usize) -> Kind {
        self.arguments[index.min(self.arguments.len() - 1)]
    }

    fn accepts_count(&self, count: usize) -> bool {
        let most = self.arguments.len();
        let least = most - self.optional;
        count >= least && (count <= most || self.repeats)
    }

    /// The types that arguments of `given` types are brought to.
    fn coerce(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        if !self.accepts_count(given.len()) {
            return plan_err!("{} does not take {} arguments: write {}", self.title(), given.len(), self.usage);
        }
        let same: Vec<&DataType> =
            given.iter().enumerate().filter(|(i, _)| self.kind(*i) == Kind::Same).map(|(_, t)| t).collect();
        let common = typing::common_type(&same);
        let wanted = given.iter().enumerate().map(|(index, given)| match self.kind(index) {
            Kind::Same => common.clone(),
            kind => coerce_one(kind, given),
        });
        match wanted.collect::<Option<Vec<_>>>() {
            Some(types) => Ok(types),
            None => {
                let given: Vec<String> = given.iter().map(typing::sql_name).collect();
                plan_err!("{} does not take ({}): write {}", self.title(), given.join(", "), self.usage)
            }
        }
    }

    /// The name as people write it.
    pub(super) fn title(&self) -> String {
        self.name.to_uppercase()
    }
}

fn coerce_one(kind: Kind, given: &DataType) -> Option<DataType> {
    let null = given.is_null();
    let as_text = || is_text(given).then_some(DataType::Utf8View);
    match kind {
        Kind::Text => (is_text(given) || null).then_some(DataType::Utf8View),
        Kind::Integer if null => Some(DataType::Int64),
        // As it is: a cast in the plan would hide a literal, which may decide about the result's type.
        Kind::Integer => given.is_integer().then(|| typing::signed(given)),
        Kind::Double => (is_numeric(given) || null).then_some(DataType::Float64),
        Kind::Number if null => Some(DataType::Int32),
        Kind::Number => is_numeric(given).then(|| typing::signed(given)),
        Kind::Moment if null => Some(typing::TIMESTAMP_3),
        Kind::Moment => match given {
            DataType::Date32 | DataType::Timestamp(..) => Some(typing::engine_type(given)),
            _ => as_text(),
        },
        Kind::Temporal if null => Some(typing::TIMESTAMP_3),
        Kind::Temporal if is_temporal(given) => Some(typing::engine_type(given)),
        Kind::Temporal => as_text(),
        Kind::TextOrNumber if is_numeric(given) => Some(typing::signed(given)),
        Kind::TextOrNumber => (is_text(given) || null).then_some(DataType::Utf8View),
        Kind::Any | Kind::Same => Some(typing::engine_type(given)),
    }
}

/// How many functions were made for DataFusion.
static SITES: AtomicU64 = AtomicU64::new(0);

/// A [`Function`] as DataFusion knows it.
#[derive(Debug)]
struct Scalar {
    function: &'static Function,
    /// Unique: functions with a sequence of their own have it for each call.
    site: u64,
    signature: Signature,
    aliases: Vec<String>,
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name
    }
}

impl Eq for Scalar {}

impl Hash for Scalar {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

impl ScalarUDFImpl for Scalar {
    fn name(&self) -> &str {
        self.function.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let literals = vec![None; types.len()];
        return_type(self.function, types, &literals)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        let returns = return_type(self.function, &types, args.scalar_arguments)?;
        Ok(Arc::new(Field::new(self.function.name, returns, true)))
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.function.coerce(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = self.function.volatility != Volatility::Volatile
            && args.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let call = Call::new((self.function.name, self.site), &args.args, rows, args.return_field.data_type());
        let result = (self.function.evaluate)(&call)?;
        assert_eq!(result.len(), rows, "{} gives a value for each row", self.function.name);
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(result))
    }
}

fn return_type(function: &Function, types: &[DataType], literals: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(match function.returns {
        Returns::Truth => DataType::Boolean,
        Returns::Int => DataType::Int32,
        Returns::Long => DataType::Int64,
        Returns::Double => DataType::Float64,
        Returns::Text => DataType::Utf8View,
        Returns::Date => DataType::Date32,
        Returns::Time => typing::TIME,
        Returns::Timestamp => typing::TIMESTAMP_3,
        Returns::TimestampLtz => typing::timestamp_ltz(),
        Returns::First => types.first().cloned().unwrap_or(DataType::Null),
        Returns::Common => types.last().cloned().unwrap_or(DataType::Null),
        Returns::By(rule) => rule(types, literals)?,
    })
}
