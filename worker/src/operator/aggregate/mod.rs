//! Aggregation: groups of rows by key, with one row of accumulators each.

pub mod call;
