//! Functions of arrays and rows.

pub(super) mod array;

use super::arguments::Call;
use super::definition::Function;
use super::definition::Kind::Any;
use super::definition::Returns;
use super::typing::{engine_type, sql_name};
use arrow::array::{Array, ArrayRef, AsArray, Int32Array, ListArray, StructArray, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Fields};
use datafusion_common::{Result, ScalarValue, plan_err};
use std::sync::Arc;

/// The functions of this family.
pub(super) const FUNCTIONS: &[Function] = &[
    Function::new("cardinality", "CARDINALITY(array)", "how many elements it has", &[Any], Returns::By(size), |call| {
        let lists = lists(call)?;
        let sizes = (0..call.rows).map(|row| lists.is_valid(row).then(|| lists.value_length(row)));
        Ok(Arc::new(sizes.collect::<Int32Array>()))
    }),
    Function::new(
        "element",
        "ELEMENT(array)",
        "its only element, NULL if it is empty",
        &[Any],
        Returns::By(element),
        |call| {
            let lists = lists(call)?;
            let mut places = Vec::with_capacity(call.rows);
            for row in 0..call.rows {
                let length = if lists.is_valid(row) { lists.value_length(row) } else { 0 };
                if length > 1 {
                    return call.error(format!("the array has {length} elements"));
                }
                places.push(if length == 1 { u32::try_from(lists.value_offsets()[row]).ok() } else { None });
            }
            Ok(take(lists.values(), &UInt32Array::from(places), None)?)
        },
    ),
    Function::new("row", "ROW(value, …)", "a row of values", &[Any], Returns::By(row_type), |call| {
        let columns: Vec<ArrayRef> = (0..call.count()).map(|index| call.array(index)).collect::<Result<_>>()?;
        let DataType::Struct(fields) = call.returns else { return call.error("a row has a type of rows") };
        Ok(Arc::new(StructArray::try_new(fields.clone(), columns, None)?))
    })
    .repeats(),
];

fn lists(call: &Call<'_>) -> Result<ListArray> {
    let array = call.array(0)?;
    match array.as_list_opt::<i32>() {
        Some(lists) => Ok(lists.clone()),
        None => call.error(format!("{} is no ARRAY", sql_name(array.data_type()))),
    }
}

fn size(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    element(types, &[]).map(|_| DataType::Int32)
}

fn element(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    match &types[0] {
        DataType::List(item) => Ok(item.data_type().clone()),
        other => plan_err!("an ARRAY is needed, not {}", sql_name(other)),
    }
}

fn row_type(types: &[DataType], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    let field = |(index, data_type)| Field::new(format!("EXPR${index}"), engine_type(data_type), true);
    Ok(DataType::Struct(types.iter().enumerate().map(field).collect::<Fields>()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;

    #[test]
    fn arrays_and_rows_are_built_and_taken_apart() {
        check(
            "CARDINALITY(ARRAY[1, 2, 3]) -> INT 3
             CARDINALITY(1) -> error an ARRAY is needed, not
             ELEMENT(ARRAY['a']) -> STRING a
             ELEMENT(ARRAY[1, 2]) -> error 2 elements
             ARRAY[1, 2][2] -> INT 2
             ARRAY['a', 'b'][3] -> STRING NULL
             ROW(1, 'a') -> ROW<`EXPR$0` INT, `EXPR$1` STRING> {EXPR$0: 1, EXPR$1: a}",
        );
    }
}
