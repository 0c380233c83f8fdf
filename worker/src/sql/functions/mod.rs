//! Scalar functions under Flink's names with Flink's meaning, and Flink's typing of operators and casts.
//!
//! A function is one entry in the table of its family. What is not in a table does not exist for a user: nothing of
//! DataFusion's library shows through. Text goes in and out as `Utf8View`.

mod arguments;
mod arithmetic;
mod collection;
mod conditional;
mod conversion;
mod decimal;
mod definition;
mod encoding;
mod json;
mod planner;
mod regex;
mod string;
mod syntax;
mod temporal;
mod text;
mod typing;

#[cfg(test)]
mod tests;

pub use conversion::{CastRule, LENGTH_KEY, PADDED_KEY, PRECISION_KEY};
pub use planner::FlinkPlanner;
pub use syntax::rewrite_syntax;

use datafusion_common::DataFusionError;
use datafusion_expr::ScalarUDF;
use datafusion_expr::planner::ExprPlanner;
use datafusion_functions::core::planner::CoreFunctionPlanner;
use datafusion_functions_nested::planner::{FieldAccessPlanner, NestedFunctionPlanner};
use definition::Function;
use std::sync::Arc;

/// A group of functions, as the documentation shows them.
struct Family {
    title: &'static str,
    functions: &'static [Function],
}

const FAMILIES: &[Family] = &[
    Family { title: "Arithmetic", functions: arithmetic::FUNCTIONS },
    Family { title: "Strings", functions: string::FUNCTIONS },
    Family { title: "Regular expressions", functions: regex::FUNCTIONS },
    Family { title: "Dates and times", functions: temporal::FUNCTIONS },
    Family { title: "Conditions", functions: conditional::FUNCTIONS },
    Family { title: "Types", functions: conversion::FUNCTIONS },
    Family { title: "Hashes and encodings", functions: encoding::FUNCTIONS },
    Family { title: "JSON", functions: json::FUNCTIONS },
    Family { title: "Arrays and rows", functions: collection::FUNCTIONS },
    Family { title: "Elements of arrays", functions: collection::array::FUNCTIONS },
];

/// All scalar functions. Names and aliases are in lower case.
#[must_use]
pub fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    FAMILIES.iter().flat_map(|family| family.functions).map(Function::udf).collect()
}

/// A function for one more call: one that gives something new at every evaluation is another one for each of its calls.
#[must_use]
pub fn for_call(known: &Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    let mut functions = FAMILIES.iter().flat_map(|family| family.functions);
    let volatile = functions.find(|function| function.is_volatile() && function.name == known.name());
    volatile.map_or_else(|| Arc::clone(known), Function::udf)
}

/// The planners of operators and special syntax, first come first served.
#[must_use]
pub fn expr_planners() -> Vec<Arc<dyn ExprPlanner>> {
    vec![
        Arc::new(FlinkPlanner),
        Arc::new(NestedFunctionPlanner),
        Arc::new(FieldAccessPlanner),
        Arc::new(CoreFunctionPlanner::default()),
    ]
}

/// The page of the user guide that lists every function.
#[must_use]
pub fn documentation() -> String {
    let mut page = String::from(INTRODUCTION);
    for family in FAMILIES {
        page.push_str(&format!("\n## {}\n\n", family.title));
        for function in family.functions.iter().filter(|function| !function.usage.starts_with("timestamp +")) {
            page.push_str(&format!("- `{}`: {}\n", function.usage, function.meaning));
        }
    }
    page.push_str("\n## Operators and special forms\n\n");
    for (usage, meaning) in syntax::SPECIAL {
        page.push_str(&format!("- `{usage}`: {meaning}\n"));
    }
    page
}

const INTRODUCTION: &str = "\
# Functions and operators

Names, types and meaning are Flink's. A function gives NULL when an argument is NULL, unless said otherwise.
Names may be written in any case. What is not listed here does not exist yet: the planner refuses it and names the nearest.

- Integers wrap around, as in Java. Dividing an integer or a DECIMAL by zero fails the job; a DOUBLE gives infinity.
- A DECIMAL result that does not fit into its precision is NULL.
- The session's time zone is UTC: a TIMESTAMP_LTZ is shown, and taken apart, in UTC.
- Regular expressions have Java's syntax without look-around and back-references, and take time linear in the text.
- The present time is taken once per batch of rows, never while planning.
";

/// A function of a family's table, by its name there.
fn udf_in(functions: &'static [Function], name: &str) -> Arc<ScalarUDF> {
    functions.iter().find(|function| function.name == name).expect("the planner names functions of the tables").udf()
}

/// An error of planning or evaluating expressions in the words of the function that made it, without what DataFusion
/// puts around them.
#[must_use]
pub fn message(error: &DataFusionError) -> String {
    let text = match error.find_root() {
        DataFusionError::Plan(text) | DataFusionError::Execution(text) => text.clone(),
        other => other.strip_backtrace(),
    };
    let text = text.split_once("coercion failed with: ").map_or(text.as_str(), |(_, reason)| reason);
    let text = text.split_once(". No function matches").map_or(text, |(reason, _)| reason);
    let text = text.split_once("\n\nbacktrace:").map_or(text, |(reason, _)| reason);
    let known = ["Error during planning: ", "Execution error: "];
    known.iter().fold(text, |text, prefix| text.strip_prefix(prefix).unwrap_or(text)).to_owned()
}
