//! The check of `NOT NULL` columns when rows are written.

use arrow::array::Array;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{Result, exec_err};
use datafusion_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

/// `value`, which fails the job when it is null.
pub(in crate::sql) fn checked(value: Expr, column: &str, table: &str) -> Expr {
    let signature = Signature::any(1, Volatility::Immutable);
    ScalarUDF::from(NotNull { column: column.to_owned(), table: table.to_owned(), signature }).call(vec![value])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct NotNull {
    column: String,
    table: String,
    signature: Signature,
}

impl ScalarUDFImpl for NotNull {
    fn name(&self) -> &str {
        "not_null"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        Ok(arg_types[0].clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(&self.column, args.arg_fields[0].data_type().clone(), false)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let value = args.args[0].clone();
        let nulls = match &value {
            ColumnarValue::Array(array) => array.null_count() > 0,
            ColumnarValue::Scalar(scalar) => scalar.is_null() && args.number_rows > 0,
        };
        if nulls {
            return exec_err!(
                "column '{}' of table '{}' is NOT NULL, but a row has NULL for it",
                self.column,
                self.table
            );
        }
        Ok(value)
    }
}
