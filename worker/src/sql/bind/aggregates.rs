//! The aggregate functions with Flink's types. They are only names and types here: the engine computes them.

use super::types::sql_name;
use arrow::datatypes::{DataType, FieldRef};
use datafusion_common::{DataFusionError, Result, not_impl_err, plan_datafusion_err};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use std::sync::Arc;

/// Which function it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Count,
    Sum,
    Avg,
    Min,
    Max,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Aggregate {
    kind: Kind,
    signature: Signature,
}

/// All aggregate functions.
pub(in crate::sql) fn all() -> Vec<Arc<AggregateUDF>> {
    let udf = |kind| {
        let signature = match kind {
            Kind::Count => Signature::any(1, Volatility::Immutable),
            _ => Signature::user_defined(Volatility::Immutable),
        };
        Arc::new(AggregateUDF::from(Aggregate { kind, signature }))
    };
    [Kind::Count, Kind::Sum, Kind::Avg, Kind::Min, Kind::Max].map(udf).to_vec()
}

impl Aggregate {
    fn refuse(&self, found: &[DataType]) -> DataFusionError {
        let name = self.name().to_uppercase();
        let types: Vec<String> = found.iter().map(sql_name).collect();
        let wanted = match self.kind {
            Kind::Sum | Kind::Avg => "number",
            _ => "value",
        };
        plan_datafusion_err!("{name} does not take ({}): write {name}({wanted})", types.join(", "))
    }
}

impl AggregateUDFImpl for Aggregate {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Count => "count",
            Kind::Sum => "sum",
            Kind::Avg => "avg",
            Kind::Min => "min",
            Kind::Max => "max",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let [argument] = arg_types else { return Err(self.refuse(arg_types)) };
        let is_number = argument.is_signed_integer()
            || matches!(argument, DataType::Float32 | DataType::Float64 | DataType::Decimal128(..));
        let is_ordered = is_number
            || matches!(
                argument,
                DataType::Utf8View
                    | DataType::Boolean
                    | DataType::Date32
                    | DataType::Time32(_)
                    | DataType::Timestamp(..)
            );
        match self.kind {
            Kind::Count => Ok(vec![argument.clone()]),
            _ if matches!(argument, DataType::Utf8) => Ok(vec![DataType::Utf8View]),
            Kind::Sum | Kind::Avg if is_number => Ok(vec![argument.clone()]),
            Kind::Min | Kind::Max if is_ordered => Ok(vec![argument.clone()]),
            _ => Err(self.refuse(arg_types)),
        }
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        let Some(argument) = arg_types.first() else { return Err(self.refuse(arg_types)) };
        Ok(match (self.kind, argument) {
            (Kind::Count, _) => DataType::Int64,
            (Kind::Sum, DataType::Decimal128(_, scale)) => DataType::Decimal128(38, *scale),
            (Kind::Avg, DataType::Decimal128(_, scale)) => DataType::Decimal128(38, (*scale).max(6)),
            (Kind::Min | Kind::Max, DataType::Utf8) => DataType::Utf8View,
            _ => argument.clone(),
        })
    }

    fn is_nullable(&self) -> bool {
        self.kind != Kind::Count
    }

    fn accumulator(&self, _acc_args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        not_impl_err!("aggregates are computed by the engine")
    }

    fn state_fields(&self, _args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        Ok(Vec::new())
    }
}
