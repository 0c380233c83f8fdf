//! Exact arithmetic of decimals, with Flink's precision and scale: a result that does not fit is NULL.

use super::typing::{DecimalOperator, decimal_of, sql_name};
use arrow::array::{ArrayRef, AsArray, Decimal128Array, Decimal128Builder, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Int64Type, i256};
use datafusion_common::{Result, exec_err, plan_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::{ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;

/// `left operator right`, of which at least one has the type DECIMAL and the other is exact too.
pub(super) fn arithmetic(
    operator: DecimalOperator,
    left: Expr,
    right: Expr,
    types: (&DataType, &DataType),
) -> Option<Expr> {
    let (precision, scale) = operator.result(decimal_of(types.0)?, decimal_of(types.1)?);
    let udf = ScalarUDF::from(Arithmetic {
        operator,
        precision,
        scale,
        signature: Signature::user_defined(Volatility::Immutable),
    });
    Some(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(udf), vec![left, right])))
}

/// One operator with the type of its result.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Arithmetic {
    operator: DecimalOperator,
    precision: u8,
    scale: i8,
    signature: Signature,
}

impl ScalarUDFImpl for Arithmetic {
    fn name(&self) -> &str {
        self.operator.symbol()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        match args {
            [left, right] => Ok(format!("{} {} {}", left.schema_name(), self.name(), right.schema_name())),
            _ => plan_err!("{} takes two arguments", self.name()),
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Decimal128(self.precision, self.scale))
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let exact = |data_type: &DataType| match data_type {
            DataType::Decimal128(..) => Ok(data_type.clone()),
            other if other.is_integer() || other.is_null() => Ok(DataType::Int64),
            other => plan_err!("{} does not take {}", self.name(), sql_name(other)),
        };
        types.iter().map(exact).collect()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = args.args.as_slice() else {
            return plan_err!("{} takes two arguments", self.name());
        };
        let constant = matches!((left, right), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let array: ArrayRef = Arc::new(self.evaluate(&Operand::new(left)?, &Operand::new(right)?, rows)?);
        if constant {
            return Ok(ColumnarValue::Scalar(datafusion_common::ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
}

impl Arithmetic {
    fn evaluate(&self, left: &Operand, right: &Operand, rows: usize) -> Result<Decimal128Array> {
        let (s1, s2) = (left.scale, right.scale);
        match self.operator {
            DecimalOperator::Multiply if s1 + s2 == self.scale => self.fill(left, right, rows, |a, b| {
                Ok(match a.checked_mul(b) {
                    Some(product) => Some(product),
                    None => i256::from_i128(a).checked_mul(i256::from_i128(b)).and_then(i256::to_i128),
                })
            }),
            DecimalOperator::Multiply => self.fill(left, right, rows, |a, b| {
                let product = i256::from_i128(a).checked_mul(i256::from_i128(b));
                Ok(product.and_then(|product| rescale(product, s1 + s2, self.scale)))
            }),
            DecimalOperator::Add | DecimalOperator::Subtract => {
                let scale = s1.max(s2);
                self.fill(left, right, rows, |a, b| {
                    let Some((a, b)) = wide(a, scale - s1).zip(wide(b, scale - s2)) else { return Ok(None) };
                    let sum = if self.operator == DecimalOperator::Add { a.checked_add(b) } else { a.checked_sub(b) };
                    Ok(sum.and_then(|sum| rescale(sum, scale, self.scale)))
                })
            }
            DecimalOperator::Divide => self.fill(left, right, rows, |a, b| {
                if b == 0 {
                    return exec_err!("division of a DECIMAL by zero: guard it with NULLIF(divisor, 0)");
                }
                let shift = self.scale - s1 + s2;
                let sides = wide(a, shift.max(0)).zip(wide(b, (-shift).max(0)));
                Ok(sides.and_then(|(a, b)| divide_half_up(a, b)).and_then(i256::to_i128))
            }),
            DecimalOperator::Modulo => {
                let scale = s1.max(s2);
                self.fill(left, right, rows, |a, b| {
                    if b == 0 {
                        return exec_err!("modulo of a DECIMAL by zero: guard it with NULLIF(divisor, 0)");
                    }
                    let sides = wide(a, scale - s1).zip(wide(b, scale - s2));
                    Ok(sides.and_then(|(a, b)| a.checked_rem(b)).and_then(|rest| rescale(rest, scale, self.scale)))
                })
            }
        }
    }

    fn fill(
        &self,
        left: &Operand,
        right: &Operand,
        rows: usize,
        operate: impl Fn(i128, i128) -> Result<Option<i128>>,
    ) -> Result<Decimal128Array> {
        let limit = 10i128.pow(u32::from(self.precision));
        let mut builder = Decimal128Builder::with_capacity(rows);
        for row in 0..rows {
            let value = match (left.get(row), right.get(row)) {
                (Some(a), Some(b)) => operate(a, b)?.filter(|value| -limit < *value && *value < limit),
                _ => None,
            };
            builder.append_option(value);
        }
        Ok(builder.finish().with_precision_and_scale(self.precision, self.scale)?)
    }
}

/// A number times a power of ten, if it stays below 256 bits.
fn wide(value: i128, power: i8) -> Option<i256> {
    (0..power).try_fold(i256::from_i128(value), |wide, _| wide.checked_mul(i256::from_i128(10)))
}

/// A number of `from` digits after the point, rounded half up to `to` of them; none if it is beyond 128 bits.
fn rescale(value: i256, from: i8, to: i8) -> Option<i128> {
    if to >= from {
        return (from..to).try_fold(value, |value, _| value.checked_mul(i256::from_i128(10)))?.to_i128();
    }
    divide_half_up(value, wide(1, from - to)?)?.to_i128()
}

fn divide_half_up(dividend: i256, divisor: i256) -> Option<i256> {
    let quotient = dividend.checked_div(divisor)?;
    let rest = dividend.checked_rem(divisor)?;
    let twice = rest.wrapping_abs().checked_mul(i256::from_i128(2))?;
    if twice < divisor.wrapping_abs() {
        return Some(quotient);
    }
    let negative = dividend.is_negative() != divisor.is_negative();
    quotient.checked_add(i256::from_i128(if negative { -1 } else { 1 }))
}

/// One side: a constant, or a column of BIGINT or DECIMAL.
struct Operand {
    values: OperandValues,
    scale: i8,
}

enum OperandValues {
    Constant(Option<i128>),
    Longs(Int64Array),
    Decimals(Decimal128Array),
}

impl Operand {
    fn new(value: &ColumnarValue) -> Result<Self> {
        let (array, constant) = match value {
            ColumnarValue::Array(array) => (Arc::clone(array), false),
            ColumnarValue::Scalar(scalar) => (scalar.to_array()?, true),
        };
        let (values, scale) = match array.data_type() {
            DataType::Decimal128(_, scale) => {
                let scale = *scale;
                (OperandValues::Decimals(array.as_primitive::<Decimal128Type>().clone()), scale)
            }
            _ => {
                let longs = cast(&array, &DataType::Int64)?;
                (OperandValues::Longs(longs.as_primitive::<Int64Type>().clone()), 0)
            }
        };
        let operand = Self { values, scale };
        Ok(if constant { Self { values: OperandValues::Constant(operand.get(0)), scale } } else { operand })
    }

    #[inline]
    fn get(&self, row: usize) -> Option<i128> {
        use arrow::array::Array;
        match &self.values {
            OperandValues::Constant(value) => *value,
            OperandValues::Longs(array) => (!array.is_null(row)).then(|| i128::from(array.value(row))),
            OperandValues::Decimals(array) => (!array.is_null(row)).then(|| array.value(row)),
        }
    }
}
