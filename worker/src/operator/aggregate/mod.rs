//! Aggregation: groups of rows by key, with one row of accumulators each.
//!
//! `layout` decides what a group's row holds; `group_table` finds the rows of a batch's keys; `accumulate` adds
//! rows to them, `merge` adds rows of accumulators; `result` and `partial` make columns of them again. The
//! operators are made of these.

mod accumulate;
mod arena;
pub mod call;
mod changed;
mod group_aggregate;
mod group_state;
mod group_table;
mod key;
mod layout;
mod local;
mod merge;
mod multiset;
mod partial;
mod reduction;
mod result;
mod rows;
mod state;
pub(in crate::operator) mod value;
mod value_state;
pub mod window;

pub use group_aggregate::{GroupAggregate, InputForm};
pub use local::{LocalGroupAggregate, partial_schema};

#[cfg(test)]
mod tests;
