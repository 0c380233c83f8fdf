//! Functions that choose between values, and that test text.

use super::arguments::Call;
use super::definition::Function;
use super::definition::Kind::{Same, TextOrNumber};
use super::definition::Returns;
use super::typing::is_text;
use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::compute::kernels::cmp::{gt, lt};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{is_null, nullif, or};
use arrow::error::ArrowError;
use datafusion_common::Result;
use std::sync::Arc;

/// The functions of this family.
pub(super) const FUNCTIONS: &[Function] = &[
    Function::new(
        "greatest",
        "GREATEST(value, …)",
        "the greatest; NULL if any is",
        &[Same],
        Returns::Common,
        |call| extreme(call, |left, right| gt(left, right)),
    )
    .repeats(),
    Function::new("least", "LEAST(value, …)", "the least; NULL if any is", &[Same], Returns::Common, |call| {
        extreme(call, |left, right| lt(left, right))
    })
    .repeats(),
    Function::new(
        "is_alpha",
        "IS_ALPHA(text)",
        "whether it has letters only, and one at least",
        &[TextOrNumber],
        Returns::Truth,
        |call| test(call, |_| false, |text| !text.is_empty() && text.chars().all(char::is_alphabetic)),
    ),
    Function::new(
        "is_digit",
        "IS_DIGIT(text)",
        "whether it has digits only, and one at least",
        &[TextOrNumber],
        Returns::Truth,
        |call| {
            let integer = |call: &Call<'_>| call.data_type(0).is_integer();
            test(call, integer, |text| !text.is_empty() && text.chars().all(char::is_numeric))
        },
    ),
    Function::new(
        "is_decimal",
        "IS_DECIMAL(text)",
        "whether it can be read as a number",
        &[TextOrNumber],
        Returns::Truth,
        |call| test(call, |_| true, |text| !text.is_empty() && super::conversion::is_number(text)),
    ),
];

type Compare = fn(&ArrayRef, &ArrayRef) -> Result<BooleanArray, ArrowError>;

fn extreme(call: &Call<'_>, wins: Compare) -> Result<ArrayRef> {
    let mut winner = call.array(0)?;
    let mut any_null = is_null(&winner)?;
    for index in 1..call.count() {
        let other = call.array(index)?;
        any_null = or(&any_null, &is_null(&other)?)?;
        winner = zip(&wins(&winner, &other)?, &winner, &other)?;
    }
    Ok(nullif(&winner, &any_null)?)
}

/// As in Flink NULL is false.
fn test(call: &Call<'_>, number: fn(&Call<'_>) -> bool, text: fn(&str) -> bool) -> Result<ArrayRef> {
    if is_text(&call.data_type(0)) {
        let texts = call.texts(0)?;
        return Ok(Arc::new(
            (0..call.rows).map(|row| Some(texts.get(row).is_some_and(text))).collect::<BooleanArray>(),
        ));
    }
    let (values, truth) = (call.array(0)?, number(call));
    Ok(Arc::new((0..call.rows).map(|row| Some(truth && values.is_valid(row))).collect::<BooleanArray>()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;

    #[test]
    fn conditional_functions_give_what_flink_gives() {
        check(
            "GREATEST(1, 3, 2) -> INT 3
             GREATEST(1, 2.5) -> DECIMAL(11, 1) 2.5
             GREATEST(1, CAST(NULL AS INT)) -> INT NULL
             LEAST('b', 'a') -> STRING a
             LEAST(1, 'a') -> error LEAST does not take (
             COALESCE(CAST(NULL AS INT), 5) -> INT 5
             COALESCE(CAST(NULL AS VARCHAR), 'x') -> STRING x
             COALESCE(1, 1 / 0) -> INT 1
             IFNULL(CAST(NULL AS INT), 5) -> INT 5
             NULLIF(5, 5) -> INT NULL
             NULLIF(5, 0) -> INT 5
             IS_ALPHA('Ab') -> BOOLEAN true
             IS_ALPHA('A1') -> BOOLEAN false
             IS_ALPHA('') -> BOOLEAN false
             IS_DIGIT('12') -> BOOLEAN true
             IS_DIGIT('1.2') -> BOOLEAN false
             IS_DIGIT(7) -> BOOLEAN true
             IS_DECIMAL('-1.2e3') -> BOOLEAN true
             IS_DECIMAL('1x') -> BOOLEAN false
             IS_DECIMAL(CAST(NULL AS VARCHAR)) -> BOOLEAN false",
        );
    }
}
