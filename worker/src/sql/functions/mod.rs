//! Scalar functions under Flink's names with Flink's meaning, and Flink's typing of operators and casts.
//!
//! A function is one entry in the table of its family. What is not in a table does not exist for a user: nothing of
//! DataFusion's library shows through. Text goes in and out as `Utf8View`.

mod arguments;
mod arithmetic;
mod conversion;
mod decimal;
mod definition;
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
    Family { title: "Types", functions: conversion::FUNCTIONS },
];

/// All scalar functions. Names and aliases are in lower case.
#[must_use]
pub fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    FAMILIES.iter().flat_map(|family| family.functions).map(Function::udf).collect()
}

/// The planners of operators and special syntax, first come first served.
#[must_use]
pub fn expr_planners() -> Vec<Arc<dyn ExprPlanner>> {
    vec![Arc::new(FlinkPlanner)]
}

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
